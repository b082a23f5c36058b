//! The runtime directory of all users: a copy of one that is as it was made.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use super::{BUNDLE, List, Target, copy, give, io_problem, remove_file};
use crate::{
    bundle::{
        Bundle, Event, FileRecord, LOCK_FILE, PARTIAL_DIR, RECORD_FILE, Record, Reporter, lock,
        swap::Siblings, verify,
    },
    domain::{Problem, Progress, StepState, StepView},
};

/// The copy while it is made, beside its place. Locked by whoever makes it: one that is not is a
/// left-over.
const STAGED: &str = ".banger-new";

/// At most this often is progress told.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How an installation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallReport {
    /// Where the runtime directory is now.
    pub dir: PathBuf,
    /// How many files it has.
    pub files: usize,
    /// Whether it was cancelled; then nothing has changed.
    pub cancelled: bool,
}

/// Copies a runtime directory to `lib/banger` below a prefix. Each file is checked as it is
/// copied; what was there is replaced at one stroke, or not at all.
///
/// # Errors
/// When the source is not as it was made, something else is in the place, or it cannot be
/// written. Then the place is as it was.
pub fn install_bundle(
    source: &Path,
    target: &Target,
    reporter: &mut dyn Reporter,
    cancel: &AtomicBool,
) -> Result<InstallReport, Problem> {
    let bundle = Bundle::open(source)?;
    let record = bundle.record();
    let inner = target.prefix.join(BUNDLE);
    let dir = target.now(&inner);
    let files = record.files.len();
    if is_same(source, &dir) {
        return Ok(InstallReport { dir, files, cancelled: false });
    }
    check_names(source, record)?;
    check_place(&dir)?;

    let mut list = List::read(target)?.unwrap_or_default();
    target.make_parents(&List::path(target), &mut list)?;
    target.make_parents(&inner, &mut list)?;
    list.bundle = true;
    list.write(target)?;

    let staged = Staged::make(&dir.with_file_name(STAGED))?;
    if !fill(source, record, &staged.path, reporter, cancel)? {
        return Ok(InstallReport { dir, files, cancelled: true });
    }
    staged.put(&dir)?;
    Ok(InstallReport { dir, files, cancelled: false })
}

fn is_same(a: &Path, b: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    of(a).is_some() && of(a) == of(b)
}

/// A record is a file like others: its names must not lead out of the directory.
fn check_names(source: &Path, record: &Record) -> Result<(), Problem> {
    let good = |name: &String| {
        let mut parts = Path::new(name).components();
        !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    match record.files.keys().find(|name| !good(name)) {
        None => Ok(()),
        Some(name) => Err(Problem::new(
            format!("cannot install the runtime directory {}", source.display()),
            format!("its {RECORD_FILE} has the name “{}”", name.escape_debug()),
            "make another one: this one was not made by banger",
        )),
    }
}

/// What is in the place is replaced only if all of it is banger's.
fn check_place(dir: &Path) -> Result<(), Problem> {
    let others = foreign(dir)?;
    if others.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        format!("will not replace {}", dir.display()),
        format!("it has what is not banger's: {}", others.join(", ")),
        "move that away, or choose another prefix",
    ))
}

/// The files in a runtime directory that its record does not have.
fn foreign(dir: &Path) -> Result<Vec<String>, Problem> {
    match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(meta) if !meta.is_dir() => return Ok(vec!["a file or a link".to_owned()]),
        _ => {}
    }
    let record = Record::read(dir)?.unwrap_or_else(Record::empty);
    let mut found = verify::files_in(dir);
    found.retain(|name| !record.files.contains_key(name));
    Ok(found)
}

/// Copies all files of a record; whether it was not cancelled.
fn fill(
    source: &Path,
    record: &Record,
    to: &Path,
    reporter: &mut dyn Reporter,
    cancel: &AtomicBool,
) -> Result<bool, Problem> {
    let mut steps: Vec<StepView> = record.files.keys().map(StepView::pending).collect();
    reporter.event(Event::Plan(&steps));
    for (index, (name, file)) in record.files.iter().enumerate() {
        let step = &mut steps[index];
        step.state = StepState::Running;
        reporter.event(Event::Step(index, step));
        let mut told = Instant::now();
        let copied = copy_one(source, name, file, to, |done| {
            if told.elapsed() >= REPORT_EVERY && file.size > 0 {
                told = Instant::now();
                step.progress = Some(Progress { done: done.min(file.size), total: file.size });
                reporter.event(Event::Step(index, step));
            }
            !cancel.load(Ordering::Relaxed)
        });
        step.progress = None;
        step.state = if matches!(copied, Ok(true)) { StepState::Done } else { StepState::Failed };
        reporter.event(Event::Step(index, step));
        if !copied? {
            return Ok(false);
        }
    }
    // Last: a directory without a record is none.
    let written = serde_json::to_vec_pretty(record)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(to.join(RECORD_FILE), text))
        .and_then(|()| give(&to.join(RECORD_FILE), 0o644))
        .and_then(|()| File::open(to.join(RECORD_FILE))?.sync_all())
        .and_then(|()| File::open(to)?.sync_all());
    written.map_err(|e| io_problem(format!("cannot write to {}", to.display()), &e))?;
    Ok(true)
}

fn copy_one(
    source: &Path,
    name: &str,
    file: &FileRecord,
    to: &Path,
    progress: impl FnMut(u64) -> bool,
) -> Result<bool, Problem> {
    let (from, new) = (source.join(name), to.join(name));
    let failed = |e: io::Error| io_problem(format!("cannot install {}", from.display()), &e);
    let make = || -> io::Result<Option<String>> {
        for dir in Path::new(name).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let dir = to.join(dir);
            if !dir.is_dir() {
                fs::create_dir(&dir)?;
                give(&dir, 0o755)?;
            }
        }
        let meta = fs::metadata(&from)?;
        let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        copy::copy(&from, &new, mode, progress)
    };
    match make().map_err(failed)? {
        None => Ok(false),
        Some(sum) if sum == file.sha256 => Ok(true),
        Some(sum) => Err(Problem::new(
            format!("cannot install the runtime directory {}", source.display()),
            format!("{name} has changed: sha256 {sum} instead of {}", file.sha256),
            crate::bundle::place::make_again(source),
        )),
    }
}

/// A copy that is being made; removed unless it was put in place.
struct Staged {
    path: PathBuf,
    _held: Flock<File>,
}

impl Staged {
    fn make(path: &Path) -> Result<Self, Problem> {
        let what = || format!("cannot make {}", path.display());
        let failed = |e: io::Error| io_problem(what(), &e);
        loop {
            match fs::create_dir(path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    // One that nobody holds is left over; removing it needs its lock, too.
                    let _held = hold(path)?;
                    fs::remove_dir_all(path).map_err(failed)?;
                    continue;
                }
                Err(e) => return Err(failed(e)),
            }
            let held = hold(path)?;
            let ours = held.metadata().map_err(failed)?;
            // Between the two somebody may have taken it for a left-over.
            if fs::metadata(path).is_ok_and(|now| now.ino() == ours.ino()) {
                give(path, 0o755).map_err(failed)?;
                return Ok(Self { path: path.to_owned(), _held: held });
            }
        }
    }

    fn put(self, dir: &Path) -> Result<(), Problem> {
        let failed =
            |e: io::Error| io_problem(format!("cannot put {} in place", dir.display()), &e);
        let flags =
            if dir.exists() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::RENAME_NOREPLACE };
        renameat2(AT_FDCWD, &self.path, AT_FDCWD, dir, flags).map_err(|e| failed(e.into()))?;
        let above = dir.parent().unwrap_or(dir);
        File::open(above).and_then(|above| above.sync_all()).map_err(failed)
        // What was there before goes when this is dropped.
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "left behind");
        }
    }
}

/// Locks a directory for as long as the result lives.
fn hold(path: &Path) -> Result<Flock<File>, Problem> {
    let what = || format!("cannot make {}", path.display());
    let dir = File::open(path).map_err(|e| io_problem(what(), &e))?;
    Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let why = "another `banger runtime install` is at work there";
        Problem::new(what(), why, "wait until that is done")
    })
}

/// Removes the runtime directory of a target, with what replacing it has left beside it; what stays
/// in them, as it is not banger's.
pub(super) fn remove(target: &Target) -> Result<Vec<String>, Problem> {
    let dir = target.now(&target.prefix.join(BUNDLE));
    let what = || format!("cannot remove {}", dir.display());
    let failed = |e: io::Error| io_problem(what(), &e);
    let mut stays = Vec::new();
    match fs::symlink_metadata(&dir) {
        Err(_) => return Ok(stays),
        // What is beside the other end of a link is not what was installed here.
        Ok(meta) if !meta.is_dir() => {}
        Ok(_) => {
            let siblings = Siblings::of(&dir).map_err(failed)?;
            let _lock = lock::take(&dir).map_err(|problem| Problem { what: what(), ..problem })?;
            // What somebody did not finish making goes first; then there is one before, or none.
            siblings.sweep().map_err(failed)?;
            stays.extend(remove_one(&siblings.previous)?);
        }
    }
    stays.extend(remove_one(&dir)?);
    Ok(stays)
}

/// Removes a runtime directory; what stays in it, as it is not banger's.
fn remove_one(dir: &Path) -> Result<Option<String>, Problem> {
    let failed = |e: io::Error| io_problem(format!("cannot remove {}", dir.display()), &e);
    if !dir.is_dir() {
        return Ok(None);
    }
    let others = foreign(dir)?;
    if others.is_empty() {
        fs::remove_dir_all(dir).map_err(failed)?;
        return Ok(None);
    }
    let record = Record::read(dir)?.unwrap_or_else(Record::empty);
    for name in record.files.keys().filter(|name| !others.contains(name)) {
        remove_file(&dir.join(name))?;
        for above in Path::new(name).ancestors().skip(1) {
            // Only while it is empty.
            let _ = fs::remove_dir(dir.join(above));
        }
    }
    for name in [RECORD_FILE, LOCK_FILE] {
        remove_file(&dir.join(name))?;
    }
    match fs::remove_dir_all(dir.join(PARTIAL_DIR)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    Ok(Some(format!("{} has what is not banger's: {}", dir.display(), others.join(", "))))
}
