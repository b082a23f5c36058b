//! The root file system: found, mounted, entered.

use std::{fs, path::Path};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    unistd::{chdir, chroot},
};

use super::{
    Context as _, Fatal,
    uevent::{DEADLINE, Events},
};
use crate::{guest::RootFs, host::ext4};

/// Where the root file system is mounted before it becomes `/`.
const NEW_ROOT: &str = "/newroot";

/// Waits for the device and mounts it.
pub fn mount_root(root: &RootFs, events: &Events) -> Result<(), Fatal> {
    let device = root.device();
    if !events.wait(|| Path::new(device).exists()) {
        let why = format!("it did not appear within {} s", DEADLINE.as_secs());
        return Err(Fatal::new(format!("there is no disk {device}"), why));
    }
    fs::create_dir_all(NEW_ROOT).context(|| "cannot make the mount point of the root")?;
    let flags = if root.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let fstype = root.fstype();
    match mount(Some(device), NEW_ROOT, Some(fstype), flags, None::<&str>) {
        Ok(()) => Ok(()),
        Err(errno) => {
            let what = format!("cannot mount {device}");
            let why = match errno {
                Errno::EINVAL => format!("it has no {fstype} file system, or a damaged one"),
                Errno::ENODEV => format!("the kernel does not know the file system {fstype}"),
                other => other.desc().to_owned(),
            };
            Err(Fatal::new(what, why))
        }
    }
}

/// Lets the file system have all of its disk, which may have become larger since the last start,
/// or larger than the image's when it was made.
pub fn fill_disk(root: &RootFs) -> Result<(), Fatal> {
    if root.fstype() != "ext4" {
        return Ok(());
    }
    let device = root.device();
    ext4::fill(Path::new(device), Path::new(NEW_ROOT))
        .map(drop)
        .context(|| format!("the file system cannot have all of {device}"))
}

/// Makes the mounted file system `/`, takes the kernel's file systems along, and frees the
/// memory of the initrd.
pub fn enter() -> Result<(), Fatal> {
    let new = Path::new(NEW_ROOT);
    for name in ["proc", "sys", "dev"] {
        let target = new.join(name);
        // An image made from a container may lack them; a read-only one then cannot be helped.
        let _ = fs::create_dir(&target);
        move_mount(&Path::new("/").join(name), &target)
            .context(|| format!("the image has no directory /{name}"))?;
    }
    // Here already, and not by the image's init: a resolv.conf may lead into it. An image
    // without the directory does without.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let _ =
        mount(Some("tmpfs"), &new.join("run"), Some("tmpfs"), flags, Some("mode=0755,size=20%"));

    // All that the initrd holds. This program lives on, as long as it runs.
    let _ = fs::remove_dir_all(super::MODULES_DIR);
    let _ = fs::remove_file("/init");

    let entering = || "cannot enter the root file system";
    chdir(new).context(entering)?;
    move_mount(Path::new("."), Path::new("/")).context(entering)?;
    chroot(".").context(entering)?;
    chdir("/").context(entering)
}

fn move_mount(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
}
