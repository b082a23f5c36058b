//! What device-mapper is told and tells, as text: tables and states. Pure.

use std::{fmt, str::FromStr};

use crate::host::ops::Fill;

/// Bytes of a sector, device-mapper's unit whatever the disk's own.
pub const SECTOR: u64 = 512;
/// Sectors of a chunk, what a snapshot copies at a time: 4 KiB, so that a guest's page is one
/// chunk, and is written without a look at the base.
pub const CHUNK_SECTORS: u64 = 8;

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dev {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl fmt::Display for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Dev {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}

/// A line of a table, or of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its first sector on the device.
    pub start: u64,
    /// How many sectors it is for.
    pub length: u64,
    /// Its type: `snapshot`.
    pub kind: String,
    /// What that type is told, or tells.
    pub params: String,
}

impl Target {
    fn new(start: u64, length: u64, kind: &str, params: String) -> Self {
        Self { start, length, kind: kind.to_owned(), params }
    }
}

/// A snapshot of `origin`, whose changes go to `cow`: persistent, and so that running out of room
/// does not make it unreadable (`PO`).
pub fn snapshot(sectors: u64, origin: Dev, cow: Dev) -> Vec<Target> {
    let params = format!("{origin} {cow} PO {CHUNK_SECTORS}");
    vec![Target::new(0, sectors, "snapshot", params)]
}

/// A base that is longer than its file: zeros follow.
pub fn lengthened(sectors: u64, base: Dev, base_sectors: u64) -> Vec<Target> {
    vec![
        Target::new(0, base_sectors, "linear", format!("{base} 0")),
        Target::new(base_sectors, sectors - base_sectors, "zero", String::new()),
    ]
}

/// Of a table made by [`snapshot`]: origin and COW.
pub fn snapshot_devs(table: &[Target]) -> Option<(Dev, Dev)> {
    let [target] = table else { return None };
    let mut words = target.params.split(' ');
    let (origin, cow) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (target.kind == "snapshot").then_some((origin, cow))
}

/// Of a table made by [`lengthened`]: the base.
pub fn lengthened_dev(table: &[Target]) -> Option<Dev> {
    let first = table.first().filter(|target| target.kind == "linear")?;
    first.params.split(' ').next()?.parse().ok()
}

/// How a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Works {
        /// Sectors used of the COW.
        used: u64,
        /// Sectors it has.
        total: u64,
    },
    /// Its COW was too short: it can be read, and takes no more writes.
    Overflow,
    /// Reading or writing its files failed: it can neither be read nor written.
    Invalid,
}

impl Health {
    /// Reads the status of a snapshot: `16/2048 16`, or a word.
    pub fn of(status: &[Target]) -> Option<Self> {
        let [target] = status else { return None };
        if target.kind != "snapshot" {
            return None;
        }
        match target.params.trim() {
            "Overflow" => Some(Self::Overflow),
            "Invalid" | "Merge failed" => Some(Self::Invalid),
            numbers => {
                let (used, total) = numbers.split(' ').next()?.split_once('/')?;
                Some(Self::Works { used: used.parse().ok()?, total: total.parse().ok()? })
            }
        }
    }

    /// In bytes; of a COW of `total` sectors, where the status has no numbers any more.
    pub fn fill(self, total: u64) -> Fill {
        match self {
            Self::Works { used, total } => {
                Fill { used: used * SECTOR, total: total * SECTOR, overflowed: false }
            }
            Self::Overflow | Self::Invalid => {
                Fill { used: total * SECTOR, total: total * SECTOR, overflowed: true }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(major: u32, minor: u32) -> Dev {
        Dev { major, minor }
    }

    #[test]
    fn tables_name_devices_and_are_read_back() {
        let table = snapshot(4096, dev(254, 3), dev(7, 12));
        assert_eq!(table[0].params, "254:3 7:12 PO 8");
        assert_eq!((table[0].start, table[0].length), (0, 4096));
        assert_eq!(snapshot_devs(&table), Some((dev(254, 3), dev(7, 12))));
        let longer = lengthened(4096, dev(7, 1), 1000);
        assert_eq!((longer[1].start, longer[1].length), (1000, 3096));
        assert_eq!(lengthened_dev(&longer), Some(dev(7, 1)));
        assert_eq!((snapshot_devs(&longer), lengthened_dev(&table)), (None, None));
        assert_eq!(snapshot_devs(&[]), None);
    }

    #[test]
    fn a_status_is_numbers_or_a_word() {
        let health =
            |params: &str| Health::of(&[Target::new(0, 4096, "snapshot", params.to_owned())]);
        let works = health("16/2048 16").expect("numbers");
        assert_eq!(works, Health::Works { used: 16, total: 2048 });
        let fill = Fill { used: 8192, total: 1 << 20, overflowed: false };
        assert_eq!(works.fill(1), fill);
        for (word, is) in [
            ("Invalid", Health::Invalid),
            ("Merge failed", Health::Invalid),
            ("Overflow", Health::Overflow),
        ] {
            assert_eq!(health(word), Some(is));
            let fill = Fill { used: 1 << 20, total: 1 << 20, overflowed: true };
            assert_eq!(is.fill(2048), fill);
        }
        for bad in ["", "Unknown", "16", "x/2 3", "16/ 3"] {
            assert_eq!(health(bad), None, "{bad}");
        }
        assert_eq!(Health::of(&[Target::new(0, 8, "linear", "7:1 0".into())]), None);
    }

    #[test]
    fn numbers_of_devices_are_read_and_written() {
        assert_eq!("7:12".parse(), Ok(dev(7, 12)));
        assert_eq!(dev(254, 1_048_575).to_string(), "254:1048575");
        for bad in ["", "7", "7:", ":7", "7:x", "-1:2", "7:1:2"] {
            assert!(bad.parse::<Dev>().is_err(), "{bad}");
        }
    }
}
