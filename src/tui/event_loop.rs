//! The loop: events in, frames out, at most one every 16 ms and only if something changed.
//!
//! It waits for nothing but the next event: keys come from a thread, frames go to one, answers
//! and pictures come through channels.

use std::{future::pending, io::Write, sync::Arc, time::Duration};

use ratatui::{
    Terminal,
    crossterm::{
        QueueableCommand,
        terminal::{BeginSynchronizedUpdate, EndSynchronizedUpdate},
    },
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{
    app::App,
    event::UiEvent,
    input::Input,
    outer::Outer,
    outside::{Left, Outside},
    state::Now,
    writer::{FrameBuffer, Writer},
};
use crate::{domain::Notice, supervisor::SupervisorHandle};

/// The least time between two frames: 60 a second.
const FRAME: Duration = Duration::from_millis(16);
/// The same for a frame that answers a key.
const URGENT: Duration = Duration::from_millis(4);
/// How many events are taken before a frame is considered.
const BUDGET: usize = 256;
/// How long events are taken before a frame is considered.
const TURN: Duration = Duration::from_millis(4);
/// A turn that takes longer is reported.
const SLOW: Duration = Duration::from_millis(50);
/// The longest text put on the clipboard; the terminals that take more are few.
const COPY_MAX: usize = 1 << 20;

/// Tells the time.
pub type Clock = Box<dyn Fn() -> Now + Send>;

/// Why the loop came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user, or a signal, ended it.
    Quit,
    /// The process is to be stopped; then the loop goes on.
    Suspend,
    /// The outer terminal is gone.
    TerminalGone,
}

/// The loop and what it holds.
pub struct EventLoop {
    /// The UI.
    pub app: App,
    outside: Outside,
    answers: mpsc::UnboundedReceiver<UiEvent>,
    input: mpsc::Receiver<UiEvent>,
    terminal: Terminal<Outer>,
    buffer: FrameBuffer,
    /// The thread that writes to the outer terminal.
    pub writer: Writer,
    wake: Arc<Notify>,
    /// Poked when the outer terminal has taken a frame.
    idle: Arc<Notify>,
    clock: Clock,
    dirty: bool,
    urgent: bool,
    last: Option<Duration>,
    gone: bool,
    notices_end: bool,
}

/// What woke the loop.
enum Woken {
    Event(UiEvent),
    Frame,
    Fleet(bool),
    Notice(Option<Notice>),
}

impl EventLoop {
    /// Puts it together. `sink` is the outer terminal; `input` brings keys, pastes, mouse, sizes
    /// and signals.
    ///
    /// # Errors
    /// If there is no thread to be had for writing.
    pub fn new(
        app: App,
        handle: SupervisorHandle,
        input: mpsc::Receiver<UiEvent>,
        sink: impl Write + Send + 'static,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let wake = Arc::new(Notify::new());
        let (answers_in, answers) = mpsc::unbounded_channel();
        let idle = Arc::new(Notify::new());
        let poke = Arc::clone(&idle);
        let writer = Writer::start(sink, move || poke.notify_one())?;
        let buffer = FrameBuffer::default();
        let (columns, rows) = app.state.size;
        let terminal = Terminal::new(Outer::new(buffer.clone(), columns, rows))?;
        let outside = Outside::new(handle, Arc::clone(&wake), answers_in)?;
        Ok(Self {
            app,
            outside,
            answers,
            input,
            terminal,
            buffer,
            writer,
            wake,
            idle,
            clock,
            dirty: true,
            urgent: true,
            last: None,
            gone: false,
            notices_end: false,
        })
    }

    /// Runs until something stops it. May be called again after [`Stop::Suspend`].
    pub async fn run(&mut self) -> Stop {
        let fleet = Arc::clone(&self.outside.handle.fleet.borrow_and_update());
        if let Some(stop) = self.take(UiEvent::Fleet(fleet)) {
            return stop;
        }
        loop {
            self.draw_if_due();
            if self.writer.failure().is_some() {
                return Stop::TerminalGone;
            }
            let woken = self.next().await;
            let begun = (self.clock)().mono;
            if let Some(stop) = self.turn(woken, begun) {
                return stop;
            }
            let took = (self.clock)().mono.saturating_sub(begun);
            if took > SLOW {
                tracing::warn!(?took, "slow turn");
            }
        }
    }

    /// The next thing that happens.
    async fn next(&mut self) -> Woken {
        let now = (self.clock)().mono;
        let frame_in = self.frame_in(now);
        let tick_in = self.app.deadline().map(|at| at.saturating_sub(now));
        let (gone, end) = (self.gone, self.notices_end);
        tokio::select! {
            biased;
            Some(event) = self.input.recv() => Woken::Event(event),
            () = sleep(frame_in.unwrap_or_default()), if frame_in.is_some() => Woken::Frame,
            Some(event) = self.answers.recv() => Woken::Event(event),
            notice = self.outside.handle.notices.recv(), if !end => Woken::Notice(notice),
            changed = self.outside.handle.fleet.changed(), if !gone => Woken::Fleet(changed.is_ok()),
            () = self.wake.notified() => Woken::Event(UiEvent::PaneDirty),
            () = self.idle.notified() => Woken::Frame,
            () = sleep(tick_in.unwrap_or_default()), if tick_in.is_some() => {
                Woken::Event(UiEvent::Tick)
            }
            () = pending() => Woken::Frame,
        }
    }

    /// How long until a frame may be drawn, if one is to be: not while the last one is still
    /// being written.
    fn frame_in(&self, now: Duration) -> Option<Duration> {
        if !self.dirty || !self.writer.is_idle() {
            return None;
        }
        let gap = if self.urgent { URGENT } else { FRAME };
        Some(self.last.map_or(Duration::ZERO, |last| (last + gap).saturating_sub(now)))
    }

    /// Takes in what happened and what else is waiting, as far as the budget goes.
    fn turn(&mut self, woken: Woken, begun: Duration) -> Option<Stop> {
        let mut next = match woken {
            Woken::Frame => None,
            Woken::Event(event) => Some(event),
            Woken::Fleet(true) => {
                let fleet = Arc::clone(&self.outside.handle.fleet.borrow_and_update());
                Some(UiEvent::Fleet(fleet))
            }
            Woken::Fleet(false) => {
                self.gone = true;
                Some(UiEvent::SupervisorGone)
            }
            Woken::Notice(Some(notice)) => Some(UiEvent::Notice(notice)),
            Woken::Notice(None) => {
                self.notices_end = true;
                None
            }
        };
        let mut budget = BUDGET;
        while let Some(event) = next {
            if let Some(stop) = self.take(event) {
                return Some(stop);
            }
            budget -= 1;
            if budget == 0 || (self.clock)().mono.saturating_sub(begun) > TURN {
                break;
            }
            next = self.input.try_recv().or_else(|_| self.answers.try_recv()).ok();
        }
        None
    }

    /// Takes one event in and does what comes of it.
    fn take(&mut self, event: UiEvent) -> Option<Stop> {
        if let UiEvent::Resize(columns, rows) = event {
            self.terminal.backend_mut().resize(columns, rows);
        }
        let update = self.app.update(event, (self.clock)());
        self.dirty |= update.redraw;
        self.urgent |= update.urgent;
        let mut stop = None;
        for effect in update.effects {
            match self.outside.run(effect, &mut self.app) {
                Left::Nothing => self.dirty = true,
                Left::Copy(text) => self.copy(&text),
                Left::Redraw => self.redraw(),
                Left::Suspend => stop = Some(Stop::Suspend),
                Left::Quit => return Some(Stop::Quit),
            }
        }
        stop
    }

    /// Takes no more input, and ends the thread that reads it.
    pub fn stop_input(&mut self, keys: Input) {
        self.input.close();
        keys.stop();
    }

    /// Forgets what is on the screen: the next frame draws all of it.
    pub fn redraw(&mut self) {
        if let Err(error) = self.terminal.clear() {
            tracing::warn!(%error, "the screen was not cleared");
        }
        self.dirty = true;
        self.urgent = true;
    }

    /// Puts a text on the clipboard of the outer terminal with the next frame (OSC 52).
    fn copy(&mut self, text: &str) {
        use base64::Engine as _;
        if text.len() <= COPY_MAX {
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            // A buffer takes everything.
            let _ = write!(self.buffer, "\x1b]52;c;{text}\x07");
            self.dirty = true;
        }
    }

    fn draw_if_due(&mut self) {
        let now = (self.clock)().mono;
        if self.frame_in(now) != Some(Duration::ZERO) {
            return;
        }
        self.app.state.now = (self.clock)();
        let _ = self.buffer.queue(BeginSynchronizedUpdate);
        let mut drawn = None;
        let app = &self.app;
        if let Err(error) = self.terminal.draw(|frame| drawn = Some(app.draw(frame))) {
            tracing::warn!(%error, "a frame was not drawn");
        }
        if let Some(drawn) = drawn {
            self.app.drawn(drawn);
        }
        let _ = self.buffer.queue(EndSynchronizedUpdate);
        self.writer.ship(self.buffer.take());
        self.last = Some(now);
        (self.dirty, self.urgent) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering},
            mpsc as std_mpsc,
        },
    };

    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use tokio::sync::watch;

    use super::*;
    use crate::{
        config::{keymap::Overrides, theme::Theme},
        domain::{Fleet, Problem, UnixMs, VmId},
        supervisor::{ConsoleKind, OpenSession},
        term::{Session, Size},
        tui::{keymap::KeyMap, state::State},
    };

    struct NoSessions;

    impl OpenSession for NoSessions {
        fn open(&self, _: &VmId, _: ConsoleKind, _: Size) -> Result<Session, Problem> {
            Err(Problem::new("no", "none", ""))
        }

        fn run(&self, _: &[std::ffi::OsString], _: Size) -> Result<Session, Problem> {
            Err(Problem::new("no", "none", ""))
        }
    }

    /// A terminal that says what it got, and takes the next only when told to.
    struct Slow(std_mpsc::Receiver<()>, Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.lock().unwrap().push(bytes.to_vec());
            self.0.recv().map_err(|_| io::Error::other("gone"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Rig {
        ui: EventLoop,
        input: mpsc::Sender<UiEvent>,
        fleet: watch::Sender<Arc<Fleet>>,
        frames: Arc<Mutex<Vec<Vec<u8>>>>,
        go_on: std_mpsc::Sender<()>,
    }

    /// The loop with a clock that is 20 ms on each time it is looked at.
    fn rig() -> Rig {
        let (commands, _) = mpsc::channel(1);
        let (fleet, fleet_out) = watch::channel(Arc::default());
        let (_, notices) = mpsc::channel(1);
        let handle = SupervisorHandle {
            commands,
            fleet: fleet_out,
            notices,
            sessions: Arc::new(NoSessions),
            images: Arc::new(crate::tui::harness::FakeDesk::default()),
        };
        let keys = KeyMap::new(&Overrides::default()).unwrap();
        let state = State::new(Theme::default(), keys, (80, 24), Now::default());
        let (input, events) = mpsc::channel(1024);
        let (go_on, wait) = std_mpsc::channel();
        let frames = Arc::new(Mutex::new(Vec::new()));
        let looked = AtomicU64::new(0);
        let clock = Box::new(move || {
            let ms = looked.fetch_add(20, Ordering::SeqCst);
            Now { mono: Duration::from_millis(ms), wall: UnixMs(ms) }
        });
        let sink = Slow(wait, Arc::clone(&frames));
        let ui = EventLoop::new(App::new(state), handle, events, sink, clock).unwrap();
        Rig { ui, input, fleet, frames, go_on }
    }

    fn key(c: char) -> UiEvent {
        UiEvent::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE))
    }

    #[tokio::test]
    async fn a_frozen_terminal_stops_nothing() {
        let mut rig = rig();
        let play = async {
            for n in 0..2_000_u64 {
                rig.input.send(key('?')).await.unwrap();
                rig.input.send(UiEvent::Resize(80, 24 + (n % 2) as u16)).await.unwrap();
                rig.fleet.send_replace(Arc::new(Fleet { generation: n, ..Fleet::default() }));
                let esc = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
                rig.input.send(UiEvent::Key(esc)).await.unwrap();
            }
            let redraw = KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL);
            rig.input.send(UiEvent::Key(redraw)).await.unwrap();
            rig.input.send(key('q')).await.unwrap();
        };
        let (stop, ()) = tokio::join!(rig.ui.run(), play);
        assert_eq!(stop, Stop::Quit);
        let frames = rig.frames.lock().unwrap();
        assert!(frames.len() <= 1, "{} frames for a terminal that took none", frames.len());
        drop(frames);
        drop(rig.go_on);
    }

    #[tokio::test]
    async fn a_frame_is_whole_and_only_changes_make_one() {
        let mut rig = rig();
        for _ in 0..100 {
            rig.go_on.send(()).unwrap();
        }
        let frames = Arc::clone(&rig.frames);
        let play = async {
            while frames.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            rig.input.send(key('q')).await.unwrap();
        };
        let (stop, ()) = tokio::join!(rig.ui.run(), play);
        assert_eq!(stop, Stop::Quit);
        let frames = frames.lock().unwrap();
        let first = String::from_utf8_lossy(&frames[0]).into_owned();
        assert!(first.starts_with("\x1b[?2026h") && first.ends_with("\x1b[?2026l"), "{first:?}");
        assert!(first.contains("banger"), "{first:?}");
        // Nothing changed but the clock; the second hand does not move while nothing runs.
        assert!(frames.len() <= 3, "{}", frames.len());
    }

    #[tokio::test]
    async fn a_terminal_that_is_gone_ends_it() {
        let Rig { mut ui, go_on, input: _input, fleet: _fleet, .. } = rig();
        drop(go_on);
        assert_eq!(ui.run().await, Stop::TerminalGone);
    }
}
