//! Room that is set aside beside the database, for when the disk is full.
//!
//! SQLite needs room to free room: even a look at the list of VMs makes a `-shm` of 32 KiB, and
//! removing one writes to the log first. On a disk that is full to the last byte nobody could
//! then see or remove anything with banger. So some files lie beside the database, really allocated,
//! and what fails for want of room is tried again with one of them less each time. Files, and not
//! one that is cut shorter: where a file system has no inodes left, each gives one, too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise, posix_fallocate},
    sys::statvfs::statvfs,
};

use super::open::sidecar;

/// How many files there are.
pub const SPARES: u32 = 8;
/// The size of each, in bytes. All of them are more than a log of SQLite's (4 MiB, then it is used
/// from its beginning) and its index can take.
pub const SPARE: u64 = 1 << 20;
/// They are made while this many bytes are free: on a disk that is almost full, the user's own files
/// come first.
const ROOMY: u64 = 8 * SPARES as u64 * SPARE;
/// What SQLite needs to open a database, to change it and to write back its log, in bytes: its index
/// of the log has 32 KiB, a page 4.
const NEEDED: i64 = 256 << 10;
/// What it needs to open it only.
const LEAST: i64 = 64 << 10;
/// With this many bytes free it is not asked closer.
const ENOUGH: u64 = 16 << 20;

/// What is set aside for the database at `path`: how many files of [`SPARES`] are there.
#[must_use]
pub fn count(path: &Path) -> u32 {
    let whole = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() == SPARE);
    u32::try_from(files(path).filter(whole).count()).unwrap_or(SPARES)
}

/// Sets aside what is missing, if the disk is roomy. Whether all is there now.
///
/// # Errors
/// The file system's word.
pub fn set_aside(path: &Path) -> io::Result<bool> {
    if count(path) == SPARES {
        return Ok(true);
    }
    if free(path)? < ROOMY {
        return Ok(false);
    }
    for file in files(path) {
        let made = allocate(&file, SPARE.cast_signed());
        if made.is_err() {
            let _ = fs::remove_file(&file);
        }
        made?;
    }
    Ok(true)
}

/// Gives one of them up. Whether there was one.
pub(super) fn give_up(path: &Path) -> bool {
    let gone = files(path).any(|file| fs::remove_file(file).is_ok());
    if gone {
        tracing::warn!(path = %path.display(), "the disk is full: room set aside is given up");
    }
    gone
}

/// Sees to it that SQLite has room before it opens the database; false if there is none to be had.
///
/// Not only when it has failed: it maps the index of its log into memory, and on a file system whose
/// blocks are smaller than a page, or that writes elsewhere each time, that is where the room is
/// found missing: the kernel then ends the process (SIGBUS).
pub(super) fn make_room(path: &Path) -> bool {
    if free(path).is_ok_and(|free| free > ENOUGH) {
        return true;
    }
    while is_full(path) {
        if !give_up(path) {
            return sidecar(path, "-shm").exists() || !has_no(path, LEAST);
        }
    }
    true
}

/// Whether the disk has no room for what SQLite needs.
pub(super) fn is_full(path: &Path) -> bool {
    has_no(path, NEEDED)
}

/// Asked by taking it: quotas, and what is reserved for root, are in no number.
fn has_no(path: &Path, bytes: i64) -> bool {
    let probe = sidecar(path, &format!("-probe-{}", std::process::id()));
    let taken = allocate(&probe, bytes);
    let _ = fs::remove_file(&probe);
    let kind = taken.err().map(|e| e.kind());
    matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// What is free beside the database, in bytes.
fn free(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path.parent().unwrap_or(path))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

fn allocate(path: &Path, bytes: i64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file: File = options.write(true).create(true).mode(0o600).open(path)?;
    posix_fallocate(&file, 0, bytes)?;
    // Where it had to be written, it is not to take memory, too.
    Ok(posix_fadvise(&file, 0, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
}

fn files(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    (1..=SPARES).map(|n| sidecar(path, &format!("-spare-{n}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_set_aside_given_up_one_by_one_and_set_aside_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("banger.db");
        let roomy = set_aside(&path).expect("allocated");
        assert!(roomy, "the disk of {} has less than {ROOMY} bytes free", dir.path().display());
        assert_eq!(count(&path), SPARES);
        let blocks = |path: PathBuf| fs::metadata(path).expect("there").blocks();
        let taken: u64 = files(&path).map(blocks).sum::<u64>() * 512;
        assert!(taken >= u64::from(SPARES) * SPARE, "only {taken} bytes are really taken");
        for left in (0..SPARES).rev() {
            assert!(give_up(&path));
            assert_eq!(count(&path), left);
        }
        assert!(!give_up(&path), "there is no more");
        assert!(set_aside(&path).expect("allocated"));
        assert!(make_room(&path) && !is_full(&path));
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), SPARES as usize);
    }
}
