//! The place for work in progress, and how what is finished leaves it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use super::child::Program;
use crate::bundle::{RECORD_FILE, Record};

/// Makes an empty directory for a step, clearing away what an earlier run left in it.
pub(super) fn fresh_dir(work: &Path, name: &str, runtime: &Path) -> io::Result<PathBuf> {
    let dir = work.join(name);
    remove(&dir, runtime)?;
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Removes a directory of ours, whoever owns what is in it: a normal user builds images with a
/// range of user ids of their own, and a killed run leaves files of those behind.
pub(super) fn remove(dir: &Path, runtime: &Path) -> io::Result<()> {
    refuse_mounts(dir)?;
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            // util-linux: as root over the user's own range of ids.
            let rm = ["--user", "--map-root-user", "--map-auto", "--", "rm", "-rf", "--"];
            let program = Program::new("unshare", Path::new("/"), runtime);
            let ended =
                program.args(rm).args([dir]).run(&AtomicBool::new(false), |_| (), || true)?;
            match ended {
                Some(ended) if ended.status.success() => Ok(()),
                _ => Err(e),
            }
        }
        other => other,
    }
}

/// A mount left below would make a removal reach into the host.
fn refuse_mounts(dir: &Path) -> io::Result<()> {
    // proc_pid_mountinfo(5): the fifth field is the mount point, with octal escapes for blanks.
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let escaped = dir.to_string_lossy().replace(' ', "\\040");
    let below = text
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .find(|m| Path::new(m).starts_with(&escaped));
    match below {
        None => Ok(()),
        Some(mount) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{mount} is mounted: umount it"),
        )),
    }
}

/// Writes a file that is on disk when this returns.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Moves a finished file into place: on disk before it has its name, and its name on disk when
/// this returns.
pub(super) fn put(from: &Path, to: &Path) -> io::Result<()> {
    sync(from)?;
    rename(from, to)?.sync_all()
}

/// Waits until a file, with its permissions, is on disk.
pub(super) fn sync(file: &Path) -> io::Result<()> {
    // Opened for writing as not every file system syncs a file that is open for reading.
    OpenOptions::new().append(true).open(file)?.sync_all()
}

/// Gives a file that is on disk its name; what is returned is to be synced, so that the name is.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<File> {
    let parent = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    fs::rename(from, to)?;
    File::open(parent)
}

/// Writes the record: whoever reads it sees the old one or the new one.
pub(super) fn save(record: &Record, dir: &Path) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(record)?;
    text.push('\n');
    let partial = dir.join(format!("{RECORD_FILE}.partial"));
    write_synced(&partial, text.as_bytes())?;
    put(&partial, &dir.join(RECORD_FILE))
}

/// When a file was last changed, in nanoseconds since 1970.
pub(super) fn modified_ns(meta: &fs::Metadata) -> u64 {
    let ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    u64::try_from(ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_file_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("images/b"));
        for text in ["old", "new"] {
            fs::write(&from, text).unwrap();
            put(&from, &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), text);
            assert!(!from.exists());
        }
        assert!(put(&from, &to).is_err(), "there is nothing to move");
    }

    #[test]
    fn a_fresh_directory_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let step = fresh_dir(dir.path(), "step", dir.path()).unwrap();
        fs::create_dir(step.join("deep")).unwrap();
        fs::write(step.join("deep/file"), "x").unwrap();
        let again = fresh_dir(dir.path(), "step", dir.path()).unwrap();
        assert_eq!(fs::read_dir(again).unwrap().count(), 0);
    }

    #[test]
    fn what_is_mounted_is_never_removed() {
        let problem = refuse_mounts(Path::new("/")).unwrap_err();
        assert!(problem.to_string().contains("is mounted"), "{problem}");
        let proc = remove(Path::new("/proc"), Path::new("/nonexistent")).unwrap_err();
        assert_eq!(proc.kind(), io::ErrorKind::ResourceBusy);
    }
}
