//! One bootstrap at a time in a runtime directory.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{LOCK_FILE, bootstrap::io_problem};
use crate::domain::Problem;

/// Held while a bootstrap is at work; the file stays, the kernel lets go of the lock even if
/// the process is killed.
pub(super) struct Lock {
    _held: Flock<File>,
}

/// Takes the lock of a runtime directory that exists.
///
/// # Errors
/// Who has it, if somebody has.
pub(super) fn take(dir: &Path) -> Result<Lock, Problem> {
    let path = dir.join(LOCK_FILE);
    let what = || format!("cannot make the runtime directory {}", dir.display());
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| io_problem(what(), &e))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut held) => {
            // A whole other directory may have come to this place meanwhile, with a lock of its own.
            let now = path.metadata().map_err(|e| io_problem(what(), &e))?;
            if held.metadata().map_or(0, |m| m.ino()) != now.ino() {
                drop(held);
                return take(dir);
            }
            let note = held
                .set_len(0)
                .and_then(|()| held.rewind())
                .and_then(|()| writeln!(held, "{}", process::id()));
            note.map_err(|e| io_problem(what(), &e))?;
            Ok(Lock { _held: held })
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            Err(Problem::new(
                what(),
                format!("{holder} is making it right now"),
                "wait until that is done: there is nothing to do twice",
            ))
        }
        Err((_, errno)) => Err(io_problem(what(), &errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path()).unwrap();
        let problem = take(dir.path()).err().unwrap();
        assert!(problem.why.contains(&process::id().to_string()), "{problem}");
        drop(first);
        assert!(take(dir.path()).is_ok());
        assert!(take(Path::new("/nonexistent")).is_err());
    }
}
