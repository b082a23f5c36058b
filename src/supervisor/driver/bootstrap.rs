//! The bootstrap of the runtime directory as a job.

use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc;

use crate::{
    bundle::{BootstrapOptions, Event, Look, Places, bootstrap, target},
    domain::{JobId, Problem, StepView},
    supervisor::{Options, core::Input},
};

/// Runs it, with its progress told to the core. Blocks.
///
/// # Errors
/// The first thing that failed; all of them are in the job's log.
pub fn run(
    options: &Options,
    job: JobId,
    inputs: &mpsc::UnboundedSender<Input>,
    cancel: &AtomicBool,
) -> Result<(), Problem> {
    let dir = target(&Places::of_this_process(&options.runtime_dir), Look::REAL)?.dir;
    let mut steps: Vec<StepView> = Vec::new();
    let tell = |steps: &[StepView], log: Vec<String>| {
        let _ = inputs.send(Input::JobProgress { job, steps: steps.to_vec(), log });
    };
    let mut reporter = |event: Event<'_>| match event {
        Event::Plan(plan) => {
            steps = plan.to_vec();
            tell(&steps, Vec::new());
        }
        Event::Step(index, step) => {
            if let Some(place) = steps.get_mut(index) {
                place.clone_from(step);
            }
            tell(&steps, Vec::new());
        }
        Event::Log(line) => tell(&steps, vec![line.to_owned()]),
    };
    let report = bootstrap(&BootstrapOptions::of_environment(dir, None)?, &mut reporter, cancel)?;
    let mut problems = report.problems.into_iter();
    match problems.next() {
        Some(first) => {
            tell(&report.steps, problems.map(|problem| problem.to_string()).collect());
            Err(first)
        }
        None if report.cancelled => {
            Err(Problem::new("the bootstrap was cancelled", "as asked", "it goes on where it was"))
        }
        None => Ok(()),
    }
}
