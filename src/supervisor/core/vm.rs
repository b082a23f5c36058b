//! One VM as the core sees it. Its phase is derived, never set, so that it cannot drift.

use std::{collections::VecDeque, sync::Arc};

use super::Token;
use crate::{
    domain::{
        ExitReason, ExitRecord, JobId, MonitorPhase, MonitorStatus, Phase, Problem, UnixMs, VmName,
        VmView, Wanted,
    },
    store::{VmRow, VmState},
};

/// What is being done with a VM. At most one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Make it, and start it if so wished.
    Create { start: bool },
    /// Start it.
    Start,
    /// Stop it.
    Stop { kill: bool, restart: bool },
    /// Clear up after a run that ended by itself.
    Tidy,
    /// Remove it.
    Delete,
    /// Give it a new disk.
    Recreate,
}

/// The point it is at: what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its row is inserted.
    Insert,
    /// Its disk is made.
    Disk,
    /// It is stored that it is all there.
    MakeReady,
    /// Making failed: the files go.
    UndoFiles,
    /// Making failed: the row goes.
    UndoRow,
    /// It is stored that it is wanted up.
    WantUp,
    /// The monitor starts.
    Spawn,
    /// The guest is to say that it is ready. No token.
    AwaitReady,
    /// It is stored that it is wanted off.
    WantOff,
    /// The monitor is asked to stop.
    Ask,
    /// The monitor is to go. No token.
    AwaitGone,
    /// The monitor is killed.
    KillMonitor,
    /// What the ledger has is undone.
    Clean,
    /// It is stored that it is being removed.
    Mark,
    /// Its files go.
    Files,
    /// Its row goes.
    Remove,
    /// Its disk is made anew.
    Recreate,
}

/// What is being done, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub doing: Doing,
    pub stage: Stage,
    /// Of the effect that is waited for.
    pub token: Option<Token>,
    /// The jobs that end with it.
    pub jobs: Vec<JobId>,
    /// Why it is being undone.
    pub failure: Option<Problem>,
    /// How the run ended, should it still be open.
    pub lost: Option<ExitRecord>,
}

/// What can wait for the task to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Start,
    Stop { kill: bool, restart: bool },
}

/// A wish that waits, and for whom.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub wish: Wish,
    pub jobs: Vec<JobId>,
}

/// A VM.
#[derive(Debug)]
pub(super) struct Vm {
    pub row: VmRow,
    /// A monitor holds the lock, as far as is known.
    pub up: bool,
    pub status: Option<MonitorStatus>,
    /// A monitor went while something else had to be finished first.
    pub gone: Option<Option<ExitRecord>>,
    pub task: Option<Task>,
    pub queue: VecDeque<Waiting>,
    pub renaming: Option<VmName>,
    pub problem: Option<Problem>,
    pub epoch: u64,
    pub disk_used: Option<u64>,
    /// It helped to make an image, and whoever made that is gone: how many things may still be
    /// begun to be rid of it, should they fail.
    pub doomed: u8,
    phase: Phase,
    since: UnixMs,
    view: Option<Arc<VmView>>,
}

impl Vm {
    pub fn new(row: VmRow, up: bool) -> Self {
        let since = match (&row.last_exit, row.started) {
            (Some(exit), _) => exit.at,
            (None, Some(started)) => started,
            (None, None) => row.created,
        };
        let mut vm = Self {
            row,
            up,
            status: None,
            gone: None,
            task: None,
            queue: VecDeque::new(),
            renaming: None,
            problem: None,
            epoch: 0,
            disk_used: None,
            doomed: 0,
            phase: Phase::Stopped,
            since,
            view: None,
        };
        vm.phase = vm.phase();
        vm
    }

    /// What it is doing: first what is done with it here, then what its monitor says, then what
    /// is stored.
    pub fn phase(&self) -> Phase {
        let by_monitor = |else_: Phase| match self.status.as_ref().map(|status| status.phase) {
            _ if !self.up => else_,
            None => else_,
            Some(MonitorPhase::Preparing) => Phase::Starting,
            Some(MonitorPhase::Booting) => Phase::Booting,
            Some(MonitorPhase::Ready) => Phase::Running,
            Some(MonitorPhase::Paused) => Phase::Paused,
            Some(MonitorPhase::Stopping { .. } | MonitorPhase::Clearing) => Phase::Stopping,
        };
        match self.task.as_ref().map(|task| task.doing) {
            Some(Doing::Create { .. } | Doing::Recreate) => Phase::Creating,
            Some(Doing::Delete) => Phase::Deleting,
            Some(Doing::Stop { .. } | Doing::Tidy) => Phase::Stopping,
            Some(Doing::Start) => by_monitor(Phase::Starting),
            None if self.up => by_monitor(Phase::Starting),
            None => match self.row.state {
                VmState::Creating | VmState::Recreating => Phase::Creating,
                VmState::Deleting => Phase::Deleting,
                VmState::Ready if self.crashed() => Phase::Crashed,
                VmState::Ready => Phase::Stopped,
            },
        }
    }

    /// Whether it ended by itself, and nobody said since that it is to be off.
    fn crashed(&self) -> bool {
        let Some(exit) = &self.row.last_exit else { return false };
        self.row.wanted == Wanted::Running
            && match exit.reason {
                ExitReason::GuestPanic | ExitReason::VmmExited { .. } | ExitReason::MonitorLost => {
                    true
                }
                ExitReason::GuestPoweroff
                | ExitReason::Stopped { .. }
                | ExitReason::StartFailed { .. } => false,
            }
    }

    /// Whether its monitor is on the way down, whoever asked for that.
    pub fn going_down(&self) -> bool {
        self.up
            && self.status.as_ref().is_some_and(|status| match status.phase {
                MonitorPhase::Stopping { .. } | MonitorPhase::Clearing => true,
                MonitorPhase::Preparing
                | MonitorPhase::Booting
                | MonitorPhase::Ready
                | MonitorPhase::Paused => false,
            })
    }

    /// Whether it will be up once all is done that is under way and waits.
    pub fn will_be_up(&self) -> bool {
        match self.queue.back().map(|waiting| waiting.wish) {
            Some(Wish::Start) => return true,
            Some(Wish::Stop { restart, .. }) => return restart,
            None => {}
        }
        match self.task.as_ref().map(|task| task.doing) {
            Some(Doing::Create { start }) => start,
            Some(Doing::Start) => true,
            Some(Doing::Stop { restart, .. }) => restart,
            Some(Doing::Tidy | Doing::Delete | Doing::Recreate) => false,
            None => self.up && !self.going_down(),
        }
    }

    /// Whether a stop of the user's is under way or waits.
    pub fn is_stopped_here(&self) -> bool {
        let stop = |waiting: &Waiting| matches!(waiting.wish, Wish::Stop { restart: false, .. });
        let doing = self.task.as_ref().map(|task| task.doing);
        matches!(doing, Some(Doing::Stop { restart: false, .. })) || self.queue.iter().any(stop)
    }

    /// Whether a kill could not hasten anything.
    pub fn killing(&self) -> bool {
        self.task.as_ref().is_some_and(|task| match task.doing {
            Doing::Stop { kill, .. } => kill || task.stage == Stage::Clean,
            Doing::Tidy => true,
            Doing::Create { .. } | Doing::Start | Doing::Delete | Doing::Recreate => false,
        })
    }

    /// A new epoch: timers armed before are stale.
    pub fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// Brings the picture up to date; whether it changed.
    pub fn refresh(&mut self, now: UnixMs) -> bool {
        let phase = self.phase();
        if phase != self.phase {
            self.phase = phase;
            self.since = now;
        }
        let status = self.status.as_ref().filter(|_| self.up);
        if let Some(status) = status.filter(|_| self.task.is_none()) {
            self.since = status.since;
        }
        let view = VmView {
            id: self.row.id.clone(),
            spec: self.row.spec.clone(),
            phase,
            wanted: self.row.wanted,
            created: self.row.created,
            since: self.since,
            up_since: self.row.started.filter(|_| phase.is_up()),
            ssh: status.and_then(|status| status.ssh.clone()),
            vmm: status.map(|status| status.vmm),
            overlay: self.row.overlay,
            made_from: self.row.made_from.clone(),
            disk_used: self.disk_used,
            fill: status.and_then(|status| status.fill),
            network: status.map(|status| status.network),
            address: status.and_then(|status| status.address),
            dns_name: status.and_then(|status| status.dns_name.clone()),
            boot: status.map_or_else(|| self.row.last_boot.clone(), |status| status.boot.clone()),
            last_exit: self.row.last_exit.clone(),
            problem: status
                .and_then(|status| status.problem.clone())
                .or_else(|| self.problem.clone()),
        };
        if self.view.as_deref() == Some(&view) {
            return false;
        }
        self.view = Some(Arc::new(view));
        true
    }

    /// The picture as of the last [`Vm::refresh`].
    pub fn view(&self) -> Option<&Arc<VmView>> {
        self.view.as_ref()
    }
}
