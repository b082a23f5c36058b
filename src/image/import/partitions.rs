//! Partition tables: where the parts of a disk are, and what they claim to be.

use gptman::GPTHeader;

use super::{Blocks, Failure, blocks::Cursor};

/// The most entries a table may have: the specification says 128, and nobody has more.
const ENTRIES_MAX: u32 = 1024;

/// The most logical partitions that are followed.
const LOGICAL_MAX: usize = 64;

/// A sector of the old table, whatever the disk has.
const SECTOR: u64 = 512;

/// What a partition claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The root of a Linux system for this kind of CPU.
    Root,
    /// A Linux file system.
    Linux,
    /// Something else.
    Other,
}

/// A part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as in `/dev/sda1`.
    pub number: usize,
    /// Its first byte.
    pub start: u64,
    /// Its bytes.
    pub length: u64,
    /// What it claims to be.
    pub role: Role,
}

/// Type GUIDs as they are on the disk: the first three fields little-endian. From the Discoverable
/// Partitions Specification (uapi-group.org).
const ROOT_X86_64: [u8; 16] = guid(0x4f68_bce3, 0xe8cd, 0x4db1, 0x96e7_fbca_f984_b709);
const ROOT_ARM64: [u8; 16] = guid(0xb921_b045, 0x1df0, 0x41c3, 0xaf44_4c6f_280d_3fae);
const LINUX: [u8; 16] = guid(0x0fc6_3daf, 0x8483, 0x4772, 0x8e79_3d69_d847_7de4);

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), d.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// The partitions of a disk with a GUID partition table.
///
/// # Errors
/// If neither the table nor its copy at the end is whole.
pub fn gpt(disk: &dyn Blocks) -> Result<Vec<Partition>, Failure> {
    let mut why = String::new();
    for sector in [512_u64, 4096] {
        let last = (disk.len() / sector).saturating_sub(1) * sector;
        for at in [sector, last] {
            match gpt_at(disk, sector, at) {
                Ok(partitions) => return Ok(partitions),
                // That of the first place counts: it is the one that everybody reads.
                Err(error) if why.is_empty() => why = error,
                Err(_) => {}
            }
        }
    }
    Err(Failure::broken(format!("its partition table is damaged: {why}")))
}

fn gpt_at(disk: &dyn Blocks, sector: u64, at: u64) -> Result<Vec<Partition>, String> {
    let words = |error: gptman::Error| error.to_string();
    let mut cursor = Cursor::new(disk);
    std::io::Seek::seek(&mut cursor, std::io::SeekFrom::Start(at)).map_err(|e| e.to_string())?;
    let header = GPTHeader::read_from(&mut cursor).map_err(words)?;
    // Before memory is taken and numbers are multiplied.
    if header.number_of_partition_entries > ENTRIES_MAX
        || !(128..=4096).contains(&header.size_of_partition_entry)
        || header.partition_entry_lba > disk.len() / sector
    {
        return Err("its numbers make no sense".to_owned());
    }
    let entries = header.read_partitions(&mut cursor, sector).map_err(words)?;
    let root = if cfg!(target_arch = "aarch64") { ROOT_ARM64 } else { ROOT_X86_64 };
    let mut found = Vec::new();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_used()) {
        let sectors = entry.size().map_err(words)?;
        let (Some(start), Some(length)) =
            (entry.starting_lba.checked_mul(sector), sectors.checked_mul(sector))
        else {
            return Err(format!("partition {} is where no disk ends", index + 1));
        };
        let role = match entry.partition_type_guid {
            guid if guid == root => Role::Root,
            LINUX => Role::Linux,
            _ => Role::Other,
        };
        found.push(Partition { number: index + 1, start, length, role });
    }
    Ok(found)
}

/// The partitions of a disk with a table of the old kind, those of an extended one included.
///
/// # Errors
/// If the table makes no sense.
pub fn mbr(disk: &dyn Blocks) -> Result<Vec<Partition>, Failure> {
    let mut found = Vec::new();
    let mut extended = None;
    for (index, entry) in entries(disk, 0)?.into_iter().enumerate() {
        match entry.kind {
            0 => {}
            0x05 | 0x0f | 0x85 => extended = Some(entry.start),
            _ => found.push(entry.partition(index + 1, 0)),
        }
    }
    // A chain: each link holds one partition and where the next link is.
    let Some(first) = extended else { return Ok(found) };
    let mut link = first;
    for number in 5..5 + LOGICAL_MAX {
        let [here, next, ..] = entries(disk, link)?;
        if here.kind != 0 {
            found.push(here.partition(number, link));
        }
        if !matches!(next.kind, 0x05 | 0x0f | 0x85) || next.start == 0 {
            return Ok(found);
        }
        link = first + next.start;
    }
    Err(Failure::broken("its partition table goes in a circle"))
}

/// An entry of the old table, in sectors.
#[derive(Clone, Copy, Default)]
struct Entry {
    kind: u8,
    start: u64,
    length: u64,
}

impl Entry {
    fn partition(self, number: usize, base: u64) -> Partition {
        let role = if self.kind == 0x83 { Role::Linux } else { Role::Other };
        let start = (base + self.start) * SECTOR;
        Partition { number, start, length: self.length * SECTOR, role }
    }
}

fn entries(disk: &dyn Blocks, sector: u64) -> Result<[Entry; 4], Failure> {
    let block = disk.head(sector * SECTOR, 512)?;
    if block.get(510..512) != Some(&[0x55, 0xaa]) {
        return Err(Failure::broken("its partition table is damaged"));
    }
    let mut entries = [Entry::default(); 4];
    for (index, entry) in entries.iter_mut().enumerate() {
        let raw = &block[446 + 16 * index..][..16];
        let number = |at: usize| {
            u64::from(u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]))
        };
        *entry = Entry { kind: raw[4], start: number(8), length: number(12) };
    }
    Ok(entries)
}
