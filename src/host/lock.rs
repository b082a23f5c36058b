//! Locks between processes: a lock on a file that also says who holds it.
//!
//! They are locks of an open file description (`F_OFD_SETLK`, fcntl(2)): as with `flock(2)`, the
//! kernel gives a lock back when its holder is gone, however it went, so it never goes stale as a
//! PID file does; unlike `flock`, whether it is held can be asked without taking it. The file's
//! text (the holder's process id) is for messages only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

/// How often a lock that another process holds is tried again: the kernel's wait has no timeout.
const RETRY: Duration = Duration::from_millis(10);

/// An exclusive lock, held until dropped. Its descriptor is closed on exec: a program started
/// meanwhile does not keep it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
    remove_on_drop: bool,
}

impl FileLock {
    /// Takes the lock if nobody has it; `None` if another process (or another part of this one)
    /// has. Makes the file (0600) and its directories (0700).
    ///
    /// # Errors
    /// If the file cannot be made or opened.
    pub fn try_exclusive(path: impl AsRef<Path>) -> io::Result<Option<Self>> {
        let path = path.as_ref();
        loop {
            let file = open(path)?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
            // Who held it before may have removed the file while we opened it: then ours is a
            // lock on a file that nobody else will ever find.
            if is_at(&file, path)? {
                let mut lock = Self { file, path: path.into(), remove_on_drop: false };
                lock.sign()?;
                return Ok(Some(lock));
            }
        }
    }

    /// As [`FileLock::try_exclusive`], waiting for at most `patience`. Blocks.
    ///
    /// # Errors
    /// If the file cannot be made or opened.
    pub fn exclusive_within(
        path: impl AsRef<Path>,
        patience: Duration,
    ) -> io::Result<Option<Self>> {
        let path = path.as_ref();
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = Self::try_exclusive(path)? {
                return Ok(Some(lock));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(RETRY.min(left));
        }
    }

    /// As [`FileLock::try_exclusive`], waiting for as long as it takes: the kernel hands the lock
    /// over when its holder is gone. Blocks, and nothing ends the wait.
    ///
    /// # Errors
    /// If the file cannot be made or opened.
    pub fn exclusive(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        loop {
            let file = open(path)?;
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file())) {
                Ok(_) if is_at(&file, path)? => {
                    let mut lock = Self { file, path: path.into(), remove_on_drop: false };
                    lock.sign()?;
                    return Ok(lock);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the file be removed when the lock is given back.
    #[must_use]
    pub const fn remove_on_drop(mut self) -> Self {
        self.remove_on_drop = true;
        self
    }

    /// Removes the file while the lock is still held, and gives the lock back.
    ///
    /// # Errors
    /// If the file cannot be removed; one that is gone already is no error.
    pub fn unlink(self) -> io::Result<()> {
        self.remove()
    }

    fn remove(&self) -> io::Result<()> {
        // Only if the name is still ours: somebody may have removed it by hand and a successor
        // made a new one.
        if !is_at(&self.file, &self.path)? {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes our process id into the file.
    fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.remove_on_drop {
            // A file that stays is harmless: the next one to lock it uses it.
            let _ = self.remove();
        }
        // Closing alone would leave it held for as long as a child of ours that is between fork
        // and exec has a copy of the descriptor.
        let unlock = libc::flock { l_type: libc::F_UNLCK as libc::c_short, ..whole_file() };
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&unlock));
    }
}

/// The process that holds the lock, if one does. For messages: it may be gone a moment later.
///
/// A lock that is held by somebody who has not signed yet is held by process 0.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn holder(path: impl AsRef<Path>) -> io::Result<Option<u32>> {
    let Some(file) = held(path.as_ref())? else { return Ok(None) };
    let mut text = String::new();
    // A process id has at most 7 digits (PID_MAX_LIMIT is 4 Mi).
    file.take(16).read_to_string(&mut text)?;
    Ok(Some(text.trim().parse().unwrap_or(0)))
}

/// Whether somebody holds the lock. Never waits, and does not make the file.
///
/// # Errors
/// If the file is there and cannot be opened.
pub fn is_held(path: impl AsRef<Path>) -> io::Result<bool> {
    Ok(held(path.as_ref())?.is_some())
}

/// The open file, if another descriptor holds the lock on it.
fn held(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut found = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok((i32::from(found.l_type) != libc::F_UNLCK).then_some(file))
}

/// An exclusive lock from the first byte to the end, however long the file.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0, // the kernel wants 0 here for F_OFD_*
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Std opens with O_CLOEXEC.
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            options.open(path)
        }
        other => other,
    }
}

/// Whether `path` still names this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsFd,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::*;

    #[test]
    fn one_at_a_time_and_others_can_say_who() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("a/b/vm.lock");
        assert!(!is_held(&path).expect("ask"));
        assert!(!path.exists(), "asking makes nothing");
        let lock = FileLock::try_exclusive(&path).expect("io").expect("free");
        assert!(FileLock::try_exclusive(&path).expect("io").is_none());
        assert!(is_held(&path).expect("ask"));
        assert_eq!(holder(&path).expect("ask"), Some(std::process::id()));
        let mode = fs::metadata(&path).expect("file").mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(lock);
        assert!(!is_held(&path).expect("ask"));
        assert_eq!(holder(&path).expect("ask"), None);
        assert!(FileLock::try_exclusive(&path).expect("io").is_some());
    }

    #[test]
    fn a_started_program_does_not_inherit_it() {
        let dir = tempfile::tempdir().expect("temp");
        let lock = FileLock::try_exclusive(dir.path().join("l")).expect("io").expect("free");
        let flags = fcntl(lock.file.as_fd(), FcntlArg::F_GETFD).expect("flags");
        assert_ne!(flags & libc::FD_CLOEXEC, 0);
    }

    #[test]
    fn waiting_ends_when_it_is_given_back_or_in_time() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("l");
        let lock = FileLock::try_exclusive(&path).expect("io").expect("free");
        let none = FileLock::exclusive_within(&path, Duration::from_millis(30)).expect("io");
        assert!(none.is_none());
        let waiter = thread::spawn(move || {
            FileLock::exclusive_within(path, Duration::from_secs(60)).expect("io").is_some()
        });
        drop(lock);
        assert!(waiter.join().expect("thread"));
    }

    #[test]
    fn a_lock_that_is_given_back_with_its_file_goes_to_one_who_waits() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("l");
        let first = FileLock::try_exclusive(&path).expect("io").expect("free").remove_on_drop();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || {
                    drop(FileLock::exclusive(path).expect("io").remove_on_drop());
                })
            })
            .collect();
        drop(first);
        for waiter in waiters {
            waiter.join().expect("has had it");
        }
        assert!(!path.exists());
    }

    #[test]
    fn unlink_removes_the_file_but_not_a_successors() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("l");
        FileLock::try_exclusive(&path).expect("io").expect("free").unlink().expect("unlink");
        assert!(!path.exists());

        let first = FileLock::try_exclusive(&path).expect("io").expect("free");
        fs::remove_file(&path).expect("by hand");
        let second = FileLock::try_exclusive(&path).expect("io").expect("a new file");
        drop(first.remove_on_drop());
        assert!(path.exists(), "the second's file stays");
        drop(second.remove_on_drop());
        assert!(!path.exists());
    }

    /// The race: A holds and unlinks while B has opened the old file. Without the look at the
    /// inode two would be inside at once.
    #[test]
    fn never_two_inside_although_the_file_is_removed_each_time() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("l");
        let inside = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (path, inside) = (path.clone(), Arc::clone(&inside));
                thread::spawn(move || {
                    let mut rounds = 0;
                    while rounds < 200 {
                        let Some(lock) = FileLock::try_exclusive(&path).expect("io") else {
                            thread::yield_now();
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.unlink().expect("unlink");
                        rounds += 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no assertion failed");
        }
    }
}
