//! What goes into the core and what comes out of it: data, all of it.

use std::sync::Arc;

use crate::{
    domain::{
        Admission, BundleView, CommandBody, ExitRecord, HostReport, HostView, ImageName, ImageView,
        JobId, MonitorStatus, Notice, OrphanView, OverlayKind, Problem, StepView, StopLadder, VmId,
        VmSpec,
    },
    store::{Change, VmRow},
};

/// Identifies a command until it is answered; the driver draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Ties the result of an effect to the effect. Never used twice by one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A VM as found when the store is read for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is stored.
    pub row: VmRow,
    /// Whether its run lock is held: a monitor is up.
    pub up: bool,
    /// How many things of it the ledger has.
    pub ledger: usize,
    /// It was being made or removed, and nobody is at it any more.
    pub abandoned: bool,
    /// It helps to make an image on which nobody works any more.
    pub orphan: bool,
}

/// A change of an image of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageChange {
    /// Another name: from, to.
    Rename(ImageName, ImageName),
    /// It goes.
    Delete(ImageName),
}

/// What happens. The driver gives one after the other; nothing else reaches the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The store was read, and every VM's lock was looked at. Once, before any other input about
    /// VMs; commands that come earlier wait for it.
    Loaded(Vec<Found>),
    /// Another process changed the store: all its rows, read after every `Persist` that was
    /// given so far was done.
    RowsChanged(Vec<VmRow>),
    /// The user asks. Answered by exactly one [`Effect::Reply`].
    Command {
        /// Comes back in the reply.
        id: CommandId,
        /// What is asked.
        body: CommandBody,
        /// Random; the id of the VM, if one is made.
        fresh: VmId,
    },
    /// A monitor says how it is: when it is found, and at each change. Whoever started it.
    MonitorUp(MonitorStatus),
    /// A monitor that was up is not any more: its connection is closed and its lock is free now
    /// (if it is held again, somebody else's monitor is up: this input is left out).
    /// What else it stored at its end comes with [`Input::RowsChanged`], before or soon after: a
    /// guest's own power-off also changes what is wanted.
    MonitorGone {
        /// Whose.
        vm: VmId,
        /// [`VmRow::last_exit`], read after the lock was found free: `None` if the monitor died
        /// before it could say.
        exit: Option<ExitRecord>,
    },
    /// The effect with this token ended.
    EffectDone {
        /// Whose.
        token: Token,
        /// How.
        result: Result<(), Problem>,
    },
    /// The time of an [`Effect::ArmTimer`] is over.
    Timer {
        /// Whose.
        vm: VmId,
        /// The timer's; stale ones are ignored.
        epoch: u64,
    },
    /// What the host is like, but for its runtime directory, which [`Input::Bundle`] tells. At the
    /// start, and now and then.
    HostFacts(HostView),
    /// What the runtime directory is like. At the start, and after a bootstrap.
    Bundle(BundleView),
    /// The base images. At the start, after a bootstrap, and when they were looked at again.
    Images(Vec<ImageView>),
    /// How much a VM's disk takes on the host, in bytes.
    DiskUsed(Vec<(VmId, u64)>),
    /// What a close look at the host found.
    HostReport(Arc<HostReport>),
    /// How far the bootstrap, or the cleaning of the host, is: all its steps, and new lines of its
    /// log.
    JobProgress {
        /// The job.
        job: JobId,
        /// All its steps.
        steps: Vec<StepView>,
        /// New lines.
        log: Vec<String>,
    },
}

/// What the driver is to do, in this order.
///
/// Every effect with a token ends in one [`Input::EffectDone`], after a time that the driver
/// bounds. The core asks for the next effect of a VM only when the one before is done, so no
/// effect runs before the change it depends on is committed; effects of different VMs may run
/// at the same time.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Commit this: `Store::apply`.
    Persist {
        /// Comes back when it is done.
        token: Token,
        /// The change.
        change: Change,
    },
    /// Make the VM's directory and disk. On an error nothing of either is left.
    CreateDisk {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
        /// The image, and how large.
        spec: VmSpec,
        /// How it shares the image's data.
        overlay: OverlayKind,
    },
    /// Start a monitor. Done when its lock is held, no matter whose monitor that is;
    /// [`Input::MonitorUp`] follows. On an error there is no monitor.
    StartMonitor {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
    },
    /// Ask the monitor to climb a ladder. Done when it accepted, or when there is none any
    /// more; [`Input::MonitorGone`] follows when the VM is off.
    RequestStop {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
        /// The rungs.
        ladder: StopLadder,
    },
    /// Ask the monitor to let the guest's CPUs stand still, or go on. Done when they do.
    StandStill {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
        /// Whether they are to stand still.
        still: bool,
    },
    /// The monitor does not do what it should: send it SIGKILL. Done when its lock is free.
    KillMonitor {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
    },
    /// Take the VM's run lock and undo what its ledger has, newest first, the VMM included. All
    /// is tried; the problem names all that failed. If the lock is held the VM is up again, and
    /// there is nothing to do.
    CleanUp {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
        /// How its run ended, should it still be open: for `Store::record_lost`, with the lock
        /// held, before anything is undone.
        lost: ExitRecord,
    },
    /// Remove the VM's directories, holding its run lock; a problem if another holds it, for then
    /// it is up. Done as well if there are none.
    DeleteFiles {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
    },
    /// Make the VM's disk anew from its image. If that was interrupted when the new disk was whole,
    /// it gets its place. On an error the old disk is as it was.
    RecreateDisk {
        /// Comes back when it is done.
        token: Token,
        /// Whose.
        vm: VmId,
    },
    /// Change an image of the user's; [`Input::Images`] comes before the end.
    ChangeImage {
        /// Comes back when it is done.
        token: Token,
        /// How.
        change: ImageChange,
    },
    /// Make or complete the runtime directory, with [`Input::JobProgress`] on the way and
    /// [`Input::Bundle`] and [`Input::Images`] before its end.
    RunBootstrap {
        /// Comes back when it is done.
        token: Token,
        /// The job its progress belongs to.
        job: JobId,
    },
    /// End the bootstrap; its token comes back with an error soon.
    CancelBootstrap {
        /// The job.
        job: JobId,
    },
    /// Look closely at the host: [`Input::HostReport`] comes before the end.
    LookAtHost {
        /// Comes back when it is done.
        token: Token,
    },
    /// Remove these, each after another look at it and under the locks that keep it from being
    /// needed again; with [`Input::JobProgress`] on the way and [`Input::HostReport`] before the
    /// end. All are tried; the problem names those that are still there.
    CleanHost {
        /// Comes back when it is done.
        token: Token,
        /// The job its progress belongs to.
        job: JobId,
        /// What the user was shown.
        orphans: Vec<OrphanView>,
    },
    /// Give [`Input::Timer`] after this time.
    ArmTimer {
        /// Comes back.
        vm: VmId,
        /// Comes back.
        epoch: u64,
        /// Milliseconds.
        after_ms: u64,
    },
    /// Answer a command.
    Reply {
        /// Which.
        command: CommandId,
        /// The answer.
        admission: Admission,
    },
    /// Tell the UI, and write it to the event log.
    Notice(Notice),
    /// The picture changed: take `Core::fleet` and publish it.
    Publish,
}

impl Effect {
    /// What comes back in [`Input::EffectDone`], if it does.
    #[must_use]
    pub const fn token(&self) -> Option<Token> {
        match self {
            Self::Persist { token, .. }
            | Self::CreateDisk { token, .. }
            | Self::StartMonitor { token, .. }
            | Self::RequestStop { token, .. }
            | Self::StandStill { token, .. }
            | Self::KillMonitor { token, .. }
            | Self::CleanUp { token, .. }
            | Self::DeleteFiles { token, .. }
            | Self::RecreateDisk { token, .. }
            | Self::ChangeImage { token, .. }
            | Self::RunBootstrap { token, .. }
            | Self::LookAtHost { token }
            | Self::CleanHost { token, .. } => Some(*token),
            Self::CancelBootstrap { .. }
            | Self::ArmTimer { .. }
            | Self::Reply { .. }
            | Self::Notice(_)
            | Self::Publish => None,
        }
    }
}
