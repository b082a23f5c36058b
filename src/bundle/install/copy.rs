//! Copying a file and checking it in the same pass.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::give;
use crate::bundle::{
    digest::hex,
    sparse::{Reader, Writer},
};

/// How much is read at a time, and between two looks at whether to go on.
const CHUNK: usize = 1 << 20;

/// Copies a file, with holes where it has zeros, and its time. `progress` is told the bytes so far
/// and answers whether to go on; `None` if it did not want to, else the SHA-256 of what was
/// copied.
///
/// # Errors
/// What could not be read or written.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    mode: u32,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<Option<String>> {
    let mut source = Reader::open(from)?;
    let mut writer = Writer::new(File::create_new(to)?);
    let mut buffer = vec![0; CHUNK];
    let mut hash = Sha256::new();
    let mut done = 0;
    loop {
        if !progress(done) {
            return Ok(None);
        }
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        writer.write(&buffer[..n])?;
        done += n as u64;
    }
    let file = writer.finish()?;
    give(to, mode)?;
    file.set_modified(fs::metadata(from)?.modified()?)?;
    file.sync_all()?;
    Ok(Some(hex(&hash.finalize())))
}
