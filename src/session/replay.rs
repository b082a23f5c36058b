//! A session whose other side is played: recorded streams, and sessions for tests.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{Control, Session, Size};

#[derive(Default)]
struct State {
    /// What is still to be read; an empty piece is never in here.
    output: VecDeque<Vec<u8>>,
    ended: Option<String>,
    input: Vec<u8>,
    /// Writing waits while this is set.
    stuck: bool,
    sizes: Vec<Size>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait<R>(&self, mut ready: impl FnMut(&mut State) -> Option<R>) -> R {
        let mut state = self.lock();
        loop {
            if let Some(result) = ready(&mut state) {
                return result;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The other side of a played session.
#[derive(Clone, Default)]
pub struct Tape(Arc<Shared>);

/// A session that reads what is [pushed](Tape::push) to its tape, in the same pieces, until
/// [`Tape::finish`] or [`Control::close`].
#[must_use]
pub fn session() -> (Session, Tape) {
    let tape = Tape::default();
    let session = Session {
        reader: Box::new(PlayReader(tape.clone())),
        writer: Box::new(PlayWriter(tape.clone())),
        control: Box::new(PlayControl(tape.clone())),
    };
    (session, tape)
}

/// A session that reads a recorded stream in pieces of at most `piece` bytes, and then ends.
#[must_use]
pub fn recorded(stream: &[u8], piece: usize) -> Session {
    let (session, tape) = session();
    for piece in stream.chunks(piece.max(1)) {
        tape.push(piece);
    }
    tape.finish("the recording ended");
    session
}

impl Tape {
    /// Lets the session read these bytes.
    pub fn push(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.change(|state| state.output.push_back(bytes.to_vec()));
        }
    }

    /// Ends the session once all is read.
    pub fn finish(&self, sentence: &str) {
        self.0.change(|state| {
            state.ended.get_or_insert_with(|| sentence.to_owned());
        });
    }

    /// Lets writing wait (a guest that does not read), or go on.
    pub fn set_stuck(&self, stuck: bool) {
        self.0.change(|state| state.stuck = stuck);
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        self.0.lock().input.clone()
    }

    /// Waits until what was written so far fulfils a condition, and returns it.
    #[must_use]
    pub fn wait_written(&self, condition: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        self.0.wait(|state| condition(&state.input).then(|| state.input.clone()))
    }

    /// Waits until the session was told this size last.
    pub fn wait_size(&self, size: Size) {
        self.0.wait(|state| (state.sizes.last() == Some(&size)).then_some(()));
    }

    /// The sizes the session was told, in order.
    #[must_use]
    pub fn sizes(&self) -> Vec<Size> {
        self.0.lock().sizes.clone()
    }

    /// Waits until everything that was pushed is read.
    pub fn wait_read(&self) {
        self.0.wait(|state| state.output.is_empty().then_some(()));
    }

    /// Waits until the session is closed by its user.
    pub fn wait_closed(&self) {
        self.0.wait(|state| state.closed.then_some(()));
    }
}

struct PlayReader(Tape);

impl Read for PlayReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.0.wait(|state| {
            if state.closed {
                return Some(0);
            }
            let Some(piece) = state.output.front_mut() else {
                return state.ended.is_some().then_some(0);
            };
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                state.output.pop_front();
            }
            Some(count)
        });
        self.0.0.changed.notify_all();
        Ok(count)
    }
}

struct PlayWriter(Tape);

impl Write for PlayWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let closed = self.0.0.wait(|state| (!state.stuck || state.closed).then_some(state.closed));
        if closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.0.change(|state| state.input.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PlayControl(Tape);

impl Control for PlayControl {
    fn resize(&mut self, size: Size) -> io::Result<()> {
        self.0.0.change(|state| state.sizes.push(size));
        Ok(())
    }

    fn close(&mut self) {
        self.0.0.change(|state| state.closed = true);
    }

    fn end(&mut self) -> String {
        self.0.0.lock().ended.clone().unwrap_or_else(|| "closed".to_owned())
    }
}
