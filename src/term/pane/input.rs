//! What waits to be done by a pane's writer thread.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::session::Size;

/// How many bytes of input wait at most: a pasted megabyte, its brackets, and what is typed
/// behind it.
pub const INPUT_MAX: usize = 2 << 20;

/// Bytes given to the session at once. Small enough that a resize or a close gets its turn
/// between two of them.
const WRITE_CHUNK: usize = 16 * 1024;

/// Input was not taken; nothing of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The other side does not read, and [`INPUT_MAX`] would be exceeded.
    #[error("not sent: {waiting} bytes are still waiting for the guest to read them")]
    Full {
        /// Bytes that wait.
        waiting: usize,
    },
    /// There is no session to send to.
    #[error("not sent: the session has ended")]
    NotOpen,
}

/// The next thing the writer thread is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// To apply a size.
    Resize(Size),
    /// To send bytes.
    Write(Vec<u8>),
    /// To show an update whose end has not come in time.
    Show,
    /// To end.
    Close,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: VecDeque<u8>,
    resize: Option<Size>,
    show_at: Option<Instant>,
    closed: bool,
    /// The session is not ready for bytes yet.
    held: bool,
    /// The session takes no more.
    broken: bool,
}

/// The queue between everyone and the writer thread. Putting in never waits.
#[derive(Debug, Default)]
pub(super) struct InputQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl InputQueue {
    /// Puts all of `bytes` in, or nothing.
    pub fn send(&self, bytes: &[u8]) -> Result<(), NotSent> {
        let mut waiting = self.lock();
        if waiting.closed || waiting.broken {
            return Err(NotSent::NotOpen);
        }
        if waiting.bytes.len() + bytes.len() > INPUT_MAX {
            return Err(NotSent::Full { waiting: waiting.bytes.len() });
        }
        waiting.bytes.extend(bytes);
        self.changed.notify_all();
        Ok(())
    }

    /// Keeps bytes, while sizes are still applied, until [`InputQueue::release`].
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Lets the bytes go that wait, in their order.
    pub fn release(&self) {
        self.lock().held = false;
        self.changed.notify_all();
    }

    /// If bytes are being kept: the last of them, `most` at most.
    pub fn held(&self, most: usize) -> Option<Vec<u8>> {
        let waiting = self.lock();
        let first = waiting.bytes.len().saturating_sub(most);
        let is_held = waiting.held && !waiting.closed;
        is_held.then(|| waiting.bytes.range(first..).copied().collect())
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Forgets the bytes that wait and says how many they were.
    pub fn discard(&self) -> usize {
        let mut waiting = self.lock();
        let count = waiting.bytes.len();
        waiting.bytes = VecDeque::new();
        count
    }

    /// Only the last size counts.
    pub fn resize(&self, size: Size) {
        self.lock().resize = Some(size);
        self.changed.notify_all();
    }

    /// When an unfinished update is to be shown, if at all.
    pub fn show_at(&self, at: Option<Instant>) {
        let mut waiting = self.lock();
        if waiting.show_at != at {
            waiting.show_at = at;
            self.changed.notify_all();
        }
    }

    /// The session takes no more bytes; sizes are still applied.
    pub fn set_broken(&self) {
        let mut waiting = self.lock();
        waiting.broken = true;
        waiting.bytes = VecDeque::new();
    }

    /// Nothing more will be done.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.bytes = VecDeque::new();
        self.changed.notify_all();
    }

    /// Waits for something to do.
    pub fn next(&self) -> Work {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return Work::Close;
            }
            if let Some(size) = waiting.resize.take() {
                return Work::Resize(size);
            }
            if !waiting.bytes.is_empty() && !waiting.held {
                let count = waiting.bytes.len().min(WRITE_CHUNK);
                return Work::Write(waiting.bytes.drain(..count).collect());
            }
            waiting = match waiting.show_at {
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        waiting.show_at = None;
                        return Work::Show;
                    }
                    let result = self.changed.wait_timeout(waiting, left);
                    result.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_size_counts_and_it_comes_first() {
        let queue = InputQueue::default();
        queue.send(b"ls").unwrap();
        queue.resize(Size { cols: 100, rows: 30 });
        queue.resize(Size { cols: 90, rows: 20 });
        assert_eq!(queue.next(), Work::Resize(Size { cols: 90, rows: 20 }));
        assert_eq!(queue.next(), Work::Write(b"ls".to_vec()));
        queue.show_at(Some(Instant::now()));
        assert_eq!(queue.next(), Work::Show);
        queue.close();
        assert_eq!(queue.next(), Work::Close);
        assert_eq!(queue.send(b"x"), Err(NotSent::NotOpen));
    }

    #[test]
    fn what_is_held_waits_in_its_order_and_sizes_do_not() {
        let queue = InputQueue::default();
        queue.hold();
        assert_eq!(queue.held(9), Some(Vec::new()));
        queue.send(b"echo ").unwrap();
        queue.send(b"hi\r").unwrap();
        queue.resize(Size { cols: 90, rows: 20 });
        assert_eq!(queue.next(), Work::Resize(Size { cols: 90, rows: 20 }));
        queue.show_at(Some(Instant::now()));
        assert_eq!(queue.next(), Work::Show);
        assert_eq!(queue.held(3), Some(b"hi\r".to_vec()));
        queue.release();
        assert_eq!(queue.held(3), None);
        queue.send(b"ls").unwrap();
        assert_eq!(queue.next(), Work::Write(b"echo hi\rls".to_vec()));
    }

    #[test]
    fn it_takes_a_pasted_megabyte_but_never_a_part_of_something() {
        let queue = InputQueue::default();
        queue.send(&vec![b'x'; (1 << 20) + 12]).unwrap();
        let refused = queue.send(&vec![b'y'; 1 << 20]).unwrap_err();
        assert_eq!(refused, NotSent::Full { waiting: (1 << 20) + 12 });
        assert_eq!(queue.len(), (1 << 20) + 12);
        queue.send(b"typed").unwrap();
        assert_eq!(queue.discard(), (1 << 20) + 17);
        assert_eq!(queue.len(), 0);
    }
}
