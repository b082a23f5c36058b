//! Nodes in `/dev/banger`: how VMMs open their disks.
//!
//! Made by us, as nobody else does: udev is told to leave the devices alone, and may not be there.
//! A node belongs to the VM's user, so it must never outlive its device: the kernel gives the
//! number to the next one, whosever that is. A node is therefore made last and removed first.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, SFlag, makedev, mknod},
};

use super::table::Dev;

/// Where the nodes are.
const DIR: &str = "/dev/banger";
/// Somebody else may remove the empty directory between our making it and its first node.
const ATTEMPTS: usize = 10;

/// Where the node of this name is.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Makes a node of mode 0600 that belongs to `owner`. If there is one of that name for another
/// device, it is replaced.
///
/// # Errors
/// What the file system says.
pub fn place(name: &str, dev: Dev, owner: u32) -> io::Result<PathBuf> {
    let path = path(name);
    let number = makedev(u64::from(dev.major), u64::from(dev.minor));
    for _ in 0..ATTEMPTS {
        directory()?;
        match mknod(&path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, number) {
            Ok(()) => {}
            Err(Errno::ENOENT) => continue,
            Err(Errno::EEXIST) => {
                let there = fs::symlink_metadata(&path)?;
                if !there.file_type().is_block_device() || there.rdev() != number {
                    fs::remove_file(&path)?;
                    continue;
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        chown(&path, Some(owner), Some(0))?;
        return Ok(path);
    }
    Err(io::Error::other(format!("{DIR} goes away each time it is made")))
}

/// Removes a node, and the directory with the last. One that is not there is no error.
///
/// # Errors
/// What the file system says.
pub fn remove(name: &str) -> io::Result<()> {
    match fs::remove_file(path(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    // Not empty, or gone already: as it should be.
    let _ = fs::remove_dir(DIR);
    Ok(())
}

/// The nodes whose names begin so, in the order of their names.
///
/// # Errors
/// What the file system says; that there is no directory is none.
pub fn list(prefix: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}

/// Makes the directory; one that others could write to is not used.
fn directory() -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(DIR) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let there = match fs::symlink_metadata(DIR) {
        // Gone again: whoever wants it makes it anew.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if there.is_dir() && there.uid() == 0 && there.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("{DIR} is not a directory that only root can write to")))
}
