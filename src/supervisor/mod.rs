//! The supervisor: a pure core, and the async task that runs it.

mod handle;

pub use handle::{Command, ConsoleKind, OpenSession, SupervisorHandle};
