//! Restore: what should run is brought up, some at a time, with a report per VM.
//!
//! There is no way of its own: it asks for starts as the user does.

use std::collections::{BTreeMap, VecDeque};

use super::{Core, vm::Vm};
use crate::{
    domain::{
        Admission, CommandBody, ExitReason, JobId, JobState, Problem, StepState, VmId, VmName,
        Wanted,
    },
    store::VmState,
    supervisor::admit::Verb,
};

/// How a VM was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Up.
    Up,
    /// Off, and it never ran.
    NeverRan,
    /// Off after a stop or its guest's own power-off.
    CleanExit,
    /// Off although nobody asked for that; a sentence says how it ended.
    Crashed(String),
}

/// What the restore did with a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was up; nothing had to be done.
    Adopted,
    /// It was started and said that it is ready.
    Started,
    /// It could not be started.
    Failed(Problem),
    /// The restore was cancelled, or it was told to stop, before its turn.
    Skipped,
}

/// A VM that is up or should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreRow {
    /// Its id.
    pub vm: VmId,
    /// Its name.
    pub name: VmName,
    /// How it was found.
    pub before: Before,
    /// What was done; `None` until it is.
    pub outcome: Option<Outcome>,
}

impl RestoreRow {
    /// One line for the user: `started (was shut down cleanly)`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let before = match &self.before {
            Before::Up => "it was up".to_owned(),
            Before::NeverRan => "it never ran before".to_owned(),
            Before::CleanExit => "it was shut down cleanly".to_owned(),
            Before::Crashed(how) => format!("it had crashed: {how}"),
        };
        match &self.outcome {
            None => before,
            Some(Outcome::Adopted) => "adopted: it is up".to_owned(),
            Some(Outcome::Started) => format!("started; {before}"),
            Some(Outcome::Failed(problem)) => {
                format!("failed: {}: {}; {before}", problem.what, problem.why)
            }
            Some(Outcome::Skipped) => format!("not started; {before}"),
        }
    }
}

/// What a restore found and did, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// A row per VM that is up or should be.
    pub rows: Vec<RestoreRow>,
}

impl RestoreReport {
    /// How many did not come back.
    #[must_use]
    pub fn failed(&self) -> usize {
        let failed = |row: &&RestoreRow| matches!(row.outcome, Some(Outcome::Failed(_)));
        self.rows.iter().filter(failed).count()
    }
}

/// A restore under way.
#[derive(Debug)]
pub(super) struct Restore {
    job: JobId,
    todo: VecDeque<VmId>,
    active: BTreeMap<JobId, VmId>,
}

/// Whether it should be up, and neither is nor will be. While the user stops it, it should not.
pub(super) fn is_due(vm: &Vm) -> bool {
    let wanted = vm.row.wanted == Wanted::Running || vm.row.spec.restore;
    vm.row.state == VmState::Ready && wanted && !vm.will_be_up() && !vm.is_stopped_here()
}

fn before(vm: &Vm) -> Before {
    match &vm.row.last_exit {
        _ if vm.up => Before::Up,
        Some(exit) if exit.reason.is_clean() => Before::CleanExit,
        Some(exit) => Before::Crashed(exit.reason.sentence()),
        None if vm.row.run_is_open() => Before::Crashed(ExitReason::MonitorLost.sentence()),
        None => Before::NeverRan,
    }
}

impl Core {
    pub(super) fn start_restore(&mut self, body: CommandBody) -> Admission {
        if self.restore.is_some() {
            return Admission::Ignored("a restore is under way".to_owned());
        }
        let mut rows = Vec::new();
        let mut todo = Vec::new();
        for vm in self.vms.values() {
            let due = is_due(vm);
            if !due && !vm.will_be_up() {
                continue;
            }
            let (id, name) = (vm.row.id.clone(), vm.row.spec.name.clone());
            if due {
                todo.push((name.clone(), id.clone()));
            }
            let outcome = (!due).then_some(Outcome::Adopted);
            rows.push(RestoreRow { vm: id, name, before: before(vm), outcome });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        todo.sort();
        let steps: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let job = self.jobs.add("restore".to_owned(), None, body, &steps, self.now);
        self.jobs.begin(job, true);
        let adopted: Vec<VmId> =
            rows.iter().filter(|row| row.outcome.is_some()).map(|row| row.vm.clone()).collect();
        self.report = Some(RestoreReport { rows });
        let todo = todo.into_iter().map(|(_, id)| id).collect();
        self.restore = Some(Restore { job, todo, active: BTreeMap::new() });
        for vm in adopted {
            self.came_out(&vm, Outcome::Adopted);
        }
        self.go_on();
        Admission::Queued(job)
    }

    /// Starts the next ones; ends the restore when there are none.
    fn go_on(&mut self) {
        loop {
            let parallel = self.policy.restore_parallel.max(1);
            let Some(restore) = &mut self.restore else { return };
            if restore.active.len() >= parallel {
                return;
            }
            let Some(vm) = restore.todo.pop_front() else { break };
            match self.verb(Verb::Start, &vm, CommandBody::Start(vm.clone())) {
                Admission::Queued(job) => {
                    let name = self.vms.get(&vm).map(|vm| vm.row.spec.name.clone());
                    if let (Some(restore), Some(name)) = (&mut self.restore, name) {
                        restore.active.insert(job, vm);
                        self.jobs.step(restore.job, name.as_str(), StepState::Running, "");
                    }
                }
                Admission::Ignored(_) => self.came_out(&vm, Outcome::Adopted),
                Admission::Denied(denied) => self.came_out(&vm, Outcome::Failed(denied.0)),
            }
        }
        let Some(restore) = self.restore.take_if(|restore| restore.active.is_empty()) else {
            return;
        };
        let (failed, all) =
            self.report.as_ref().map_or((0, 0), |report| (report.failed(), report.rows.len()));
        if failed == 0 {
            self.jobs.end(restore.job, JobState::Done, self.now);
        } else {
            let problem = Problem::new(
                "not everything came back",
                format!("{failed} of {all} VMs did not start"),
                "each VM's line says why; when that is mended, restore again",
            );
            self.jobs.fail(restore.job, &problem, self.now);
        }
    }

    fn came_out(&mut self, vm: &VmId, outcome: Outcome) {
        let Some(restore) = &self.restore else { return };
        let rows = self.report.iter_mut().flat_map(|report| &mut report.rows);
        let Some(row) = rows.into_iter().find(|row| row.vm == *vm) else { return };
        let state = match outcome {
            Outcome::Adopted | Outcome::Started => StepState::Done,
            Outcome::Failed(_) => StepState::Failed,
            Outcome::Skipped => StepState::Skipped,
        };
        row.outcome = Some(outcome);
        self.jobs.step(restore.job, row.name.as_str(), state, &row.sentence());
    }

    /// A job ended: perhaps a start of the restore.
    pub(super) fn job_ended(&mut self, job: JobId) {
        let Some(vm) = self.restore.as_mut().and_then(|restore| restore.active.remove(&job)) else {
            return;
        };
        let outcome = match self.jobs.get(job).map(|job| &job.view.state) {
            Some(JobState::Done) => Outcome::Started,
            Some(JobState::Failed { problem }) => Outcome::Failed(problem.clone()),
            Some(JobState::Cancelled | JobState::Queued | JobState::Running) | None => {
                Outcome::Failed(Problem::new("its start was given up", "it was told to stop", ""))
            }
        };
        self.came_out(&vm, outcome);
        self.go_on();
    }

    /// The user stops a VM whose turn has not come.
    pub(super) fn leave_out(&mut self, vm: &VmId) {
        let Some(restore) = &mut self.restore else { return };
        let before = restore.todo.len();
        restore.todo.retain(|id| id != vm);
        if restore.todo.len() < before {
            self.came_out(vm, Outcome::Skipped);
        }
    }

    /// Ends the restore, if it is this job; what it started goes on.
    pub(super) fn cancel_restore(&mut self, job: JobId) -> bool {
        if self.restore.as_ref().is_none_or(|restore| restore.job != job) {
            return false;
        }
        let left: Vec<VmId> =
            self.restore.as_ref().map(|r| r.todo.iter().cloned().collect()).unwrap_or_default();
        for vm in left {
            self.came_out(&vm, Outcome::Skipped);
        }
        self.restore = None;
        self.jobs.end(job, JobState::Cancelled, self.now);
        true
    }
}
