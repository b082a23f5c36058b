//! What the UI wants done outside of itself. The loop does it, without ever waiting.

use super::{event::Ticket, pane::PaneId};
use crate::{
    domain::{CommandBody, VmId},
    supervisor::ConsoleKind,
};

/// A deed for the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the supervisor; the answer comes as [`super::event::UiEvent::Answer`].
    Command(Ticket, CommandBody),
    /// Open a stream into this pane, which the state has already.
    OpenPane {
        /// The pane.
        pane: PaneId,
        /// The VM.
        vm: VmId,
        /// Which of its streams.
        kind: ConsoleKind,
    },
    /// Put this on the clipboard of the outer terminal (OSC 52).
    Copy(String),
    /// Draw everything again, whatever is thought to be on the screen.
    Redraw,
    /// Give the terminal back and stop the process until it is continued.
    Suspend,
    /// End the UI.
    Quit,
}
