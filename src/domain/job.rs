//! Everything that takes longer than a blink.

use serde::{Deserialize, Serialize};

use super::{Problem, UnixMs, VmId};

/// Identifies a job within one banger process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum JobState {
    /// Waits for its turn.
    Queued,
    /// Under way.
    Running,
    /// Succeeded.
    Done,
    /// Failed; stays until dismissed.
    Failed {
        /// What, why, and what to do.
        problem: Problem,
    },
    /// Ended by the user.
    Cancelled,
}

impl JobState {
    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Failed { .. } | Self::Cancelled)
    }
}

/// How far a step of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Succeeded.
    Done,
    /// Was done before; nothing to do.
    Cached,
    /// Could not be done here, which does not stop the rest.
    Skipped,
    /// Failed.
    Failed,
}

/// Progress with a known total: `done` of `total`, in `unit`s of bytes unless the step says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// So far.
    pub done: u64,
    /// In all; never 0.
    pub total: u64,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name: `debian image`.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// One line: what it found, fetched or could not do.
    pub detail: String,
    /// Only where a total is known.
    pub progress: Option<Progress>,
}

impl StepView {
    /// A step that has not begun.
    #[must_use]
    pub fn pending(name: impl Into<String>) -> Self {
        Self { name: name.into(), state: StepState::Pending, detail: String::new(), progress: None }
    }
}

/// A job as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// What it does: `start web`.
    pub title: String,
    /// The VM it belongs to.
    pub vm: Option<VmId>,
    /// How far it is.
    pub state: JobState,
    /// Its steps in order; may grow.
    pub steps: Vec<StepView>,
    /// The last lines of its log, oldest first; at most 200.
    pub log: Vec<String>,
    /// When it was accepted.
    pub started: UnixMs,
    /// When it was over.
    pub ended: Option<UnixMs>,
    /// Whether it can be cancelled now.
    pub cancellable: bool,
}
