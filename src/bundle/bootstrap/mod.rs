//! Makes a runtime directory from the manifest.
//!
//! Each step has a fingerprint of everything that goes in, and leaves its outputs in the
//! record: as long as both are as they were, the step is not done again. Work in progress lies
//! in `.partial` within the runtime directory; what is finished is moved into place by rename,
//! and only then recorded. So a bootstrap can be killed at any moment: the next one goes on.

mod child;
mod download;
mod failure;
mod firecracker;
mod image;
mod initrd;
mod kernel;
mod lock;
mod modules;
mod run;
mod tools;
mod work;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use self::{failure::Failure, run::Run};
use super::{Manifest, Reporter, place};
use crate::domain::{Problem, StepState, StepView};

/// What a bootstrap is to make, and of what.
#[derive(Clone, Debug)]
pub struct BootstrapOptions {
    /// The runtime directory; made if it is missing.
    pub dir: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// The guest's init; `None` is `banger-init` beside the running program.
    pub init: Option<PathBuf>,
    /// The scripts the manifest names, and those they call, by path in the project.
    pub scripts: BTreeMap<String, String>,
    /// Where the programs it runs are looked for, as in `PATH`.
    pub path: OsString,
}

impl BootstrapOptions {
    /// A bootstrap of `dir` with the manifest and the scripts this banger was built with.
    #[must_use]
    pub fn new(dir: PathBuf, init: Option<PathBuf>) -> Self {
        let mut path = env::var_os("PATH").unwrap_or_default();
        // mke2fs and others lie in directories that a normal user's PATH does not have.
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        let scripts = image::embedded_scripts();
        Self { dir, manifest: Manifest::embedded(), init, scripts, path }
    }
}

/// How a bootstrap ended.
#[derive(Clone, Debug)]
pub struct BootstrapReport {
    /// The runtime directory.
    pub dir: PathBuf,
    /// The steps as they ended.
    pub steps: Vec<StepView>,
    /// What failed, in the order of the steps.
    pub problems: Vec<Problem>,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

impl BootstrapReport {
    /// Whether all that can be had here is there; steps that were skipped do not count.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && !self.cancelled
    }
}

/// What a step does.
#[derive(Clone, Copy)]
enum Kind {
    Tools,
    Firecracker,
    Kernel,
    Initrd,
    /// The image of this index in the manifest.
    Image(usize),
}

/// Makes the runtime directory, or what is missing of it. Blocks until it is over; `cancel` set
/// from elsewhere ends it within about ten seconds, with everything it started.
///
/// # Errors
/// When it cannot begin: the directory cannot be made, its record cannot be read, or another
/// bootstrap is at work in it. What fails later is in the report.
pub fn bootstrap(
    options: &BootstrapOptions,
    reporter: &mut dyn Reporter,
    cancel: &AtomicBool,
) -> Result<BootstrapReport, Problem> {
    place::must_be_writable(&options.dir)?;
    let mut steps = vec![
        ("tools".to_owned(), Kind::Tools),
        ("firecracker".to_owned(), Kind::Firecracker),
        ("kernel".to_owned(), Kind::Kernel),
        ("initrd".to_owned(), Kind::Initrd),
    ];
    let images = options.manifest.images.iter().enumerate();
    steps.extend(images.map(|(i, image)| (format!("image {}", image.name), Kind::Image(i))));

    let names = steps.iter().map(|(name, _)| name.clone());
    let mut run = Run::begin(options, names, reporter, cancel)?;
    let mut problems = Vec::new();
    let mut cancelled = false;
    for (index, (_, kind)) in steps.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            cancelled = true;
            break;
        }
        run.start(index);
        let result = match kind {
            Kind::Tools => tools::run(&mut run),
            Kind::Firecracker => firecracker::run(&mut run),
            Kind::Kernel => kernel::run(&mut run),
            Kind::Initrd => initrd::run(&mut run),
            Kind::Image(i) => image::run(&mut run, &options.manifest.images[*i]),
        };
        match result {
            Ok((state, detail)) => run.finish(state, &detail),
            Err(Failure::Skip(why)) => run.finish(StepState::Skipped, &why),
            Err(Failure::Cancelled) => {
                run.finish(StepState::Failed, "cancelled");
                cancelled = true;
                break;
            }
            Err(Failure::Step(problem)) => {
                run.finish(StepState::Failed, &problem.why);
                problems.push(problem);
            }
            Err(Failure::Stop(problem)) => {
                run.finish(StepState::Failed, &problem.why);
                problems.push(problem);
                break;
            }
        }
    }
    let good = problems.is_empty() && !cancelled;
    let steps = run.end(good);
    Ok(BootstrapReport { dir: options.dir.clone(), steps, problems, cancelled })
}
