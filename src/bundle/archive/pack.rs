//! Writing an archive: the same files give the same bytes, on any machine.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::PathBuf,
};

use sha2::{Digest, Sha256};

use super::check_name;
use crate::bundle::{RECORD_FILE, Record, digest::hex, sparse};

/// zstd's level: of those tried, the last that is worth its time (47 MB for `debian` either way).
const LEVEL: i32 = 10;

/// zstd's workers. Fixed, whatever the machine has: with at least one the result does not depend
/// on how many there are, with none it would be another.
const WORKERS: u32 = 2;

/// A file that goes into an archive.
#[derive(Clone, Debug)]
pub(in crate::bundle) struct Part {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it may be executed.
    pub executable: bool,
}

/// Writes an archive of `parts`, which are the files of `record`, all dated `epoch` (seconds
/// since 1970). `progress` is told the bytes read so far and answers whether to go on; `false`
/// if it did not want to.
///
/// # Errors
/// What cannot be read or written, and a file that is not as recorded.
pub(in crate::bundle) fn pack(
    parts: &BTreeMap<String, Part>,
    record: &Record,
    epoch: u64,
    out: impl Write,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<bool> {
    let mut zstd = zstd::stream::write::Encoder::new(out, LEVEL)?;
    zstd.include_checksum(true)?;
    zstd.multithread(WORKERS)?;
    let mut tar = tar::Builder::new(zstd);
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    tar.append(&header(RECORD_FILE, text.len() as u64, false, epoch)?, &text[..])?;
    let mut before = 0;
    let mut stopped = false;
    for (name, part) in parts {
        check_name(name).map_err(|why| io::Error::other(format!("{name}: {why}")))?;
        let recorded = record.files.get(name);
        let recorded = recorded.ok_or_else(|| io::Error::other(format!("{name}: no record")))?;
        let mut reader = Summed {
            inner: sparse::Reader::open(&part.path)?,
            hash: Sha256::new(),
            done: 0,
            tell: |done| {
                stopped |= !progress(before + done);
                !stopped
            },
        };
        let header = header(name, recorded.size, part.executable, epoch)?;
        let appended = tar.append(&header, (&mut reader).take(recorded.size));
        let (sum, done) = (hex(&reader.hash.finalize()), reader.done);
        if stopped {
            return Ok(false);
        }
        appended?;
        if sum != recorded.sha256 || done != recorded.size {
            let why = format!("{name} is not as recorded: `banger runtime verify` tells more");
            return Err(io::Error::other(why));
        }
        before += recorded.size;
    }
    tar.into_inner()?.finish()?.flush()?;
    Ok(true)
}

fn header(name: &str, size: u64, executable: bool, epoch: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}

/// Sums up what is read, and can be stopped.
struct Summed<R, F> {
    inner: R,
    hash: Sha256,
    done: u64,
    tell: F,
}

impl<R: Read, F: FnMut(u64) -> bool> Read for Summed<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.done += n as u64;
        if n > 0 && !(self.tell)(self.done) {
            return Err(io::Error::other("cancelled"));
        }
        Ok(n)
    }
}
