//! Makes a runtime directory from the manifest.
//!
//! Each step has a fingerprint of everything that goes in, and leaves its outputs in the
//! record: as long as both are as they were, the step is not done again. Work in progress lies
//! in `.partial` within the runtime directory; what is finished is moved into place by rename,
//! and only then recorded. So a bootstrap can be killed at any moment: the next one goes on.
//!
//! One step is done after the other; only the script of the largest image runs beside the rest.

mod ahead;
mod child;
mod download;
mod failure;
mod firecracker;
mod image;
mod initrd;
mod kernel;
mod modules;
mod published;
mod run;
mod tools;
mod work;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

pub(super) use self::failure::io_problem;
use self::{
    ahead::Ahead,
    failure::Failure,
    run::{Outcome, Run},
};
use super::{
    Manifest, Reporter,
    digest::sha256_file,
    manifest::{Arch, Source},
    place,
};
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
    /// The published bundle that is installed instead of making the parts; none: they are made.
    pub published: Option<Source>,
    /// How much of it.
    pub extent: Extent,
    /// What apt's answers depend on: its lists and its settings. As long as nothing in these
    /// directories changes, it is not asked again.
    pub apt: Vec<PathBuf>,
}

/// How much a bootstrap makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    All,
    /// The kernel, and the initrd that belongs to it.
    Kernel,
}

/// Another manifest than the program's own.
const MANIFEST_VARIABLE: &str = "BANGER_RUNTIME_MANIFEST";
/// A published bundle: an address or a file.
const BUNDLE_VARIABLE: &str = "BANGER_RUNTIME_BUNDLE";
/// Its SHA-256.
const SUM_VARIABLE: &str = "BANGER_RUNTIME_BUNDLE_SHA256";

impl BootstrapOptions {
    /// A bootstrap of `dir` with the manifest and the scripts this banger was built with.
    #[must_use]
    pub fn new(dir: PathBuf, init: Option<PathBuf>) -> Self {
        let mut path = env::var_os("PATH").unwrap_or_default();
        // mke2fs and others lie in directories that a normal user's PATH does not have.
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        let scripts = image::embedded_scripts();
        let apt = super::apt::DIRS.iter().map(PathBuf::from).collect();
        let options = Self {
            dir,
            manifest: Manifest::embedded(),
            init,
            scripts,
            path,
            published: None,
            extent: Extent::All,
            apt,
        };
        let manifest = options.manifest.clone();
        options.with_manifest(manifest)
    }

    /// As [`BootstrapOptions::new`], with the manifest and the bundle that the environment names:
    /// `BANGER_RUNTIME_MANIFEST`, `BANGER_RUNTIME_BUNDLE` with `BANGER_RUNTIME_BUNDLE_SHA256`.
    ///
    /// # Errors
    /// When these are not what they should be.
    pub fn of_environment(dir: PathBuf, init: Option<PathBuf>) -> Result<Self, Problem> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let mut options = Self::new(dir, init);
        if let Some(path) = variable(MANIFEST_VARIABLE) {
            options = options.with_manifest(Manifest::read(Path::new(&path))?);
        }
        if let Some(bundle) = variable(BUNDLE_VARIABLE) {
            let sum = variable(SUM_VARIABLE).map(|sum| sum.to_string_lossy().into_owned());
            options.published = Some(bundle_at(&bundle.to_string_lossy(), sum.as_deref())?);
        }
        Ok(options)
    }

    /// Goes by another manifest, and the bundle it publishes.
    #[must_use]
    pub fn with_manifest(mut self, manifest: Manifest) -> Self {
        let arch = Arch::of_this_machine();
        self.published = arch.and_then(|arch| manifest.bundle.get(&arch).cloned());
        self.manifest = manifest;
        self
    }
}

/// A published bundle at an address or in a file. What comes from an address needs a sum to go by;
/// of a file, what it is now is taken for what it should be.
///
/// # Errors
/// When the sum is missing or none, or the file cannot be read.
pub fn bundle_at(at: &str, sha256: Option<&str>) -> Result<Source, Problem> {
    let what = || format!("cannot use the bundle {at}");
    let remote = at.contains("://");
    let sum = match sha256 {
        Some(sum) => sum.to_ascii_lowercase(),
        None if remote => {
            return Err(Problem::new(
                what(),
                "nothing says what its content has to be",
                "give its SHA-256, too: --sha256",
            ));
        }
        None => sha256_file(Path::new(at), |_| true)
            .map_err(|e| Problem::new(what(), e.to_string(), "name a bundle's archive"))?
            .unwrap_or_default(),
    };
    let (url, file) = if remote {
        (Some(at.to_owned()), None)
    } else {
        (None, Some(std::path::absolute(at).unwrap_or_else(|_| at.into())))
    };
    let source = Source { url, file, sha256: Some(sum), ..Source::default() };
    source.check(false).map_err(|(why, hint)| Problem::new(what(), why, hint))?;
    Ok(source)
}

impl BootstrapOptions {
    /// The steps, in their order.
    fn steps(&self) -> Vec<(String, Kind)> {
        let step = |name: &str, kind| (name.to_owned(), kind);
        let kernel = [step("kernel", Kind::Kernel), step("initrd", Kind::Initrd)];
        if self.extent == Extent::Kernel {
            return [step("tools", Kind::Tools)].into_iter().chain(kernel).collect();
        }
        if self.published.is_some() {
            return vec![step("bundle", Kind::Published)];
        }
        let images = self.manifest.images.iter().enumerate();
        [step("tools", Kind::Tools), step("firecracker", Kind::Firecracker)]
            .into_iter()
            .chain(kernel)
            .chain(images.map(|(i, image)| (format!("image {}", image.name), Kind::Image(i))))
            .collect()
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
    /// Instead of all others.
    Published,
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
    let steps = options.steps();
    let names = steps.iter().map(|(name, _)| name.clone());
    let mut run = Run::begin(options, names, reporter, cancel)?;
    let mut ended = Ended::default();
    let given_up = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut ahead = None;
        for (index, (_, kind)) in steps.iter().enumerate() {
            if cancel.load(Ordering::Relaxed) {
                ended.cancelled = true;
                break;
            }
            run.start(index);
            let outcome = one_step(*kind, &mut run, &mut ahead);
            if ended.by(outcome, &mut run).is_break() {
                break;
            }
            if matches!(kind, Kind::Tools) && options.extent == Extent::All {
                ahead = Ahead::begin(&mut run, scope, &given_up);
            }
        }
        given_up.store(true, Ordering::Relaxed);
    });
    let Ended { problems, cancelled } = ended;
    let good = problems.is_empty() && !cancelled;
    let steps = run.end(good)?;
    Ok(BootstrapReport { dir: options.dir.clone(), steps, problems, cancelled })
}

/// How the steps ended that are over.
#[derive(Default)]
struct Ended {
    /// What failed.
    problems: Vec<Problem>,
    /// Whether one was cancelled.
    cancelled: bool,
}

impl Ended {
    /// Notes how a step ended; whether others can come after it.
    fn by(&mut self, outcome: Outcome, run: &mut Run<'_>) -> ControlFlow<()> {
        match outcome {
            Ok((state, detail)) => run.finish(state, &detail),
            Err(Failure::Skip(why)) => run.finish(StepState::Skipped, &why),
            Err(Failure::Cancelled) => {
                run.finish(StepState::Failed, "cancelled");
                self.cancelled = true;
                return ControlFlow::Break(());
            }
            Err(Failure::Step(problem)) => {
                run.finish(StepState::Failed, &problem.why);
                self.problems.push(problem);
            }
            Err(Failure::Stop(problem)) => {
                run.finish(StepState::Failed, &problem.why);
                self.problems.push(problem);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Does a step. The one whose script runs `ahead` takes that.
fn one_step(kind: Kind, run: &mut Run<'_>, ahead: &mut Option<Ahead<'_>>) -> Outcome {
    let options = run.options;
    match kind {
        Kind::Published => match &options.published {
            Some(source) => published::run(run, source),
            None => Err(Failure::Skip("none is published".to_owned())),
        },
        Kind::Tools => tools::run(run),
        Kind::Firecracker => firecracker::run(run),
        Kind::Kernel => kernel::run(run),
        Kind::Initrd => initrd::run(run),
        Kind::Image(i) => {
            let ahead = ahead.take_if(|ahead| ahead.is_of(i));
            image::run(run, &options.manifest.images[i], ahead)
        }
    }
}
