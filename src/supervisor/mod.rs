//! The supervisor: a pure core, and the async task that runs it.

pub mod admit;
mod asked;
pub mod audit;
pub mod checkup;
pub mod core;
mod desk;
mod driver;
pub mod extras;
mod handle;
mod options;
pub mod renumber;
mod sessions;
mod ssh_key;

pub use desk::{ImageDesk, read_packages};
pub use driver::{SupervisorGuard, look::catalog, start};
pub use handle::{Command, ConsoleKind, OpenSession, RUN_DONE, SupervisorHandle};
pub use options::{Options, Origin};
