//! `/etc/fstab` of a system that had more disks than it has now.

/// What stands before a line that is no longer in force.
const NOTE: &str = "# not there since the import to banger: ";

/// The root's device in a guest.
const ROOT: &str = "/dev/vda";

/// An `fstab` with what it would wait for in vain taken out.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    /// The whole text.
    pub text: String,
    /// The mount points whose lines are comments now; `/` if its device is another one now.
    pub mounts: Vec<String>,
}

/// Takes out what names a partition or a disk other than the root; `None` if nothing does. The
/// root's own line stays if it goes by label or UUID, which came along, and else gets the device
/// it has in a guest. Lines of the kernel's file systems, of the network and of files stay.
#[must_use]
pub fn without_lost_disks(text: &str) -> Option<Changed> {
    let mut mounts = Vec::new();
    let mut new = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut fields = line.split_ascii_whitespace();
        let (spec, mount) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        if !is_disk(spec) || mount.is_empty() {
            new.push_str(line);
        } else if mount != "/" {
            mounts.push(mount.to_owned());
            new.push_str(NOTE);
            new.push_str(line);
        } else if spec == ROOT || moves_along(spec) {
            new.push_str(line);
        } else {
            mounts.push(mount.to_owned());
            new.push_str(&line.replacen(spec, ROOT, 1));
        }
    }
    (!mounts.is_empty()).then_some(Changed { text: new, mounts })
}

fn is_disk(spec: &str) -> bool {
    let by_name = spec.strip_prefix("/dev/").is_some_and(|name| {
        // Not of a disk: what a tmpfs or a pseudo file system is called after.
        !matches!(name, "shm" | "pts" | "fuse" | "null" | "loop-control")
    });
    by_name || moves_along(spec) || tag(spec, "PARTUUID=") || tag(spec, "PARTLABEL=")
}

/// What belongs to the file system and not to the partition.
fn moves_along(spec: &str) -> bool {
    tag(spec, "UUID=") || tag(spec, "LABEL=")
}

fn tag(spec: &str, name: &str) -> bool {
    spec.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloud_images_have_is_kept_as_far_as_it_is_there() {
        let debian = "PARTUUID=1c-2d / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n\
                      PARTUUID=3e-4f /boot/efi vfat defaults 0 0\n";
        let changed = without_lost_disks(debian).unwrap();
        assert_eq!(
            changed.text,
            "/dev/vda / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\n\
             # not there since the import to banger: PARTUUID=3e-4f /boot/efi vfat defaults 0 0\n"
        );
        assert_eq!(changed.mounts, ["/", "/boot/efi"]);
        assert_eq!(without_lost_disks(&changed.text), None, "once is enough");
        let ubuntu = "LABEL=cloudimg-rootfs\t/\t ext4\tdiscard,commit=30\t0 1\n\
                      LABEL=BOOT\t/boot\text4\tdefaults\t0 2\nLABEL=UEFI\t/boot/efi\tvfat\tumask=0077\t0 1";
        let changed = without_lost_disks(ubuntu).unwrap();
        assert!(changed.text.starts_with("LABEL=cloudimg-rootfs\t/\t ext4"), "{changed:?}");
        assert_eq!(changed.mounts, ["/boot", "/boot/efi"]);
    }

    #[test]
    fn what_needs_no_other_disk_stays() {
        let text = "# /etc/fstab\n\n/dev/vda / ext4 rw 0 1\nproc /proc proc defaults 0 0\n\
                    tmpfs /tmp tmpfs size=1g 0 0\n/swapfile none swap sw 0 0\n\
                    nas:/home /home nfs4 _netdev 0 0\n/a /b none bind\n/dev/shm /dev/shm tmpfs\n";
        assert_eq!(without_lost_disks(text), None);
        assert_eq!(without_lost_disks(""), None);
        let swap = without_lost_disks("UUID=1 none swap sw 0 0\n/dev/sda1 / ext3 rw").unwrap();
        assert_eq!(swap.mounts, ["none", "/"]);
        assert!(swap.text.ends_with("/dev/vda / ext3 rw"), "{swap:?}");
    }
}
