//! The file for what changes: how long it must be, how it begins, and what its first bytes say.
//!
//! Its format is that of the kernel's `drivers/md/dm-snap-persistent.c`: a chunk that begins with
//! a header; then areas, each a chunk of records (16 bytes: which chunk of the disk, and where it
//! is now) and the chunks that it records. Chunks are taken in their order in the file, so that
//! `used` of a [`Fill`](crate::host::ops::Fill) is how much of the file's beginning is in use.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};

use super::table::{CHUNK_SECTORS, SECTOR};

/// Bytes of a chunk.
pub const CHUNK: u64 = CHUNK_SECTORS * SECTOR;
/// Chunks that one chunk of records is for.
const AREA: u64 = CHUNK / 16;
/// `SNAP_MAGIC`: "SnAp".
const MAGIC: [u8; 4] = *b"SnAp";
/// `SNAPSHOT_DISK_VERSION`.
const VERSION: u32 = 1;

/// Bytes that the file for what changes of a disk needs so that it never overflows, whatever the
/// guest writes: every chunk of the disk, the records, the header. The file is sparse: that long
/// it is, not that large.
///
/// The kernel clears the next area's records before it writes the last record of an area, so
/// there is an area more than those in use; see [`fits`].
#[must_use]
pub const fn cow_bytes(disk_bytes: u64) -> u64 {
    let chunks = disk_bytes.div_ceil(CHUNK);
    let areas = chunks / AREA + 1;
    (1 + areas + chunks) * CHUNK
}

/// Whether a file of this length can be a COW: whole chunks, and not a length at which the kernel
/// (6.1 and 6.18 at least) ruins the snapshot when it is full. That happens if the file ends just
/// behind a full area: the last chunk is still given out, then the next area's records are
/// cleared behind the end of the file, which fails, and a write that fails makes the snapshot
/// invalid instead of overflowed.
#[must_use]
pub const fn fits(cow_bytes: u64) -> bool {
    let chunks = cow_bytes / CHUNK;
    cow_bytes.is_multiple_of(CHUNK) && chunks >= 3 && chunks % (AREA + 1) != 1
}

/// Makes the file for what changes of a disk of so many bytes: all zeros, which is how an unused
/// one begins, and all hole. It has mode 0600, must not be there yet, and is on the disk when
/// this returns.
///
/// # Errors
/// What the file system says. Then it is not left behind.
pub fn make_cow(path: &Path, disk_bytes: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let made = file.set_len(cow_bytes(disk_bytes)).and_then(|()| {
        file.sync_all()?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    });
    if made.is_err() {
        // There is an error to report already, and this would not be a better one.
        let _ = std::fs::remove_file(path);
    }
    made
}

/// What a COW file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It was never used.
    Unused,
    /// It has changes.
    Used,
    /// The kernel gave it up after an error; see [`revive`].
    Invalid,
    /// It is something else, or made by something else with other parameters.
    Foreign,
}

/// Looks at the beginning of a COW file.
///
/// # Errors
/// If it cannot be read, or is shorter than a header.
pub fn header(file: &File) -> io::Result<Header> {
    // struct disk_header, little-endian: magic, valid, version, chunk size in sectors.
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, 0)?;
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(if bytes == [0; 16] {
        Header::Unused
    } else if bytes[..4] != MAGIC || word(8) != VERSION || u64::from(word(12)) != CHUNK_SECTORS {
        Header::Foreign
    } else if word(4) == 0 {
        Header::Invalid
    } else {
        Header::Used
    })
}

/// Makes a COW file that the kernel gave up readable again, as it was at the last write that was
/// acknowledged: for the guest's file system that is a power cut at that moment.
///
/// When a write to the file fails, the kernel writes "not valid" into its header and nothing else.
/// The records are in order nevertheless: each is written, and flushed, after what it records,
/// and a write of the guest's is acknowledged after that.
///
/// # Errors
/// If it cannot be written.
pub fn revive(file: &File) -> io::Result<()> {
    file.write_all_at(&1_u32.to_le_bytes(), 4)?;
    file.sync_data()
}

/// Makes sure that the host's file system has room for what the COW file will take next: `ahead`
/// bytes behind the `used` ones. What was got for it before is kept, so it costs little to call
/// often. The file's length stays.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if the host is too full: then less is certain, and the guest is
/// to be paused; [`io::ErrorKind::Unsupported`] if this file system cannot promise anything.
pub fn reserve(cow: &File, used: u64, ahead: u64) -> io::Result<()> {
    let end = used.saturating_add(ahead).min(cow.metadata()?.len());
    let offset = |at: u64| i64::try_from(at).map_err(|_| io::Error::from(Errno::EFBIG));
    let length = end.saturating_sub(used);
    if length == 0 {
        return Ok(());
    }
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(cow, keep, offset(used)?, offset(length)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    /// The kernel's bookkeeping (`persistent_prepare_exception`, `persistent_commit_exception`),
    /// simplified to what matters: whether so many exceptions fit, and whether all that is
    /// written then lies within the file.
    fn full(disk_chunks: u64, cow_chunks: u64) -> Result<(), &'static str> {
        let (mut next_free, mut committed, mut area) = (2, 0, 0);
        for _ in 0..disk_chunks {
            if cow_chunks < next_free + 1 {
                return Err("overflow");
            }
            next_free += 1;
            if next_free % (AREA + 1) == 1 {
                next_free += 1;
            }
            committed += 1;
            if committed == AREA {
                (committed, area) = (0, area + 1);
                if 1 + area * (AREA + 1) >= cow_chunks {
                    return Err("invalid");
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_disk_that_is_written_whole_fits(chunks in 1_u64..20_000, odd in 0..CHUNK) {
            let disk = chunks * CHUNK - odd;
            let cow = cow_bytes(disk);
            prop_assert!(fits(cow));
            prop_assert_eq!(full(disk.div_ceil(CHUNK), cow / CHUNK), Ok(()));
            // 0.4 % for the records, and no more than two chunks beside them.
            prop_assert!(cow <= disk + disk / AREA + 4 * CHUNK);
        }

        #[test]
        fn what_fits_overflows_and_is_never_ruined(cow_chunks in 3_u64..3_000) {
            let end = full(u64::MAX, cow_chunks);
            prop_assert_eq!(end == Err("overflow"), fits(cow_chunks * CHUNK), "{:?}", end);
        }
    }

    #[test]
    fn lengths_at_the_edges() {
        assert_eq!(cow_bytes(0), 2 * CHUNK);
        assert_eq!(cow_bytes(1), 3 * CHUNK);
        assert_eq!(cow_bytes(CHUNK * 256), 259 * CHUNK, "the second area's records");
        assert_eq!(cow_bytes(1 << 30) - (1 << 30), (1 + 1025) * CHUNK);
        assert!(
            !fits(258 * CHUNK) && fits(259 * CHUNK) && !fits(2 * CHUNK) && !fits(CHUNK * 9 + 1)
        );
    }

    #[test]
    fn a_new_file_is_long_takes_nothing_and_is_unused() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("cow");
        make_cow(&path, 1 << 40).expect("made");
        let meta = path.metadata().expect("there");
        assert_eq!((meta.len(), meta.blocks()), (cow_bytes(1 << 40), 0));
        assert_eq!(meta.mode() & 0o777, 0o600);
        assert_eq!(header(&File::open(&path).expect("open")).expect("read"), Header::Unused);
        let again = make_cow(&path, 1 << 20).expect_err("it is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(path.metadata().expect("still there").len(), cow_bytes(1 << 40));
        assert!(make_cow(&dir.path().join("too-long"), u64::MAX / 2).is_err());
        assert!(!dir.path().join("too-long").exists());
    }

    #[test]
    fn headers_are_told_apart_and_revived() {
        let file = tempfile::tempfile().expect("temp");
        assert!(header(&file).is_err(), "too short");
        file.set_len(CHUNK).expect("length");
        let is = |bytes: &[u8]| {
            file.write_all_at(bytes, 0).expect("write");
            header(&file).expect("read")
        };
        // As the kernel wrote them in the lab.
        assert_eq!(is(b"SnAp\x01\0\0\0\x01\0\0\0\x08\0\0\0"), Header::Used);
        assert_eq!(is(b"SnAp\0\0\0\0\x01\0\0\0\x08\0\0\0"), Header::Invalid);
        revive(&file).expect("write");
        assert_eq!(header(&file).expect("read"), Header::Used);
        assert_eq!(is(b"SnAp\x01\0\0\0\x01\0\0\0\x10\0\0\0"), Header::Foreign, "8 KiB chunks");
        assert_eq!(is(b"SnAp\x01\0\0\0\x02\0\0\0\x08\0\0\0"), Header::Foreign, "version 2");
        assert_eq!(is(b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\0"), Header::Foreign, "a qcow2 image");
    }
}
