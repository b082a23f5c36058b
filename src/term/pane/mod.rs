//! A pane: a session, an emulator, and the threads between them.
//!
//! The *reader* thread opens the session, reads it and feeds the emulator; the *writer* thread
//! sends input and applies sizes. The UI calls the methods of [`Pane`], none of which waits for
//! the session; what they wait for is the emulator's lock, which no thread keeps longer than a
//! few milliseconds. When a pane is dropped its threads end by themselves.

mod fair;
mod input;
mod run;
#[cfg(test)]
mod tests;

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

pub use input::{INPUT_MAX, NotSent};
pub use run::panic_is_caught;

use self::{fair::FairMutex, run::Run};
use super::{Engine, EngineEvent, Options};
use crate::session::{Problem, Session, Size};

/// How far a pane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaneState {
    /// The session is being opened.
    Opening,
    /// It is open.
    Live,
    /// It could not be opened.
    Failed(Problem),
    /// It has ended, for this reason.
    Ended(String),
}

/// What happened since the UI last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The guest rang.
    pub bell: bool,
    /// To be put into the user's clipboard.
    pub clipboard: Option<String>,
    /// The guest wanted to write to the clipboard and may not.
    pub clipboard_denied: bool,
}

struct Status {
    state: PaneState,
    title: String,
    news: News,
    size: Size,
    /// Counts the sessions.
    epoch: u64,
}

/// What the threads and the UI share.
struct Shared {
    engine: FairMutex<Engine>,
    options: Options,
    status: Mutex<Status>,
    /// The screen has changed since the UI last drew it.
    dirty: AtomicBool,
    /// State, title or news have changed since the UI last asked.
    noticed: AtomicBool,
    visible: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The screen has changed: wakes the UI once until it has drawn, and only if it shows it.
    fn touch(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) && self.visible.load(Ordering::Acquire) {
            (self.wake)();
        }
    }

    /// Something beside the screen has changed: wakes the UI once until it has asked.
    fn notice(&self) {
        if !self.noticed.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// Takes the emulator's events but the replies, which it returns.
    fn take(&self, events: Vec<EngineEvent>) -> Vec<u8> {
        let mut replies = Vec::new();
        for event in events {
            {
                let mut status = self.status();
                match event {
                    EngineEvent::Reply(bytes) => {
                        replies.extend(bytes);
                        continue;
                    }
                    EngineEvent::Title(title) if status.title == title => continue,
                    EngineEvent::Title(title) => status.title = title,
                    EngineEvent::Bell => status.news.bell = true,
                    EngineEvent::Clipboard(text) => status.news.clipboard = Some(text),
                    EngineEvent::ClipboardDenied => status.news.clipboard_denied = true,
                }
            }
            self.notice();
        }
        replies
    }
}

/// A terminal pane. See the [module](self).
pub struct Pane {
    shared: Arc<Shared>,
    run: Run,
}

impl Pane {
    /// Makes a pane and begins to open its session, in a thread: `open` may block. `wake` is
    /// called from threads of the pane when the UI should look at it (see
    /// [`Pane::take_dirty`], [`Pane::take_noticed`]); it must not block. A pane begins visible.
    pub fn spawn(
        open: impl FnOnce(Size) -> Result<Session, Problem> + Send + 'static,
        size: Size,
        options: Options,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let engine = Engine::new(size, options);
        let size = engine.size();
        let shared = Arc::new(Shared {
            engine: FairMutex::new(engine),
            options,
            status: Mutex::new(Status {
                state: PaneState::Opening,
                title: String::new(),
                news: News::default(),
                size,
                epoch: 0,
            }),
            dirty: AtomicBool::new(true),
            noticed: AtomicBool::new(false),
            visible: AtomicBool::new(true),
            wake: Box::new(wake),
        });
        let run = Run::start(&shared, open);
        Self { shared, run }
    }

    /// Ends the session, if there is one, and opens another one in its place. What is on the
    /// screen and in the scrollback stays, with a line `marker` below it.
    pub fn restart(
        &mut self,
        marker: &str,
        open: impl FnOnce(Size) -> Result<Session, Problem> + Send + 'static,
    ) {
        self.run.close();
        {
            let mut status = self.shared.status();
            status.epoch += 1;
            status.state = PaneState::Opening;
            status.title = String::new();
        }
        self.with_engine(|engine| engine.mark(marker));
        self.run = Run::start(&self.shared, open);
        self.shared.touch();
        self.shared.notice();
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> PaneState {
        self.shared.status().state.clone()
    }

    /// The guest's title; empty for none. Sanitised.
    #[must_use]
    pub fn title(&self) -> String {
        self.shared.status().title.clone()
    }

    /// What happened since the last call.
    #[must_use]
    pub fn take_news(&self) -> News {
        mem::take(&mut self.shared.status().news)
    }

    /// Whether the screen has changed since the last call. Call it before drawing: what comes
    /// while it is drawn wakes the UI again.
    #[must_use]
    pub fn take_dirty(&self) -> bool {
        self.shared.dirty.swap(false, Ordering::AcqRel)
    }

    /// Whether state, title or news have changed since the last call. Call it before asking
    /// for them.
    #[must_use]
    pub fn take_noticed(&self) -> bool {
        self.shared.noticed.swap(false, Ordering::AcqRel)
    }

    /// Whether the pane is on the screen. A hidden one goes on reading, but changes of its
    /// screen wake nobody.
    pub fn set_visible(&self, visible: bool) {
        self.shared.visible.store(visible, Ordering::Release);
    }

    /// The emulator, for drawing, scrolling, selecting and searching. Do not keep it long: the
    /// session is not read meanwhile. It calls [`Engine::feed`] itself; nobody else should.
    pub fn with_engine<R>(&self, use_it: impl FnOnce(&mut Engine) -> R) -> R {
        use_it(&mut self.shared.engine.lock())
    }

    /// Sends input (see [`super::encode`]) in order, all of it or nothing. Does not wait.
    ///
    /// # Errors
    /// [`NotSent`]: to be shown to the user, as nothing of it will arrive.
    pub fn send(&self, bytes: &[u8]) -> Result<(), NotSent> {
        match self.shared.status().state {
            PaneState::Opening | PaneState::Live => {}
            PaneState::Failed(_) | PaneState::Ended(_) => return Err(NotSent::NotOpen),
        }
        self.run.input().send(bytes)
    }

    /// Bytes of input that the session has not taken yet: a large paste on its way.
    #[must_use]
    pub fn input_waiting(&self) -> usize {
        self.run.input().len()
    }

    /// While the session is not ready for input: the last bytes of what is kept for it, `most`
    /// at most.
    #[must_use]
    pub fn kept(&self, most: usize) -> Option<Vec<u8>> {
        self.run.input().held(most)
    }

    /// Forgets the input that the session has not taken yet, and says how many bytes it was.
    pub fn discard_input(&self) -> usize {
        self.run.input().discard()
    }

    /// Changes the size: of the emulator first, then of the session, in the writer thread; of
    /// several that come fast only the last. At least 2 x 1 is taken.
    pub fn resize(&self, size: Size) {
        let size = Size { cols: size.cols.max(2), rows: size.rows.max(1) };
        let live = {
            let mut status = self.shared.status();
            if status.size == size {
                return;
            }
            status.size = size;
            status.state == PaneState::Live
        };
        if !live {
            // There is no writer thread, and nothing that floods the emulator.
            self.with_engine(|engine| engine.resize(size));
            self.shared.touch();
        }
        self.run.input().resize(size);
    }

    /// Ends the session. What is on the screen stays. Does not wait.
    pub fn close(&self) {
        self.run.close();
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.run.close();
    }
}
