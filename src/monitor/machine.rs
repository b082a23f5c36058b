//! The VM's life under its monitor: launch, boot, reboot, stop.

use std::{os::fd::OwnedFd, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::clock::Clock;
use crate::{
    domain::{
        BootMark, BootTimes, ExitReason, Method, MonitorPhase, MonitorStatus, SshEndpoint,
        StopLadder,
    },
    guest::markers::Marker,
    host::memory,
    vmm::{Backend, Machine, MachineEvent, MachineExit, MachineSpec, VmmError, ladder},
};

/// Tries to find a free port before giving up. A port is lost to another process only between
/// choosing and using it, a few milliseconds.
const PORT_TRIES: u32 = 5;

/// How long the console is quiet before a guest that is gone has said all.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a guest said of itself in one boot.
#[derive(Debug, Default)]
struct Guest {
    /// Its own init runs.
    entered: bool,
    panicked: bool,
    /// Our init could not go on, for this reason.
    halted: Option<String>,
}

/// What a launch needs of the host. Asked again for each try and for each reboot.
pub trait Stage: Send {
    /// Notes what is about to be made, and says what to launch and where SSH will answer.
    ///
    /// # Errors
    /// Why the VM cannot start, in one line.
    fn set(&mut self) -> Result<(MachineSpec, SshEndpoint), String>;

    /// Notes who the VMM is, now that it runs.
    fn launched(&mut self, pid: u32);
}

/// A VM under its monitor.
pub struct Life<'a> {
    /// What runs it.
    pub backend: &'a dyn Backend,
    /// The guest's end of the console, kept open so that a reboot finds it.
    pub console: OwnedFd,
    /// What the guest's console says of it.
    pub markers: mpsc::Receiver<Marker>,
    /// Ladders to climb.
    pub stops: mpsc::Receiver<StopLadder>,
    /// What everyone may know.
    pub status: &'a watch::Sender<MonitorStatus>,
    /// The time.
    pub clock: Clock,
}

impl Life<'_> {
    /// Runs the VM until it is off for good, and says why it is.
    pub async fn run(&mut self, stage: &mut dyn Stage) -> ExitReason {
        loop {
            let mut machine = match self.launch(stage).await {
                Ok(machine) => machine,
                Err(why) => return ExitReason::StartFailed { why },
            };
            if let Some(reason) = self.attend(machine.as_mut()).await {
                return reason;
            }
            tracing::info!("the guest asked for a reboot");
        }
    }

    async fn launch(&mut self, stage: &mut dyn Stage) -> Result<Box<dyn Machine>, String> {
        let mut tries = 0;
        loop {
            let (spec, ssh) = stage.set()?;
            self.status.send_modify(|s| {
                s.ssh = Some(ssh);
                s.vmm_pid = None;
                s.boot = BootTimes::default();
            });
            self.enter(MonitorPhase::Preparing);
            let console = self.console.try_clone().map_err(|e| format!("the console: {e}"))?;
            match self.backend.launch(&spec, console).await {
                Ok(machine) => {
                    stage.launched(machine.pid());
                    self.status.send_modify(|s| s.vmm_pid = Some(machine.pid()));
                    self.enter(MonitorPhase::Booting);
                    self.mark(BootMark::Vmm);
                    return Ok(machine);
                }
                Err(VmmError::PortTaken(port)) if tries < PORT_TRIES => {
                    tracing::info!(port, "the port was taken meanwhile; choosing another");
                    tries += 1;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Until the VMM is gone: the reason if the VM is off, nothing if it is to start again.
    async fn attend(&mut self, machine: &mut dyn Machine) -> Option<ExitReason> {
        let mut guest = Guest::default();
        loop {
            tokio::select! {
                MachineEvent::Exited(exit) = machine.next_event() => {
                    // What it said last may not have come through the console yet.
                    while let Ok(Some(marker)) = timeout(LAST_WORDS, self.markers.recv()).await {
                        self.observe(&mut guest, marker);
                    }
                    tracing::info!(?exit, ?guest, "the VMM is gone");
                    return match exit {
                        MachineExit::GuestReboot if guest.panicked => Some(ExitReason::GuestPanic),
                        MachineExit::GuestReboot => None,
                        exit => Some(guest.halted.map_or_else(
                            || exit.reason(),
                            |why| ExitReason::StartFailed { why },
                        )),
                    };
                }
                Some(marker) = self.markers.recv() => {
                    let off = self.is_off(&marker);
                    self.observe(&mut guest, marker);
                    if off {
                        return Some(self.put_away(machine, guest).await);
                    }
                }
                Some(ladder) = self.stops.recv() => {
                    // Before it has entered its root, the guest has nothing to save and does not
                    // hear the power button.
                    let ladder = if guest.entered { ladder } else { ladder.past_the_guest() };
                    return Some(self.stop(machine, ladder).await);
                }
            }
        }
    }

    fn observe(&self, guest: &mut Guest, marker: Marker) {
        match marker {
            Marker::Init => self.mark(BootMark::Init),
            Marker::SwitchRoot => {
                guest.entered = true;
                self.mark(BootMark::SwitchRoot);
            }
            Marker::SshReady { .. } => {
                self.mark(BootMark::Ssh);
                self.enter(MonitorPhase::Ready);
            }
            Marker::KernelPanic => guest.panicked = true,
            Marker::Halted { reason } => guest.halted = Some(reason),
            Marker::PowerDown => {}
        }
    }

    /// Whether this was the last that the guest does, with a VMM that does not end at it.
    fn is_off(&self, marker: &Marker) -> bool {
        *marker == Marker::PowerDown && !self.backend.ends_at_poweroff()
    }

    /// Ends the VMM of a guest that is off: its disks are synced and its CPUs stand still.
    async fn put_away(&self, machine: &mut dyn Machine, guest: Guest) -> ExitReason {
        tracing::info!(?guest, "the guest is off");
        while let Err(error) = ladder::climb(machine, &StopLadder::kill(), |_| {}).await {
            // Giving up would free the lock, and a second VMM could write to the disk.
            tracing::error!(%error, "once more");
        }
        let halted = |why| ExitReason::StartFailed { why };
        guest.halted.map_or(ExitReason::GuestPoweroff, halted)
    }

    /// Climbs; a ladder that begins with the kill may take over at any time.
    async fn stop(&mut self, machine: &mut dyn Machine, mut ladder: StopLadder) -> ExitReason {
        let status = self.status;
        let clock = self.clock;
        let pressed = ladder.rungs().first().is_some_and(|r| r.method == Method::PowerButton);
        let mut off = false;
        loop {
            let on_rung = |by: Method| {
                tracing::info!(by = by.label(), off, "stopping");
                // Of a guest that is off only the VMM is left, which is not worth a word.
                if !off {
                    enter(status, clock, MonitorPhase::Stopping { by });
                }
            };
            tokio::select! {
                climbed = ladder::climb(machine, &ladder, on_rung) => match climbed {
                    Ok((by, exit)) => {
                        let by = if off && pressed { Method::PowerButton } else { by };
                        tracing::info!(by = by.label(), ?exit, "stopped");
                        return ExitReason::Stopped { by };
                    }
                    // Giving up would free the lock, and a second VMM could write to the disk.
                    Err(error) => {
                        tracing::error!(%error, "once more");
                        ladder = StopLadder::kill();
                    }
                },
                Some(other) = self.stops.recv() => {
                    if other.is_kill() {
                        ladder = other;
                    }
                }
                Some(marker) = self.markers.recv() => {
                    if self.is_off(&marker) {
                        off = true;
                        ladder = StopLadder::kill();
                    }
                }
            }
        }
    }

    fn enter(&self, phase: MonitorPhase) {
        enter(self.status, self.clock, phase);
    }

    fn mark(&self, mark: BootMark) {
        let at = self.clock.since_start();
        self.status.send_modify(|s| s.boot.0.push((mark, at)));
        // Each mark ends something that took code and memory which what follows does not need;
        // which of them is the last depends on the image.
        if let Err(error) = memory::give_back() {
            tracing::debug!(%error, "memory is kept");
        }
    }
}

/// Changes the phase, and since when it is.
pub fn enter(status: &watch::Sender<MonitorStatus>, clock: Clock, phase: MonitorPhase) {
    status.send_modify(|s| {
        s.phase = phase;
        s.since = clock.now();
    });
}

#[cfg(test)]
mod tests;
