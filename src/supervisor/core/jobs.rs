//! The list of jobs: everything that takes longer than a blink.

use std::collections::BTreeMap;

use crate::domain::{
    CommandBody, JobId, JobState, JobView, Problem, StepState, StepView, UnixMs, VmId,
};

/// How many jobs that succeeded or were cancelled are kept.
const OVER_MAX: usize = 50;
/// How long they are kept, in milliseconds.
const OVER_MS: u64 = 10 * 60 * 1000;
/// How many lines of a job's log are kept.
const LOG_MAX: usize = 200;

/// A job, and what it was asked with.
#[derive(Debug)]
pub(super) struct Job {
    pub view: JobView,
    pub body: CommandBody,
}

/// All jobs of this process.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    map: BTreeMap<JobId, Job>,
    last: u64,
    /// Something that is shown changed.
    pub changed: bool,
    /// What ended since the core last looked.
    pub ended: Vec<JobId>,
}

impl Jobs {
    pub fn add(
        &mut self,
        title: String,
        vm: Option<VmId>,
        body: CommandBody,
        steps: &[&str],
        now: UnixMs,
    ) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        let view = JobView {
            id,
            title,
            vm,
            state: JobState::Queued,
            steps: steps.iter().map(|name| StepView::pending(*name)).collect(),
            log: Vec::new(),
            started: now,
            ended: None,
            cancellable: true,
        };
        self.map.insert(id, Job { view, body });
        self.changed = true;
        id
    }

    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.map.get(&id)
    }

    /// What is shown. A look at the host is no deed, and none of it is lost if banger ends: only
    /// one that failed is shown.
    pub fn views(&self) -> Vec<JobView> {
        let shown = |job: &&Job| job.body != CommandBody::LookAtHost || job.view.state.is_over();
        self.map.values().filter(shown).map(|job| job.view.clone()).collect()
    }

    fn open(&mut self, id: JobId) -> Option<&mut JobView> {
        let view = self.map.get_mut(&id).map(|job| &mut job.view);
        let view = view.filter(|view| !view.state.is_over());
        self.changed |= view.is_some();
        view
    }

    pub fn begin(&mut self, id: JobId, cancellable: bool) {
        if let Some(job) = self.open(id) {
            job.state = JobState::Running;
            job.cancellable = cancellable;
        }
    }

    /// Appends steps that the job turned out to have.
    pub fn extend(&mut self, id: JobId, steps: &[&str]) {
        if let Some(job) = self.open(id) {
            for name in steps {
                if !job.steps.iter().any(|step| step.name == *name) {
                    job.steps.push(StepView::pending(*name));
                }
            }
        }
    }

    pub fn step(&mut self, id: JobId, name: &str, state: StepState, detail: &str) {
        let Some(job) = self.open(id) else { return };
        if let Some(step) = job.steps.iter_mut().find(|step| step.name == name) {
            step.state = state;
            if !detail.is_empty() {
                step.detail = detail.to_owned();
            }
        }
    }

    /// Takes over steps and log lines as reported.
    pub fn progress(&mut self, id: JobId, steps: Vec<StepView>, log: Vec<String>) {
        let Some(job) = self.open(id) else { return };
        job.steps = steps;
        job.log.extend(log);
        let extra = job.log.len().saturating_sub(LOG_MAX);
        job.log.drain(..extra);
    }

    /// Ends a job; one that is over stays as it is.
    pub fn end(&mut self, id: JobId, state: JobState, now: UnixMs) {
        let Some(job) = self.open(id) else { return };
        for step in &mut job.steps {
            if matches!(step.state, StepState::Pending | StepState::Running) {
                step.state = match (&state, step.state) {
                    (JobState::Done, _) => StepState::Done,
                    (JobState::Failed { .. }, StepState::Running) => StepState::Failed,
                    _ => StepState::Skipped,
                };
            }
        }
        job.state = state;
        job.ended = Some(now);
        job.cancellable = false;
        self.ended.push(id);
    }

    pub fn fail(&mut self, id: JobId, problem: &Problem, now: UnixMs) {
        self.end(id, JobState::Failed { problem: problem.clone() }, now);
    }

    pub fn remove(&mut self, id: JobId) {
        self.changed |= self.map.remove(&id).is_some();
    }

    /// Forgets what succeeded or was cancelled long ago; what failed stays until dismissed.
    pub fn prune(&mut self, now: UnixMs) {
        let mut over: Vec<(UnixMs, JobId)> = self
            .map
            .values()
            .filter(|job| matches!(job.view.state, JobState::Done | JobState::Cancelled))
            .map(|job| (job.view.ended.unwrap_or(job.view.started), job.view.id))
            .collect();
        over.sort_unstable();
        let extra = over.len().saturating_sub(OVER_MAX);
        for (n, (ended, id)) in over.into_iter().enumerate() {
            if n < extra || now.since(ended) > OVER_MS {
                self.remove(id);
            }
        }
    }
}
