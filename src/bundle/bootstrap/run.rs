//! A bootstrap under way: what the steps have in common.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    BootstrapOptions,
    child::{Ended, Program, end_left_over},
    failure::{Failure, io_problem},
    lock::{self, Lock},
    work,
};
use crate::{
    bundle::{
        Event, FileRecord, ImageRecord, Manifest, PARTIAL_DIR, Record, Reporter, StepRecord,
        digest::sha256_file,
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
        let mut record = Record::read(dir)?.unwrap_or_else(Record::empty);
        if record.arch != std::env::consts::ARCH {
            record = Record::empty();
        }
        let ended = end_left_over(dir);
        fs::create_dir_all(&work).map_err(|e| io_problem(what(), &e))?;
        let pending = |name| StepView {
            name,
            state: StepState::Pending,
            detail: String::new(),
            progress: None,
        };
        let steps: Vec<StepView> = names.map(pending).collect();
        reporter.event(Event::Plan(&steps));
        if ended > 0 {
            reporter.event(Event::Log("ended what an earlier bootstrap had left running"));
        }
        let _lock = lock;
        Ok(Self { options, cancel, record, work, reporter, steps, index: 0, told: None, _lock })
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
        self.tell();
    }

    /// Ends the run; a good one leaves no working directory.
    pub fn end(self, good: bool) -> Vec<StepView> {
        if good {
            // What cannot be removed now is removed when it is next in the way.
            let _ = work::remove(&self.work, &self.options.dir);
        }
        self.steps
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
        let Some(step) = self.record.steps.get(self.step()).cloned() else { return Ok(None) };
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
        let path = self.options.dir.join(name);
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

    /// Moves what the step has made into place, and records it. `image` is recorded with it.
    pub fn commit(
        &mut self,
        fingerprint: String,
        detail: &str,
        outputs: Vec<Output>,
        image: Option<(String, ImageRecord)>,
    ) -> Outcome {
        let mut files = BTreeMap::new();
        for output in outputs {
            let sha256 = self.sha256(&output.from)?;
            let to = self.options.dir.join(&output.to);
            let put = || -> io::Result<fs::Metadata> {
                fs::set_permissions(&output.from, fs::Permissions::from_mode(output.mode))?;
                work::put(&output.from, &to)?;
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
        let step = StepRecord {
            fingerprint,
            outputs: files.keys().cloned().collect(),
            detail: detail.to_owned(),
        };
        let before = self.record.steps.insert(self.step().to_owned(), step);
        // What this step made before and makes no more.
        for old in before.into_iter().flat_map(|s| s.outputs) {
            if !files.contains_key(&old) {
                self.record.files.remove(&old);
                let _ = fs::remove_file(self.options.dir.join(&old));
            }
        }
        self.record.files.extend(files);
        self.record.images.extend(image);
        self.save()?;
        Ok((StepState::Done, detail.to_owned()))
    }

    fn save(&self) -> Result<(), Failure> {
        work::save(&self.record, &self.options.dir).map_err(|e| self.io("bundle.json", &e))
    }
}
