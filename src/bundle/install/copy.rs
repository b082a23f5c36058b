//! Copying a file and checking it in the same pass.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use sha2::{Digest, Sha256};

use super::give;
use crate::bundle::digest::hex;

/// How much is read at a time, and between two looks at whether to go on.
const CHUNK: usize = 1 << 20;

/// What is not written if it is all zeros: the block size of the file systems there are.
const BLOCK: usize = 4096;

/// Copies a file, with holes where it has zeros; both its time and its permission bits are kept,
/// the latter as far as they say whether it is a program. `progress` is told the bytes so far and
/// answers whether to go on; `None` if it did not want to, else the SHA-256 of what was copied.
///
/// # Errors
/// What could not be read or written.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    mode: u32,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<Option<String>> {
    let mut source = File::open(from)?;
    let file = File::create_new(to)?;
    let mut buffer = vec![0; CHUNK];
    let mut hash = Sha256::new();
    let mut done = 0;
    loop {
        if !progress(done) {
            return Ok(None);
        }
        let n = fill(&mut source, &mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        write_data(&file, &buffer[..n], done)?;
        done += n as u64;
    }
    file.set_len(done)?;
    give(to, mode)?;
    file.set_modified(fs::metadata(from)?.modified()?)?;
    file.sync_all()?;
    Ok(Some(hex(&hash.finalize())))
}

/// Reads until the buffer is full or the file ends: blocks stay aligned.
fn fill(source: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match source.read(&mut buffer[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

/// Writes the blocks that are not zero, neighbours at once.
fn write_data(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut begin = None;
    for (i, block) in bytes.chunks(BLOCK).enumerate() {
        let zero = block.iter().all(|b| *b == 0);
        match (zero, begin) {
            (false, None) => begin = Some(i * BLOCK),
            (true, Some(from)) => {
                file.write_all_at(&bytes[from..i * BLOCK], at + from as u64)?;
                begin = None;
            }
            _ => {}
        }
    }
    match begin {
        Some(from) => file.write_all_at(&bytes[from..], at + from as u64),
        None => Ok(()),
    }
}
