//! A bootstrap under way: what the steps have in common.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    BootstrapOptions,
    child::{Ended, Program, end_left_over},
    failure::{Failure, io_problem},
    work,
};
use crate::{
    bundle::{
        Bundle, Event, FileRecord, ImageRecord, Looked, Manifest, PARTIAL_DIR, Record, Reporter,
        StepRecord,
        digest::sha256_file,
        lock::{self, Lock},
        open::find_program,
        swap::Siblings,
    },
    domain::{Problem, Progress, StepState, StepView},
};

/// How a step that succeeded ended, and what it says.
pub(super) type Outcome = Result<(StepState, String), Failure>;

/// At most this often is progress told.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// A file a step has made, still in its working directory.
pub(super) struct Output {
    /// Where it is.
    pub from: PathBuf,
    /// Where it belongs, within the runtime directory.
    pub to: String,
    /// Its permission bits.
    pub mode: u32,
    /// See [`FileRecord::source`].
    pub source: String,
    /// See [`FileRecord::version`].
    pub version: String,
}

/// A bootstrap under way.
pub(super) struct Run<'a> {
    pub options: &'a BootstrapOptions,
    pub cancel: &'a AtomicBool,
    pub record: Record,
    /// The runtime directory and its neighbours.
    siblings: Siblings,
    /// Where what is made goes: the runtime directory, or the one that will take its place.
    into: PathBuf,
    /// Whether VMs can be made of what is there: then it is replaced as a whole or not at all.
    whole: bool,
    /// Whether the initrd belongs to the kernel.
    fits: bool,
    work: PathBuf,
    reporter: &'a mut dyn Reporter,
    steps: Vec<StepView>,
    index: usize,
    told: Option<Instant>,
    _lock: Lock,
}

impl<'a> Run<'a> {
    /// Takes the directory's lock, reads its record, and ends and clears what an earlier run
    /// that was killed left behind.
    pub fn begin(
        options: &'a BootstrapOptions,
        names: impl Iterator<Item = String>,
        reporter: &'a mut dyn Reporter,
        cancel: &'a AtomicBool,
    ) -> Result<Self, Problem> {
        let dir = &options.dir;
        let what = || format!("cannot make the runtime directory {}", dir.display());
        let work = dir.join(PARTIAL_DIR);
        fs::create_dir_all(dir).map_err(|e| io_problem(what(), &e))?;
        let lock = lock::take(dir)?;
        let siblings = Siblings::of(dir).map_err(|e| io_problem(what(), &e))?;
        siblings.sweep().map_err(|e| io_problem(what(), &e))?;
        let mut record = Record::read(dir)?.unwrap_or_else(Record::empty);
        if record.arch != std::env::consts::ARCH {
            record = Record::empty();
        }
        let ended = end_left_over(dir);
        fs::create_dir_all(&work).map_err(|e| io_problem(what(), &e))?;
        let steps: Vec<StepView> = names.map(StepView::pending).collect();
        reporter.event(Event::Plan(&steps));
        if ended > 0 {
            reporter.event(Event::Log("ended what an earlier bootstrap had left running"));
        }
        Ok(Self {
            options,
            cancel,
            record,
            into: siblings.dir.clone(),
            siblings,
            whole: Bundle::open(dir).is_ok(),
            fits: true,
            work,
            reporter,
            steps,
            index: 0,
            told: None,
            _lock: lock,
        })
    }

    /// Where the bundle is that is being made, or that is there and good.
    pub fn dir(&self) -> &Path {
        &self.into
    }

    fn is_staged(&self) -> bool {
        self.into != self.siblings.dir
    }

    /// Begins a step.
    pub fn start(&mut self, index: usize) {
        self.index = index;
        self.steps[index].state = StepState::Running;
        self.tell();
    }

    /// Ends the step.
    pub fn finish(&mut self, state: StepState, detail: &str) {
        let step = &mut self.steps[self.index];
        step.state = state;
        step.detail = detail.to_owned();
        step.progress = None;
        if step.name == "initrd" && matches!(state, StepState::Done | StepState::Cached) {
            self.fits = true;
        }
        self.tell();
    }

    /// Ends the run: what was made beside the old one takes its place. A good run leaves no
    /// working directory.
    ///
    /// # Errors
    /// When it cannot take its place.
    pub fn end(mut self, good: bool) -> Result<Vec<StepView>, Problem> {
        if good {
            // What cannot be removed now is removed when it is next in the way.
            let _ = work::remove(&self.work, &self.options.dir);
        }
        if self.is_staged() && self.fits && Bundle::open(&self.into).is_ok() {
            let what =
                format!("cannot replace the runtime directory {}", self.siblings.dir.display());
            self.replace().map_err(|e| io_problem(what, &e))?;
        } else {
            self.unstage();
        }
        Ok(self.steps)
    }

    fn replace(&mut self) -> io::Result<()> {
        let next = &self.siblings.next;
        // Nobody may begin to work in the new one before the old one is out of the way.
        let _next = lock::take(next).map_err(io::Error::other)?;
        if self.work.exists() {
            fs::rename(&self.work, next.join(PARTIAL_DIR))?;
        }
        self.siblings.swap(self.whole)
    }

    /// Makes sure that what is made goes beside a bundle that is whole and in use, not into it:
    /// a copy of it, of links, is begun there. Where that cannot be, each file is replaced alone.
    fn stage(&mut self) -> Result<(), Failure> {
        if self.is_staged() || !self.whole {
            return Ok(());
        }
        if self.stage_empty()?.is_some() {
            self.link(|_| true)?;
        }
        Ok(())
    }

    /// Begins an empty directory beside the one that is there: its path, or none if there can be
    /// none.
    pub fn stage_empty(&mut self) -> Result<Option<PathBuf>, Failure> {
        match self.siblings.stage() {
            Ok(()) => {
                self.into.clone_from(&self.siblings.next);
                Ok(Some(self.into.clone()))
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::CrossesDevices
                ) =>
            {
                self.log(&format!("nothing can be made beside the runtime directory: {e}"));
                self.whole = false;
                Ok(None)
            }
            Err(e) => Err(self.io("the directory beside it", &e)),
        }
    }

    /// Takes files of the present directory along, as far as `wanted` and not made anew.
    pub fn link(&self, wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
        self.siblings.link(wanted).map_err(|e| self.io("what stays of the present one", &e))
    }

    /// Gives up what was begun beside the present one.
    pub fn unstage(&mut self) {
        if self.is_staged() {
            self.into.clone_from(&self.siblings.dir);
            // What cannot be removed now is swept by the next bootstrap.
            let _ = self.siblings.sweep();
        }
    }

    /// Whether a program is there.
    pub fn has_program(&self, name: &str) -> bool {
        find_program(name, Some(self.options.path.as_os_str())).is_some()
    }

    /// Whether every recorded file has the recorded content.
    pub fn all_intact(&mut self) -> Result<bool, Failure> {
        let names: Vec<String> = self.record.files.keys().cloned().collect();
        for name in names {
            if !self.intact(&name)? {
                return Ok(false);
            }
        }
        Ok(self.whole)
    }

    /// What apt offered when it was last asked, if it would say the same again.
    pub fn looked(&self, stamp: &str) -> Option<Looked> {
        let looked = self.record.steps.get(self.step())?.looked.clone()?;
        (looked.stamp == stamp && !stamp.is_empty()).then_some(looked)
    }

    /// Remembers what apt offered.
    pub fn remember(&mut self, looked: Looked) -> Result<(), Failure> {
        let step = self.steps[self.index].name.clone();
        match self.record.steps.get_mut(&step) {
            Some(step) if step.looked.as_ref() != Some(&looked) => step.looked = Some(looked),
            _ => return Ok(()),
        }
        self.save()
    }

    /// Says what the step is doing.
    pub fn detail(&mut self, text: &str) {
        let step = &mut self.steps[self.index];
        step.detail = text.to_owned();
        step.progress = None;
        self.tell();
    }

    /// Says how far the step is.
    pub fn progress(&mut self, done: u64, total: u64) {
        if total == 0 || self.told.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        self.steps[self.index].progress = Some(Progress { done: done.min(total), total });
        self.tell();
    }

    fn tell(&mut self) {
        self.told = Some(Instant::now());
        self.reporter.event(Event::Step(self.index, &self.steps[self.index]));
    }

    /// The name of the step.
    pub fn step(&self) -> &str {
        &self.steps[self.index].name
    }

    /// The manifest.
    pub const fn manifest(&self) -> &'a Manifest {
        &self.options.manifest
    }

    /// A problem of this step with a file or a program.
    pub fn io(&self, why: &str, error: &io::Error) -> Failure {
        let mut problem = io_problem(format!("cannot make the {}", self.step()), error);
        problem.why = format!("{why}: {}", problem.why);
        Failure::Step(problem)
    }

    /// A problem of this step.
    pub fn fail(&self, why: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Step(Problem::new(format!("cannot make the {}", self.step()), why, hint))
    }

    /// An empty working directory.
    pub fn fresh_dir(&self, name: &str) -> Result<PathBuf, Failure> {
        work::fresh_dir(&self.work, name, &self.options.dir)
            .map_err(|e| self.io("its working directory", &e))
    }

    /// A working directory with what an earlier run left in it.
    pub fn kept_dir(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = self.work.join(name);
        fs::create_dir_all(&dir).map_err(|e| self.io("its working directory", &e))?;
        Ok(dir)
    }

    /// A program that works in `dir`.
    pub fn program(&self, name: &str, dir: &Path) -> Program {
        Program::new(name, dir, &self.options.dir).env("PATH", &self.options.path)
    }

    /// Runs a program, its lines going to the log. `grows` is a file whose size is the progress
    /// towards a total number of bytes.
    pub fn run_program(
        &mut self,
        name: &str,
        program: Program,
        grows: Option<(&Path, u64)>,
    ) -> Result<Ended, Failure> {
        let size = |path: &Path| path.metadata().map_or(0, |m| m.len());
        self.watch_program(name, program, |run| {
            if let Some((path, total)) = grows {
                run.progress(size(path), total);
            }
            true
        })
    }

    /// Runs a program, its lines going to the log; `tick` is called several times a second and
    /// answers whether it may go on.
    pub fn watch_program(
        &mut self,
        name: &str,
        program: Program,
        mut tick: impl FnMut(&mut Self) -> bool,
    ) -> Result<Ended, Failure> {
        let cancel = self.cancel;
        // Both closures want the run; each takes its turn.
        let run = std::cell::RefCell::new(&mut *self);
        let line = |text: &str| run.borrow_mut().log(text);
        let tick = || tick(&mut run.borrow_mut());
        let ended = program.run(cancel, line, tick);
        match ended {
            Ok(Some(ended)) => Ok(ended),
            Ok(None) => Err(Failure::Cancelled),
            Err(e) => Err(self.io(name, &e)),
        }
    }

    /// Adds a line to the log.
    pub fn log(&mut self, line: &str) {
        self.reporter.event(Event::Log(line));
    }

    /// The SHA-256 of a file, with progress.
    pub fn sha256(&mut self, path: &Path) -> Result<String, Failure> {
        let total = path.metadata().map_or(0, |m| m.len());
        let cancel = self.cancel;
        let sum = sha256_file(path, |done| {
            self.progress(done, total);
            !cancel.load(Ordering::Relaxed)
        });
        sum.map_err(|e| self.io(&path.display().to_string(), &e))?.ok_or(Failure::Cancelled)
    }

    /// What the step said when it was done with the same fingerprint, if its outputs are still
    /// what they were. A file whose time of change differs is read to find out.
    pub fn cached(&mut self, fingerprint: &str) -> Result<Option<String>, Failure> {
        let step = self.step().to_owned();
        self.cached_step(&step, fingerprint)
    }

    /// The same of another step.
    pub fn cached_step(
        &mut self,
        name: &str,
        fingerprint: &str,
    ) -> Result<Option<String>, Failure> {
        let Some(step) = self.record.steps.get(name).cloned() else { return Ok(None) };
        if step.fingerprint != fingerprint {
            return Ok(None);
        }
        for output in &step.outputs {
            if !self.intact(output)? {
                return Ok(None);
            }
        }
        Ok(Some(step.detail))
    }

    /// Whether a recorded file has the recorded content.
    fn intact(&mut self, name: &str) -> Result<bool, Failure> {
        let Some(file) = self.record.files.get(name).cloned() else { return Ok(false) };
        let path = self.into.join(name);
        let Ok(meta) = path.metadata() else { return Ok(false) };
        if !meta.is_file() || meta.len() != file.size {
            return Ok(false);
        }
        let modified_ns = work::modified_ns(&meta);
        if modified_ns == file.modified_ns {
            return Ok(true);
        }
        if self.sha256(&path)? != file.sha256 {
            self.log(&format!("{name} was changed: making it again"));
            return Ok(false);
        }
        self.record.files.insert(name.to_owned(), FileRecord { modified_ns, ..file });
        self.save()?;
        Ok(true)
    }

    /// The sums of what a step has made, which is on disk when this returns: it is written there
    /// while it is read, so that neither has to wait for the other.
    fn sums_of_synced(&mut self, outputs: &[Output]) -> Result<Vec<String>, Failure> {
        let sync = |output: &Output| {
            let mode = fs::Permissions::from_mode(output.mode);
            fs::set_permissions(&output.from, mode)?;
            work::sync(&output.from)
        };
        thread::scope(|scope| {
            let synced = scope.spawn(|| -> Result<(), (&str, io::Error)> {
                outputs.iter().try_for_each(|o| sync(o).map_err(|e| (o.to.as_str(), e)))
            });
            let sums: Result<Vec<_>, _> = outputs.iter().map(|o| self.sha256(&o.from)).collect();
            match synced.join() {
                Ok(Ok(())) => sums,
                Ok(Err((name, e))) => Err(self.io(name, &e)),
                Err(_) => Err(self.fail("its files were not written to the disk", "report it")),
            }
        })
    }

    /// Moves what the step has made into place, and records it. `image` is recorded with it.
    pub fn commit(
        &mut self,
        fingerprint: String,
        detail: &str,
        outputs: Vec<Output>,
        image: Option<(String, ImageRecord)>,
    ) -> Outcome {
        self.stage()?;
        let sums = self.sums_of_synced(&outputs)?;
        let mut files = BTreeMap::new();
        // A directory is synced once, whatever many files come into it.
        let mut directories = BTreeMap::new();
        for (output, sha256) in outputs.into_iter().zip(sums) {
            let to = self.into.join(&output.to);
            let mut put = || -> io::Result<fs::Metadata> {
                let directory = work::rename(&output.from, &to)?;
                directories.insert(to.parent().map(Path::to_owned), directory);
                to.metadata()
            };
            let meta = put().map_err(|e| self.io(&output.to, &e))?;
            let file = FileRecord {
                sha256,
                size: meta.len(),
                modified_ns: work::modified_ns(&meta),
                source: output.source,
                version: output.version,
            };
            files.insert(output.to, file);
        }
        for directory in directories.values() {
            directory.sync_all().map_err(|e| self.io("the names of its files", &e))?;
        }
        let (licence, purpose) = self.manifest().about(self.step()).unwrap_or_default();
        let step = StepRecord {
            fingerprint,
            outputs: files.keys().cloned().collect(),
            detail: detail.to_owned(),
            licence: licence.to_owned(),
            purpose: purpose.to_owned(),
            looked: None,
        };
        // The old initrd has the old kernel's modules.
        self.fits &= self.step() != "kernel";
        let before = self.record.steps.insert(self.step().to_owned(), step);
        // What this step made before and makes no more.
        for old in before.into_iter().flat_map(|s| s.outputs) {
            if !files.contains_key(&old) {
                self.record.files.remove(&old);
                let _ = fs::remove_file(self.into.join(&old));
            }
        }
        self.record.files.extend(files);
        self.record.images.extend(image);
        self.save()?;
        Ok((StepState::Done, detail.to_owned()))
    }

    /// Writes the record down.
    pub fn save(&self) -> Result<(), Failure> {
        work::save(&self.record, &self.into).map_err(|e| self.io("bundle.json", &e))
    }
}
