//! Disk images: copies that share what they can, growing, and room.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    libc,
    sys::statvfs::{fstatvfs, statvfs},
    unistd::{Whence, lseek},
};

use crate::domain::OverlayKind;

/// What `st_blocks` counts in, whatever the file system's block size: stat(2).
const STAT_BLOCK: u64 = 512;

/// How disks made in `dir` share data with their base: tried with a file of one block.
///
/// # Errors
/// If nothing can be written in `dir`.
pub fn overlay_kind(dir: &Path) -> io::Result<OverlayKind> {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let probe = || -> io::Result<(Removed, File)> {
        let n = PROBES.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".probe-{}-{n}", std::process::id()));
        let file = create_new(&path)?;
        Ok((Removed(Some(path)), file))
    };
    let (_from_name, mut from) = probe()?;
    // File systems answer differently for an empty file.
    from.write_all(&[0; 4096])?;
    let (_to_name, to) = probe()?;
    Ok(if clone_file(&from, &to)? { OverlayKind::Reflink } else { OverlayKind::SparseCopy })
}

/// Makes `to` a copy of the image `from`: shared blocks where the file system can do that, else
/// a copy without the holes. `to` must not be there yet; it gets mode 0600.
///
/// Not synchronized: until the guest's first own flush (which takes the whole file with it) a
/// crash of the host can cost a disk that is still the same as its base.
///
/// # Errors
/// What the file system says; [`io::ErrorKind::StorageFull`] before anything is written if the
/// data cannot fit. On an error `to` is not left behind.
pub fn copy_image(from: &Path, to: &Path) -> io::Result<OverlayKind> {
    let source = File::open(from)?;
    if !source.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image is no regular file"));
    }
    let target = create_new(to)?;
    let mut removed = Removed(Some(to.to_owned()));
    let kind = if clone_file(&source, &target)? {
        OverlayKind::Reflink
    } else {
        copy_sparse(&source, &target)?;
        OverlayKind::SparseCopy
    };
    removed.0 = None;
    Ok(kind)
}

/// Enlarges an image file to `bytes` and the ext4 file system on it to the file's end.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `bytes` is less than the file has: nothing is ever shrunk.
/// If `resize2fs` fails (its words are in the error), the file has its old size again.
pub fn grow(image: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(image)?;
    let before = file.metadata()?.len();
    if bytes < before {
        let why = format!("the image has {before} bytes already, and disks are never shrunk");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    if bytes == before {
        return Ok(());
    }
    file.set_len(bytes)?;
    let resized = resize2fs(image);
    if resized.is_err() {
        file.set_len(before)?;
    }
    resized
}

/// Bytes a file takes on the disk, holes left out.
///
/// # Errors
/// If it is not there.
pub fn used_bytes(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.blocks() * STAT_BLOCK)
}

/// Bytes that we may still write below `dir`.
///
/// # Errors
/// If it is not there.
pub fn free_space(dir: &Path) -> io::Result<u64> {
    let stat = statvfs(dir)?;
    Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// A file that is removed again, unless its name is taken out.
struct Removed(Option<PathBuf>);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // There is an error to report already, and this would not be a better one.
            let _ = fs::remove_file(path);
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Shares all blocks of `from` with the empty `to`; false if this file system cannot.
fn clone_file(from: &File, to: &File) -> io::Result<bool> {
    // SAFETY: FICLONE (ioctl_ficlone(2)) takes a descriptor as its argument, no memory of ours;
    // both are open for the whole call.
    let done = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) };
    match Errno::result(done) {
        Ok(_) => Ok(true),
        // No such operation, two file systems, or a file it does not like (no copy on write, …):
        // ioctl_ficlone(2).
        Err(Errno::EOPNOTSUPP | Errno::EXDEV | Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS) => {
            Ok(false)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    check_room(from, free_of(to)?)?;
    to.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match lseek(from, at as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            Err(Errno::ENXIO) => break, // only a hole is left
            Err(Errno::EINVAL) => at,   // no idea of holes here: all is data
            Err(errno) => return Err(errno.into()),
        };
        let end = match lseek(from, start as i64, Whence::SeekHole) {
            Ok(end) => end as u64,
            Err(Errno::EINVAL) => length,
            Err(errno) => return Err(errno.into()),
        };
        copy_range(from, to, start, end.min(length))?;
        at = end;
    }
    Ok(())
}

/// Fails before the disk is full, for the sake of everybody else who writes to it.
fn check_room(from: &File, free: u64) -> io::Result<()> {
    let needed = from.metadata()?.blocks() * STAT_BLOCK;
    if needed > free { Err(Errno::ENOSPC.into()) } else { Ok(()) }
}

fn free_of(file: &File) -> io::Result<u64> {
    let stat = fstatvfs(file)?;
    Ok(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// Copies one stretch of data. `io::copy` leaves it to the kernel (`copy_file_range`) where the
/// two file systems allow that.
fn copy_range(mut from: &File, mut to: &File, start: u64, end: u64) -> io::Result<()> {
    from.seek(SeekFrom::Start(start))?;
    to.seek(SeekFrom::Start(start))?;
    if io::copy(&mut from.take(end - start), &mut to)? < end - start {
        let why = "the image became shorter while it was copied";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    Ok(())
}

fn resize2fs(image: &Path) -> io::Result<()> {
    // Debian keeps it in a directory that only root has in its PATH.
    let program = ["/usr/sbin/resize2fs", "/sbin/resize2fs"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("resize2fs");
    let output = Command::new(program).arg(image).output().map_err(|error| {
        let why = format!("cannot run resize2fs ({error}); it is in the package e2fsprogs");
        io::Error::new(error.kind(), why)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    // The first line is the program's version.
    let why: Vec<_> = text.lines().skip(1).map(str::trim).filter(|l| !l.is_empty()).collect();
    Err(io::Error::other(format!("resize2fs: {}", why.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// 64 MiB with data in three places, one of them at the very end.
    fn image(path: &Path) -> Vec<(u64, Vec<u8>)> {
        let data: Vec<_> = [(0, 1), (20 * MIB + 4096, 2), (64 * MIB - 8192, 3)]
            .map(|(at, byte)| (at, vec![byte; 8192]))
            .into();
        let mut file = File::create(path).expect("image");
        file.set_len(64 * MIB).expect("length");
        for (at, bytes) in &data {
            file.seek(SeekFrom::Start(*at)).expect("seek");
            file.write_all(bytes).expect("write");
        }
        data
    }

    #[test]
    fn a_copy_has_the_data_and_the_holes() {
        let dir = tempfile::tempdir().expect("temp");
        let (from, to) = (dir.path().join("base"), dir.path().join("copy"));
        image(&from);
        let kind = copy_image(&from, &to).expect("copy");
        assert_eq!(kind, overlay_kind(dir.path()).expect("probe"), "as was announced");
        assert_eq!(fs::read(&from).expect("base"), fs::read(&to).expect("copy"));
        assert!(used_bytes(&to).expect("used") < MIB, "the holes are filled");
        assert_eq!(fs::metadata(&to).expect("copy").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 2, "no probe is left");
    }

    #[test]
    fn an_empty_image_and_one_that_is_all_hole_are_copied() {
        let dir = tempfile::tempdir().expect("temp");
        for length in [0, 3 * MIB] {
            let (from, to) = (dir.path().join("base"), dir.path().join(format!("{length}")));
            File::create(&from).and_then(|file| file.set_len(length)).expect("base");
            copy_image(&from, &to).expect("copy");
            assert_eq!(fs::metadata(&to).expect("copy").len(), length);
        }
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing_and_one_that_is_there_stays() {
        let dir = tempfile::tempdir().expect("temp");
        let at = |name: &str| dir.path().join(name);
        assert!(copy_image(&at("none"), &at("a")).is_err());
        assert!(copy_image(dir.path(), &at("a")).is_err());
        assert!(!at("a").exists());
        fs::write(at("theirs"), "precious").expect("write");
        image(&at("base"));
        let error = copy_image(&at("base"), &at("theirs")).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(at("theirs")).expect("read"), b"precious");
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().expect("temp");
        let (from, to) = (dir.path().join("base"), dir.path().join("copy"));
        image(&from);
        let source = File::open(&from).expect("base");
        let error = check_room(&source, 4096).expect_err("less than the data");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        check_room(&source, MIB).expect("holes need no room");
        assert!(!to.exists());
    }

    #[test]
    fn an_image_grows_with_its_file_system_and_never_shrinks() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("root.img");
        File::create(&path).and_then(|file| file.set_len(16 * MIB)).expect("image");
        let mut mke2fs = Command::new("/usr/sbin/mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4"]).arg(&path);
        assert!(mke2fs.status().expect("mke2fs").success());
        grow(&path, 16 * MIB).expect("nothing to do");
        grow(&path, 32 * MIB).expect("grow");
        let dump = Command::new("/usr/sbin/dumpe2fs").arg("-h").arg(&path).output().expect("run");
        let text = String::from_utf8_lossy(&dump.stdout);
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("field");
            line.trim().parse().expect("number")
        };
        assert_eq!(field("Block count:") * field("Block size:"), 32 * MIB);
        let error = grow(&path, 16 * MIB).expect_err("smaller");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(fs::metadata(&path).expect("image").len(), 32 * MIB);
    }

    #[test]
    fn what_is_no_file_system_does_not_grow() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("root.img");
        image(&path);
        let error = grow(&path, 128 * MIB).expect_err("no file system").to_string();
        assert!(error.contains("resize2fs") && error.contains("magic"), "{error}");
        assert_eq!(fs::metadata(&path).expect("image").len(), 64 * MIB, "as before");
    }
}
