//! `banger --restore`: bring back what ran, and say what happened to each VM.

use std::collections::HashSet;

use super::{
    client::Client,
    exit::{self, Failure, Outcome},
    out,
};
use crate::domain::{CommandBody, JobView, StepState};

/// Brings back what should run, with a line for each VM as soon as its fate is known.
///
/// # Errors
/// When not everything came back, the state cannot be read, or the output not be written.
pub fn run(client: &mut Client) -> Outcome {
    client.loaded()?;
    let mut told = HashSet::new();
    client.ask_and_see("restore", CommandBody::Restore, |job| tell(job, &mut told))?;
    if told.is_empty() {
        out::progress("no VM is to run");
    }
    Ok(exit::OK)
}

/// Prints the steps - one is one VM - that ended since the last time.
fn tell(job: &JobView, told: &mut HashSet<String>) -> Result<(), Failure> {
    for line in news(job, told) {
        out::line(line)?;
    }
    Ok(())
}

fn news(job: &JobView, told: &mut HashSet<String>) -> Vec<String> {
    let over = |state| !matches!(state, StepState::Pending | StepState::Running);
    job.steps
        .iter()
        .filter(|step| over(step.state) && told.insert(step.name.clone()))
        .map(|step| format!("{}: {}", step.name, step.detail))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, JobState, StepView, UnixMs};

    #[test]
    fn each_vm_is_told_once_when_its_fate_is_known() {
        let mut job = JobView {
            id: JobId(1),
            title: "restore".into(),
            vm: None,
            state: JobState::Running,
            steps: ["web", "db"]
                .map(|name| StepView {
                    name: name.into(),
                    state: StepState::Running,
                    detail: String::new(),
                    progress: None,
                })
                .into(),
            log: Vec::new(),
            started: UnixMs(0),
            ended: None,
            cancellable: true,
        };
        let mut told = HashSet::new();
        assert!(news(&job, &mut told).is_empty());
        job.steps[1].state = StepState::Failed;
        job.steps[1].detail = "failed: no memory".into();
        assert_eq!(news(&job, &mut told), ["db: failed: no memory"]);
        job.steps[0].state = StepState::Done;
        job.steps[0].detail = "adopted: it is up".into();
        assert_eq!(news(&job, &mut told), ["web: adopted: it is up"]);
        assert!(news(&job, &mut told).is_empty());
    }
}
