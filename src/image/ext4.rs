//! The superblock of ext4, as far as it tells whether a file can be a base image.

/// Where the superblock starts (Linux Documentation/filesystems/ext4/super.rst).
const OFFSET: usize = 1024;

/// What an ext4 file system says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ext4 {
    /// Bytes per block: 1024 to 65536.
    pub block_size: u64,
    /// How many blocks it has.
    pub blocks: u64,
}

/// Why some bytes are no ext4 file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExt4 {
    /// It ends before the superblock does.
    #[error("it is too short to hold a file system")]
    Short,
    /// The magic number 0xEF53 is not there.
    #[error("it is no ext4 file system: the magic number at byte 1080 is {0:#06x}, not 0xef53")]
    Magic(u16),
    /// The magic number is there, but what follows makes no sense.
    #[error("its superblock makes no sense: {0}")]
    Nonsense(&'static str),
}

impl Ext4 {
    /// How many of a file's first bytes [`Ext4::parse`] needs.
    pub const HEAD: usize = OFFSET + 1024;

    /// Reads the superblock from the first [`Ext4::HEAD`] bytes of a disk.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(head: &[u8]) -> Result<Self, NotExt4> {
        let block = head.get(OFFSET..Self::HEAD).ok_or(NotExt4::Short)?;
        let u16_at = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let u32_at = |at: usize| u64::from(u16_at(at)) | u64::from(u16_at(at + 2)) << 16;
        // Offsets within the superblock: s_magic, s_log_block_size, s_blocks_count_lo and _hi,
        // s_feature_incompat.
        let magic = u16_at(0x38);
        if magic != 0xef53 {
            return Err(NotExt4::Magic(magic));
        }
        let shift = u32_at(0x18);
        if shift > 6 {
            return Err(NotExt4::Nonsense("its blocks would be larger than 64 KiB"));
        }
        const INCOMPAT_64BIT: u64 = 0x80;
        let high = if u32_at(0x60) & INCOMPAT_64BIT == 0 { 0 } else { u32_at(0x150) };
        let blocks = u32_at(0x4) | high << 32;
        if blocks == 0 {
            return Err(NotExt4::Nonsense("it has no blocks"));
        }
        Ok(Self { block_size: 1024 << shift, blocks })
    }

    /// Bytes the file system takes; saturates.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use proptest::prelude::{any, prop, proptest};

    use super::*;

    fn made(options: &[&str], mib: u64) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fs.img");
        fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
        // By path: /sbin is not in every user's PATH.
        let mut mke2fs = Command::new("/sbin/mke2fs");
        let status = mke2fs.args(["-q", "-F"]).args(options).arg(&path).status();
        assert!(status.unwrap().success(), "mke2fs (package e2fsprogs)");
        let mut head = fs::read(&path).unwrap();
        head.truncate(Ext4::HEAD);
        head
    }

    #[test]
    fn what_mke2fs_makes_is_read() {
        for (options, block_size) in [
            (&["-t", "ext4", "-b", "4096"][..], 4096),
            (&["-t", "ext4", "-b", "1024", "-O", "^64bit"][..], 1024),
            (&["-t", "ext4", "-O", "64bit"][..], 1024),
        ] {
            let fs = Ext4::parse(&made(options, 8)).unwrap();
            assert_eq!((fs.block_size, fs.size()), (block_size, 8 << 20), "{options:?}");
        }
    }

    #[test]
    fn other_bytes_are_refused_with_the_reason() {
        let good = made(&["-t", "ext4"], 8);
        assert_eq!(Ext4::parse(&good[..Ext4::HEAD - 1]), Err(NotExt4::Short));
        assert_eq!(Ext4::parse(&[]), Err(NotExt4::Short));
        assert_eq!(Ext4::parse(&vec![0; Ext4::HEAD]), Err(NotExt4::Magic(0)));
        let mut bad = good.clone();
        bad[OFFSET + 0x18] = 7;
        assert!(matches!(Ext4::parse(&bad), Err(NotExt4::Nonsense(_))));
        let mut bad = good;
        bad[OFFSET + 4..OFFSET + 8].fill(0);
        assert!(matches!(Ext4::parse(&bad), Err(NotExt4::Nonsense(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(block in prop::collection::vec(any::<u8>(), 0..2 * Ext4::HEAD)) {
            let mut block = block;
            let _ = Ext4::parse(&block);
            if block.len() > OFFSET + 0x3a {
                block[OFFSET + 0x38..OFFSET + 0x3a].copy_from_slice(&[0x53, 0xef]);
                let _ = Ext4::parse(&block).map(|fs| fs.size());
            }
        }
    }
}
