//! Does what the UI wants done outside of itself, without waiting for any of it.

use std::{io, sync::Arc};

use tokio::sync::{Notify, mpsc};

use super::{
    app::App,
    clerk::Clerk,
    effect::Effect,
    event::{Answer, Ticket, UiEvent},
};
use crate::{domain::CommandBody, supervisor::SupervisorHandle};

/// What is left for the owner of the terminal to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Put this on the clipboard.
    Copy(String),
    /// Draw everything again.
    Redraw,
    /// Stop until continued.
    Suspend,
    /// End.
    Quit,
}

/// The way out of the UI.
pub struct Outside {
    /// The supervisor.
    pub handle: SupervisorHandle,
    /// Poked when a pane has something to show.
    pub wake: Arc<Notify>,
    /// Where answers go.
    pub answers: mpsc::UnboundedSender<UiEvent>,
    clerk: Clerk,
}

impl Outside {
    /// The way out through this supervisor.
    ///
    /// # Errors
    /// If there is no thread to be had for errands.
    pub fn new(
        handle: SupervisorHandle,
        wake: Arc<Notify>,
        answers: mpsc::UnboundedSender<UiEvent>,
    ) -> io::Result<Self> {
        let clerk = Clerk::start(Arc::clone(&handle.images), answers.clone())?;
        Ok(Self { handle, wake, answers, clerk })
    }

    /// Does an effect. Must be called within a tokio runtime.
    pub fn run(&self, effect: Effect, app: &mut App) -> Left {
        match effect {
            Effect::Command(ticket, body) => self.command(ticket, body),
            Effect::Desk(ticket, errand) => self.clerk.send(ticket, errand),
            Effect::OpenPane(pane) => {
                let wake = Arc::clone(&self.wake);
                let sessions = Arc::clone(&self.handle.sessions);
                app.state.panes.connect(pane, sessions, move || wake.notify_one());
            }
            Effect::Copy(text) => return Left::Copy(text),
            Effect::Redraw => return Left::Redraw,
            Effect::Suspend => return Left::Suspend,
            Effect::Quit => return Left::Quit,
        }
        Left::Nothing
    }

    fn command(&self, ticket: Ticket, body: CommandBody) {
        let answers = self.answers.clone();
        match self.handle.try_send(body) {
            Ok(answer) => {
                tokio::spawn(async move {
                    let answer = answer.await.map_or(Answer::Gone, Answer::Admission);
                    // If nobody listens any more the UI has ended.
                    let _ = answers.send(UiEvent::Answer(ticket, answer));
                });
            }
            Err(_) => {
                let closed = self.handle.commands.is_closed();
                let answer = if closed { Answer::Gone } else { Answer::Busy };
                let _ = answers.send(UiEvent::Answer(ticket, answer));
            }
        }
    }
}
