//! The open consoles.

use super::action::Action;
use crate::{domain::VmId, supervisor::ConsoleKind};

/// Identifies a pane for as long as the UI runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaneId(pub u64);

/// An open console.
pub struct Entry {
    /// Its id.
    pub id: PaneId,
    /// Whose it is.
    pub vm: VmId,
    /// Which stream of the VM.
    pub kind: ConsoleKind,
}

/// The open consoles, in the order of their tabs.
#[derive(Default)]
pub struct Panes {
    /// All of them.
    pub list: Vec<Entry>,
}

impl Panes {
    /// Why an action on panes is not possible now.
    #[must_use]
    pub fn reason(&self, _action: Action) -> Option<String> {
        self.list.is_empty().then(|| "no pane is open".to_owned())
    }
}
