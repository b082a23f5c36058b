//! A small ISO 9660 file system (ECMA-119): some files in one directory, nothing else.
//!
//! Names are written as they are, in lower case and without versions, which the standard has not
//! and Linux reads as well; so neither Rock Ridge nor Joliet is needed.

/// Bytes of a sector.
const SECTOR: usize = 2048;
/// Where the volume's descriptors begin: what is before is the system's (6.2.1).
const DESCRIPTORS: usize = 16;
/// Path tables of both byte orders, the directory, then the files.
const LITTLE: usize = 18;
const BIG: usize = 19;
const ROOT: usize = 20;
const FILES: usize = 21;
/// No time at all, as 17 bytes (8.4.26.1).
const NEVER: &[u8; 17] = b"0000000000000000\0";

/// Makes a volume. As many files as their records fit one sector, about 40 with short names,
/// each of less than 4 GiB; `files` in the order of their names.
pub fn volume(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut at = FILES;
    let mut directory =
        [record(b"\0", ROOT, SECTOR, true), record(b"\x01", ROOT, SECTOR, true)].concat();
    let mut data = Vec::new();
    for (name, content) in files {
        directory.extend(record(name.as_bytes(), at, content.len(), false));
        data.extend_from_slice(content);
        // An empty file has no sector, but no two share one.
        data.resize(data.len().next_multiple_of(SECTOR), 0);
        at = FILES + data.len() / SECTOR;
    }
    debug_assert!(directory.len() <= SECTOR, "the directory has one sector");

    let mut volume = vec![0; DESCRIPTORS * SECTOR];
    let mut sector = |bytes: &[u8]| {
        volume.extend_from_slice(bytes);
        volume.resize(volume.len().next_multiple_of(SECTOR), 0);
    };
    sector(&primary(label, at));
    // The end of the descriptors (8.3).
    sector(b"\xffCD001\x01");
    sector(&path_table(u32::to_le_bytes, u16::to_le_bytes));
    sector(&path_table(u32::to_be_bytes, u16::to_be_bytes));
    sector(&directory);
    volume.extend(data);
    volume
}

/// The primary volume descriptor (8.4).
fn primary(label: &str, sectors: usize) -> Vec<u8> {
    let mut out = b"\x01CD001\x01\0".to_vec();
    text(&mut out, "LINUX", 32);
    text(&mut out, label, 32);
    out.extend([0; 8]);
    both_32(&mut out, sectors);
    out.extend([0; 32]);
    // One volume of one, and the length of a sector.
    both_16(&mut out, 1);
    both_16(&mut out, 1);
    both_16(&mut out, SECTOR);
    both_32(&mut out, path_table(u32::to_le_bytes, u16::to_le_bytes).len());
    out.extend(number(LITTLE).to_le_bytes());
    out.extend([0; 4]);
    out.extend(number(BIG).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(b"\0", ROOT, SECTOR, true));
    // Set, publisher, preparer, application; copyright, abstract, bibliography.
    for length in [128, 128, 128, 128, 37, 37, 37] {
        text(&mut out, "", length);
    }
    for _ in 0..4 {
        out.extend(NEVER);
    }
    out.push(1);
    out
}

/// The table with one entry: the root, whose name is one zero, and which is its own parent (9.4).
fn path_table(long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    [&[1, 0][..], &long(number(ROOT)), &short(1), &[0, 0]].concat()
}

/// A directory's record of a file or directory (9.1).
fn record(name: &[u8], sector: usize, bytes: usize, directory: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut out = vec![length as u8, 0];
    both_32(&mut out, sector);
    both_32(&mut out, bytes);
    // 1970-01-01; flags; no interleaving; of the first volume.
    out.extend([70, 1, 1, 0, 0, 0, 0, if directory { 2 } else { 0 }, 0, 0]);
    both_16(&mut out, 1);
    out.push(name.len() as u8);
    out.extend(name);
    out.resize(length, 0);
    out
}

fn text(out: &mut Vec<u8>, text: &str, length: usize) {
    let end = out.len() + length;
    out.extend(text.bytes().take(length));
    out.resize(end, b' ');
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// In both byte orders, the little first (7.3.3).
fn both_32(out: &mut Vec<u8>, value: usize) {
    out.extend(number(value).to_le_bytes());
    out.extend(number(value).to_be_bytes());
}

fn both_16(out: &mut Vec<u8>, value: usize) {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    out.extend(value.to_le_bytes());
    out.extend(value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn a_volume_is_known_by_its_label() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("seed.iso");
        let long = vec![b'x'; 5000];
        fs::write(&path, volume("cidata", &[("empty", b""), ("long", &long), ("short", b"hi")]))
            .expect("written");
        let blkid = Command::new("/usr/sbin/blkid").arg("-p").arg(&path).output().expect("blkid");
        let said = String::from_utf8_lossy(&blkid.stdout).into_owned();
        assert!(said.contains("LABEL=\"cidata\"") && said.contains("TYPE=\"iso9660\""), "{said}");
    }

    #[test]
    fn files_are_where_the_directory_says() {
        let volume =
            volume("cidata", &[("a", b""), ("meta-data", &[7; 2049]), ("user-data", b"hi")]);
        assert_eq!(volume.len() % SECTOR, 0);
        let sectors = (volume.len() / SECTOR) as u32;
        assert_eq!(volume[16 * SECTOR + 80..][..4], sectors.to_le_bytes());
        let mut rest = &volume[ROOT * SECTOR..][..SECTOR];
        let mut found = Vec::new();
        while rest[0] > 0 {
            let (entry, next) = rest.split_at(rest[0].into());
            let le = |at: usize| {
                u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
                    as usize
            };
            let name = &entry[33..33 + usize::from(entry[32])];
            found.push((name.to_vec(), volume[le(2) * SECTOR..][..le(10)].to_vec()));
            rest = next;
        }
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [&b"\0"[..], b"\x01", b"a", b"meta-data", b"user-data"]);
        assert_eq!(found[2].1, b"");
        assert_eq!(found[3].1, [7; 2049]);
        assert_eq!(found[4].1, b"hi");
    }
}
