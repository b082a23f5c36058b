//! What every part of an import is given: who listens, whether to go on, how much may be written.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::Failure;
use crate::{domain::ByteSize, host::disk};

/// Bytes that are left free on the file system of the state directory, for the VMs that run.
const SPARE: u64 = 256 << 20;

/// What an import says as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// This is done now.
    Step(&'a str),
    /// How far the step is, in bytes of what it reads or writes.
    Done {
        /// So many.
        done: u64,
        /// Of so many; 0 if nobody knows.
        total: u64,
    },
    /// What the user should know of the image, in a sentence.
    Note(&'a str),
}

/// An import at work.
pub struct Job<'a> {
    dir: PathBuf,
    cancel: &'a AtomicBool,
    say: &'a dyn Fn(Progress<'_>),
    /// Bytes that may still be written.
    room: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Job<'a> {
    /// An import that works in `dir` and ends when `cancel` is set.
    ///
    /// # Errors
    /// If the room in `dir` cannot be asked for.
    pub fn new(
        dir: &Path,
        cancel: &'a AtomicBool,
        say: &'a dyn Fn(Progress<'_>),
    ) -> Result<Self, Failure> {
        let room = disk::free_space(dir)?.saturating_sub(SPARE);
        Ok(Self {
            dir: dir.to_owned(),
            cancel,
            say,
            room: AtomicU64::new(room),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        })
    }

    /// The directory it works in: its own.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The flag that ends it.
    #[must_use]
    pub const fn cancel(&self) -> &AtomicBool {
        self.cancel
    }

    /// Fails if the user wants it to end.
    ///
    /// # Errors
    /// [`Failure::Cancelled`].
    pub fn go_on(&self) -> Result<(), Failure> {
        if self.cancel.load(Ordering::Relaxed) { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Begins a step that handles `total` bytes, 0 if nobody knows.
    pub fn step(&self, what: &str, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        (self.say)(Progress::Step(what));
    }

    /// Says something that the user should know.
    pub fn note(&self, what: &str) {
        (self.say)(Progress::Note(what));
    }

    /// So many more bytes of the step are done.
    ///
    /// # Errors
    /// [`Failure::Cancelled`].
    pub fn more(&self, bytes: u64) -> Result<(), Failure> {
        self.go_on()?;
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.say)(Progress::Done { done, total: self.total.load(Ordering::Relaxed) });
        Ok(())
    }

    /// Lets no more than `bytes` be written from now on.
    pub fn limit(&self, bytes: u64) {
        self.room.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Bytes that may still be written.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.room.load(Ordering::Relaxed)
    }

    /// Takes room for bytes that are written next.
    ///
    /// # Errors
    /// If that is more than there is.
    pub fn take(&self, bytes: u64) -> Result<(), Failure> {
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes));
        taken.map(drop).map_err(|room| {
            Failure::hinted(
                format!("what is in it does not fit: it needs more than the {} that are left", ByteSize(room)),
                "make room on the file system of the state directory; if it should be small, it is not what it claims to be",
            )
        })
    }

    /// Gives room back of what was removed again.
    pub fn give_back(&self, bytes: u64) {
        self.room.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A reader that counts for the progress and ends when the import is to end.
pub struct Watched<'a, 'j, R> {
    inner: R,
    job: &'a Job<'j>,
}

impl<'a, 'j, R: Read> Watched<'a, 'j, R> {
    /// Watches `inner`.
    pub const fn new(inner: R, job: &'a Job<'j>) -> Self {
        Self { inner, job }
    }
}

impl<R: Read> Read for Watched<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.job.more(count as u64)?;
        Ok(count)
    }
}
