//! Files with holes: written without their zeros, read without reading the holes.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

/// Zeros are left out in pieces of this many bytes: a block of nearly every file system.
const BLOCK: usize = 4096;

/// How much is copied at a time.
const CHUNK: usize = 1 << 20;

/// Writes a file; blocks that are all zero become holes.
pub struct Writer {
    file: File,
    /// How far it is, holes included.
    at: u64,
    /// How much of that is no hole.
    written: u64,
    /// How much of it may be none.
    most: u64,
}

impl Writer {
    /// Writes from the beginning of an empty file.
    pub const fn new(file: File) -> Self {
        Self::at_most(file, u64::MAX)
    }

    /// As [`Writer::new`], for a file that is said to have so many bytes in no hole: not one more
    /// is written.
    pub const fn at_most(file: File, data: u64) -> Self {
        Self { file, at: 0, written: 0, most: data }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When it would have more data than it may; what the file system says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Up to the next border of a block.
            let to_border = BLOCK - (self.at % BLOCK as u64) as usize;
            let mut end = to_border.min(rest.len());
            let zero = is_zero(&rest[..end]);
            // As many more blocks of the same kind as there are, for fewer system calls.
            while end < rest.len() {
                let next = (end + BLOCK).min(rest.len());
                if is_zero(&rest[end..next]) != zero {
                    break;
                }
                end = next;
            }
            if !zero {
                if end as u64 > self.most - self.written {
                    return Err(io::Error::other("it has more data than it says"));
                }
                self.file.seek(SeekFrom::Start(self.at))?;
                self.file.write_all(&rest[..end])?;
                self.written += end as u64;
            }
            self.at += end as u64;
            rest = &rest[end..];
        }
        Ok(())
    }

    /// How many bytes it has written; holes do not count.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Gives the file its full length.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(self) -> io::Result<File> {
        self.file.set_len(self.at)?;
        Ok(self.file)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // In pieces the compiler compares at once.
    let pieces = bytes.chunks_exact(16);
    pieces.remainder().iter().all(|b| *b == 0) && bytes.chunks_exact(16).all(|p| *p == [0; 16])
}

/// Reads a file from its beginning to its end; holes are told from data without being read, but
/// the bytes that come out are those of an ordinary reader.
pub struct Reader {
    file: File,
    at: u64,
    size: u64,
    /// Where the data or the hole that `at` is in ends, and whether it is a hole.
    until: u64,
    hole: bool,
}

impl Reader {
    /// Reads a file as it is long now.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, at: 0, size, until: 0, hole: false })
    }

    /// How many of its bytes are in no hole. To be asked before it is read.
    ///
    /// # Errors
    /// When the file system does not say where its holes are.
    pub fn data(&mut self) -> io::Result<u64> {
        let mut data = 0;
        while self.at < self.size {
            self.look()?;
            if !self.hole {
                data += self.until - self.at;
            }
            self.at = self.until;
        }
        (self.at, self.until) = (0, 0);
        Ok(data)
    }

    /// The next bytes, nothing at the end: data is read into `buffer`, of a hole come as many of
    /// `zeros` as there are, so that nobody has to write any.
    ///
    /// # Errors
    /// What the file system says.
    pub fn piece<'a>(&mut self, buffer: &'a mut [u8], zeros: &'a [u8]) -> io::Result<&'a [u8]> {
        let left = self.ahead()?;
        let piece = if self.hole {
            &zeros[..left.min(zeros.len())]
        } else {
            let n = left.min(buffer.len());
            let n = self.file.read(&mut buffer[..n])?;
            &buffer[..n]
        };
        self.at += piece.len() as u64;
        Ok(piece)
    }

    /// How much is left of the data or the hole that it is in.
    fn ahead(&mut self) -> io::Result<usize> {
        if self.at < self.size && self.at >= self.until {
            self.look()?;
        }
        Ok(usize::try_from(self.until - self.at).unwrap_or(usize::MAX))
    }

    fn look(&mut self) -> io::Result<()> {
        let at = i64::try_from(self.at).map_err(io::Error::other)?;
        let data = match lseek(&self.file, at, Whence::SeekData) {
            Ok(data) => u64::try_from(data).unwrap_or(self.at),
            Err(Errno::ENXIO) => self.size,
            // No idea of holes here: all is data.
            Err(Errno::EINVAL) => {
                (self.hole, self.until) = (false, self.size);
                return Ok(());
            }
            Err(errno) => return Err(errno.into()),
        };
        if data > self.at {
            (self.hole, self.until) = (true, data.min(self.size));
            return Ok(());
        }
        let hole = lseek(&self.file, at, Whence::SeekHole).map_err(io::Error::from)?;
        (self.hole, self.until) = (false, u64::try_from(hole).unwrap_or(self.size).min(self.size));
        self.file.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.ahead()?.min(buffer.len());
        let n = if self.hole {
            buffer[..n].fill(0);
            n
        } else {
            self.file.read(&mut buffer[..n])?
        };
        self.at += n as u64;
        Ok(n)
    }
}

/// Copies a file; zeros become holes.
///
/// # Errors
/// What the file system says.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut reader = Reader::open(from)?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(to)?;
    let mut writer = Writer::new(file);
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer)? {
            0 => return writer.finish().map(drop),
            n => writer.write(&buffer[..n])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    /// Data, holes, zeros that are data, and an end within a block.
    fn patchwork() -> Vec<u8> {
        let mut bytes = vec![0; 3_000_017];
        bytes[5..10].fill(1);
        bytes[1_000_000..1_100_000].fill(2);
        bytes[2_999_999] = 3;
        bytes
    }

    #[test]
    fn what_is_written_is_what_is_read_and_zeros_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let bytes = patchwork();
        for piece in [1, 7, 4096, 5000, 1 << 20] {
            let mut writer = Writer::new(File::create(&a).unwrap());
            for part in bytes.chunks(piece) {
                writer.write(part).unwrap();
            }
            writer.finish().unwrap();
            assert!(fs::read(&a).unwrap() == bytes, "in pieces of {piece}");
        }
        copy(&a, &b).unwrap();
        assert!(fs::read(&b).unwrap() == bytes);
        assert!(b.metadata().unwrap().blocks() * 512 < 200_000);
        let mut read = Vec::new();
        let mut reader = Reader::open(&b).unwrap();
        let data = reader.data().unwrap();
        assert!((100_000..=bytes.len() as u64).contains(&data), "{data}");
        reader.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        let (mut reader, mut read) = (Reader::open(&b).unwrap(), Vec::new());
        let (mut buffer, zeros) = ([1; 5000], [0; 7000]);
        loop {
            match reader.piece(&mut buffer, &zeros).unwrap() {
                [] => break,
                piece => read.extend_from_slice(piece),
            }
        }
        assert!(read == bytes, "in pieces");
    }

    #[test]
    fn what_has_more_data_than_it_may_is_refused_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes = patchwork();
        // The zeros of a block that is not all zeros count: they are written.
        let mut whole = Writer::new(File::create(&path).unwrap());
        whole.write(&bytes).unwrap();
        let data = whole.written();
        Writer::at_most(File::create(&path).unwrap(), data).write(&bytes).unwrap();
        let mut writer = Writer::at_most(File::create(&path).unwrap(), data - 1);
        let error = writer.write(&bytes).unwrap_err();
        assert!(error.to_string().contains("more data than it says"), "{error}");
        assert!(writer.written() < data);
        let end = path.metadata().unwrap().len();
        assert!(
            (1_100_000..1_200_000).contains(&end),
            "it ends at {end}, before what was too much"
        );
    }

    #[test]
    fn a_file_that_ends_in_a_hole_and_one_of_nothing_keep_their_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for size in [0, 1, 5_000_000_u64] {
            File::create(&path).unwrap().set_len(size).unwrap();
            let mut read = Vec::new();
            Reader::open(&path).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read.len() as u64, size);
            let piece = Reader::open(&path).unwrap().piece(&mut [1; 2], &[0; 2]).map(<[u8]>::len);
            assert_eq!(piece.unwrap() as u64, size.min(2));
            let to = dir.path().join("b");
            copy(&path, &to).unwrap();
            assert_eq!(to.metadata().unwrap().len(), size);
        }
    }
}
