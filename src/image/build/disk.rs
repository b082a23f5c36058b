//! The disk that an image is made on: a copy of its base.

use std::{io, path::Path, process::Command};

use crate::{
    domain::Problem,
    host::disk::{copy_image, free_space},
};

/// Room that is left on the host beside what a build writes: it is never the one to fill the disk.
const SPARE: u64 = 256 << 20;

/// Copies a base for a build; its blocks are shared where the file system can do that.
///
/// # Errors
/// If there is no room, or it cannot be read or written.
pub fn copy_of(base: &Path, disk: &Path) -> Result<(), Problem> {
    let fail = |why: String| {
        let hint = "make room on that disk, or move the state directory";
        Problem::new(format!("cannot copy {}", base.display()), why, hint)
    };
    let dir = disk.parent().unwrap_or(disk);
    let free = free_space(dir).map_err(|e| fail(e.to_string()))?;
    if let Some(why) = too_little(free) {
        return Err(fail(why));
    }
    copy_image(base, disk).map(drop).map_err(|e| fail(e.to_string()))
}

/// Why a build is not begun with so many bytes free, if it is not.
fn too_little(free: u64) -> Option<String> {
    let (free, needs) = (free >> 20, SPARE >> 20);
    (free < needs).then(|| format!("{free} MiB are free, and a build begins with {needs} at least"))
}

/// Enlarges the disk and the file system on it.
///
/// # Errors
/// If it is to be smaller than it is, or resize2fs fails.
pub fn grow(disk: &Path, mib: u64) -> Result<(), Problem> {
    crate::host::disk::grow(disk, mib << 20).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::InvalidInput => "give a larger size_mib, or none",
            _ => "the disk of its base may be damaged: `banger images verify` tells",
        };
        Problem::new(format!("cannot make the disk {mib} MiB large"), error.to_string(), hint)
    })
}

/// Checks the file system of a disk that nobody has mounted, mends what an unclean end left, and
/// gives back what is not used: the file is sparse again.
///
/// # Errors
/// If it is damaged beyond that.
pub fn check(disk: &Path) -> Result<(), Problem> {
    let fail = |why: String| {
        let hint = "build it again; if that does not help, `banger images verify` its base";
        Problem::new(format!("the file system of {} is not whole", disk.display()), why, hint)
    };
    // Debian keeps it in a directory that only root has in its PATH.
    let program = ["/usr/sbin/e2fsck", "/sbin/e2fsck"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("e2fsck");
    let output =
        Command::new(program).args(["-f", "-p", "-E", "discard"]).arg(disk).output().map_err(
            |e| fail(format!("cannot run e2fsck ({e}); it is in the package e2fsprogs")),
        )?;
    // 0: all well, 1: errors corrected (e2fsck(8), "EXIT CODE").
    if matches!(output.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(fail(String::from_utf8_lossy(&said).trim().replace('\n', " | ")))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn ext4(path: &Path, mib: u64) {
        fs::File::create(path).expect("file").set_len(mib << 20).expect("length");
        // By path: /sbin is not in every user's PATH.
        let mut mke2fs = Command::new("/sbin/mke2fs");
        let status = mke2fs.args(["-q", "-F", "-t", "ext4"]).arg(path).status();
        assert!(status.expect("mke2fs (package e2fsprogs)").success());
    }

    #[test]
    fn too_little_room_is_told_with_what_is_needed() {
        assert_eq!(too_little(SPARE), None);
        let why = too_little(133 << 20).expect("too little");
        assert!(why.contains("133 MiB") && why.contains("256"), "{why}");
    }

    #[test]
    fn a_copy_grows_and_what_is_free_takes_no_room() {
        let dir = tempfile::tempdir().expect("temp");
        let (base, disk) = (dir.path().join("base"), dir.path().join("disk"));
        ext4(&base, 16);
        copy_of(&base, &disk).expect("copied");
        grow(&disk, 32).expect("grown");
        // What a removed file leaves: data in blocks that are free.
        let write = |text: &str| {
            let mut debugfs = Command::new("/sbin/debugfs");
            let run = debugfs.args(["-w", "-R", text]).arg(&disk).output().expect("debugfs");
            assert!(run.status.success(), "{run:?}");
        };
        let data = dir.path().join("data");
        fs::write(&data, vec![7; 8 << 20]).expect("data");
        write(&format!("write {} big", data.display()));
        let full = fs::metadata(&disk).expect("disk").blocks() * 512;
        write("rm big");
        check(&disk).expect("whole");
        let (now, size) = fs::metadata(&disk).map(|m| (m.blocks() * 512, m.len())).expect("disk");
        assert_eq!(size, 32 << 20);
        assert!(now + (7 << 20) < full, "{now} of {full} bytes");
        assert!(grow(&disk, 16).expect_err("smaller").why.contains("never shrunk"));
    }

    #[test]
    fn what_is_no_file_system_is_refused() {
        let dir = tempfile::tempdir().expect("temp");
        let disk = dir.path().join("disk");
        fs::write(&disk, vec![1; 1 << 20]).expect("garbage");
        assert!(check(&disk).expect_err("garbage").why.contains("superblock"));
        let error = copy_of(&dir.path().join("none"), &disk).expect_err("nothing to copy");
        assert!(error.what.contains("none"), "{error}");
    }
}
