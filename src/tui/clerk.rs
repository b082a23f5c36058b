//! A thread that reads and writes for the UI, which never waits for a disk.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    effect::Errand,
    event::{DeskAnswer, Ticket, UiEvent},
};
use crate::supervisor::ImageDesk;

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
            for (ticket, errand) in inbox {
                // Takes seconds, which nothing else waits for.
                if let Errand::Preview(_) = errand {
                    let (desk, answers) = (Arc::clone(&desk), answers.clone());
                    let work = move || {
                        let _ = answers.send(UiEvent::Desk(ticket, run(&*desk, errand)));
                    };
                    if let Err(error) = thread::Builder::new().name("preview".into()).spawn(work) {
                        tracing::warn!(%error, "no preview");
                    }
                    continue;
                }
                // If nobody listens any more it is done all the same.
                let _ = answers.send(UiEvent::Desk(ticket, run(&*desk, errand)));
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

fn run(desk: &dyn ImageDesk, errand: Errand) -> DeskAnswer {
    match errand {
        Errand::LoadDraft => DeskAnswer::Draft(desk.draft()),
        Errand::KeepDraft(text) => DeskAnswer::Kept(desk.keep_draft(text.as_deref())),
        Errand::Built(name) => DeskAnswer::Kept(desk.built(&name)),
        Errand::Facts(name) => DeskAnswer::Facts(desk.facts(&name)),
        Errand::Preview(recipe) => DeskAnswer::Preview(desk.preview(&recipe)),
        Errand::SaveRecipe(recipe) => DeskAnswer::Recipe(desk.save_recipe(&recipe)),
    }
}
