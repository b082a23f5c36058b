//! What can go wrong, and how the user is told.

use std::path::Path;

use rusqlite::ErrorCode;

use super::{BUSY_MS, backup, spare};
use crate::domain::{Problem, VmId, VmName};

/// Why a change was not made. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another VM has the name.
    #[error("the name {0} is taken")]
    NameTaken(VmName),
    /// Another VM has the id; draw another.
    #[error("the id {0} is taken")]
    IdTaken(VmId),
    /// It is not in the database (any more).
    #[error("there is no VM {0}")]
    NoSuchVm(VmId),
    /// It is not all there: being made or removed.
    #[error("the VM {0} is being made or removed")]
    NotReady(VmId),
    /// The ledger has entries of the VM: something of it is still on the host.
    #[error("{entries} things of the VM {vm} are still on the host")]
    StillOnHost {
        /// The VM.
        vm: VmId,
        /// How many entries.
        entries: u64,
    },
    /// The file or the disk.
    #[error("{0}")]
    Database(Problem),
}

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        Self::Database(problem)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let why = error.to_string();
        match error {
            StoreError::NameTaken(name) => Self::new(
                format!("cannot use the name {name}"),
                "another VM has it",
                "choose another name, or rename the other VM",
            ),
            StoreError::IdTaken(_) => Self::new("cannot make the VM", why, "try again"),
            StoreError::NoSuchVm(_) => Self::new(
                "cannot change the VM",
                "it is not in the database: another banger removed it",
                "",
            ),
            StoreError::NotReady(_) => Self::new(
                "cannot start the VM",
                "it is being made or removed",
                "if that was interrupted, delete it",
            ),
            StoreError::StillOnHost { .. } => Self::new(
                "cannot remove the VM",
                why,
                "`banger --restore` clears up what dead VMs left; then delete it again",
            ),
            StoreError::Database(problem) => problem,
        }
    }
}

/// Whether a full disk is behind it. SQLite says so only of what it writes to the database and its
/// log: what else is short is a file that cannot be made or cannot grow.
pub(super) fn is_for_want_of_room(path: &Path, error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => true,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => spare::is_full(path),
        _ => false,
    }
}

/// The problem behind an error of SQLite.
pub(super) fn problem(path: &Path, what: &str, error: &rusqlite::Error) -> Problem {
    let dir = path.parent().unwrap_or(path).display();
    let file = path.display();
    let code = error.sqlite_error_code();
    match code {
        _ if is_for_want_of_room(path, error) => full(path, what),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(path, what, &error.to_string())
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Problem::new(
            what,
            format!("others have held {file} for more than {} seconds", BUSY_MS / 1_000),
            format!("see which with `fuser {}`; then try again", backup::shell(path)),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Problem::new(
                what,
                format!("{file} or its directory cannot be written: {error}"),
                format!("make {dir} writable, or set BANGER_STATE_DIR to a directory that is"),
            )
        }
        Some(ErrorCode::SystemIoFailure) => Problem::new(
            what,
            format!("reading or writing {file} failed: {error}"),
            "look for disk errors in `dmesg`; free space if the disk is full",
        ),
        _ => Problem::new(what, format!("{file}: {error}"), "try again"),
    }
}

/// The problem of a disk that has no room for a database; all that was set aside is used up.
pub(super) fn full(path: &Path, what: &str) -> Problem {
    Problem::new(
        what,
        format!("the disk of {} is full", path.parent().unwrap_or(path).display()),
        format!(
            "delete something on it by hand, such as {}; then `banger rm` a VM, or `banger images \
             rm` an image",
            path.with_file_name("banger.log").display()
        ),
    )
}

/// The problem of a file that is no sound database; offers the newest backup.
pub(super) fn damaged(path: &Path, what: &str, why: &str) -> Problem {
    let hint = match backup::newest(path) {
        Some(backup) => format!(
            "the newest backup is {}; with no banger running, put it in place with: {}",
            backup.display(),
            backup::restore_command(path, &backup)
        ),
        None => format!(
            "there is no backup; to begin anew: {} (the VMs' disks stay in {})",
            backup::aside_command(path),
            path.with_file_name("vms").display()
        ),
    };
    Problem::new(what, format!("{} is damaged ({why}); it was not touched", path.display()), hint)
}
