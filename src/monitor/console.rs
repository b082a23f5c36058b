//! The serial console: one pump that always drains the guest, and readers that follow.

use std::{
    io::Write,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::{mpsc, watch},
};

use super::{
    log::BoundedLog,
    ring::{Ring, Taken},
};
use crate::guest::markers::{Marker, Scanner};

/// How much of the console's past an attaching client is shown: enough for a boot and some
/// screens of work, little enough for the monitor's memory budget.
const REPLAY_BYTES: usize = 256 * 1024;
/// The console log's limit; `<log>.1` has as much again.
pub const LOG_LIMIT: u64 = 4 * 1024 * 1024;
/// Chunks of input that wait for a guest that does not read; beyond them input is dropped, as a
/// real serial line would.
const INPUT_CHUNKS: usize = 64;

/// What clients see of the console.
#[derive(Debug)]
pub struct Console {
    ring: Mutex<Ring>,
    grown: watch::Sender<u64>,
    input: mpsc::Sender<Vec<u8>>,
}

impl Console {
    /// A console and the queue of what clients type.
    pub fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (input, typed) = mpsc::channel(INPUT_CHUNKS);
        let ring = Mutex::new(Ring::new(REPLAY_BYTES));
        (Self { ring, grown: watch::Sender::new(0), input }, typed)
    }

    /// Tells of each growth, with the bytes in all.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Where a new reader begins: at the oldest byte remembered, or at the end.
    pub fn start(&self, replay: bool) -> u64 {
        let ring = self.ring();
        if replay { ring.oldest() } else { ring.total() }
    }

    /// At most `limit` bytes from `position` on.
    pub fn take(&self, position: u64, limit: usize) -> Taken {
        self.ring().take(position, limit)
    }

    /// Queues input for the guest. False if it was dropped, because the guest does not read.
    pub fn type_in(&self, bytes: Vec<u8>) -> bool {
        self.input.try_send(bytes).is_ok()
    }

    fn push(&self, bytes: &[u8]) {
        let total = {
            let mut ring = self.ring();
            ring.push(bytes);
            ring.total()
        };
        self.grown.send_replace(total);
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A ring is whole after every statement, so a poisoned one is still good.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries bytes between the PTY's master end and everything else, until it is dropped.
///
/// The guest is never held up: clients that are slow miss bytes, a log that cannot be written
/// is given up after one line in the monitor's log, and markers that nobody takes are dropped.
pub async fn pump(
    master: OwnedFd,
    console: &Console,
    mut typed: mpsc::Receiver<Vec<u8>>,
    mut log: Option<BoundedLog>,
    markers: mpsc::Sender<Marker>,
) -> std::io::Result<()> {
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR))?;
    let mut keyboard = Sender::from_owned_fd_unchecked(master.try_clone()?)?;
    let mut screen = Receiver::from_owned_fd_unchecked(master)?;
    let mut scanner = Scanner::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        tokio::select! {
            read = screen.read(&mut buffer) => {
                let bytes = &buffer[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                console.push(bytes);
                for marker in scanner.feed(bytes) {
                    let _ = markers.try_send(marker);
                }
                if let Some(Err(error)) = log.as_mut().map(|log| log.write_all(bytes)) {
                    tracing::warn!(%error, "the console log ends here");
                    log = None;
                }
            }
            written = keyboard.write(&pending), if !pending.is_empty() => {
                pending.drain(..written?);
            }
            Some(bytes) = typed.recv(), if pending.is_empty() => pending = bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::pty;

    /// A console with its guest's end, and the pump between them.
    fn pumped(log: Option<BoundedLog>) -> (Arc<Console>, std::fs::File, mpsc::Receiver<Marker>) {
        let (master, slave) = pty::open_raw().expect("pty");
        let (console, typed) = Console::new();
        let console = Arc::new(console);
        let (marked, markers) = mpsc::channel(4);
        let shared = Arc::clone(&console);
        tokio::spawn(async move { pump(master, &shared, typed, log, marked).await });
        (console, slave.into(), markers)
    }

    async fn until(console: &Console, total: u64) {
        let mut grown = console.follow();
        grown.wait_for(|now| *now >= total).await.expect("the console is there");
    }

    #[tokio::test]
    async fn what_the_guest_prints_is_replayed_logged_and_searched_for_markers() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("console.log");
        let log = BoundedLog::open(&path, LOG_LIMIT).expect("log");
        let (console, mut guest, mut markers) = pumped(Some(log));
        let said = format!("hello\r\n{}", Marker::Init);
        std::io::Write::write_all(&mut guest, said.as_bytes()).expect("print");
        assert_eq!(markers.recv().await, Some(Marker::Init));
        until(&console, said.len() as u64).await;
        let replay = console.take(console.start(true), usize::MAX);
        assert_eq!(String::from_utf8_lossy(&replay.bytes), said);
        assert_eq!(console.start(false), said.len() as u64);
        assert_eq!(std::fs::read_to_string(&path).expect("log"), said);
    }

    #[tokio::test]
    async fn what_is_typed_reaches_the_guest_and_a_deaf_guest_holds_nobody_up() {
        let (console, mut guest, _markers) = pumped(None);
        assert!(console.type_in(b"uname\n".to_vec()));
        let heard = tokio::task::spawn_blocking(move || {
            let mut heard = [0; 6];
            std::io::Read::read_exact(&mut guest, &mut heard).expect("hear");
            (heard, guest)
        });
        let (heard, mut guest) = heard.await.expect("thread");
        assert_eq!(&heard, b"uname\n");
        let mut dropped = false;
        for _ in 0..10_000 {
            dropped |= !console.type_in(vec![b'x'; 4096]);
            tokio::task::yield_now().await;
        }
        assert!(dropped, "input for a guest that does not read is bounded");
        std::io::Write::write_all(&mut guest, b"still drained").expect("print");
        until(&console, 13).await;
    }
}
