//! A Firecracker with a machine in it.

use std::{future::pending, path::PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    api::Client,
    body::{Action, BalloonStatistics, VmState},
    exit,
    pipes::{Pipe, failures},
    room::remove_file,
};
use crate::vmm::{BoxFuture, GuestMemory, Machine, MachineEvent, Told, VmmError, process::Process};

/// One Firecracker process. Dropping it kills it.
pub(super) struct Running {
    process: Process,
    client: Client,
    log: Pipe,
    metrics: Pipe,
    /// Whether we told it to end.
    asked: bool,
    /// Whether its end has been reported.
    exited: bool,
    _files: Files,
}

impl Running {
    pub(super) fn new(
        process: Process,
        client: Client,
        log: Pipe,
        metrics: Pipe,
        files: Files,
    ) -> Self {
        Self { process, client, log, metrics, asked: false, exited: false, _files: files }
    }

    async fn tell(&mut self, order: Told, what: &str) -> Result<(), VmmError> {
        let Some((method, path, body)) = request(order) else { return Err(VmmError::Unsupported) };
        let told = match method {
            "PUT" => self.client.put(path, &body).await,
            _ => self.client.patch(path, &body).await,
        };
        told.map_err(|failure| failure.of(what))
    }
}

/// An order as a request: its method, path and body. Nothing if there is no such request.
pub(super) fn request(order: Told) -> Option<(&'static str, &'static str, Value)> {
    let state = |state| ("PATCH", "/vm", json!(VmState { state }));
    match order {
        // Only an x86 machine has the keyboard that it is typed on.
        Told::PowerButton if cfg!(target_arch = "x86_64") => {
            Some(("PUT", "/actions", json!(Action { action_type: "SendCtrlAltDel" })))
        }
        Told::Pause => Some(state("Paused")),
        Told::Resume => Some(state("Resumed")),
        // Its API has no end.
        Told::PowerButton | Told::Quit | Told::Terminate | Told::Kill => None,
    }
}

impl Machine for Running {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn next_event(&mut self) -> BoxFuture<'_, MachineEvent> {
        Box::pin(async {
            if self.exited {
                pending::<()>().await;
            }
            let ended = self.process.ended().await;
            // Its last words may still be on their way.
            self.log.finish().await;
            self.metrics.finish().await;
            self.exited = true;
            let failures = failures(&self.metrics.tail());
            MachineEvent::Exited(exit::combine(&ended, self.asked, &self.log.tail(), &failures))
        })
    }

    fn power_button(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::PowerButton, "Ctrl-Alt-Del"))
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::Pause, "Paused"))
    }

    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::Resume, "Resumed"))
    }

    fn memory(&mut self) -> BoxFuture<'_, Result<GuestMemory, VmmError>> {
        Box::pin(async {
            let said = self.client.get::<BalloonStatistics>("/balloon/statistics").await;
            let said = said.map_err(|failure| failure.of("the balloon's statistics"))?;
            Ok(GuestMemory {
                ballooned: said.actual_mib << 20,
                total: said.total_memory,
                free: said.free_memory,
                available: said.available_memory,
            })
        })
    }

    fn quit(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(self.tell(Told::Quit, "the end"))
    }

    fn signal(&mut self, kill: bool) -> Result<(), VmmError> {
        self.asked = true;
        let signal = if kill { Signal::SIGKILL } else { Signal::SIGTERM };
        let sent = self.process.signal(signal);
        sent.map_err(|error| VmmError::Refused {
            command: signal.to_string(),
            message: error.to_string(),
        })
    }
}

/// Files that go with the machine, as it leaves them.
#[derive(Debug)]
pub(super) struct Files([PathBuf; 2]);

impl Files {
    pub(super) const fn new(files: [PathBuf; 2]) -> Self {
        Self(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in &self.0 {
            // One that stays is removed by the next start.
            let _ = remove_file(file);
        }
    }
}
