//! Unpacking an archive. Nothing in it is trusted: not its names, kinds, sizes or its end.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    rc::Rc,
};

use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};

use super::{BLOCK, FILES_MAX, RECORD_MAX, TOTAL_MAX, check_name};
use crate::{
    bundle::{FileRecord, RECORD_FILE, Record, digest::hex, sparse},
    domain::ByteSize,
};

/// What tar may have after the last file: its end, padded as GNU tar pads it.
const TAIL: u64 = 20 * BLOCK;

/// The largest window zstd may want, as a power of two: what its own tool takes by default.
const WINDOW_LOG_MAX: u32 = 27;

/// What is left free on the file system.
const RESERVE: u64 = 64 << 20;

/// How much is read at a time, and between two looks at whether to go on.
const CHUNK: usize = 1 << 20;

/// Why nothing was unpacked. What was written until then is still there.
#[derive(Debug)]
pub(in crate::bundle) enum Refused {
    /// The user wanted it to end.
    Cancelled,
    /// What is wrong with the archive.
    Bad(String),
    /// The file system does not want it.
    Io(io::Error),
}

/// Unpacks an archive into a directory that is empty and ours; what its `bundle.json` says is
/// returned, and not written. `progress` is told how many bytes of the archive have been read,
/// and answers whether to go on.
///
/// Everything is on disk when this returns.
///
/// # Errors
/// See [`Refused`].
pub(in crate::bundle) fn unpack(
    archive: &Path,
    into: &Path,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<Record, Refused> {
    let read = Rc::new(Cell::new(0));
    let file = Counted { inner: File::open(archive).map_err(Refused::Io)?, read: Rc::clone(&read) };
    let mut zstd = zstd::stream::read::Decoder::new(file).map_err(|e| damaged(&e))?;
    zstd.window_log_max(WINDOW_LOG_MAX).map_err(Refused::Io)?;
    // At first no more than the record; what follows it is as long as it says.
    let left = Rc::new(Cell::new(RECORD_MAX + 2 * BLOCK));
    let mut tar = tar::Archive::new(Limited { inner: zstd, left: Rc::clone(&left) });
    // Raw: what extends headers would be obeyed before we see it.
    let mut entries = tar.entries().map_err(|e| damaged(&e))?.raw(true);

    let first = entries.next().ok_or_else(|| Refused::Bad("it is empty".to_owned()))?;
    let record = record(first.map_err(|e| damaged(&e))?)?;
    let sizes = record.files.values().map(|file| file.size.next_multiple_of(BLOCK) + BLOCK);
    left.set(sizes.sum::<u64>() + TAIL);

    let free = statvfs(into).map_err(|e| Refused::Io(e.into()))?;
    let mut room = (free.blocks_available() * free.fragment_size()).saturating_sub(RESERVE);
    let mut missing: BTreeSet<&str> = record.files.keys().map(String::as_str).collect();
    for entry in entries {
        let mut entry = entry.map_err(|e| damaged(&e))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let bad = |why: &str| Refused::Bad(format!("“{}”: {why}", name.escape_debug()));
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            return Err(bad(&format!("it is {}, and only plain files may be there", word(kind))));
        }
        check_name(&name).map_err(bad)?;
        let Some(file) = record.files.get(&name) else {
            return Err(bad(&format!("{RECORD_FILE} does not have it")));
        };
        if !missing.remove(name.as_str()) {
            return Err(bad("it is there twice"));
        }
        let mode = entry.header().mode().map_err(|e| damaged(&e))?;
        if mode & 0o7000 != 0 {
            return Err(bad("it would run as somebody else (set-uid, set-gid or sticky)"));
        }
        if entry.size() != file.size {
            return Err(bad(&format!("{} bytes instead of {}", entry.size(), file.size)));
        }
        let path = into.join(&name);
        fs::create_dir_all(path.parent().unwrap_or(into)).map_err(Refused::Io)?;
        let mut new = OpenOptions::new();
        new.write(true).create_new(true).mode(if mode & 0o100 == 0 { 0o644 } else { 0o755 });
        let target = sparse::Writer::new(new.open(&path).map_err(Refused::Io)?);
        room -= one(&mut entry, target, file, room, &bad, || progress(read.get()))?;
    }
    if let Some(name) = missing.first() {
        return Err(Refused::Bad(format!("it ends before {name}")));
    }
    for name in record.files.keys() {
        // Opened for writing as not every file system syncs a file that is open for reading.
        let file = OpenOptions::new().append(true).open(into.join(name));
        file.and_then(|file| file.sync_all()).map_err(Refused::Io)?;
    }
    Ok(record)
}

/// The first entry: what is in the archive.
fn record(entry: tar::Entry<'_, impl Read>) -> Result<Record, Refused> {
    let plain = entry.header().entry_type().is_file();
    if !plain || *entry.path_bytes() != *RECORD_FILE.as_bytes() || entry.size() > RECORD_MAX {
        return Err(Refused::Bad(format!("it does not begin with {RECORD_FILE}")));
    }
    let mut text = Vec::new();
    entry.take(RECORD_MAX).read_to_end(&mut text).map_err(|e| damaged(&e))?;
    let record = Record::parse(&text, Path::new(RECORD_FILE))
        .map_err(|problem| Refused::Bad(problem.why))?;
    if record.arch != std::env::consts::ARCH {
        let why = format!("it was made for {}, this is {}", record.arch, std::env::consts::ARCH);
        return Err(Refused::Bad(why));
    }
    if record.files.len() > FILES_MAX {
        return Err(Refused::Bad(format!("it has {} files", record.files.len())));
    }
    let total = record.files.values().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
    if total.is_none_or(|total| total > TOTAL_MAX) {
        let why = format!("its files have more than {} together", ByteSize(TOTAL_MAX));
        return Err(Refused::Bad(why));
    }
    let images = record.images.values().map(|image| &image.file);
    let outputs = record.steps.values().flat_map(|step| &step.outputs);
    for name in record.files.keys() {
        check_name(name).map_err(|why| {
            Refused::Bad(format!("{RECORD_FILE} names “{}”: {why}", name.escape_debug()))
        })?;
    }
    if let Some(name) = images.chain(outputs).find(|name| !record.files.contains_key(*name)) {
        let name = name.escape_debug();
        return Err(Refused::Bad(format!("{RECORD_FILE} says nothing of “{name}”")));
    }
    Ok(record)
}

/// Writes one file, compares it with its record, and says how much room it took.
fn one(
    entry: &mut impl Read,
    mut target: sparse::Writer,
    file: &FileRecord,
    room: u64,
    bad: &dyn Fn(&str) -> Refused,
    mut go_on: impl FnMut() -> bool,
) -> Result<u64, Refused> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        if !go_on() {
            return Err(Refused::Cancelled);
        }
        let n = entry.read(&mut buffer).map_err(|e| damaged(&e))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        target.write(&buffer[..n]).map_err(Refused::Io)?;
        size += n as u64;
        if target.written() > room {
            return Err(Refused::Io(io::ErrorKind::StorageFull.into()));
        }
    }
    if size != file.size {
        return Err(bad("the archive ends within it"));
    }
    let sum = hex(&hash.finalize());
    if sum != file.sha256 {
        return Err(bad(&format!("its SHA-256 is {sum}, and has to be {}", file.sha256)));
    }
    let written = target.written();
    target.finish().map_err(Refused::Io)?;
    Ok(written)
}

/// What cannot be read as an archive.
fn damaged(error: &io::Error) -> Refused {
    Refused::Bad(format!("it is damaged: {error}"))
}

fn word(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Directory => "a directory",
        tar::EntryType::Char | tar::EntryType::Block => "a device",
        tar::EntryType::Fifo => "a pipe",
        _ => "something special",
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        Ok(n)
    }
}

/// Gives no more than it may: what goes on for ever is an error.
struct Limited<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            // An end here is an end; anything else is too much.
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other("more is in it than its record says")),
            };
        }
        let n = self.inner.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - n as u64);
        Ok(n)
    }
}
