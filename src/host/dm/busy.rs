//! Who holds a block device.

use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::libc;

use super::table::Dev;

/// More would not be read.
const NAMED: usize = 5;

/// Who holds the device, for a message: processes that have it open, file systems that are
/// mounted from it, devices on top of it.
#[must_use]
pub fn explain(dev: Dev) -> String {
    let mut found = stacked(dev);
    found.extend(mounts(dev));
    found.extend(processes(dev));
    if found.is_empty() {
        return "nobody whom we can see (a process that is ending, or the kernel)".to_owned();
    }
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    found.join(", ")
}

/// Devices on top of it.
fn stacked(dev: Dev) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/sys/dev/block/{dev}/holders")) else {
        return Vec::new();
    };
    let name = |entry: fs::DirEntry| {
        let device = entry.file_name().to_string_lossy().into_owned();
        let name = fs::read_to_string(entry.path().join("dm/name"));
        name.map_or_else(|_| device.clone(), |name| format!("{} ({device})", name.trim()))
    };
    entries.flatten().map(name).collect()
}

/// File systems that are mounted from it, as we see them.
fn mounts(dev: Dev) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounted(&text, dev)
}

/// From `/proc/self/mountinfo`: the third field is the device, the fifth the mount point.
fn mounted(mountinfo: &str, dev: Dev) -> Vec<String> {
    let number = dev.to_string();
    let point = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields.get(2) == Some(&number.as_str())).then(|| format!("mounted on {}", fields[4]))
    };
    mountinfo.lines().filter(|line| line.split(' ').count() > 4).filter_map(point).collect()
}

/// Processes that have it open, under whatever name.
fn processes(dev: Dev) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut out = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        // Gone, or not ours to look at.
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else { continue };
        if open.flatten().any(|fd| is_device(&fd.path(), dev)) {
            let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            out.push(format!("process {pid} ({})", program.trim()));
        }
    }
    out
}

/// Whether `/proc/1/fd/3` is the device.
fn is_device(fd: &PathBuf, dev: Dev) -> bool {
    // Sockets, pipes and the like have no path.
    if !fs::read_link(fd).is_ok_and(|to| to.is_absolute()) {
        return false;
    }
    number_of(fd) == Some(dev)
}

/// The number of the block device at a path. A file on a server that does not answer does not
/// hold us up.
fn number_of(path: &Path) -> Option<Dev> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros is a `struct statx`.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: statx(2) reads the path, which ends with a zero, and writes a `struct statx`.
    let done = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_TYPE,
            &raw mut stat,
        )
    };
    let is_block = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFBLK;
    (done == 0 && is_block)
        .then_some(Dev { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_by_number() {
        let text = "36 35 254:0 / /mnt/a rw,noatime - ext4 /dev/dm-0 rw\n\
                    37 35 7:1 / /mnt/b rw - ext4 /dev/loop1 rw\nshort line\n";
        assert_eq!(mounted(text, Dev { major: 254, minor: 0 }), ["mounted on /mnt/a"]);
        assert!(mounted(text, Dev { major: 254, minor: 1 }).is_empty());
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert_eq!(number_of(Path::new("/dev/null")), None);
        assert_eq!(number_of(Path::new("/nonexistent")), None);
        let none = explain(Dev { major: 254, minor: 987_654 });
        assert!(none.starts_with("nobody"), "{none}");
    }
}
