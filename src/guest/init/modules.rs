//! The kernel's modules beyond those of the initrd: a disk of their own, mounted where the image's
//! programs look for them.
//!
//! An image is not made for one kernel, so it has no modules of the one it is started with. One
//! that has (a kernel's package was installed in it, of the same release by chance) keeps them.
//! One without modprobe is left alone: there, nothing would use them but udev, which would load
//! drivers nobody asked for, and units of systemd that take modprobe for granted would fail.

use std::{fs, path::Path};

use nix::{
    mount::{MsFlags, mount as mount_at},
    sys::utsname::uname,
};

use super::{Context as _, Fatal};

/// Where modules belong; each release has a directory in it.
const MODULES: &str = "/lib/modules";
/// What depmod leaves where there are modules.
const INDEX: &str = "modules.dep";

/// Where modprobe can be; the kernel itself knows the first only.
const LOADERS: [&str; 3] = ["/sbin/modprobe", "/usr/sbin/modprobe", "/usr/bin/modprobe"];

/// Mounts the disk for the running kernel's release, unless the root has modules of it, or
/// nothing to load them with.
pub fn mount(device: &str, read_only: bool) -> Result<(), Fatal> {
    let name = uname().context(|| "cannot ask the kernel for its release")?;
    let release = name.release();
    let target = Path::new(MODULES).join(release);
    if target.join(INDEX).exists() || !LOADERS.iter().any(|path| Path::new(path).exists()) {
        return Ok(());
    }
    if !read_only {
        fs::create_dir_all(&target).context(|| format!("cannot make {}", target.display()))?;
        forget_others(Path::new(MODULES), Path::new(release));
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(Some(device), &target, Some("ext4"), flags, None::<&str>)
        .context(|| format!("cannot mount the kernel's modules from {device}"))
}

/// Removes the mount points of kernels that came before; what holds anything stays.
fn forget_others(dir: &Path, release: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name() != release.as_os_str() {
            // Not a directory, or not empty: not one of ours.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_directories_of_other_kernels_go_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for release in ["6.1.0-1", "6.1.0-2", "6.1.0-3"] {
            fs::create_dir(at(release)).expect("made");
        }
        fs::write(at("6.1.0-1/modules.dep"), "").expect("written");
        fs::write(at("note"), "").expect("written");
        forget_others(dir.path(), Path::new("6.1.0-3"));
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["6.1.0-1", "6.1.0-3", "note"]);
    }
}
