//! The supervisor: a pure core, and the async task that runs it.

pub mod admit;
pub mod core;
mod handle;
mod options;

pub use handle::{Command, ConsoleKind, OpenSession, SupervisorHandle};
pub use options::{Options, Origin};
