//! What is run in panes, as jobs: builds, imports and exports of images.

use super::{
    pane::{Entry, PaneId, Panes, Run},
    text::clean,
};
use crate::{
    domain::{JobId, JobState, JobView, Problem, UnixMs},
    term::{Pane, PaneState},
};

/// These jobs are numbered from here on. The supervisor counts its own from 1, and does not get so
/// far.
const FIRST: u64 = 1 << 63;

/// How many are kept: of more, the oldest that are over go.
const MOST: usize = 100;

/// The longest line that is kept.
const LINE_MAX: usize = 1000;

/// How many rows of what one said last are kept when it has ended.
const LAST: usize = 500;

/// A verb that is or was run in a pane.
#[derive(Clone, Debug)]
pub struct RunJob {
    /// Where; that may be closed.
    pub pane: PaneId,
    /// What.
    pub run: Run,
    /// As it is listed.
    pub view: JobView,
    /// Whether the user took it off the list.
    dismissed: bool,
}

/// All of them, the oldest first.
#[derive(Debug, Default)]
pub struct Runs {
    list: Vec<RunJob>,
    /// How many there were.
    count: u64,
}

impl Runs {
    /// Those that are listed.
    pub fn listed(&self) -> impl Iterator<Item = &JobView> {
        self.list.iter().filter(|job| !job.dismissed).map(|job| &job.view)
    }

    /// The one with this id, if it is one of them.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<&RunJob> {
        self.list.iter().find(|job| job.view.id == id && !job.dismissed)
    }

    /// Takes one off the list. It is there again when its pane runs it again.
    pub fn dismiss(&mut self, id: JobId) {
        if let Some(job) = self.list.iter_mut().find(|job| job.view.id == id) {
            job.dismissed = true;
        }
    }

    /// Brings them in line with the panes. Whether anything has changed.
    pub fn follow(&mut self, panes: &Panes, now: UnixMs) -> bool {
        let mut changed = false;
        for entry in panes.list() {
            let Some(run) = entry.run().filter(|run| run.is_work()) else { continue };
            let (at, state) = (self.list.iter().position(|job| job.pane == entry.id), state(entry));
            match at {
                Some(at) if self.list[at].view.state == state => continue,
                // It is run again: that makes it the newest.
                Some(at) if self.list[at].view.state.is_over() && !state.is_over() => {
                    self.list.remove(at);
                    self.add(entry.id, run.clone(), state, now);
                }
                Some(at) => self.list[at].set(state, now),
                None => self.add(entry.id, run.clone(), state, now),
            }
            let job = self.list.iter_mut().find(|job| job.pane == entry.id);
            if let Some(job) = job.filter(|job| job.view.state.is_over()) {
                job.view.log = last_words(entry);
            }
            changed = true;
        }
        for job in &mut self.list {
            if panes.get(job.pane).is_none() && !job.view.state.is_over() {
                job.set(JobState::Cancelled, now);
                changed = true;
            }
        }
        self.list.retain(|job| !job.dismissed || panes.get(job.pane).is_some());
        if self.list.len() > MOST
            && let Some(oldest) = self.list.iter().position(|job| job.view.state.is_over())
        {
            self.list.remove(oldest);
        }
        changed
    }

    fn add(&mut self, pane: PaneId, run: Run, state: JobState, now: UnixMs) {
        let view = JobView {
            id: JobId(FIRST + self.count),
            title: run.title.clone(),
            vm: None,
            state: JobState::Running,
            steps: Vec::new(),
            log: Vec::new(),
            started: now,
            ended: None,
            cancellable: true,
        };
        self.count += 1;
        let mut job = RunJob { pane, run, view, dismissed: false };
        job.set(state, now);
        self.list.push(job);
    }
}

impl RunJob {
    fn set(&mut self, state: JobState, now: UnixMs) {
        let over = state.is_over();
        self.view.ended = over.then_some(now);
        self.view.cancellable = !over;
        self.view.state = state;
    }
}

/// What it said last: its pane may be closed before somebody reads that.
fn last_words(entry: &Entry) -> Vec<String> {
    let pane = entry.pane.as_ref();
    let lines = pane.map(|pane| pane.with_engine(|engine| engine.last_lines(LAST)));
    let lines = lines.unwrap_or_default().into_iter();
    lines.map(|line| clean(&line, LINE_MAX)).collect()
}

/// How far what a pane runs is.
fn state(entry: &Entry) -> JobState {
    match entry.pane.as_ref().map(Pane::state) {
        None | Some(PaneState::Opening | PaneState::Live) => JobState::Running,
        Some(PaneState::Ended(_)) if entry.is_done() => JobState::Done,
        Some(PaneState::Ended(why)) => {
            let why = if why.is_empty() { "it has ended".to_owned() } else { why };
            let what = format!("“{}” was not done", entry.name);
            JobState::Failed { problem: Problem::new(what, why, "what it said last is below") }
        }
        Some(PaneState::Failed(problem)) => JobState::Failed { problem },
    }
}
