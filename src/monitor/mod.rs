//! The hidden process that owns one running VM: `banger monitor`.
//!
//! It holds the VM's lock, and with it the truth about "running". It makes what the VM needs on
//! the host, each thing written to the ledger first; runs the VMM; drains the serial console
//! into a log and a ring that clients replay; climbs the stop ladder when asked; and clears up
//! at the end, whatever the reason, with or without a UI. If it is killed, the ledger is left:
//! whoever comes next takes the lock and calls [`clear`].
//!
//! ```text
//!  start ──► lock, clear leftovers, socket ──► reply on stdout ──► launch ──► attend ──► clear ──► exit
//!                                                                    ▲          │ guest reboot
//!                                                                    └──────────┘
//! ```

mod backend;
mod clear;
pub mod client;
mod clock;
mod console;
mod elsewhere;
mod frames;
mod ground;
mod log;
mod machine;
mod naming;
mod network;
mod noted;
mod order;
mod overlay;
mod plan;
mod ring;
mod room;
mod run;
mod seed;
mod server;
mod shared;
mod stage;
mod unheard;

pub use clear::{VmmDetail, clear};
pub use elsewhere::{elsewhere, in_force};
pub use ground::Ground;
pub use log::BoundedLog;
pub use network::{Renumbered, renumber};
pub use run::{MonitorArgs, main};
pub use shared::{has_unused, release};
