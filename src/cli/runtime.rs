//! `banger runtime …`.

mod show;

use std::{
    io::{self, IsTerminal, Write},
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
    bundle::{
        self, BootstrapOptions, Configured, Event, Extent, Look, Manifest, PackageOptions, Places,
        Target,
    },
    config::{self, Sources},
    domain::{ByteSize, Problem, StepState, StepView},
};

/// Makes, checks, packs or shows the runtime directory.
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
        RuntimeVerb::Bootstrap { init, dir, bundle, sha256, manifest, assemble } => {
            let dir = target(dir.as_deref(), &configured)?;
            let mut options = BootstrapOptions::of_environment(dir, init.clone())?;
            if let Some(path) = manifest {
                options = options.with_manifest(Manifest::read(path)?);
            }
            if let Some(at) = bundle {
                options.published = Some(bundle::bundle_at(at, sha256.as_deref())?);
            }
            if *assemble {
                options.published = None;
            }
            bootstrap(&options)
        }
        RuntimeVerb::Update { init, dir } => {
            let dir = located(dir.as_deref(), &configured)?;
            let mut options = BootstrapOptions::of_environment(dir, init.clone())?;
            options.extent = Extent::Kernel;
            bootstrap(&options)
        }
        RuntimeVerb::Rollback { dir } => rollback(&located(dir.as_deref(), &configured)?),
        RuntimeVerb::Status { json, dir } => show::status(dir.as_deref(), &configured, *json),
        RuntimeVerb::Package { output, with_qemu, url, dir } => {
            let options = PackageOptions {
                dir: located(dir.as_deref(), &configured)?,
                output: output.clone(),
                with_qemu: *with_qemu,
                epoch: epoch(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?,
            };
            package(&options, url.as_deref())
        }
        RuntimeVerb::Verify { dir } => verify(&located(dir.as_deref(), &configured)?),
        RuntimeVerb::Install { at, dir } => install(at, dir.as_deref(), &configured),
    }
}

/// Where a bootstrap makes it.
fn target(dir: Option<&Path>, configured: &Configured) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => absolute(dir),
        None => Ok(bundle::target(&Places::of_this_process(configured), Look::REAL)?.dir),
    }
}

/// Where it is.
fn located(dir: Option<&Path>, configured: &Configured) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => absolute(dir),
        None => Ok(bundle::locate(configured)?.dir),
    }
}

/// The date of what is packed: <https://reproducible-builds.org/specs/source-date-epoch/>.
fn epoch(variable: Option<&str>) -> Result<u64, Problem> {
    let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(0) };
    text.parse().map_err(|_| {
        Problem::new(
            "cannot tell the date of what is packed",
            format!("SOURCE_DATE_EPOCH is “{text}”"),
            "set it to whole seconds since 1970, or not at all",
        )
    })
}

fn bootstrap(options: &BootstrapOptions) -> Outcome {
    out::note(&format!("making the runtime directory {}", options.dir.display()));
    let cancel = cancel_on_signal()?;
    let mut steps = Steps::default();
    let report = bundle::bootstrap(options, &mut |event: Event<'_>| steps.event(event), &cancel)?;
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

fn rollback(dir: &Path) -> Outcome {
    let done = bundle::rollback(dir)?;
    out::line(format!("{} is as it was before", done.dir.display()))?;
    for (name, before, now) in done.differences() {
        let side = |side: Option<String>| side.unwrap_or_else(|| "nothing".to_owned());
        out::line(format!("  {name}: {} instead of {}", side(now), side(before)))?;
    }
    out::note("the same again undoes it; the next bootstrap or update brings what is newest");
    Ok(exit::OK)
}

fn package(options: &PackageOptions, url: Option<&str>) -> Outcome {
    let cancel = cancel_on_signal()?;
    let mut steps = Steps::default();
    let package = bundle::package(options, &mut |event: Event<'_>| steps.event(event), &cancel)?;
    let Some(package) = package else {
        out::note("cancelled");
        return Err(Failure::Said(exit::FAILED));
    };
    for note in &package.notes {
        out::note(&format!("note: {note}"));
    }
    let name = package.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let url = url.map_or_else(|| format!("https://example.org/{name}"), str::to_owned);
    let path = package.path.display();
    out::line(format!("{path}: {}, sha256 {}", ByteSize(package.size), package.sha256))?;
    out::line(format!("\nFor runtime-bundle.toml:\n\n{}", package.snippet(&url).trim_end()))?;
    Ok(exit::OK)
}

fn verify(dir: &Path) -> Outcome {
    let cancel = cancel_on_signal()?;
    let mut steps = Steps::default();
    let result = bundle::verify(dir, &mut |event: Event<'_>| steps.event(event), &cancel)?;
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
pub(super) fn cancel_on_signal() -> Result<Arc<AtomicBool>, Failure> {
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

/// Shows steps as lines: when each begins and ends; on a terminal one line says how far it is.
#[derive(Default)]
struct Steps {
    /// The state each step was last shown in.
    shown: Vec<StepState>,
    /// Whether the cursor is in a line that is to be overwritten.
    open: bool,
}

impl Steps {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Plan(steps) => self.shown = vec![StepState::Pending; steps.len()],
            Event::Step(index, step) => {
                let Some(shown) = self.shown.get_mut(index) else { return };
                let changed = *shown != step.state;
                *shown = step.state;
                if step.state == StepState::Running {
                    self.running(step);
                } else if changed {
                    self.close();
                    if let Some(line) = line(step) {
                        out::note(&line);
                    }
                }
            }
            // What programs print is for the log of a job; an error quotes what matters of it.
            Event::Log(text) => tracing::info!(text, "bootstrap"),
        }
    }

    /// One line for what is under way, written over and over.
    fn running(&mut self, step: &StepView) {
        let mut stderr = io::stderr();
        if !stderr.is_terminal() {
            return;
        }
        let progress = step.progress.map_or_else(String::new, |p| {
            let percent = p.done * 100 / p.total.max(1);
            format!(" {} of {}, {percent} %", ByteSize(p.done), ByteSize(p.total))
        });
        let colon = if step.detail.is_empty() { "" } else { ": " };
        let text = format!("       …  {}{colon}{}{progress}", step.name, step.detail);
        // Longer than the line it could not be written over.
        let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let text: String = out::printable(&text).chars().take(columns.saturating_sub(1)).collect();
        // If standard error is closed, there is nobody to tell.
        let _ = write!(stderr, "\r\x1b[K{text}");
        self.open = true;
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.close();
    }
}

fn line(step: &StepView) -> Option<String> {
    let mark = match step.state {
        StepState::Pending | StepState::Running => return None,
        StepState::Done => "done",
        StepState::Cached => "there",
        StepState::Skipped => "left out",
        StepState::Failed => "FAILED",
    };
    let colon = if step.detail.is_empty() { "" } else { ": " };
    Some(format!("{mark:>8}  {}{colon}{}", step.name, step.detail))
}
