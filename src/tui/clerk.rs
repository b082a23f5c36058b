//! A thread that reads and writes for the UI, which never waits for a disk.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    effect::Errand,
    event::{DeskAnswer, Ticket, UiEvent},
};
use crate::{domain::Recipe, supervisor::ImageDesk};

/// How long the last errands are waited for at the end: a draft is written in milliseconds, and a
/// disk that hangs must not keep the terminal.
const LAST_ERRANDS: Duration = Duration::from_secs(1);

/// Does errands, one after the other.
pub struct Clerk {
    errands: Option<mpsc::Sender<(Ticket, Errand)>>,
    ended: mpsc::Receiver<()>,
}

impl Clerk {
    /// Starts the thread. Answers go to `answers`.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(desk: Arc<dyn ImageDesk>, answers: UnboundedSender<UiEvent>) -> io::Result<Self> {
        let (errands, inbox) = mpsc::channel::<(Ticket, Errand)>();
        let (end, ended) = mpsc::channel();
        let work = move || {
            // Dropped at the end, however that comes.
            let _end: mpsc::Sender<()> = end;
            let mut work = Work { desk, answers, looking: None };
            for (ticket, errand) in inbox {
                work.run(ticket, errand);
            }
        };
        thread::Builder::new().name("clerk".to_owned()).spawn(work)?;
        Ok(Self { errands: Some(errands), ended })
    }

    /// Has an errand done.
    pub fn send(&self, ticket: Ticket, errand: Errand) {
        if let Some(errands) = &self.errands {
            // The thread ends after this only.
            let _ = errands.send((ticket, errand));
        }
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        drop(self.errands.take());
        let _ = self.ended.recv_timeout(LAST_ERRANDS);
    }
}

/// What the thread works with.
struct Work {
    desk: Arc<dyn ImageDesk>,
    answers: UnboundedSender<UiEvent>,
    /// The preview that was asked for last.
    looking: Option<Looking>,
}

impl Work {
    fn run(&mut self, ticket: Ticket, errand: Errand) {
        let desk = &*self.desk;
        let answer = match errand {
            Errand::LoadDraft => DeskAnswer::Draft(desk.draft()),
            Errand::KeepDraft(text) => DeskAnswer::Kept(desk.keep_draft(text.as_deref())),
            Errand::Built(name, draft) => DeskAnswer::Kept(desk.built(&name, &draft)),
            Errand::Facts(name) => DeskAnswer::Facts(desk.facts(&name)),
            Errand::SaveRecipe(recipe) => DeskAnswer::Recipe(desk.save_recipe(&recipe)),
            // Takes seconds, which nothing else waits for.
            Errand::Preview(recipe) => return self.look(ticket, recipe),
            Errand::EndPreview => return self.looking = None,
        };
        // If nobody listens any more it is done all the same.
        let _ = self.answers.send(UiEvent::Desk(ticket, answer));
    }

    /// Has a preview worked out, in place of the one before: of two at once each would wait for the
    /// other's locks.
    fn look(&mut self, ticket: Ticket, recipe: Box<Recipe>) {
        let before = self.looking.take();
        if let Some(before) = &before {
            before.ended.store(true, Ordering::Relaxed);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (desk, answers) = (Arc::clone(&self.desk), self.answers.clone());
        let flag = Arc::clone(&ended);
        let work = move || {
            drop(before);
            let answer = DeskAnswer::Preview(desk.preview(&recipe, &flag));
            let _ = answers.send(UiEvent::Desk(ticket, answer));
        };
        match thread::Builder::new().name("preview".into()).spawn(work) {
            Ok(thread) => self.looking = Some(Looking { ended, thread: Some(thread) }),
            Err(error) => tracing::warn!(%error, "no preview"),
        }
    }
}

/// A preview that is being worked out. Dropped, it is ended and waited for.
struct Looking {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it panicked it is over as well.
            let _ = thread.join();
        }
    }
}
