//! Layered configuration, key map, themes.
//!
//! A setting is the shipped default, unless `config.toml` has it, unless a variable of the
//! environment has it. Everything a user can get wrong is an error with file and line, what is
//! accepted, and the nearest name that exists; nothing unknown is passed over in silence.

mod doc;
pub mod keymap;
mod keys;
mod load;
mod sources;
pub mod theme;

use std::path::PathBuf;

pub use keys::{ENV_ONLY, KEYS, Key};
pub use load::{load, load_keymap, load_theme};
pub use sources::Sources;

use crate::domain::{ExtraKey, NamesSettings, NetworkKind, OverlayKind, VmmKind};
use keymap::Chord;

/// All settings, each with its value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the theme.
    pub theme: String,
    /// The runtime directory, if the user named one; absolute.
    pub runtime_dir: Option<PathBuf>,
    /// Whether it was named by the old alias, `repo_root`.
    pub by_repo_root: bool,
    /// The VMM that the user insists on; `None` takes the best that the host has.
    pub vmm: Option<VmmKind>,
    /// How new disks are to share their image's data; `None` takes the best that the host has.
    pub overlay: Option<OverlayKind>,
    /// How VMs are to reach the world; `None` takes the best that the host has.
    pub network: Option<NetworkKind>,
    /// Whether Firecracker runs in its jailer; `None`: if banger is root.
    pub jailer: Option<bool>,
    /// What new VMs are made like.
    pub new_vm: NewVm,
    /// Seconds a guest is given to shut down by itself.
    pub stop_timeout_s: u64,
    /// What takes the keyboard back from a terminal pane.
    pub escape_chord: Chord,
    /// Whether the mouse is ours; if not, it is the outer terminal's.
    pub mouse: bool,
    /// Whether a guest may write to the user's clipboard (OSC 52). None may ever read it.
    pub guest_clipboard: bool,
    /// Lines that a terminal pane remembers, 0 to 100 000.
    pub scrollback: u32,
    /// Public SSH keys that all VMs get beside the user's own.
    pub extra_keys: Vec<ExtraKey>,
    /// How VMs get their names.
    pub names: NamesSettings,
    /// What the user should know of how the settings were read, a sentence each: old names,
    /// variables that mean nothing.
    pub notices: Vec<String>,
}

/// What new VMs are made like, before the form is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVm {
    /// The base image; `None` takes the first there is.
    pub image: Option<String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB; `None` takes what the image wants.
    pub memory_mib: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            theme: "dark".to_owned(),
            runtime_dir: None,
            by_repo_root: false,
            vmm: None,
            overlay: None,
            network: None,
            jailer: None,
            new_vm: NewVm::default(),
            stop_timeout_s: 30,
            escape_chord: "ctrl-]".parse().expect("a test reads it"),
            mouse: true,
            guest_clipboard: false,
            scrollback: 10_000,
            extra_keys: Vec::new(),
            names: NamesSettings::default(),
            notices: Vec::new(),
        }
    }
}

impl Default for NewVm {
    fn default() -> Self {
        Self { image: None, vcpus: 1, memory_mib: None }
    }
}
