//! What a VM is doing, and what the user wants it to do.

use serde::{Deserialize, Serialize};

/// What the user wants. Stored; survives everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It is to run, and to come back after a reboot of the host.
    Running,
    /// It is to be off.
    Stopped,
}

/// What a VM is doing, as observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its disk is being made.
    Creating,
    /// Off.
    Stopped,
    /// Its monitor prepares host resources and the VMM.
    Starting,
    /// The guest boots; no readiness marker yet.
    Booting,
    /// The guest said it is ready (SSH listens).
    Running,
    /// Its CPUs stand still.
    Paused,
    /// On the way down.
    Stopping,
    /// Off, although it was not asked to stop: see the last exit.
    Crashed,
    /// Its disk and records are being removed.
    Deleting,
}

impl Phase {
    /// The word shown beside the glyph.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Deleting => "deleting",
        }
    }

    /// Whether a monitor holds the VM's lock in this phase.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Booting | Self::Running | Self::Paused | Self::Stopping
        )
    }
}
