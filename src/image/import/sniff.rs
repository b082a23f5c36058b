//! What a file is, by what it holds.

use super::{Blocks, Failure};
use crate::image::Ext4;

/// How much of a file is looked at.
const HEAD: usize = 128 * 1024;

/// What a source can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A file system of its own: ext4, or what the same driver reads.
    Ext4,
    /// A disk with a GUID partition table.
    Gpt,
    /// A disk with a table of the old kind.
    Mbr,
    /// A virtual disk of QEMU's.
    Qcow2,
    /// A tar archive: a root file system, or a container image.
    Tar,
    /// The same, compressed.
    Packed(Packing),
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// The .xz format.
    Xz,
}

/// A magic number: where it is, what it is, what has it.
type Magic = (usize, &'static [u8], &'static str);

/// What cannot be a root here, and is not to be taken for something else.
const FOREIGN: &[Magic] = &[
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"XFSB", "an XFS file system"),
    (0x1_0040, b"_BHRfS_M", "a Btrfs file system"),
    (0x1018, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (0x200 + 0x18, b"LVM2 001", "a volume of LVM"),
    (0x18, b"LVM2 001", "a volume of LVM"),
    (3, b"NTFS    ", "a file system of Windows (NTFS)"),
    (3, b"-FVE-FS-", "an encrypted volume of Windows (BitLocker)"),
    (0, b"hsqs", "a squashfs"),
    (0x400, b"\xe2\xe1\xf5\xe0", "an EROFS"),
    (0x8001, b"CD001", "an installation medium (ISO 9660)"),
    (0xff6, b"SWAPSPACE2", "swap space"),
    (0, b"KDMV", "a disk of VMware (VMDK)"),
    (0, b"# Disk DescriptorFile", "a disk of VMware (VMDK)"),
    (0, b"vhdxfile", "a disk of Hyper-V (VHDX)"),
    (0, b"conectix", "a disk of Hyper-V (VHD)"),
    (0x40, b"\x7f\x10\xda\xbe", "a disk of VirtualBox (VDI)"),
    (0, b"QED\0", "a disk of QEMU's old format QED"),
    (0, b"\x7fELF", "a program"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"BZh", "compressed with bzip2"),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4"),
    (0, b"070701", "a cpio archive"),
    (0, b"!<arch>\n", "a package or a library (ar)"),
];

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..at + magic.len()) == Some(magic)
}

/// What a disk or partition is that cannot be a root here, if it is known.
#[must_use]
pub fn foreign(bytes: &[u8]) -> Option<&'static str> {
    FOREIGN.iter().find(|(at, magic, _)| has(bytes, *at, magic)).map(|(_, _, what)| *what)
}

/// How a stream is compressed, by its first bytes.
#[must_use]
pub fn packing(head: &[u8]) -> Option<Packing> {
    match head {
        [0x1f, 0x8b, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
        // A frame that tells something to somebody else may come first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Packing::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
        _ => None,
    }
}

/// Whether this begins a tar archive: the sum of the first header is right.
#[must_use]
pub fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..512) else { return false };
    let header = tar::Header::from_byte_slice(block);
    block.iter().any(|byte| *byte != 0)
        && header.cksum().is_ok_and(|sum| sum == super::tarball::checksum(block))
}

/// What a file is.
///
/// # Errors
/// If it is nothing that can be imported; the reason says what it is, where that is known.
pub fn shape(source: &dyn Blocks) -> Result<Shape, Failure> {
    const ACCEPTED: &str = "an ext4 file system, a disk (raw or qcow2), a tar of a root file system and a container \
         image (OCI or docker save) can be imported";
    let head = source.head(0, HEAD)?;
    if head.is_empty() {
        return Err(Failure::broken("it is empty"));
    }
    if has(&head, 0, b"QFI\xfb") {
        return Ok(Shape::Qcow2);
    }
    if let Some(packing) = packing(&head) {
        return Ok(Shape::Packed(packing));
    }
    if is_tar(&head) {
        return Ok(Shape::Tar);
    }
    // A file system may keep the boot code of the disk it once was: it is asked for first.
    if Ext4::parse(&head).is_ok() {
        return Ok(Shape::Ext4);
    }
    if has(&head, 512, b"EFI PART") || has(&head, 4096, b"EFI PART") {
        return Ok(Shape::Gpt);
    }
    if let Some(what) = foreign(&head) {
        return Err(Failure::hinted(format!("it is {what}"), ACCEPTED));
    }
    if has(&head, 510, &[0x55, 0xaa]) {
        return Ok(Shape::Mbr);
    }
    Err(Failure::hinted("it is nothing that is known here", ACCEPTED))
}
