//! `banger runtime …`.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    args::{Place, RuntimeVerb},
    exit::{self, Failure, Outcome},
    out, setup, signals,
};
use crate::{
    bundle::{self, BootstrapOptions, Configured, Event, Look, Places, Target},
    config::{self, Sources},
    domain::{Problem, StepState, StepView},
};

/// Makes or checks the runtime directory.
///
/// # Errors
/// What cannot be made or is not as it should be.
pub fn run(verb: &RuntimeVerb) -> Outcome {
    let config = config::load(&Sources::of_this_process()?)?;
    for notice in &config.notices {
        out::note(&format!("note: {notice}"));
    }
    let configured = setup::configured(&config);
    match verb {
        RuntimeVerb::Bootstrap { init, dir } => {
            bootstrap(init.clone(), dir.as_deref(), &configured)
        }
        RuntimeVerb::Verify { dir } => verify(dir.as_deref(), &configured),
        RuntimeVerb::Install { at, dir } => install(at, dir.as_deref(), &configured),
    }
}

fn bootstrap(init: Option<PathBuf>, dir: Option<&Path>, configured: &Configured) -> Outcome {
    let dir = match dir {
        Some(dir) => absolute(dir)?,
        None => bundle::target(&Places::of_this_process(configured), Look::REAL)?.dir,
    };
    out::note(&format!("making the runtime directory {}", dir.display()));
    let cancel = cancel_on_signal()?;
    let mut steps = Steps::default();
    let report = bundle::bootstrap(
        &BootstrapOptions::new(dir, init),
        &mut |event: Event<'_>| steps.event(event),
        &cancel,
    )?;
    for problem in &report.problems {
        out::error(problem);
    }
    if report.cancelled {
        out::note("cancelled; the next `banger runtime bootstrap` goes on from here");
    }
    if !report.is_good() {
        return Err(Failure::Said(exit::FAILED));
    }
    out::line(format!("{} is ready", report.dir.display()))?;
    Ok(exit::OK)
}

fn verify(dir: Option<&Path>, configured: &Configured) -> Outcome {
    let dir = match dir {
        Some(dir) => absolute(dir)?,
        None => bundle::locate(configured)?.dir,
    };
    let cancel = cancel_on_signal()?;
    let mut steps = Steps::default();
    let result = bundle::verify(&dir, &mut |event: Event<'_>| steps.event(event), &cancel)?;
    if result.cancelled {
        out::note("cancelled");
        return Err(Failure::Said(exit::FAILED));
    }
    if let Some(problem) = result.problem() {
        return Err(problem.into());
    }
    out::line(format!("{}: all {} files are as recorded", dir.display(), result.good))?;
    Ok(exit::OK)
}

fn install(at: &Place, dir: Option<&Path>, configured: &Configured) -> Outcome {
    let dir = match dir {
        Some(dir) => absolute(dir)?,
        None => bundle::locate(configured)?.dir,
    };
    let target = Target::new(&at.prefix, at.destdir.as_deref())?;
    let cancel = cancel_on_signal()?;
    let mut steps = Steps::default();
    let mut see = |event: Event<'_>| steps.event(event);
    let report = bundle::install_bundle(&dir, &target, &mut see, &cancel)?;
    if report.cancelled {
        out::note("cancelled; nothing has changed");
        return Err(Failure::Said(exit::FAILED));
    }
    out::line(format!("{} has {} files", report.dir.display(), report.files))?;
    Ok(exit::OK)
}

/// A flag that is set when we are asked to end, so that nothing half-made is left.
fn cancel_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    signals::watch(move |_| flag.store(true, Ordering::Relaxed))?;
    Ok(cancel)
}

fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(dir).map_err(|e| {
        let what = format!("cannot use {}", dir.display());
        Problem::new(what, e.to_string(), "give --dir an absolute path")
    })?)
}

/// Shows steps as lines: when each begins and ends, and now and then how far it is.
#[derive(Default)]
struct Steps {
    /// The state each step was last shown in.
    shown: Vec<StepState>,
}

impl Steps {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Plan(steps) => self.shown = vec![StepState::Pending; steps.len()],
            Event::Step(index, step) => {
                let Some(shown) = self.shown.get_mut(index) else { return };
                if *shown == step.state {
                    return;
                }
                *shown = step.state;
                if let Some(line) = line(step) {
                    out::note(&line);
                }
            }
            // What programs print is for the log of a job; an error quotes what matters of it.
            Event::Log(text) => tracing::info!(text, "bootstrap"),
        }
    }
}

fn line(step: &StepView) -> Option<String> {
    let mark = match step.state {
        StepState::Pending => return None,
        StepState::Running if !io::stderr().is_terminal() => return None,
        StepState::Running => "…",
        StepState::Done => "done",
        StepState::Cached => "there",
        StepState::Skipped => "left out",
        StepState::Failed => "FAILED",
    };
    let colon = if step.detail.is_empty() { "" } else { ": " };
    Some(format!("{mark:>8}  {}{colon}{}", step.name, step.detail))
}
