//! Copying a file and checking it in the same pass.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::give;
use crate::bundle::{
    digest::sha256_of,
    sparse::{Reader, Writer},
};

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
    progress: impl FnMut(u64) -> bool,
) -> io::Result<Option<String>> {
    let mut source = Reader::open(from)?;
    let mut writer = Writer::new(File::create_new(to)?);
    let sum = sha256_of(&mut source, progress, |piece| writer.write(piece))?;
    let Some(sum) = sum else { return Ok(None) };
    let file = writer.finish()?;
    give(to, mode)?;
    file.set_modified(fs::metadata(from)?.modified()?)?;
    file.sync_all()?;
    Ok(Some(sum))
}
