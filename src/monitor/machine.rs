//! The VM's life under its monitor: launch, boot, reboot, stop.

use core::net::Ipv4Addr;
use std::{os::fd::OwnedFd, pin::pin, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    clock::Clock,
    noted::{Noted, Record},
    order::Order,
    unheard::{self, Reached},
};
use crate::{
    domain::{
        BootMark, BootTimes, ExitReason, Method, MonitorPhase, MonitorStatus, Problem, SshEndpoint,
        StopLadder,
    },
    guest::markers::Marker,
    host::memory,
    vmm::{Backend, Machine, MachineEvent, MachineExit, MachineSpec, VmmError, ladder},
};

/// How often a launch is tried again that somebody else got in the way of. A port is lost to another
/// process only between choosing and using it, and the runtime directory changes in one step.
const TRIES: u32 = 5;

/// What makes the runtime directory as this banger needs it.
const BOOTSTRAP: &str = "banger runtime bootstrap";

/// How long the console is quiet before a guest that is gone has said all.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// What a guest said of itself in one boot.
#[derive(Debug, Default)]
struct Guest {
    /// Our init began.
    began: bool,
    /// Its own init runs.
    entered: bool,
    panicked: bool,
    /// Its SSH listens.
    ready: bool,
    /// Its system is up without SSH: where that would answer.
    without: Option<SshEndpoint>,
    /// What the user should know of it as long as it is so.
    note: Option<Problem>,
    /// What is shown if there is nothing else.
    standing: Option<Problem>,
    /// It was paused for a problem, and not by the user.
    in_trouble: bool,
    /// Its CPUs stand still.
    still: bool,
    /// Our init could not go on, for this reason.
    halted: Option<String>,
}

impl Guest {
    const fn is_up(&self) -> bool {
        self.ready || self.without.is_some()
    }

    fn shown(&self) -> Option<Problem> {
        self.note.clone().or_else(|| self.standing.clone())
    }
}

/// What a launch needs of the host. Asked again for each try and for each reboot.
pub trait Stage: Send {
    /// Notes what is about to be made, and says what to launch and where SSH will answer.
    ///
    /// # Errors
    /// Why the VM cannot start.
    fn set(&mut self) -> Result<Set, Problem>;

    /// Notes who the VMM is, now that it runs.
    fn launched(&mut self, pid: u32);

    /// Whether all that the VMM has opened belongs together: the runtime directory was not replaced
    /// by another since it was set.
    fn is_whole(&self) -> bool;
}

/// What is launched, and where it will be found.
#[derive(Clone, Debug)]
pub struct Set {
    /// The machine.
    pub machine: MachineSpec,
    /// Where SSH will answer.
    pub ssh: SshEndpoint,
    /// Its address on the bridge.
    pub address: Option<Ipv4Addr>,
    /// What the user should know of a run like this.
    pub note: Option<Problem>,
}

/// A VM under its monitor.
pub struct Life<'a> {
    /// The VM's name.
    pub name: &'a str,
    /// What runs it.
    pub backend: &'a dyn Backend,
    /// The guest's end of the console, kept open so that a reboot finds it.
    pub console: OwnedFd,
    /// What the guest's console says of it.
    pub markers: mpsc::Receiver<Marker>,
    /// What is asked of it.
    pub orders: mpsc::Receiver<Order>,
    /// What everyone may know.
    pub status: &'a watch::Sender<MonitorStatus>,
    /// Keeps what the VMM was asked.
    pub record: &'a Record<'a>,
    /// The time.
    pub clock: Clock,
}

impl<'a> Life<'a> {
    /// Runs the VM until it is off for good, and says why it is.
    pub async fn run(&mut self, stage: &mut dyn Stage) -> ExitReason {
        let reason = self.until_off(stage).await;
        // Whoever asks now, or has asked and waits for an answer, is told that it is too late.
        self.orders.close();
        while self.orders.try_recv().is_ok() {}
        reason
    }

    async fn until_off(&mut self, stage: &mut dyn Stage) -> ExitReason {
        loop {
            let (mut machine, standing) = match self.launch(stage).await {
                Ok(launched) => launched,
                Err(why) => return ExitReason::StartFailed { why },
            };
            if let Some(reason) = self.attend(&mut machine, standing).await {
                return reason;
            }
            tracing::info!("the guest asked for a reboot");
        }
    }

    async fn launch(
        &mut self,
        stage: &mut dyn Stage,
    ) -> Result<(Noted<'a>, Option<Problem>), String> {
        let mut tries = 0;
        loop {
            let set = stage.set().map_err(|problem| one_line(&problem))?;
            self.status.send_modify(|s| {
                s.ssh = Some(set.ssh.clone());
                s.address = set.address;
                s.vmm_pid = None;
                s.problem.clone_from(&set.note);
                s.boot = BootTimes::default();
            });
            self.enter(MonitorPhase::Preparing);
            let console = self.console.try_clone().map_err(|e| format!("the console: {e}"))?;
            let launch = Noted::launch(self.backend, set.machine, console, self.clock, self.record);
            match launch.await {
                Ok(mut machine) => {
                    stage.launched(machine.pid());
                    if !stage.is_whole() && tries < TRIES {
                        tracing::info!("the runtime directory was replaced meanwhile; once more");
                        tries += 1;
                        end(&mut machine).await;
                        continue;
                    }
                    self.status.send_modify(|s| s.vmm_pid = Some(machine.pid()));
                    self.enter(MonitorPhase::Booting);
                    self.mark(BootMark::Vmm);
                    return Ok((machine, set.note));
                }
                Err(error) if !stage.is_whole() && tries < TRIES => {
                    tracing::info!(%error, "the runtime directory was replaced meanwhile");
                    tries += 1;
                }
                Err(VmmError::PortTaken(port)) if tries < TRIES => {
                    tracing::info!(port, "the port was taken meanwhile; choosing another");
                    tries += 1;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Until the VMM is gone: the reason if the VM is off, nothing if it is to start again.
    async fn attend(
        &mut self,
        machine: &mut dyn Machine,
        standing: Option<Problem>,
    ) -> Option<ExitReason> {
        let mut guest = Guest { standing, ..Guest::default() };
        let patience = unheard::patience(self.status.borrow().vmm);
        let mut late = pin!(sleep(patience));
        let mut waits = true;
        loop {
            tokio::select! {
                () = &mut late, if waits => {
                    waits = guest.still;
                    if waits {
                        late.as_mut().reset(Instant::now() + patience);
                    } else {
                        self.is_late(&mut guest, patience);
                    }
                }
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
                    let off = is_off(self.backend, &marker);
                    self.observe(&mut guest, marker);
                    if off {
                        return Some(self.put_away(machine, guest).await);
                    }
                }
                Some(order) = self.orders.recv() => match order {
                    Order::Stop(ladder) => {
                        let hears = self.can_hear(machine, &guest).await;
                        let ladder = if hears { ladder } else { ladder.past_the_guest() };
                        return Some(self.stop(machine, ladder).await);
                    }
                    Order::Still { still, problem, reply } => {
                        let done = self.stand_still(machine, &mut guest, still, problem).await;
                        // Whoever asked may have left.
                        let _ = reply.send(done);
                    }
                },
            }
        }
    }

    fn observe(&self, guest: &mut Guest, marker: Marker) {
        match marker {
            Marker::Init => {
                guest.began = true;
                self.mark(BootMark::Init);
            }
            Marker::SwitchRoot => {
                guest.entered = true;
                self.mark(BootMark::SwitchRoot);
            }
            // Said more than once, in case it was not heard.
            Marker::SshReady { .. } if guest.ready => {}
            Marker::SshReady { .. } => {
                guest.ready = true;
                if let Some(ssh) = guest.without.take() {
                    self.status.send_modify(|s| s.ssh = Some(ssh));
                }
                self.note(guest, None);
                self.mark(BootMark::Ssh);
                self.is_up(guest);
            }
            Marker::Up { .. } if guest.ready || guest.without.is_some() => {}
            Marker::Up { uptime_ms } => {
                tracing::info!(uptime_ms, "up, without SSH");
                let mut ssh = None;
                self.status.send_modify(|s| ssh = s.ssh.take());
                guest.without = ssh;
                self.note(guest, Some(unheard::no_ssh(self.name)));
                self.is_up(guest);
            }
            Marker::KernelPanic => guest.panicked = true,
            Marker::Halted { reason } => guest.halted = Some(with_hint(reason)),
            Marker::PowerDown => {}
        }
    }

    fn is_up(&self, guest: &Guest) {
        if !guest.still {
            self.enter(MonitorPhase::Ready);
        }
    }

    /// Shows what the user should know of the guest; of one that stands still, when it goes on.
    fn note(&self, guest: &mut Guest, note: Option<Problem>) {
        guest.note = note;
        if !guest.still {
            let shown = guest.shown();
            self.status.send_if_modified(|s| {
                let changed = s.problem != shown;
                s.problem = shown;
                changed
            });
        }
    }

    fn is_late(&self, guest: &mut Guest, after: Duration) {
        let reached = match (guest.began, guest.entered) {
            (_, true) => Reached::System,
            (true, false) => Reached::Init,
            (false, false) => Reached::Kernel,
        };
        if !guest.is_up() {
            tracing::warn!(?reached, "not up after {} s", after.as_secs());
            self.note(guest, Some(unheard::late(self.name, reached, after)));
        }
    }

    /// Whether the guest hears that it is to shut down; one that stands still is let go on.
    ///
    /// Before it has entered its root, the guest has nothing to save and does not listen. One that
    /// was paused for a problem, such as a full disk of the host, must not write any more.
    async fn can_hear(&self, machine: &mut dyn Machine, guest: &Guest) -> bool {
        match (guest.entered, guest.still) {
            (false, _) => false,
            (true, false) => true,
            (true, true) => !guest.in_trouble && machine.resume().await.is_ok(),
        }
    }

    async fn stand_still(
        &self,
        machine: &mut dyn Machine,
        guest: &mut Guest,
        still: bool,
        problem: Option<Problem>,
    ) -> Result<(), Problem> {
        let done = if still { machine.pause().await } else { machine.resume().await };
        done.map_err(|error| {
            let what = if still { "cannot pause the VM" } else { "cannot resume the VM" };
            Problem::new(what, error.to_string(), "look at its monitor's log, or stop it")
        })?;
        guest.still = still;
        guest.in_trouble = problem.is_some();
        let shown = problem.or_else(|| guest.shown().filter(|_| !still));
        self.status.send_modify(|s| s.problem = shown);
        self.enter(match (still, guest.is_up()) {
            (true, _) => MonitorPhase::Paused,
            (false, true) => MonitorPhase::Ready,
            (false, false) => MonitorPhase::Booting,
        });
        Ok(())
    }

    /// Ends the VMM of a guest that is off: its disks are synced and its CPUs stand still.
    async fn put_away(&self, machine: &mut dyn Machine, guest: Guest) -> ExitReason {
        tracing::info!(?guest, "the guest is off");
        end(machine).await;
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
            let was_off = off;
            let on_rung = |by: Method| {
                tracing::info!(by = by.label(), was_off, "stopping");
                // Of a guest that is off only the VMM is left, which is not worth a word.
                if !was_off {
                    enter(status, clock, MonitorPhase::Stopping { by });
                }
            };
            ladder = {
                // Pinned: what else comes in must not begin the ladder anew.
                let mut climb = pin!(ladder::climb(machine, &ladder, on_rung));
                loop {
                    tokio::select! {
                        climbed = &mut climb => match climbed {
                            Ok((by, exit)) => {
                                let by = if off && pressed { Method::PowerButton } else { by };
                                tracing::info!(by = by.label(), ?exit, "stopped");
                                return ExitReason::Stopped { by };
                            }
                            // Giving up would free the lock, and a second VMM could write to the
                            // disk.
                            Err(error) => {
                                tracing::error!(%error, "once more");
                                break StopLadder::kill();
                            }
                        },
                        Some(order) = self.orders.recv() => match order {
                            Order::Stop(other) if other.is_kill() => break other,
                            // One ladder at a time; dropping a reply says that it is too late.
                            Order::Stop(_) | Order::Still { .. } => {}
                        },
                        Some(marker) = self.markers.recv() => {
                            if is_off(self.backend, &marker) {
                                off = true;
                                break StopLadder::kill();
                            }
                        }
                    }
                }
            };
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

/// Ends a VMM, without its guest's say.
async fn end(machine: &mut dyn Machine) {
    while let Err(error) = ladder::climb(machine, &StopLadder::kill(), |_| {}).await {
        // Giving up would free the lock, and a second VMM could write to the disk.
        tracing::error!(%error, "once more");
    }
}

/// Whether this was the last that the guest does, with a VMM that does not end at it.
fn is_off(backend: &dyn Backend, marker: &Marker) -> bool {
    *marker == Marker::PowerDown && !backend.ends_at_poweroff()
}

/// Why our init could not go on, and what helps if it is of an older banger than this: it refuses
/// what it does not know.
fn with_hint(reason: String) -> String {
    if reason.contains(": is not known; there are") {
        return format!("{reason} (the initrd is of another banger: run `{BOOTSTRAP}`)");
    }
    reason
}

/// A problem as the reason of an exit: one line.
fn one_line(problem: &Problem) -> String {
    let Problem { what, why, hint } = problem;
    if hint.is_empty() { format!("{what}: {why}") } else { format!("{what}: {why} ({hint})") }
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
