//! Streams, unpacked as they are read.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    process::{Child, ChildStdout, Stdio},
};

use flate2::read::MultiGzDecoder;

use super::{Failure, program, sniff, sniff::Packing};
use crate::host::process::die_with_us;

/// The largest window of a Zstandard frame that is accepted, as a power of two: what the program
/// `zstd` takes without being told to (128 MiB).
const WINDOW_MAX: u32 = 27;

/// Memory that `xz` may use for unpacking, in bytes: `xz -9` needs 65 MiB.
const XZ_MEMORY: &str = "--memlimit-decompress=268435456";

/// A stretch of a file, read from its beginning.
pub struct Stretch {
    file: File,
    left: u64,
}

impl Stretch {
    /// The `length` bytes of `file` from `start` on; the file's own position is used.
    ///
    /// # Errors
    /// If it cannot be gone to.
    pub fn new(file: &File, start: u64, length: u64) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, left: length })
    }
}

impl Read for Stretch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.file).take(self.left).read(buffer)?;
        self.left -= count as u64;
        Ok(count)
    }
}

/// What a stream holds, whether it is compressed or not.
///
/// # Errors
/// If it cannot be read, or `xz` is needed and not there.
pub fn unpacked<'a>(mut from: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Failure> {
    let mut head = Vec::new();
    from.by_ref().take(6).read_to_end(&mut head)?;
    let packing = sniff::packing(&head);
    let whole = BufReader::with_capacity(1 << 17, io::Cursor::new(head).chain(from));
    Ok(match packing {
        None => Box::new(whole),
        Some(Packing::Gzip) => Box::new(MultiGzDecoder::new(whole)),
        Some(Packing::Zstd) => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(WINDOW_MAX)?;
            Box::new(decoder)
        }
        Some(Packing::Xz) => {
            return Err(Failure::hinted(
                "a part of it is compressed with xz, which container images never are",
                "unpack it first: xz -d FILE",
            ));
        }
    })
}

/// As [`unpacked`], of a whole file, which `xz` can read by itself.
///
/// # Errors
/// As [`unpacked`].
pub fn unpacked_file(file: &File) -> Result<Box<dyn Read>, Failure> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    (&mut file).take(6).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    if sniff::packing(&head) != Some(Packing::Xz) {
        return unpacked(file);
    }
    let mut command = program::command("xz");
    command.args(["--decompress", "--stdout", "--quiet", XZ_MEMORY]);
    command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_us(&mut command);
    let mut child = command.spawn().map_err(|error| program::missing("xz", &error))?;
    let out = child.stdout.take();
    Ok(Box::new(Xz { child, out }))
}

/// `xz` at work. What it says of an error it says at the end.
struct Xz {
    child: Child,
    out: Option<ChildStdout>,
}

impl Read for Xz {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.out.as_mut().map_or(Ok(0), |out| out.read(buffer))?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        // Closed: it has ended, or will at once.
        self.out = None;
        if self.child.wait()?.success() {
            return Ok(0);
        }
        let mut why = String::new();
        if let Some(err) = self.child.stderr.take() {
            err.take(1000).read_to_string(&mut why)?;
        }
        let why = why.trim().trim_start_matches("xz: ").replace(|c: char| c.is_control(), " ");
        Err(Failure::broken(format!("xz cannot unpack it: {why}")).into())
    }
}

impl Drop for Xz {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
