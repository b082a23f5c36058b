//! Programs the bootstrap runs: each in a process group of its own, marked so that a later
//! bootstrap can find what is left of one that was killed.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs, io,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getpgrp},
};

/// In the environment of every program of a bootstrap; its value is the runtime directory.
const MARK: &str = "BANGER_BOOTSTRAP";

/// How often a running program is looked at: whether to go on, and how far it is.
const TICK: Duration = Duration::from_millis(100);

/// How long a program may clear up after itself before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// How many of a program's last lines are kept for the problem's text.
const TAIL: usize = 12;

/// The longest line that is passed on; a program without line ends must not fill the memory.
const LINE_MAX: u64 = 4096;

/// How a program ended.
pub(super) struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output, where it was asked for.
    pub stdout: String,
    /// The last lines of what it printed to be read by people.
    pub tail: Vec<String>,
}

impl Ended {
    /// How it ended and its last words, as the reason of a problem.
    pub fn why(&self, program: &str) -> String {
        format!("{program} ended with {}: {}", self.status, self.tail.join(" | "))
    }
}

/// A program to run.
pub(super) struct Program {
    command: Command,
    keep_stdout: bool,
}

impl Program {
    /// A program with the environment that all of them get, working in `dir`.
    pub fn new(name: impl AsRef<OsStr>, dir: &Path, runtime: &Path) -> Self {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command.env(MARK, runtime);
        command.current_dir(dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        Self { command, keep_stdout: false }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Keeps its standard output instead of passing it on as lines.
    pub const fn keep_stdout(mut self) -> Self {
        self.keep_stdout = true;
        self
    }

    /// Runs it to its end. `line` gets each line it prints, `tick` is called several times a
    /// second and answers whether it may go on: if not, it is ended. `None` if `cancel` was set:
    /// it and its children are gone then.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(
        mut self,
        cancel: &AtomicBool,
        mut line: impl FnMut(&str),
        mut tick: impl FnMut() -> bool,
    ) -> io::Result<Option<Ended>> {
        let mut child = self.command.spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        let (lines, got) = mpsc::channel();
        let stdout = child.stdout.take().map(|out| {
            let lines = lines.clone();
            let keep = self.keep_stdout;
            thread::spawn(move || if keep { read_all(out) } else { pass_on(out, &lines) })
        });
        let stderr = child.stderr.take().map(|err| thread::spawn(move || pass_on(err, &lines)));
        let mut tail = VecDeque::new();
        let mut cancelled = false;
        loop {
            match got.recv_timeout(TICK) {
                Ok(text) => {
                    line(&text);
                    tail.push_back(text);
                    if tail.len() > TAIL {
                        tail.pop_front();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody holds its output open any more.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if cancel.load(Ordering::Relaxed) {
                cancelled = true;
                end_groups(&[group]);
                break;
            }
            if !tick() {
                end_groups(&[group]);
                break;
            }
        }
        let status = child.wait()?;
        let stdout = stdout.and_then(|t| t.join().ok()).unwrap_or_default();
        if let Some(stderr) = stderr {
            let _ = stderr.join();
        }
        Ok((!cancelled).then(|| Ended { status, stdout, tail: tail.into() }))
    }
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn pass_on(from: impl Read, to: &mpsc::Sender<String>) -> String {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return String::new(),
            Ok(_) => {}
        }
        // Progress meters overwrite their line: what follows the last return is what counts.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
        let clean: String = text.chars().filter(|c| !c.is_control()).collect();
        if !clean.is_empty() && to.send(clean).is_err() {
            return String::new();
        }
    }
}

/// Ends process groups: politely, and by force after [`GRACE`]. Returns when they are gone, or
/// cannot be made to go.
fn end_groups(groups: &[Pid]) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for group in groups {
            let _ = killpg(*group, signal);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            // Not `kill(2)` with no signal: it finds those that have ended and wait for a
            // parent to take notice, which the first process of a container never does.
            if !processes().filter_map(|dir| group_at_work(&dir)).any(|g| groups.contains(&g)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ends what is left of an earlier bootstrap of this runtime directory. The caller holds its
/// lock, so none is at work. Returns how many process groups there were.
pub(super) fn end_left_over(runtime: &Path) -> usize {
    let mut mark = format!("{MARK}=").into_bytes();
    mark.extend(runtime.as_os_str().as_encoded_bytes());
    let mut groups: Vec<Pid> = processes()
        .filter(|dir| {
            let environ = fs::read(dir.join("environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|variable| variable == mark)
        })
        .filter_map(|dir| group_at_work(&dir))
        .filter(|group| *group != getpgrp())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    if !groups.is_empty() {
        end_groups(&groups);
    }
    groups.len()
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .map(|e| e.path())
}

/// The process group of a process that has not ended: fields 3 and 5 of `stat` (proc(5)). The
/// second, the name, may hold anything up to its `)`.
fn group_at_work(dir: &Path) -> Option<Pid> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok().map(Pid::from_raw);
    group.filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, dir: &Path) -> Program {
        Program::new("sh", dir, dir).args(["-c", script])
    }

    #[test]
    fn lines_status_and_output_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let go_on = AtomicBool::new(false);
        let mut lines = Vec::new();
        let script = "echo out; printf '10%%\\r20%%\\n' >&2; printf '\\033[1mlast' >&2; exit 3";
        let ended = sh(script, dir.path())
            .keep_stdout()
            .run(&go_on, |l| lines.push(l.to_owned()), || true)
            .unwrap()
            .unwrap();
        assert_eq!(ended.stdout, "out\n");
        assert_eq!(lines, ["20%", "[1mlast"]);
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.why("sh").contains("20% | [1mlast"), "{}", ended.why("sh"));
        assert!(
            Program::new("/nonexistent", dir.path(), dir.path())
                .run(&go_on, |_| (), || true)
                .is_err()
        );
    }

    #[test]
    fn a_tick_that_says_no_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let ended = sh("sleep 1000", dir.path())
            .run(&AtomicBool::new(false), |_| (), || false)
            .unwrap()
            .unwrap();
        assert!(!ended.status.success());
    }

    #[test]
    fn cancelling_ends_the_program_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = AtomicBool::new(false);
        let script = "sleep 1000 & echo $!; wait";
        let mut grandchild = None;
        let see = |line: &str| {
            grandchild = Some(line.to_owned());
            cancel.store(true, Ordering::Relaxed);
        };
        assert!(sh(script, dir.path()).run(&cancel, see, || true).unwrap().is_none());
        let stat = Path::new("/proc").join(grandchild.unwrap()).join("stat");
        // Gone, or a zombie that waits for its new parent.
        let gone = fs::read_to_string(stat).map_or(true, |s| s.contains(") Z "));
        assert!(gone);
    }

    #[test]
    fn what_a_killed_bootstrap_left_running_is_found_by_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let spawn = |runtime: &Path| {
            let mut program = Program::new("sleep", dir.path(), runtime).args(["1000"]);
            program.command.spawn().unwrap()
        };
        let mut orphan = spawn(dir.path());
        let mut foreign = spawn(other.path());
        let started = Instant::now();
        assert_eq!(end_left_over(dir.path()), 1);
        assert!(started.elapsed() < GRACE, "an ended process is not waited for");
        assert!(!orphan.wait().unwrap().success());
        assert_eq!(end_left_over(dir.path()), 0);
        assert!(foreign.try_wait().unwrap().is_none(), "another directory's is left alone");
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    }
}
