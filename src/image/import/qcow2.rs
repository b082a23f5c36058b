//! QEMU's virtual disks, read: versions 2 and 3, with compressed clusters.
//!
//! From QEMU's `docs/interop/qcow2.txt`. Such a file may name others - a backing file, a data
//! file - anywhere on the host; those are refused, so nothing but the file itself is ever read.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use flate2::read::DeflateDecoder;

use super::{Blocks, Failure};
use crate::domain::ByteSize;

/// The largest table of the first level that QEMU itself takes, in entries (32 MiB).
const L1_MAX: usize = (32 << 20) / 8;

/// Of an entry of either level: where it leads in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Of an entry of the second level: what it leads to is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Of an entry of the second level: it reads as zeros (version 3).
const ZERO: u64 = 1;

/// Incompatible features that change nothing for a reader, or are understood.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// A virtual disk.
pub struct Qcow2 {
    file: File,
    file_length: u64,
    version: u32,
    cluster_bits: u32,
    size: u64,
    zstd: bool,
    l1: Vec<u64>,
    /// The table of the second level used last, by where it is.
    l2: RefCell<Option<(u64, Vec<u64>)>>,
    /// The compressed cluster used last, by its entry.
    unpacked: RefCell<Option<(u64, Vec<u8>)>>,
}

/// What a cluster of the disk is.
enum Cluster {
    Zeros,
    At(u64),
    Packed(u64),
}

impl Qcow2 {
    /// Opens it and checks all that is needed to read it.
    ///
    /// # Errors
    /// If it is damaged, or needs what is not there: another file, a key, a newer QEMU.
    pub fn open(file: File) -> Result<Self, Failure> {
        let file_length = file.metadata()?.len();
        let mut header = [0; 112];
        let there = usize::try_from(file_length).unwrap_or(header.len()).min(header.len());
        file.read_exact_at(&mut header[..there], 0)?;
        let u32_at = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let version = u32_at(4);
        if !matches!(version, 2 | 3) {
            return Err(Failure::hinted(
                format!("it is qcow of version {version}, and 2 and 3 are understood"),
                "convert it: qemu-img convert -O qcow2 OLD NEW",
            ));
        }
        if u64_at(8) != 0 {
            return Err(Failure::hinted(
                "it is only what differs from another disk (it has a backing file)",
                "make a whole one of it where that disk is: qemu-img convert -O qcow2 OLD NEW",
            ));
        }
        if u32_at(32) != 0 {
            return Err(Failure::hinted("it is encrypted", "decrypt it with qemu-img convert"));
        }
        let (features, zstd) = if version == 2 {
            (0, false)
        } else {
            let features = u64_at(72);
            let kind =
                if features & COMPRESSION != 0 && u32_at(100) > 104 { header[104] } else { 0 };
            if kind > 1 {
                return Err(Failure::hinted(
                    format!("its clusters are compressed in a way that is not known here ({kind})"),
                    "convert it: qemu-img convert -O qcow2 OLD NEW",
                ));
            }
            (features, kind == 1)
        };
        check_features(features)?;
        let cluster_bits = u32_at(20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged("its clusters have an impossible size"));
        }
        let size = u64_at(24);
        let (l1_size, l1_offset) = (u32_at(36) as usize, u64_at(40));
        let covered = 1_u64 << (2 * cluster_bits - 3); // by one entry of the first level
        if l1_size > L1_MAX || (l1_size as u64) < size.div_ceil(covered) {
            return Err(damaged(format!(
                "its table of {l1_size} entries does not fit a disk of {}",
                ByteSize(size)
            )));
        }
        let mut disk = Self {
            file,
            file_length,
            version,
            cluster_bits,
            size,
            zstd,
            l1: Vec::new(),
            l2: RefCell::new(None),
            unpacked: RefCell::new(None),
        };
        disk.l1 = disk.table(l1_offset, l1_size)?;
        Ok(disk)
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// A table of numbers, from the file.
    fn table(&self, at: u64, entries: usize) -> Result<Vec<u64>, Failure> {
        let bytes = entries * 8;
        if at.checked_add(bytes as u64).is_none_or(|end| end > self.file_length) {
            return Err(damaged("a table of it lies behind its end; it is truncated"));
        }
        let mut raw = vec![0; bytes];
        self.file.read_exact_at(&mut raw, at)?;
        let (numbers, _) = raw.as_chunks::<8>();
        Ok(numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
    }

    /// What the cluster is that holds the byte `at`.
    fn find(&self, at: u64) -> Result<Cluster, Failure> {
        let per_table = self.cluster_bits - 3;
        let index = at >> self.cluster_bits;
        let first = usize::try_from(index >> per_table).unwrap_or(usize::MAX);
        let l1 = self.l1.get(first).copied().unwrap_or(0) & OFFSET;
        if l1 == 0 {
            return Ok(Cluster::Zeros);
        }
        let mut cache = self.l2.borrow_mut();
        let table = match cache.take() {
            Some((of, table)) if of == l1 => table,
            _ => self.table(l1, 1 << per_table)?,
        };
        let entry = table[usize::try_from(index & ((1 << per_table) - 1)).unwrap_or(0)];
        *cache = Some((l1, table));
        Ok(if entry & COMPRESSED != 0 {
            Cluster::Packed(entry)
        } else if entry & OFFSET == 0 || (self.version > 2 && entry & ZERO != 0) {
            Cluster::Zeros
        } else {
            Cluster::At(entry & OFFSET)
        })
    }

    /// Unpacks a compressed cluster, unless it is the one used last.
    fn unpack(&self, entry: u64) -> Result<(), Failure> {
        if self.unpacked.borrow().as_ref().is_some_and(|(of, _)| *of == entry) {
            return Ok(());
        }
        let split = 62 - (self.cluster_bits - 8);
        let at = entry & ((1 << split) - 1);
        let sectors = (entry & (COMPRESSED - 1)) >> split;
        let stored = (sectors + 1) * 512 - (at & 511);
        let whole = self.cluster();
        // The last sector may be cut off at the end of the file.
        let there = self.file_length.saturating_sub(at).min(stored);
        let mut packed = vec![0; usize::try_from(there).unwrap_or(0)];
        self.file.read_exact_at(&mut packed, at)?;
        let mut bytes = Vec::new();
        let result = if self.zstd {
            zstd::Decoder::with_buffer(packed.as_slice())
                .and_then(|decoder| decoder.single_frame().take(whole).read_to_end(&mut bytes))
        } else {
            DeflateDecoder::new(packed.as_slice()).take(whole).read_to_end(&mut bytes)
        };
        if result.is_err() || bytes.len() as u64 != whole {
            return Err(damaged("a compressed cluster of it cannot be unpacked"));
        }
        *self.unpacked.borrow_mut() = Some((entry, bytes));
        Ok(())
    }
}

impl Blocks for Qcow2 {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Failure> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            return Err(damaged("something lies behind its end"));
        }
        let mut done = 0;
        while done < buffer.len() {
            let here = at + done as u64;
            let inside = here & (self.cluster() - 1);
            let left = usize::try_from(self.cluster() - inside).unwrap_or(usize::MAX);
            let count = left.min(buffer.len() - done);
            let part = &mut buffer[done..done + count];
            match self.find(here)? {
                Cluster::Zeros => part.fill(0),
                Cluster::At(cluster) => match self.file.read_exact_at(part, cluster + inside) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(damaged("data of it lies behind its end; it is truncated"));
                    }
                    Err(error) => return Err(error.into()),
                },
                Cluster::Packed(entry) => {
                    self.unpack(entry)?;
                    let unpacked = self.unpacked.borrow();
                    let bytes = unpacked.as_ref().map_or(&[][..], |(_, bytes)| bytes);
                    let inside = usize::try_from(inside).unwrap_or(0);
                    part.copy_from_slice(&bytes[inside..inside + count]);
                }
            }
            done += count;
        }
        Ok(())
    }

    fn next_data(&self, at: u64) -> Result<Option<u64>, Failure> {
        let mut at = at;
        let covered = 1_u64 << (2 * self.cluster_bits - 3);
        while at < self.size {
            let first = usize::try_from(at / covered).unwrap_or(usize::MAX);
            if self.l1.get(first).copied().unwrap_or(0) & OFFSET == 0 {
                at = (at / covered + 1) * covered;
            } else if matches!(self.find(at)?, Cluster::Zeros) {
                at = (at / self.cluster() + 1) * self.cluster();
            } else {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

fn check_features(features: u64) -> Result<(), Failure> {
    if features & CORRUPT != 0 {
        return Err(Failure::hinted(
            "it is marked as corrupt",
            "repair a copy of it: qemu-img check -r all FILE",
        ));
    }
    if features & DATA_FILE != 0 {
        return Err(Failure::hinted(
            "its data is in another file",
            "make a whole one of it where that file is: qemu-img convert -O qcow2 OLD NEW",
        ));
    }
    let unknown = features & !(DIRTY | COMPRESSION);
    if unknown != 0 {
        let what = if unknown & EXTENDED_L2 != 0 { "extended tables" } else { "something new" };
        return Err(Failure::hinted(
            format!("it has {what} that are not understood here (features {unknown:#x})"),
            "convert it: qemu-img convert -O raw OLD NEW",
        ));
    }
    Ok(())
}

fn damaged(why: impl Into<String>) -> Failure {
    Failure::broken(why)
}
