//! Something with numbered bytes: a file, a virtual disk, a part of one.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

use super::{Failure, Job};

/// Read at once when something is copied.
const CHUNK: usize = 1 << 20;

/// What is a hole if it is all zeros: the block of the images' file systems.
const BLOCK: usize = 4096;

/// Something with numbered bytes.
pub trait Blocks {
    /// How many bytes it has.
    fn len(&self) -> u64;

    /// Fills the buffer with the bytes from `at` on.
    ///
    /// # Errors
    /// If they cannot be read, or there are fewer.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Failure>;

    /// Where data begins at or after `at`; everything before it is zeros. `None` if nothing comes.
    ///
    /// # Errors
    /// If that cannot be asked for.
    fn next_data(&self, at: u64) -> Result<Option<u64>, Failure>;

    /// The first bytes, at most `count`: fewer if it is shorter.
    ///
    /// # Errors
    /// If they cannot be read.
    fn head(&self, at: u64, count: usize) -> Result<Vec<u8>, Failure> {
        let there = self.len().saturating_sub(at).min(count as u64);
        let mut head = vec![0; usize::try_from(there).unwrap_or(count)];
        self.read_at(&mut head, at)?;
        Ok(head)
    }
}

/// A file whose bytes are those of the disk.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    length: u64,
}

impl RawFile {
    /// A disk of the file's length.
    ///
    /// # Errors
    /// If it cannot be asked for that.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Blocks for RawFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Failure> {
        Ok(self.file.read_exact_at(buffer, at)?)
    }

    fn next_data(&self, at: u64) -> Result<Option<u64>, Failure> {
        if at >= self.length {
            return Ok(None);
        }
        let offset = i64::try_from(at).unwrap_or(i64::MAX);
        match lseek(&self.file, offset, Whence::SeekData) {
            Ok(data) => Ok(u64::try_from(data).ok().filter(|data| *data < self.length)),
            Err(Errno::ENXIO) => Ok(None),
            // No idea of holes here: all is data.
            Err(Errno::EINVAL) => Ok(Some(at)),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }
}

/// A part of another.
pub struct Part<'a> {
    whole: &'a dyn Blocks,
    start: u64,
    length: u64,
}

impl<'a> Part<'a> {
    /// The `length` bytes from `start` on; `None` if there are not so many.
    #[must_use]
    pub fn new(whole: &'a dyn Blocks, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= whole.len()).then_some(Self { whole, start, length })
    }
}

impl Blocks for Part<'_> {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Failure> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(Failure::broken("it ends too early"));
        }
        self.whole.read_at(buffer, self.start + at)
    }

    fn next_data(&self, at: u64) -> Result<Option<u64>, Failure> {
        if at >= self.length {
            return Ok(None);
        }
        let data = self.whole.next_data(self.start + at)?;
        Ok(data.map(|data| data - self.start).filter(|data| *data < self.length))
    }
}

/// Reads one after the other what is numbered, for those who want to read and seek.
pub struct Cursor<'a> {
    blocks: &'a dyn Blocks,
    at: u64,
}

impl<'a> Cursor<'a> {
    /// From the first byte on.
    #[must_use]
    pub const fn new(blocks: &'a dyn Blocks) -> Self {
        Self { blocks, at: 0 }
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blocks.len().saturating_sub(self.at);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.blocks.read_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.blocks.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Copies all of it into the empty file `to`, which gets its length and holes where it has zeros.
///
/// # Errors
/// If something cannot be read or written, or there is no room for it.
pub fn copy(job: &Job<'_>, from: &dyn Blocks, to: &File) -> Result<(), Failure> {
    to.set_len(from.len())?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while let Some(data) = from.next_data(at)? {
        job.more(data - at)?;
        // Whole chunks, counted from the beginning: blocks stay blocks.
        at = data - data % BLOCK as u64;
        let count = usize::try_from(from.len() - at).unwrap_or(CHUNK).min(CHUNK);
        from.read_at(&mut buffer[..count], at)?;
        job.take(write_sparse(to, &buffer[..count], at)?)?;
        job.more(count as u64)?;
        at += count as u64;
    }
    Ok(())
}

/// Writes what is not zero; how much that was.
///
/// # Errors
/// If it cannot be written.
pub fn write_sparse(to: &File, bytes: &[u8], at: u64) -> io::Result<u64> {
    let zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let block_end = |from: usize| (from + BLOCK).min(bytes.len());
    let (mut start, mut written) = (0, 0);
    while start < bytes.len() {
        let mut end = block_end(start);
        if zero(&bytes[start..end]) {
            start = end;
            continue;
        }
        while end < bytes.len() && !zero(&bytes[end..block_end(end)]) {
            end = block_end(end);
        }
        to.write_all_at(&bytes[start..end], at + start as u64)?;
        written += (end - start) as u64;
        start = end;
    }
    Ok(written)
}
