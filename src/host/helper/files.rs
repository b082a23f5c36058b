//! Whether the files of a snapshot are what they should be.
//!
//! Looked at by their descriptors alone: what is found out is about the very file that the kernel
//! will use, whatever happens to its name meanwhile. What the descriptor may do, it was opened for
//! with the asker's own rights.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    sys::statfs::fstatfs,
};

use crate::domain::{ByteSize, VmSpec};

/// What a descriptor is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// What it was opened for.
    pub flags: OFlag,
    /// Type and permissions: `st_mode`.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// How many names it has.
    pub links: u32,
    /// Which device it is on, and which of its files it is.
    pub id: (u32, u32, u64),
    /// Its size in bytes.
    pub bytes: u64,
    /// The kind of its file system: statfs(2).
    pub kind: i64,
}

/// File systems that keep what they are given, on a disk or in memory of this host, and that no
/// other user and no other host can keep waiting: statfs(2). FUSE and those of networks can; an
/// overlay can be one over FUSE.
const LOCAL: [(i64, &str); 8] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x2fc1_2fc1, "zfs"),
    (0x3153_464a, "jfs"),
    (0x0102_1994, "tmpfs"),
];

impl FileFacts {
    /// Looks.
    ///
    /// Asking a file system of a user's own making may take for ever; nothing others wait for may
    /// be held meanwhile. What can be known without asking it is looked at first.
    ///
    /// # Errors
    /// The reason it is refused, or what the kernel says.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = fcntl(file, FcntlArg::F_GETFL)?;
        let flags = OFlag::from_bits_retain(flags);
        if flags.contains(OFlag::O_PATH) {
            return Err(io::Error::other("it is not open for reading"));
        }
        let stat = statx(file)?;
        let mode = u32::from(stat.stx_mode);
        if mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            flags,
            mode,
            uid: stat.stx_uid,
            links: stat.stx_nlink,
            id: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
            bytes: stat.stx_size,
            kind: fstatfs(file)?.filesystem_type().0 as i64,
        })
    }

    fn check(&self) -> Result<(), String> {
        let magic = self.kind & 0xffff_ffff;
        if !LOCAL.iter().any(|(kind, _)| *kind == magic) {
            let known: Vec<_> = LOCAL.iter().map(|(_, name)| *name).collect();
            return Err(format!(
                "it is on a file system (0x{magic:x}) that is none of {}",
                known.join(", ")
            ));
        }
        if self.links == 0 {
            return Err("it has no name any more".to_owned());
        }
        Ok(())
    }

    fn is_open_for(&self, access: &[OFlag]) -> bool {
        access.contains(&(self.flags & OFlag::O_ACCMODE))
    }
}

/// The device a file is on, and its number there.
///
/// # Errors
/// What the kernel says.
pub(super) fn id(file: BorrowedFd<'_>) -> io::Result<(u32, u32, u64)> {
    statx(file).map(|stat| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
}

/// Whether a user may have a snapshot of `bytes` bytes of this base, with this file for what
/// changes. Both were opened by that user.
///
/// # Errors
/// Why not.
pub(super) fn check(base: &FileFacts, cow: &FileFacts, bytes: u64, uid: u32) -> Result<(), String> {
    let most = (VmSpec::DISK_MIB.end() + 1) << 20;
    if bytes == 0 || !bytes.is_multiple_of(512) || bytes > most {
        let most = ByteSize(most);
        return Err(format!("a disk of {bytes} bytes is none: whole sectors up to {most} are"));
    }
    let of_base = |why: String| format!("the base: {why}");
    base.check().map_err(of_base)?;
    if !base.is_open_for(&[OFlag::O_RDONLY, OFlag::O_RDWR]) {
        return Err(of_base("it is not open for reading".to_owned()));
    }
    if base.uid != uid && base.uid != 0 {
        return Err(of_base(format!("it belongs to the user {}, not to you or root", base.uid)));
    }
    if base.bytes == 0 || base.bytes > bytes {
        return Err(of_base(format!("it has {} bytes, and the disk {bytes}", base.bytes)));
    }
    let of_cow = |why: String| format!("the file for what changes: {why}");
    cow.check().map_err(of_cow)?;
    if !cow.is_open_for(&[OFlag::O_RDWR]) || cow.flags.contains(OFlag::O_APPEND) {
        return Err(of_cow("it is not open for reading and writing anywhere".to_owned()));
    }
    if cow.uid != uid {
        return Err(of_cow(format!("it belongs to the user {}, not to you", cow.uid)));
    }
    // The kernel keeps a record in memory for each chunk that changed: no more of them than the
    // disk has. 1 of 256 chunks is for the records themselves (dm-snap-persistent.c); four
    // times that is plenty.
    let room = bytes + bytes / 64 + (16 << 20);
    if cow.bytes > room {
        return Err(of_cow(format!("its {} bytes are more than it can need ({room})", cow.bytes)));
    }
    if cow.id == base.id {
        return Err(of_cow("it is the base".to_owned()));
    }
    Ok(())
}

/// statx(2) without asking a server or a daemon for what is known already.
fn statx(file: BorrowedFd<'_>) -> io::Result<libc::statx> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty string, the descriptor is open, and the kernel fills in a
    // struct of this very layout.
    let done = unsafe {
        libc::statx(
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_BASIC_STATS,
            stat.as_mut_ptr(),
        )
    };
    Errno::result(done)?;
    // SAFETY: zeros are a valid statx, and the kernel has filled in what it knows.
    Ok(unsafe { stat.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        os::unix::fs::{FileTypeExt, OpenOptionsExt},
        path::Path,
    };

    use nix::{
        sys::memfd::{MFdFlags, memfd_create},
        unistd::geteuid,
    };

    use super::*;

    const MIB: u64 = 1 << 20;

    fn good(kind: i64) -> (FileFacts, FileFacts) {
        let base = FileFacts {
            flags: OFlag::O_RDONLY,
            mode: libc::S_IFREG | 0o644,
            uid: 1000,
            links: 1,
            id: (8, 1, 10),
            bytes: MIB,
            kind,
        };
        let cow = FileFacts { flags: OFlag::O_RDWR, id: (8, 1, 11), ..base };
        (base, cow)
    }

    #[test]
    fn a_users_own_files_are_taken_and_others_are_not() {
        let (base, cow) = good(0xef53);
        check(&base, &cow, MIB, 1000).expect("good");
        check(&FileFacts { uid: 0, ..base }, &cow, 4 * MIB, 1000).expect("root's base");
        check(&FileFacts { flags: OFlag::O_RDWR, ..base }, &cow, MIB, 1000).expect("good");
        check(&base, &FileFacts { links: 3, ..cow }, MIB, 1000).expect("good");
        let bases = [
            (FileFacts { uid: 1001, ..base }, "belongs to the user 1001"),
            (FileFacts { flags: OFlag::O_WRONLY, ..base }, "not open for reading"),
            (FileFacts { bytes: 0, ..base }, "0 bytes"),
            (FileFacts { bytes: MIB + 1, ..base }, "1048577 bytes"),
            (FileFacts { links: 0, ..base }, "no name"),
            (FileFacts { kind: 0x6573_5546, ..base }, "0x65735546"), // FUSE
            (FileFacts { kind: 0x6969, ..base }, "0x6969"),          // NFS
            (FileFacts { kind: 0x794c_7630, ..base }, "0x794c7630"), // overlayfs
            (FileFacts { kind: 0x9fa0, ..base }, "0x9fa0"),          // proc
        ];
        for (base, why) in bases {
            let told = check(&base, &cow, MIB, 1000).expect_err(why);
            assert!(told.starts_with("the base: ") && told.contains(why), "{told}");
        }
        let cows = [
            (FileFacts { uid: 0, ..cow }, "belongs to the user 0"),
            (FileFacts { flags: OFlag::O_RDONLY, ..cow }, "not open for"),
            (FileFacts { flags: OFlag::O_WRONLY, ..cow }, "not open for"),
            (FileFacts { flags: OFlag::O_RDWR | OFlag::O_APPEND, ..cow }, "not open for"),
            (FileFacts { bytes: 1 << 40, ..cow }, "more than it can need"),
            (FileFacts { id: base.id, ..cow }, "is the base"),
            (FileFacts { kind: 0x6573_5546, ..cow }, "0x65735546"),
        ];
        for (cow, why) in cows {
            let told = check(&base, &cow, MIB, 1000).expect_err(why);
            assert!(told.starts_with("the file for what changes: "), "{told}");
            assert!(told.contains(why), "{told}");
        }
        for bytes in [0, 511, MIB + 1, u64::MAX, u64::MAX - 511, 1 << 60] {
            assert!(check(&base, &cow, bytes, 1000).is_err(), "{bytes}");
        }
    }

    fn facts(file: &impl AsFd) -> io::Result<FileFacts> {
        FileFacts::of(file.as_fd())
    }

    #[test]
    fn descriptors_tell_what_they_are_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(3 << 40).unwrap();
        let seen = facts(&file).unwrap();
        assert!(seen.is_open_for(&[OFlag::O_WRONLY]) && !seen.is_open_for(&[OFlag::O_RDWR]));
        assert_eq!((seen.uid, seen.links, seen.bytes), (geteuid().as_raw(), 1, 3 << 40));
        // The name now leads elsewhere; the descriptor does not.
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", &path).unwrap();
        let after = facts(&file).unwrap();
        assert_eq!((after.id, after.links), (seen.id, 0));
        assert!(after.check().unwrap_err().contains("no name"));
    }

    #[test]
    fn what_is_no_file_of_a_disk_is_refused() {
        let open = |path: &str| File::open(path);
        for path in ["/dev/null", "/", "/dev/zero"] {
            assert!(facts(&open(path).unwrap()).is_err(), "{path}");
        }
        let (pipe, _end) = nix::unistd::pipe().unwrap();
        assert!(facts(&pipe).is_err());
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(facts(&socket).is_err());
        let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/etc/passwd");
        assert!(facts(&path.unwrap()).unwrap_err().to_string().contains("not open"));
        for path in ["/proc/self/mem", "/proc/version", "/proc/sys/net/ipv4/ip_forward"] {
            let seen = facts(&open(path).unwrap()).unwrap();
            assert!(seen.check().is_err(), "{path}: {seen:?}");
        }
        let memory = memfd_create("x", MFdFlags::empty()).unwrap();
        let seen = facts(&memory).unwrap();
        assert!(seen.check().unwrap_err().contains("no name"), "{seen:?}");
        // A block device's node, whatever its file system: the mode tells.
        if let Some(device) = first_block_device() {
            assert!(facts(&device).unwrap_err().to_string().contains("no regular file"));
        }
    }

    fn first_block_device() -> Option<File> {
        let entries = std::fs::read_dir(Path::new("/dev")).ok()?;
        entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_block_device()))
            .find_map(|entry| File::open(entry.path()).ok())
    }
}
