//! The thread that writes to the outer terminal, so that nothing else ever waits for it.
//!
//! A frame is handed over whole; while one is being written the next is not drawn. Ratatui
//! sends differences, so that a frame, once drawn, must not be dropped.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// The handing-over side.
pub struct Writer {
    frames: mpsc::Sender<Vec<u8>>,
    busy: Arc<AtomicBool>,
    /// Gets a message when a frame is written.
    written: mpsc::Receiver<io::Result<()>>,
}

impl Writer {
    /// Starts the thread. `idle` is called from it whenever it has written all it was given.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        mut sink: impl Write + Send + 'static,
        idle: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (frames, incoming) = mpsc::channel::<Vec<u8>>();
        let (done, written) = mpsc::channel();
        let busy = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&busy);
        thread::Builder::new().name("terminal-writer".to_owned()).spawn(move || {
            for frame in incoming {
                let result = sink.write_all(&frame).and_then(|()| sink.flush());
                flag.store(false, Ordering::Release);
                let failed = result.is_err();
                if done.send(result).is_err() || failed {
                    return;
                }
                idle();
            }
        })?;
        Ok(Self { frames, busy, written })
    }

    /// Whether the last frame is written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    /// Hands a frame over. Only when [idle](Self::is_idle): it takes one at a time.
    pub fn ship(&self, frame: Vec<u8>) {
        if frame.is_empty() {
            return;
        }
        self.busy.store(true, Ordering::Release);
        // If the thread has ended, `failure` says why.
        if self.frames.send(frame).is_err() {
            self.busy.store(false, Ordering::Release);
        }
    }

    /// Why writing ended, if it did: the outer terminal is gone.
    #[must_use]
    pub fn failure(&self) -> Option<io::Error> {
        self.written.try_iter().find_map(Result::err)
    }

    /// Waits until the frame in hand is written, but no longer than `patience`; whether it was.
    /// Only for the very end, and before a suspension.
    #[must_use]
    pub fn finish(&self, patience: Duration) -> bool {
        while !self.is_idle() {
            match self.written.recv_timeout(patience) {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return self.is_idle(),
            }
        }
        true
    }
}

/// Where a frame is gathered. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FrameBuffer(Arc<Mutex<Vec<u8>>>);

impl FrameBuffer {
    /// Takes what was gathered.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for FrameBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Does nothing: a frame is whole when the loop says so, not when its parts are flushed.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that takes a frame only when told to.
    struct Frozen(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Frozen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::Error::other("gone"))?;
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frozen_terminal_keeps_nobody_waiting_and_gets_the_frame_when_it_thaws() {
        let (thaw, frozen) = mpsc::channel();
        let out = Arc::new(Mutex::new(Vec::new()));
        let (poke, poked) = mpsc::channel();
        let sink = Frozen(frozen, Arc::clone(&out));
        let writer = Writer::start(sink, move || poke.send(()).unwrap()).unwrap();
        assert!(writer.is_idle());
        writer.ship(b"frame".to_vec());
        assert!(!writer.is_idle());
        assert!(!writer.finish(Duration::from_millis(1)), "it is frozen");
        thaw.send(()).unwrap();
        poked.recv().unwrap();
        assert!(writer.is_idle());
        assert!(writer.finish(Duration::from_secs(60)));
        assert_eq!(out.lock().unwrap().as_slice(), b"frame");
    }

    #[test]
    fn a_terminal_that_is_gone_is_reported() {
        let (thaw, frozen) = mpsc::channel::<()>();
        drop(thaw);
        let writer = Writer::start(Frozen(frozen, Arc::default()), || {}).unwrap();
        writer.ship(b"x".to_vec());
        while !writer.is_idle() {
            thread::yield_now();
        }
        let failure = loop {
            if let Some(failure) = writer.failure() {
                break failure;
            }
            thread::yield_now();
        };
        assert_eq!(failure.to_string(), "gone");
    }

    #[test]
    fn a_frame_is_gathered_over_flushes() {
        let buffer = FrameBuffer::default();
        let mut one = buffer.clone();
        one.write_all(b"a").unwrap();
        one.flush().unwrap();
        one.write_all(b"b").unwrap();
        assert_eq!(buffer.take(), b"ab");
        assert_eq!(buffer.take(), b"");
    }
}
