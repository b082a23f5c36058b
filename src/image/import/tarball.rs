//! Tar archives, read entry by entry with bounds.
//!
//! The crate `tar` knows the fields of a header. What stands between headers is read here, as that
//! crate takes extensions of any length into memory, and cuts extended attributes at line ends,
//! which the capabilities of a program may contain.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::Failure;

/// The unit of an archive.
const BLOCK: usize = 512;

/// The most bytes the extensions of one entry may have: names, attributes.
const EXTENSION_MAX: u64 = 1 << 20;

/// The most extensions in a row.
const EXTENSIONS_MAX: usize = 16;

/// The most stretches of a file with holes.
const STRETCHES_MAX: usize = 1 << 16;

/// An entry, without its data.
#[derive(Debug)]
pub struct Entry {
    /// Its path, as it is written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// What a link leads to, as it is written.
    pub target: Vec<u8>,
    /// Bytes of data that follow it in the archive.
    pub stored: u64,
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Where the stored data goes, if the file has holes.
    pub stretches: Option<Vec<(u64, u64)>>,
    /// Permission bits, set-user-id and its like included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed, in seconds.
    pub mtime: u64,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// An archive at work.
pub struct Tarball<R> {
    from: R,
    /// Data and padding of the entry before, which nobody has read.
    left: u64,
    padding: u64,
    /// Bytes read so far.
    at: u64,
}

/// A record of an extension: its key, its value.
type Record = (Vec<u8>, Vec<u8>);

/// What extensions say of the entry that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    records: Vec<Record>,
}

impl Extensions {
    fn get(&self, key: &str) -> Option<&[u8]> {
        // The last one counts.
        let found = self.records.iter().rev().find(|(have, _)| have == key.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).unwrap_or("");
        // Times have fractions, and may be before 1970.
        let whole = text.split('.').next().unwrap_or("");
        if key == "mtime" && whole.starts_with('-') {
            return Ok(Some(0));
        }
        whole.parse().map(Some).map_err(|_| broken(format!("its extension {key} is no number")))
    }
}

fn broken(why: impl std::fmt::Display) -> Failure {
    Failure::broken(format!("the archive is damaged: {why}"))
}

fn cut() -> Failure {
    broken("it ends in the middle (it is truncated)")
}

/// The sum of a header, as its own field must have it: the bytes, with spaces for that field.
#[must_use]
pub fn checksum(block: &[u8]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + sum(&block[156..512]) + 8 * 32
}

impl<R: Read> Tarball<R> {
    /// Reads an archive.
    pub const fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0, at: 0 }
    }

    /// Bytes read so far: after [`Tarball::entry`], where the entry's data begins.
    pub const fn position(&self) -> u64 {
        self.at
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let mut block = [0; BLOCK];
        let mut got = 0;
        while got < BLOCK {
            match self.from.read(&mut block[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(error)),
            }
        }
        self.at += BLOCK as u64;
        Ok(Some(block))
    }

    /// The next entry; `None` at the end, which must be marked as such: what is cut off between
    /// two entries is found, too.
    ///
    /// # Errors
    /// If the archive is damaged, or made to take memory.
    pub fn entry(&mut self) -> Result<Option<Entry>, Failure> {
        self.skip()?;
        let mut extensions = Extensions::default();
        for _ in 0..=EXTENSIONS_MAX {
            let block = self.block()?.ok_or_else(cut)?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            if header.cksum().map_err(broken)? != checksum(&block) {
                return Err(broken("the checksum of a header is wrong"));
            }
            let size = header.entry_size().map_err(broken)?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(self.name(size)?),
                EntryType::GNULongLink => extensions.target = Some(self.name(size)?),
                EntryType::XHeader => {
                    let records = self.extension(size)?;
                    extensions.records.extend(pax(&records)?);
                }
                // What it says of all entries, writers use for comments.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.finish(header, &extensions).map(Some),
            }
        }
        Err(broken("an entry has too many extensions"))
    }

    fn finish(&mut self, header: &Header, extensions: &Extensions) -> Result<Entry, Failure> {
        let kind = header.entry_type();
        let field = |key: &str, have: io::Result<u64>| -> Result<u64, Failure> {
            extensions.number(key)?.map_or_else(|| have.map_err(broken), Ok)
        };
        let owner = |key: &str, have: io::Result<u64>| {
            let id = field(key, have)?;
            u32::try_from(id).map_err(|_| broken(format!("{id} is no {key}")))
        };
        let (uid, gid) = (owner("uid", header.uid())?, owner("gid", header.gid())?);
        let mtime = field("mtime", header.mtime()).unwrap_or(0);
        let data =
            matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        // Links and directories have no data, whatever the field says (POSIX, "ustar").
        let hollow = matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Directory
                | EntryType::Char
                | EntryType::Block
                | EntryType::Fifo
        );
        let stored = if hollow { 0 } else { field("size", header.entry_size())? };
        self.left = stored;
        self.padding = (BLOCK as u64 - stored % BLOCK as u64) % BLOCK as u64;
        if extensions.records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
            return Err(Failure::hinted(
                "a file in the archive has holes, in a form that is not understood",
                "make the archive without tar's option --sparse",
            ));
        }
        let (stretches, size) = if kind == EntryType::GNUSparse {
            let (stretches, size) = self.stretches(header, stored)?;
            (Some(stretches), size)
        } else {
            (None, stored)
        };
        let path = extensions.get("path").map(<[u8]>::to_vec).or(extensions.path.clone());
        let target = extensions.get("linkpath").map(<[u8]>::to_vec).or(extensions.target.clone());
        let header_target = || header.link_name_bytes().map(|name| name.into_owned());
        Ok(Entry {
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            kind: if data && kind != EntryType::GNUSparse { EntryType::Regular } else { kind },
            target: target.or_else(header_target).unwrap_or_default(),
            stored,
            size,
            stretches,
            mode: header.mode().map_err(broken)? & 0o7777,
            uid,
            gid,
            mtime,
            xattrs: xattrs(&extensions.records),
        })
    }

    /// Where the data of a file with holes goes (GNU tar's manual, "Old GNU Format").
    fn stretches(
        &mut self,
        header: &Header,
        stored: u64,
    ) -> Result<(Vec<(u64, u64)>, u64), Failure> {
        let gnu = header.as_gnu().ok_or_else(|| broken("a file with holes has no map"))?;
        let size = gnu.real_size().map_err(broken)?;
        let mut map = Vec::new();
        let mut add = |sparse: &tar::GnuSparseHeader| -> Result<(), Failure> {
            if !sparse.is_empty() {
                let pair = (sparse.offset().map_err(broken)?, sparse.length().map_err(broken)?);
                map.push(pair);
            }
            if map.len() > STRETCHES_MAX {
                Err(broken("a file has too many holes"))
            } else {
                Ok(())
            }
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut more = gnu.is_extended();
        while more {
            let mut next = tar::GnuExtSparseHeader::new();
            *next.as_mut_bytes() = self.block()?.ok_or_else(cut)?;
            next.sparse().iter().try_for_each(&mut add)?;
            more = next.is_extended();
        }
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &map {
            let next = offset.checked_add(*length);
            if *offset < end || next.is_none_or(|next| next > size) {
                return Err(broken("the map of a file with holes makes no sense"));
            }
            end = offset + length;
            sum += length;
        }
        if sum != stored {
            return Err(broken("the map of a file with holes does not fit its data"));
        }
        Ok((map, size))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Failure> {
        if size > EXTENSION_MAX {
            return Err(broken(format!("an extension of {size} bytes is more than a name needs")));
        }
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut got = 0;
        while got < bytes.len() {
            match self.data(&mut bytes[got..])? {
                0 => return Err(cut()),
                count => got += count,
            }
        }
        self.skip()?;
        Ok(bytes)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>, Failure> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// Reads data of the current entry; 0 at its end.
    ///
    /// # Errors
    /// If the archive ends before the entry does.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = self.from.read(&mut buffer[..want]).map_err(reading)?;
        if count == 0 {
            return Err(cut());
        }
        self.left -= count as u64;
        self.at += count as u64;
        Ok(count)
    }

    /// Goes to the next header.
    fn skip(&mut self) -> Result<(), Failure> {
        self.left += std::mem::take(&mut self.padding);
        let mut buffer = [0; 8192];
        while self.data(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Reads on to the end of the stream behind the archive, which may be padded.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn drain(mut self) -> Result<(), Failure> {
        let mut buffer = [0; 8192];
        while self.from.read(&mut buffer).map_err(reading)? > 0 {}
        Ok(())
    }
}

/// What a decoder says of a broken stream, with what to do.
fn reading(error: io::Error) -> Failure {
    if error.get_ref().is_some_and(|inner| inner.is::<Failure>()) {
        return error.into();
    }
    Failure::broken(format!("it cannot be read to its end: {error}"))
}

/// The records of a PAX extension: `<length> <key>=<value>\n`, by their lengths.
fn pax(bytes: &[u8]) -> Result<Vec<Record>, Failure> {
    let bad = || broken("an extension makes no sense");
    let mut records = Vec::new();
    let mut left = bytes;
    while !left.is_empty() {
        // Some writers pad with zeros.
        if left.iter().all(|byte| *byte == 0) {
            break;
        }
        let space = left.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let digits = std::str::from_utf8(&left[..space]).map_err(|_| bad())?;
        let length: usize = digits.parse().map_err(|_| bad())?;
        if length > left.len() || length < space + 3 || left[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &left[space + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        left = &left[length..];
    }
    Ok(records)
}

fn xattrs(records: &[Record]) -> Vec<(String, Vec<u8>)> {
    let named = |key: &[u8]| {
        let name = key.strip_prefix(b"SCHILY.xattr.")?;
        std::str::from_utf8(name).ok().map(str::to_owned)
    };
    records.iter().filter_map(|(key, value)| Some((named(key)?, value.clone()))).collect()
}
