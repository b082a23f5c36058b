//! A log file that cannot grow without bound.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Appends to a file; when it is full, it becomes `<file>.1` (the one before is dropped) and a
/// new one begins. So at most twice the limit is on disk.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    len: u64,
    limit: u64,
}

impl BoundedLog {
    /// Opens or makes the file, mode 0600. `limit` is in bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = append(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, len, limit })
    }

    /// Where the older half lies.
    #[must_use]
    pub fn older(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        name.into()
    }
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len >= self.limit {
            std::fs::rename(&self.path, Self::older(&self.path))?;
            self.file = append(&self.path)?;
            self.len = 0;
        }
        let room = usize::try_from(self.limit - self.len).unwrap_or(usize::MAX);
        let written = self.file.write(&bytes[..bytes.len().min(room)])?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_at_most_two_limits_and_the_newest_bytes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("console.log");
        let mut log = BoundedLog::open(&path, 10).expect("open");
        log.write_all(b"0123456789abcdefghijKLMNO").expect("write");
        let newer = std::fs::read_to_string(&path).expect("newer");
        let older = std::fs::read_to_string(BoundedLog::older(&path)).expect("older");
        assert_eq!((older.as_str(), newer.as_str()), ("abcdefghij", "KLMNO"));
    }

    #[test]
    fn a_log_goes_on_where_the_last_run_ended() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("console.log");
        BoundedLog::open(&path, 10).expect("open").write_all(b"one").expect("write");
        BoundedLog::open(&path, 10).expect("open").write_all(b"two").expect("write");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "onetwo");
    }
}
