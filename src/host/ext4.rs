//! Growing an ext4 file system while it is mounted: the kernel does all of it.
//!
//! The only part of this module that the guest's init is built with too.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

mod ioctl {
    // `EXT4_IOC_RESIZE_FS` (Linux, include/uapi/linux/ext4.h): takes the new number of blocks.
    nix::ioctl_write_ptr!(resize_fs, b'f', 16, u64);
}

/// Where the superblock is, and its length (Linux, Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK: (u64, usize) = (1024, 1024);
const MAGIC: u16 = 0xef53;
/// The feature (of the incompatible ones) of a number of blocks with 64 bits.
const BITS_64: u32 = 0x80;
/// Blocks that are not worth growing for: a file system may end a little before its disk.
const TAIL: u64 = 1024;

/// How large a file system is, and can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Blocks it has.
    pub blocks: u64,
    /// Blocks its disk has room for.
    pub room: u64,
}

impl Extent {
    /// Reads it from a block device or an image; `None` if there is no ext4 on it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(disk: &mut (impl Read + Seek)) -> io::Result<Option<Self>> {
        let bytes = disk.seek(SeekFrom::End(0))?;
        if bytes < SUPERBLOCK.0 + SUPERBLOCK.1 as u64 {
            return Ok(None);
        }
        disk.seek(SeekFrom::Start(SUPERBLOCK.0))?;
        let mut block = [0; SUPERBLOCK.1];
        disk.read_exact(&mut block)?;
        let word = |at: usize| {
            let le = [block[at], block[at + 1], block[at + 2], block[at + 3]];
            u32::from_le_bytes(le)
        };
        let log_size = word(0x18);
        // From 1 to 64 KiB.
        if u16::from_le_bytes([block[0x38], block[0x39]]) != MAGIC || log_size > 6 {
            return Ok(None);
        }
        let high = if word(0x60) & BITS_64 == 0 { 0 } else { word(0x150) };
        let blocks = u64::from(high) << 32 | u64::from(word(0x04));
        Ok(Some(Self { blocks, room: bytes >> (10 + log_size) }))
    }

    /// Whether the disk is noticeably larger.
    #[must_use]
    pub const fn is_short(self) -> bool {
        self.room >= self.blocks + TAIL
    }
}

/// Lets the ext4 file system mounted at `mounted` have all of its disk, if that became larger.
/// True if it grew.
///
/// # Errors
/// The kernel's word.
pub fn fill(device: &Path, mounted: &Path) -> io::Result<bool> {
    let Some(extent) = Extent::read(&mut File::open(device)?)?.filter(|e| e.is_short()) else {
        return Ok(false);
    };
    let root = File::open(mounted)?;
    // SAFETY: the descriptor is open for the length of the call, which reads a u64 that outlives
    // it, and changes nothing of this process.
    unsafe { ioctl::resize_fs(root.as_fd().as_raw_fd(), &raw const extent.room) }?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn the_size_of_a_file_system_and_of_its_disk_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("disk");
        let read = || Extent::read(&mut File::open(&path).expect("open")).expect("readable");
        fs::write(&path, [0; 4096]).expect("written");
        assert_eq!(read(), None, "no file system");
        for (options, block) in [("^64bit", "1024"), ("64bit", "4096")] {
            let mut mke2fs = Command::new("/usr/sbin/mke2fs");
            mke2fs
                .args(["-q", "-F", "-t", "ext4", "-O", options, "-b", block])
                .arg(&path)
                .arg("16M");
            assert!(mke2fs.status().expect("mke2fs runs").success());
            let size = block.parse::<u64>().expect("a number");
            let blocks = (16 << 20) / size;
            assert_eq!(read(), Some(Extent { blocks, room: blocks }));
            assert!(!read().expect("ext4").is_short());
            let file = File::options().write(true).open(&path).expect("open");
            file.set_len(32 << 20).expect("longer");
            assert_eq!(read(), Some(Extent { blocks, room: 2 * blocks }));
            assert!(read().expect("ext4").is_short());
            fs::remove_file(&path).expect("removed");
        }
    }
}
