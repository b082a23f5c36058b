//! `banger logs`: what a guest wrote to its serial console.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    args::Logs,
    exit::{self, Outcome},
    out,
    sanitize::{Pass, Sanitizer},
};
use crate::domain::Problem;

/// How often `-f` looks for more, in milliseconds: often enough to feel live.
const LOOK_MS: u16 = 100;

const CHUNK: usize = 64 * 1024;

/// Prints the console log at `path`: the part that was rotated away, then the current one.
///
/// # Errors
/// When the log cannot be read or the output not be written.
pub fn run(logs: &Logs, path: &Path) -> Outcome {
    let mut tail = Tail::open(path).map_err(|e| unreadable(path, &e))?;
    let mut filter = (!logs.raw).then(|| Sanitizer::new(Pass::Text));
    let mut chunk = vec![0; CHUNK];
    let mut any = false;
    loop {
        let n = tail.read(&mut chunk).map_err(|e| unreadable(path, &e))?;
        if n > 0 {
            any = true;
            print(&chunk[..n], filter.as_mut())?;
            continue;
        }
        if !logs.follow {
            break;
        }
        if !reader_is_there()? {
            return Ok(exit::OK);
        }
        if path.parent().is_some_and(|dir| !dir.exists()) {
            out::progress(&format!("{} was removed", logs.name));
            return Ok(exit::OK);
        }
    }
    if !any {
        out::progress(&format!("{} has not written anything yet", logs.name));
    }
    Ok(exit::OK)
}

fn print(bytes: &[u8], filter: Option<&mut Sanitizer>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match filter {
        Some(filter) => {
            let mut text = Vec::with_capacity(bytes.len());
            filter.feed(bytes, &mut text);
            stdout.write_all(&text)?;
        }
        None => stdout.write_all(bytes)?,
    }
    stdout.flush()
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        format!("cannot read the console log {}", path.display()),
        error.to_string(),
        "is the state directory on a disk that is there?",
    )
}

/// Waits a moment; whether somebody still reads our output.
fn reader_is_there() -> io::Result<bool> {
    let stdout = io::stdout();
    // Nothing is asked for: only the errors come, which always do (poll(2)).
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::from(LOOK_MS)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    Ok(fds[0].revents().is_none_or(|events| !events.intersects(gone)))
}

/// A log that is renamed to `.1` when it is full, read as one stream.
struct Tail {
    path: PathBuf,
    /// The part that was rotated away before we came.
    old: Option<Open>,
    current: Option<Open>,
}

struct Open {
    file: File,
    inode: u64,
    at: u64,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        // The current one first: if it is rotated before the other is opened, that one is it.
        let current = open(path)?;
        let mut rotated = path.as_os_str().to_owned();
        rotated.push(".1");
        let old = open(Path::new(&rotated))?;
        let same = |old: &Open| current.as_ref().is_some_and(|c| c.inode == old.inode);
        let old = old.filter(|old| !same(old));
        Ok(Self { path: path.to_owned(), old, current })
    }

    /// Reads what comes next; 0 if there is nothing yet.
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        if let Some(old) = &mut self.old {
            match old.read(chunk)? {
                0 => self.old = None,
                n => return Ok(n),
            }
        }
        loop {
            // Looked at before reading: what is written to the old file comes before the rename.
            let inode = match self.path.metadata() {
                Ok(meta) => Some(meta.ino()),
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
            if let Some(current) = &mut self.current {
                let n = current.read(chunk)?;
                if n > 0 || inode.is_none() || inode == Some(current.inode) {
                    return Ok(n);
                }
            } else if inode.is_none() {
                return Ok(0);
            }
            self.current = open(&self.path)?;
        }
    }
}

impl Open {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        if self.file.metadata()?.len() < self.at {
            // Emptied in place: begin anew.
            self.at = self.file.seek(SeekFrom::Start(0))?;
        }
        loop {
            match self.file.read(chunk) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) => return Err(e),
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Option<Open>> {
    match File::open(path) {
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some(Open { file, inode, at: 0 }))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn drain(tail: &mut Tail) -> String {
        let mut seen = Vec::new();
        let mut chunk = [0; 3];
        loop {
            match tail.read(&mut chunk).unwrap() {
                0 => return String::from_utf8(seen).unwrap(),
                n => seen.extend_from_slice(&chunk[..n]),
            }
        }
    }

    #[test]
    fn a_log_is_followed_across_its_rotation_without_loss_or_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        let mut tail = Tail::open(&log).unwrap();
        assert_eq!(drain(&mut tail), "");
        append(&log, "one ");
        assert_eq!(drain(&mut tail), "one ");
        append(&log, "two ");
        fs::rename(&log, dir.path().join("console.log.1")).unwrap();
        assert_eq!(drain(&mut tail), "two ");
        append(&log, "three ");
        assert_eq!(drain(&mut tail), "three ");
        append(&log, "four ");
        fs::rename(&log, dir.path().join("console.log.1")).unwrap();
        append(&log, "five ");
        assert_eq!(drain(&mut tail), "four five ");
        fs::write(&log, "x").unwrap();
        assert_eq!(drain(&mut tail), "x");
    }

    #[test]
    fn the_rotated_part_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        append(&dir.path().join("console.log.1"), "old ");
        append(&log, "new");
        assert_eq!(drain(&mut Tail::open(&log).unwrap()), "old new");
    }
}
