//! One session of a pane, and its threads.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    PaneState, Shared,
    input::{InputQueue, Work},
};
use crate::{
    session::{Control, Problem, Session, Size},
    term::Engine,
};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Bytes parsed between two looks at the clock.
const SLICE: usize = 4096;

/// How long the reader keeps the emulator while others may want it: some 25 KB of output.
const HOLD: Duration = Duration::from_micros(500);

/// How long a reader rests after it has worked for [`HOLD`], in parts of that time: half of it
/// while its pane is looked at, seven times it while not. Panes that took all they can get would
/// leave the UI no CPU to answer a key with: 24 ms for one in a hundred keys were measured with
/// four of them on two CPUs. What a client is too slow for, a monitor leaves out; nobody holds up
/// the guest.
const REST_SHOWN: f32 = 0.5;
const REST_HIDDEN: f32 = 7.0;

/// The most work that a rest is measured by: beyond it the CPU was somebody else's.
const WORK_MAX: Duration = Duration::from_millis(2);

/// How long an update that the guest wants shown as one may take (as with other terminals).
const UPDATE: Duration = Duration::from_millis(150);

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic in this thread, now, will be caught and dealt with by a pane: a panic hook
/// should then leave the outer terminal alone.
#[must_use]
pub fn panic_is_caught() -> bool {
    CATCHING.get()
}

/// What the threads of a session share.
struct Link {
    input: InputQueue,
    control: Mutex<Option<Box<dyn Control>>>,
    /// Nobody wants to see anything of this session any more.
    closed: AtomicBool,
    /// Which session of the pane it is.
    epoch: u64,
}

impl Link {
    fn with_control<R>(&self, use_it: impl FnOnce(&mut dyn Control) -> R) -> Option<R> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.as_mut().map(|control| use_it(control.as_mut()))
    }
}

/// A session and its threads; they end by themselves after [`Run::close`].
pub(super) struct Run {
    link: Arc<Link>,
}

impl Run {
    /// Starts the reader thread, which opens the session and starts the writer thread.
    pub fn start(
        shared: &Arc<Shared>,
        open: impl FnOnce(Size) -> Result<Session, Problem> + Send + 'static,
    ) -> Self {
        let epoch = shared.status().epoch;
        let link = Arc::new(Link {
            input: InputQueue::default(),
            control: Mutex::new(None),
            closed: AtomicBool::new(false),
            epoch,
        });
        link.input.hold();
        let both = (Arc::clone(shared), Arc::clone(&link));
        let spawned = thread::Builder::new().name("pane-reader".to_owned()).spawn(move || {
            let (shared, link) = both;
            let last = read_session(&shared, &link, open);
            link.input.close();
            tell(&shared, &link, last);
        });
        if let Err(error) = spawned {
            tell(shared, &link, PaneState::Failed(no_thread(&error)));
        }
        Self { link }
    }

    pub fn input(&self) -> &InputQueue {
        &self.link.input
    }

    /// Ends the session without waiting for it.
    pub fn close(&self) {
        if self.link.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.link.input.close();
        let link = Arc::clone(&self.link);
        let close = move || {
            link.with_control(|control| control.close());
        };
        // Ending a program may take a moment, and the writer thread may hang in a write that
        // only the end of the session ends.
        if let Err(error) = thread::Builder::new().name("pane-close".to_owned()).spawn(close) {
            tracing::warn!(%error, "no thread to close a session with; closing it here");
            self.link.with_control(|control| control.close());
        }
    }
}

fn no_thread(error: &io::Error) -> Problem {
    Problem::new(
        "cannot open a pane",
        format!("no thread could be started: {error}"),
        "close other panes or raise the limit of processes (ulimit -u)",
    )
}

/// Shows how far it is, unless another session has taken its place.
fn tell(shared: &Shared, link: &Link, state: PaneState) {
    {
        let mut status = shared.status();
        if status.epoch != link.epoch {
            return;
        }
        status.state = state;
    }
    shared.touch();
    shared.notice();
}

/// Opens the session and reads it to its end; the pane's last state.
fn read_session(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    open: impl FnOnce(Size) -> Result<Session, Problem>,
) -> PaneState {
    let opened_for = shared.status().size;
    let Session { mut reader, writer, mut control } = match open(opened_for) {
        Ok(session) => session,
        Err(problem) => return PaneState::Failed(problem),
    };
    if link.closed.load(Ordering::Acquire) {
        control.close();
        return PaneState::Ended(control.end());
    }
    let ready = (Arc::downgrade(shared), Arc::downgrade(link));
    control.when_ready(Box::new(move || {
        if let (Some(shared), Some(link)) = (ready.0.upgrade(), ready.1.upgrade()) {
            link.input.release();
            shared.touch();
        }
    }));
    *link.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
    if link.closed.load(Ordering::Acquire) {
        // Closed in between: whoever did it may have come too early to find the control.
        link.with_control(|control| control.close());
    }
    let size = shared.status().size;
    if size != opened_for {
        link.input.resize(size);
    }
    let both = (Arc::clone(shared), Arc::clone(link));
    let writing = thread::Builder::new().name("pane-writer".to_owned()).spawn(move || {
        write_session(&both.0, &both.1, writer);
    });
    if let Err(error) = writing {
        link.with_control(|control| control.close());
        return PaneState::Failed(no_thread(&error));
    }
    tell(shared, link, PaneState::Live);

    let broken = pump(shared, link, reader.as_mut());
    drop(reader);
    let sentence = link.with_control(|control| {
        control.close();
        control.end()
    });
    PaneState::Ended(match broken {
        Some(error) => format!("the connection broke: {error}"),
        None => sentence.unwrap_or_default(),
    })
}

/// Reads until the end; the error if it was none.
fn pump(shared: &Shared, link: &Link, reader: &mut dyn Read) -> Option<io::Error> {
    let mut buffer = vec![0; READ];
    // When the update that the guest is in is shown even if it has not ended.
    let mut deadline = None;
    let mut worked = Duration::ZERO;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Some(error),
        };
        let mut rest = &buffer[..count];
        let mut in_update = false;
        while !rest.is_empty() {
            let (replies, more) = {
                let mut engine = shared.engine.lock();
                if link.closed.load(Ordering::Acquire) {
                    // Read on to the end, but nobody is to see it.
                    break;
                }
                let begun = Instant::now();
                let done = feed_for_a_while(shared, &mut engine, rest);
                in_update = engine.in_update();
                worked += begun.elapsed();
                done
            };
            rest = more;
            if worked >= HOLD {
                let shown = shared.visible.load(Ordering::Acquire);
                let part = if shown { REST_SHOWN } else { REST_HIDDEN };
                thread::sleep(worked.min(WORK_MAX).mul_f32(part));
                worked = Duration::ZERO;
            }
            if !replies.is_empty() && link.input.send(&replies).is_err() {
                tracing::debug!("the guest asks but does not read: {} bytes", replies.len());
            }
        }
        let now = Instant::now();
        deadline = if in_update { Some(deadline.unwrap_or(now + UPDATE)) } else { None };
        let show_at = deadline.filter(|&at| now < at);
        link.input.show_at(show_at);
        if show_at.is_none() {
            shared.touch();
        }
    }
}

/// Feeds slices until all is fed or the emulator has been kept long enough; the replies, and
/// what is left.
fn feed_for_a_while<'a>(
    shared: &Shared,
    engine: &mut Engine,
    mut rest: &'a [u8],
) -> (Vec<u8>, &'a [u8]) {
    let begun = Instant::now();
    let mut replies = Vec::new();
    while !rest.is_empty() {
        let (slice, more) = rest.split_at(rest.len().min(SLICE));
        let events = caught(shared, engine, |engine| engine.feed(slice));
        replies.extend(shared.take(events.unwrap_or_default()));
        rest = more;
        if begun.elapsed() >= HOLD {
            break;
        }
    }
    (replies, rest)
}

/// Lets the emulator work. If it panics on what a guest sent, the pane gets a fresh one and the
/// session goes on.
fn caught<R>(
    shared: &Shared,
    engine: &mut Engine,
    work: impl FnOnce(&mut Engine) -> R,
) -> Option<R> {
    CATCHING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| work(engine)));
    CATCHING.set(false);
    if result.is_err() {
        tracing::error!("the terminal emulator panicked; a pane got a fresh one");
        *engine = Engine::new(shared.status().size, shared.options);
        engine.mark("terminal reset: it failed on what the guest sent; the session goes on");
    }
    result.ok()
}

/// Does what waits in the queue until it is closed.
fn write_session(shared: &Shared, link: &Link, mut writer: Box<dyn Write + Send>) {
    loop {
        match link.input.next() {
            Work::Close => return,
            Work::Show => shared.touch(),
            Work::Resize(size) => {
                {
                    let mut engine = shared.engine.lock();
                    caught(shared, &mut engine, |engine| engine.resize(size));
                }
                shared.touch();
                if let Some(Err(error)) = link.with_control(|control| control.resize(size)) {
                    tracing::debug!(%error, "the session did not take its size");
                }
            }
            Work::Write(bytes) => {
                if let Err(error) = writer.write_all(&bytes).and_then(|()| writer.flush()) {
                    // Its end will be seen by the reader, with a better reason.
                    tracing::debug!(%error, "input was not taken");
                    link.input.set_broken();
                }
            }
        }
    }
}
