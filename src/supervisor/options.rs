//! What a supervisor is started with.

use std::path::PathBuf;

use crate::bundle::Configured;
use crate::domain::{ExtraKey, Layout, NamesSettings, NetworkKind, OverlayKind, VmmKind};

/// On whose behalf a supervisor works; shown in the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The TUI.
    Tui,
    /// A scripting verb.
    Script,
    /// `--restore`.
    Restore,
}

/// What a supervisor is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where everything of the user's lies. The directories exist.
    pub layout: Layout,
    /// The banger binary, for starting monitors.
    pub program: PathBuf,
    /// What the configuration says of the runtime directory.
    pub runtime_dir: Configured,
    /// The VMM that the user insists on.
    pub vmm: Option<VmmKind>,
    /// How new disks are to share their image's data, if the user insists.
    pub overlay: Option<OverlayKind>,
    /// How VMs are to reach the world, if the user insists.
    pub network: Option<NetworkKind>,
    /// Whether Firecracker is to run in its jailer; `None`: if we are root.
    pub jailer: Option<bool>,
    /// How VMs' names are made known.
    pub names: NamesSettings,
    /// Public SSH keys that all VMs get beside the user's own.
    pub extra_keys: Vec<ExtraKey>,
    /// Milliseconds a guest is given to shut down by itself.
    pub stop_timeout_ms: u64,
    /// Where the user's package manifests are: `<image>.txt`.
    pub packages: PathBuf,
    /// On whose behalf.
    pub origin: Origin,
}
