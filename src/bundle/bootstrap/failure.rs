//! How a step of the bootstrap can end other than well.

use std::io;

use crate::domain::Problem;

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The user wanted it to end.
    Cancelled,
    /// It cannot be done here, and VMs work without.
    Skip(String),
    /// It failed; steps that do not need it go on.
    Step(Problem),
    /// It failed in a way that ends everything: something is not what it claims to be.
    Stop(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Step(problem)
    }
}

/// A problem with a file, with the hint its kind calls for.
pub(in crate::bundle) fn io_problem(what: impl Into<String>, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on that file system, then run it again: it goes on where it was"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a directory you may write to: set BANGER_RUNTIME_DIR"
        }
        _ => "run it again: it goes on where it was",
    };
    Problem::new(what, error.to_string(), hint)
}
