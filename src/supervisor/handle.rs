//! What a UI holds of the supervisor.

use std::{ffi::OsString, sync::Arc};

use tokio::sync::{mpsc, oneshot, watch};

use super::ImageDesk;
use crate::{
    domain::{Admission, CommandBody, Fleet, Notice, Problem, VmId},
    session::{Session, Size},
};

/// A request with the place for its immediate answer.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub body: CommandBody,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Admission>,
}

/// Which stream of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsoleKind {
    /// The serial console, through the VM's monitor.
    Serial,
    /// A shell through the `ssh` program.
    Ssh,
}

/// How a run of a verb ends (see [`OpenSession::run`]) that did what it was to do.
pub const RUN_DONE: &str = "done";

/// Opens streams of VMs. Blocking: call it from a pane's thread.
pub trait OpenSession: Send + Sync {
    /// Opens a stream for a terminal of `size`.
    ///
    /// # Errors
    /// What the user is to be shown in the pane: the VM is off, its SSH is not ready, …
    fn open(&self, vm: &VmId, kind: ConsoleKind, size: Size) -> Result<Session, Problem>;

    /// Runs this very program with `arguments` in a terminal of `size`. If all went well the
    /// session ends with [`RUN_DONE`].
    ///
    /// # Errors
    /// If it cannot be run.
    fn run(&self, arguments: &[OsString], size: Size) -> Result<Session, Problem>;
}

/// The UI's end of the supervisor. Nothing here waits.
pub struct SupervisorHandle {
    /// Bounded; `try_send` only.
    pub commands: mpsc::Sender<Command>,
    /// The latest picture.
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// What happened.
    pub notices: mpsc::Receiver<Notice>,
    /// Opens consoles.
    pub sessions: Arc<dyn OpenSession>,
    /// Knows images closely, and keeps what the wizard writes.
    pub images: Arc<dyn ImageDesk>,
}

impl SupervisorHandle {
    /// Asks for something. The answer comes through the receiver.
    ///
    /// # Errors
    /// The body, if the supervisor has more to do than fits its queue, or is gone.
    pub fn try_send(&self, body: CommandBody) -> Result<oneshot::Receiver<Admission>, CommandBody> {
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send(Command { body, reply }) {
            Ok(()) => Ok(answer),
            Err(
                mpsc::error::TrySendError::Full(command)
                | mpsc::error::TrySendError::Closed(command),
            ) => Err(command.body),
        }
    }
}
