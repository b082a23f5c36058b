//! The supervisor's core: what happens goes in, what is to be done comes out. Pure: no clock, no
//! I/O, no tasks; the driver feeds it and runs its effects.
//!
//! ```text
//!             create                        start                     ready
//!   (nothing) ──────> Creating ──> Stopped ──────> Starting ─> Booting ─────> Running
//!                                   ^   ^             │           │             │
//!                  delete, Deleting │   └── Stopping <┴── stop ───┴─────────────┤
//!                                       clear up │                              │ monitor gone
//!                                   Crashed <────┴──────────────────────────────┘
//! ```
//!
//! Rules:
//! 1. *Intent is not state.* What is wanted is stored before anything is done for it. The phase
//!    is derived from what is being done, what the monitor says and what is stored; it is never
//!    set.
//! 2. *One thing at a time per VM.* A [`vm::Task`] waits for one effect, or for the monitor. A
//!    stop cuts in where a start only waits for the guest; otherwise it waits its turn.
//! 3. *Results belong to tokens, timers to epochs.* What is late is ignored.
//! 4. *A stop always ends.* The monitor climbs the ladder; if it does not end in time it is
//!    killed, and its leftovers are cleared up from the ledger.
//! 5. *Whatever ends a run, its leftovers are cleared up* before the VM counts as off. A VM that
//!    crashed is not started again by itself.
//! 6. Every command gets exactly one [`Effect::Reply`]; see [`super::admit`].

mod command;
mod hosts;
mod images;
mod io;
mod jobs;
mod restore;
mod stage;
mod vm;
mod work;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jobs::Jobs;
use restore::Restore;
use vm::Vm;

use crate::domain::{
    CommandBody, Fleet, HostReport, HostView, ImageView, JobId, JobState, Notice, NoticeLevel,
    Problem, UnixMs, VmId, VmView, name_order,
};

pub use io::{CommandId, Effect, Found, ImageChange, Input, Token};
pub use restore::{Before, Outcome, RestoreReport, RestoreRow};

/// The core's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Milliseconds a guest is given to shut down by itself.
    pub polite_ms: u64,
    /// Milliseconds a guest is given to say that it is ready, before its start counts as failed.
    /// It is left running.
    pub ready_ms: u64,
    /// Milliseconds a monitor is given beyond what its ladder takes, before it is killed.
    pub slack_ms: u64,
    /// How many VMs a restore starts at a time.
    pub restore_parallel: usize,
}

impl Default for Policy {
    fn default() -> Self {
        // An emulated Debian takes 14 s to SSH, and four at a time on two cores about a minute.
        Self { polite_ms: 20_000, ready_ms: 300_000, slack_ms: 10_000, restore_parallel: 2 }
    }
}

/// Whose a token is.
#[derive(Clone, Debug)]
enum Owner {
    /// The task of a VM.
    Task(VmId),
    /// A renaming of a VM.
    Rename(VmId, JobId),
    /// A larger disk of a VM, in MiB.
    Resize(VmId, JobId, u64),
    /// A pause (true) or resumption of a VM.
    Still(VmId, JobId, bool),
    /// A change of an image, and what is told when it is done.
    Image(JobId, String),
    /// The bootstrap.
    Bootstrap(JobId),
    /// A look at the host.
    Look(JobId),
    /// The cleaning of the host.
    Clean(JobId),
}

/// The state of a supervisor.
#[derive(Debug)]
pub struct Core {
    policy: Policy,
    now: UnixMs,
    loaded: bool,
    /// Commands that came before the store was read.
    early: Vec<(CommandId, CommandBody, VmId)>,
    vms: BTreeMap<VmId, Vm>,
    /// VMs whose picture may have changed in this step.
    touched: BTreeSet<VmId>,
    jobs: Jobs,
    restore: Option<Restore>,
    report: Option<RestoreReport>,
    bootstrap: Option<JobId>,
    host: HostView,
    host_report: Option<Arc<HostReport>>,
    looking: Option<JobId>,
    cleaning: Option<JobId>,
    images: Option<Vec<ImageView>>,
    tokens: BTreeMap<Token, Owner>,
    last_token: u64,
    generation: u64,
    dirty: bool,
    out: Vec<Effect>,
}

impl Core {
    /// A core that knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: UnixMs(0),
            loaded: false,
            early: Vec::new(),
            vms: BTreeMap::new(),
            touched: BTreeSet::new(),
            jobs: Jobs::default(),
            restore: None,
            report: None,
            bootstrap: None,
            host: HostView::default(),
            host_report: None,
            looking: None,
            cleaning: None,
            images: None,
            tokens: BTreeMap::new(),
            last_token: 0,
            generation: 0,
            dirty: false,
            out: Vec::new(),
        }
    }

    /// Takes what happened; what is to be done, in order.
    #[must_use = "effects are to be run"]
    pub fn step(&mut self, input: Input, now: UnixMs) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Loaded(found) => self.load(found),
            Input::RowsChanged(rows) => self.rows_changed(rows),
            Input::Command { id, body, fresh } => {
                if self.loaded {
                    self.command(id, body, fresh);
                } else {
                    self.early.push((id, body, fresh));
                }
            }
            Input::MonitorUp(status) => self.monitor_up(status),
            Input::MonitorGone { vm, exit } => self.monitor_gone(&vm, exit),
            Input::EffectDone { token, result } => self.effect_done(token, result),
            Input::Timer { vm, epoch } => self.timer(&vm, epoch),
            Input::HostFacts(facts) => {
                let bundle = std::mem::take(&mut self.host.bundle);
                let facts = HostView { bundle: bundle.clone(), ..facts };
                self.host.bundle = bundle;
                self.dirty |= self.host != facts;
                self.host = facts;
            }
            Input::Bundle(bundle) => {
                self.dirty |= self.host.bundle != bundle;
                self.host.bundle = bundle;
            }
            Input::Images(images) => {
                self.dirty |= self.images.as_ref() != Some(&images);
                self.images = Some(images);
            }
            Input::DiskUsed(used) => {
                for (id, bytes) in used {
                    if let Some(vm) = self.touch(&id) {
                        vm.disk_used = Some(bytes);
                    }
                }
            }
            Input::HostReport(report) => {
                self.dirty = true;
                self.host_report = Some(report);
            }
            Input::JobProgress { job, steps, log } => self.jobs.progress(job, steps, log),
        }
        self.finish_step()
    }

    fn finish_step(&mut self) -> Vec<Effect> {
        while let Some(job) = self.jobs.ended.pop() {
            self.job_ended(job);
        }
        self.jobs.prune(self.now);
        for id in std::mem::take(&mut self.touched) {
            match self.vms.get_mut(&id) {
                Some(vm) => self.dirty |= vm.refresh(self.now),
                None => self.dirty = true,
            }
        }
        if std::mem::take(&mut self.dirty) | std::mem::take(&mut self.jobs.changed) {
            self.out.push(Effect::Publish);
        }
        std::mem::take(&mut self.out)
    }

    /// The picture as of the last step. Views that did not change are the same as in the last
    /// picture, so it costs little even with a thousand VMs.
    pub fn fleet(&mut self) -> Fleet {
        self.generation += 1;
        let mut vms: Vec<Arc<VmView>> =
            self.vms.values().filter_map(|vm| vm.view().cloned()).collect();
        vms.sort_unstable_by(|a, b| name_order(a.spec.name.as_str(), b.spec.name.as_str()));
        let mut images = self.images.clone().unwrap_or_default();
        images.sort_by(|a, b| name_order(&a.name, &b.name));
        Fleet {
            generation: self.generation,
            loaded: self.loaded,
            vms,
            images,
            jobs: self.jobs.views(),
            host: self.host.clone(),
            report: self.host_report.clone(),
        }
    }

    /// How the last restore went, or goes.
    #[must_use]
    pub const fn restore_report(&self) -> Option<&RestoreReport> {
        self.report.as_ref()
    }

    /// A VM whose picture may change now.
    fn touch(&mut self, id: &VmId) -> Option<&mut Vm> {
        let vm = self.vms.get_mut(id)?;
        self.touched.insert(id.clone());
        Some(vm)
    }

    fn token(&mut self, owner: Owner) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.tokens.insert(token, owner);
        token
    }

    fn notice(&mut self, level: NoticeLevel, vm: Option<VmId>, text: String, hint: &str) {
        let hint = hint.to_owned();
        self.out.push(Effect::Notice(Notice { at: self.now, level, vm, job: None, text, hint }));
    }

    /// Ends jobs well, and says so.
    fn jobs_done(&mut self, vm: &VmId, jobs: &[JobId], text: String) {
        for job in jobs {
            self.jobs.end(*job, JobState::Done, self.now);
        }
        if !jobs.is_empty() {
            self.notice(NoticeLevel::Info, Some(vm.clone()), text, "");
        }
    }

    fn jobs_failed(&mut self, vm: &VmId, jobs: &[JobId], problem: &Problem) {
        for job in jobs {
            self.jobs.fail(*job, problem, self.now);
        }
        let text = format!("{}: {}", problem.what, problem.why);
        self.notice(NoticeLevel::Error, Some(vm.clone()), text, &problem.hint);
    }

    fn jobs_cancelled(&mut self, jobs: &[JobId]) {
        for job in jobs {
            self.jobs.end(*job, JobState::Cancelled, self.now);
        }
    }
}
