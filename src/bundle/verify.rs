//! Checks every file of a runtime directory against its record.

use std::{
    cmp::Reverse,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Event, FileRecord, RECORD_FILE, Record, Reporter, digest::sha256_file, place, swap::list,
};
use crate::domain::{Problem, Progress, StepState, StepView};

/// At most this often is progress told.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Something that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, within the runtime directory.
    pub file: String,
    /// What is wrong with it.
    pub kind: FindingKind,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// It is in the record and not on disk.
    Missing,
    /// It has another size, in bytes.
    Size {
        /// As recorded.
        recorded: u64,
        /// As it is.
        is: u64,
    },
    /// It has another content of the same size; SHA-256 in lower-case hex.
    Content {
        /// As recorded.
        recorded: String,
        /// As it is.
        is: String,
    },
    /// It is on disk and not in the record.
    Extra,
    /// It cannot be read.
    Unreadable {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.kind)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "missing"),
            Self::Size { recorded, is } => {
                write!(f, "changed, {is} bytes instead of {recorded}")
            }
            Self::Content { recorded, is } => {
                write!(f, "changed, sha256 {is} instead of {recorded}")
            }
            Self::Extra => write!(f, "not in {RECORD_FILE}"),
            Self::Unreadable { why } => write!(f, "cannot be read: {why}"),
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// How many files are as recorded.
    pub good: usize,
    /// What is not, by path; extra files last.
    pub findings: Vec<Finding>,
    /// Whether it was cancelled; what it found until then is still true.
    pub cancelled: bool,
    /// The runtime directory.
    dir: PathBuf,
}

impl Verification {
    /// The findings as one problem; `None` if everything is as recorded.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let lines: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
        let only_extra = self.findings.iter().all(|f| f.kind == FindingKind::Extra);
        let hint = if only_extra {
            "remove what is not banger's; nothing that is recorded has changed".to_owned()
        } else {
            format!("{}: it makes what is missing or has changed", place::make_again(&self.dir))
        };
        let what = "the runtime directory is not as it was made";
        (!lines.is_empty()).then(|| Problem::new(what, lines.join("\n"), hint))
    }
}

/// Reads every recorded file and compares; each is a step of the reporter's plan.
///
/// # Errors
/// When there is no record, or none that can be read.
pub fn verify(
    dir: &Path,
    reporter: &mut dyn Reporter,
    cancel: &AtomicBool,
) -> Result<Verification, Problem> {
    let Some(record) = Record::read(dir)? else {
        return Err(Problem::new(
            format!("cannot check the runtime directory {}", dir.display()),
            format!("it has no {RECORD_FILE}"),
            place::make_again(dir),
        ));
    };
    let mut steps: Vec<StepView> = record.files.keys().map(StepView::pending).collect();
    reporter.event(Event::Plan(&steps));
    let files: Vec<(&String, &FileRecord)> = record.files.iter().collect();
    let mut findings: Vec<Option<FindingKind>> = vec![None; files.len()];
    let mut result = Verification { dir: dir.to_owned(), ..Verification::default() };
    check_all(dir, &files, cancel, |index, news| {
        let step = &mut steps[index];
        match news {
            News::Begun => step.state = StepState::Running,
            News::Read(done) => {
                let total = files[index].1.size;
                step.progress = Some(Progress { done: done.min(total), total });
            }
            News::Ended(checked) => {
                step.progress = None;
                match checked {
                    Checked::Good => {
                        result.good += 1;
                        step.state = StepState::Done;
                    }
                    Checked::Cancelled => {
                        result.cancelled = true;
                        return;
                    }
                    Checked::Bad(kind) => {
                        step.state = StepState::Failed;
                        step.detail = kind.to_string();
                        findings[index] = Some(kind);
                    }
                }
            }
        }
        reporter.event(Event::Step(index, step));
    });
    let found = files.iter().zip(findings);
    result.findings = found
        .filter_map(|((name, _), kind)| Some(Finding { file: (*name).clone(), kind: kind? }))
        .collect();
    if result.cancelled {
        return Ok(result);
    }
    let mut extra = files_in(dir);
    extra.retain(|name| !record.files.contains_key(name));
    extra.sort_unstable();
    let extra = extra.into_iter().map(|file| Finding { file, kind: FindingKind::Extra });
    result.findings.extend(extra);
    Ok(result)
}

/// What the workers tell of a file.
enum News {
    Begun,
    Read(u64),
    Ended(Checked),
}

/// Checks the files on as many CPUs as there are, the largest first, so that none is left for the
/// end; `hear` is told how each goes, on this thread.
fn check_all(
    dir: &Path,
    files: &[(&String, &FileRecord)],
    cancel: &AtomicBool,
    mut hear: impl FnMut(usize, News),
) {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|i| Reverse(files[*i].1.size));
    let next = AtomicUsize::new(0);
    let worker = &|news: &mpsc::Sender<(usize, News)>| {
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, file) = files[index];
            let tell = |what| {
                // The listener only goes when it does not want to know.
                let _ = news.send((index, what));
            };
            tell(News::Begun);
            let mut told = Instant::now();
            let checked = check(&dir.join(name), file, |done| {
                if told.elapsed() >= REPORT_EVERY {
                    told = Instant::now();
                    tell(News::Read(done));
                }
                !cancel.load(Ordering::Relaxed)
            });
            tell(News::Ended(checked));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(files.len());
    let (news, heard) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let news = news.clone();
            scope.spawn(move || worker(&news));
        }
        drop(news);
        for (index, what) in heard {
            hear(index, what);
        }
    });
}

enum Checked {
    Good,
    Cancelled,
    Bad(FindingKind),
}

fn check(path: &Path, recorded: &FileRecord, progress: impl FnMut(u64) -> bool) -> Checked {
    let bad = |e: &io::Error| match e.kind() {
        io::ErrorKind::NotFound => FindingKind::Missing,
        _ => FindingKind::Unreadable { why: e.to_string() },
    };
    let size = match path.metadata() {
        Ok(meta) => meta.len(),
        Err(e) => return Checked::Bad(bad(&e)),
    };
    if size != recorded.size {
        return Checked::Bad(FindingKind::Size { recorded: recorded.size, is: size });
    }
    match sha256_file(path, progress) {
        Err(e) => Checked::Bad(bad(&e)),
        Ok(None) => Checked::Cancelled,
        Ok(Some(is)) if is == recorded.sha256 => Checked::Good,
        Ok(Some(is)) => {
            Checked::Bad(FindingKind::Content { recorded: recorded.sha256.clone(), is })
        }
    }
}

/// The files in a runtime directory, but those with which it is worked on.
pub(super) fn files_in(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    list(dir, "", &mut files);
    files
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bundle::{BOOTSTRAP, LOCK_FILE, PARTIAL_DIR, digest::sha256};

    /// A runtime directory of these files, all recorded.
    fn bundle(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::empty();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            let file = FileRecord {
                sha256: sha256(text.as_bytes()),
                size: text.len() as u64,
                modified_ns: 0,
                source: String::new(),
                version: String::new(),
            };
            record.files.insert((*name).to_owned(), file);
        }
        fs::write(dir.path().join(RECORD_FILE), serde_json::to_vec(&record).unwrap()).unwrap();
        dir
    }

    fn verified(dir: &Path) -> Verification {
        verify(dir, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap()
    }

    const FILES: [(&str, &str); 4] =
        [("images/a.img", "aaaa"), ("images/b.img", "bbbb"), ("c", "cccc"), ("d", "dddd")];

    #[test]
    fn what_is_as_recorded_is_good() {
        let dir = bundle(&FILES);
        fs::create_dir(dir.path().join(PARTIAL_DIR)).unwrap();
        fs::write(dir.path().join(PARTIAL_DIR).join("x"), "").unwrap();
        fs::write(dir.path().join(LOCK_FILE), "1").unwrap();
        let result = verified(dir.path());
        assert_eq!((result.good, result.problem()), (4, None));
    }

    #[test]
    fn missing_changed_and_extra_files_are_told_apart_with_both_values() {
        let dir = bundle(&FILES);
        fs::write(dir.path().join("images/a.img"), "aaaX").unwrap();
        fs::write(dir.path().join("images/b.img"), "bbb").unwrap();
        fs::remove_file(dir.path().join("c")).unwrap();
        fs::write(dir.path().join("images/mine"), "").unwrap();
        let result = verified(dir.path());
        let lines: Vec<String> = result.findings.iter().map(ToString::to_string).collect();
        let expected = [
            "c: missing".to_owned(),
            format!(
                "images/a.img: changed, sha256 {} instead of {}",
                sha256(b"aaaX"),
                sha256(b"aaaa")
            ),
            "images/b.img: changed, 3 bytes instead of 4".to_owned(),
            "images/mine: not in bundle.json".to_owned(),
        ];
        assert_eq!(lines, expected);
        assert_eq!(result.good, 1);
        assert!(result.problem().unwrap().hint.contains(BOOTSTRAP));
    }

    #[test]
    fn every_file_is_a_step_and_it_can_be_cancelled() {
        let dir = bundle(&FILES);
        let mut states = Vec::new();
        let mut see = |event: Event<'_>| match event {
            Event::Plan(steps) => assert_eq!(steps.len(), 4),
            Event::Step(i, step) => states.push((i, step.state)),
            Event::Log(_) => {}
        };
        verify(dir.path(), &mut see, &AtomicBool::new(false)).unwrap();
        // Several are under way at once, each in its own order.
        states.sort_by_key(|(i, _)| *i);
        let of = |i| [(i, StepState::Running), (i, StepState::Done)];
        assert_eq!(states, [of(0), of(1), of(2), of(3)].concat());
        let cancelled = verify(dir.path(), &mut |_: Event<'_>| (), &AtomicBool::new(true)).unwrap();
        assert!(cancelled.cancelled && cancelled.good == 0);
    }

    #[test]
    fn without_a_record_there_is_nothing_to_check() {
        let dir = tempfile::tempdir().unwrap();
        let problem =
            verify(dir.path(), &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap_err();
        assert!(problem.hint.contains(BOOTSTRAP), "{problem}");
    }
}
