//! How banger ends: exit codes and the text of failures.

use std::{io, process::ExitCode};

use crate::domain::{FieldProblem, Problem};

/// All went well.
pub const OK: u8 = 0;
/// Something failed; what could be done was done.
pub const FAILED: u8 = 1;
/// Wrong usage: the number that clap uses, too.
pub const USAGE: u8 = 2;

/// Why a verb ends early.
#[derive(Debug)]
pub enum Failure {
    /// To be told the user.
    Problem(Problem),
    /// Values of options, all that are wrong.
    Fields(Vec<FieldProblem>),
    /// What should have been typed instead.
    Usage(Problem),
    /// Everything has been said.
    Said(u8),
    /// Nobody reads our output any more (`banger ls | head -1`): end without a word.
    Closed,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Problem(Problem::new(
            "cannot write the output",
            error.to_string(),
            "look at where it is redirected to: is that disk full?",
        ))
    }
}

impl Failure {
    /// Prints it as far as anything is to be said, and gives the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Self::Problem(problem) => {
                super::out::error(problem);
                FAILED
            }
            Self::Fields(fields) => {
                for field in fields {
                    super::out::error_line(&format!("{}: {}", field.field.word(), field.message));
                }
                FAILED
            }
            Self::Usage(problem) => {
                super::out::error(problem);
                USAGE
            }
            Self::Said(code) => *code,
            // As a program that SIGPIPE ends, but without an alarming number in `set -o pipefail`
            // scripts: the reader has what it wanted.
            Self::Closed => OK,
        }
    }
}

/// What a verb gives: the exit code, or why it ended early.
pub type Outcome = Result<u8, Failure>;

/// The exit code for `main`.
#[must_use]
pub fn code(outcome: Outcome) -> ExitCode {
    ExitCode::from(outcome.unwrap_or_else(|failure| failure.report()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.report(), OK);
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, Failure::Problem(_)), "{full:?}");
    }
}
