//! What the UI wants done outside of itself. The loop does it, without ever waiting.

use super::{event::Ticket, pane::PaneId};
use crate::domain::{CommandBody, Recipe};

/// A deed for the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the supervisor; the answer comes as [`super::event::UiEvent::Answer`].
    Command(Ticket, CommandBody),
    /// Open a stream into this pane, which the state has already and which knows what it shows.
    OpenPane(PaneId),
    /// Have something written or read; the answer comes as [`super::event::UiEvent::Desk`].
    Desk(Ticket, Errand),
    /// Put this on the clipboard of the outer terminal (OSC 52).
    Copy(String),
    /// Draw everything again, whatever is thought to be on the screen.
    Redraw,
    /// Give the terminal back and stop the process until it is continued.
    Suspend,
    /// End the UI.
    Quit,
}

/// Something to be written or read, by threads that may wait for a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Read the wizard's draft.
    LoadDraft,
    /// Keep this as the draft; nothing: throw it away. Those before are done before.
    KeepDraft(Option<String>),
    /// The image of this name is built from this draft: that, unless it is another by now, and the
    /// recipe's file go.
    Built(String, String),
    /// Look closely at the image of this name.
    Facts(String),
    /// Work out what building this would do, instead of what was asked before.
    Preview(Box<Recipe>),
    /// Nobody waits for that any more: what comes behind this is done when nothing of it runs.
    EndPreview,
    /// Write a recipe to a file.
    SaveRecipe(Box<Recipe>),
}
