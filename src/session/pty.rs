//! A program in a pseudo-terminal.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

use super::{Control, Session, Size};
use crate::domain::Problem;

/// How long a program whose terminal has come to its end may take to exit by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A program to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The program (looked up in `PATH`) and its arguments.
    pub argv: Vec<OsString>,
    /// Added to the environment that is inherited. `TERM` is `xterm-256color` unless set here.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs; our own working directory if not given.
    pub cwd: Option<PathBuf>,
    /// How long it has to put its things in order when the session is closed; a quarter of a second
    /// at least.
    pub patience: Duration,
}

/// Runs a program in a new pseudo-terminal of `size`.
///
/// Closing the session sends it SIGHUP and, if it does not heed that, SIGKILL when its patience is
/// over. No zombie is left.
///
/// # Errors
/// If there is no pseudo-terminal to be had, or the program is not there or cannot be run.
pub fn open(program: &Program, size: Size) -> Result<Session, Problem> {
    let Opened { reader, writer, control } = spawn(program, size)?;
    Ok(Session { reader, writer, control: Box::new(control) })
}

/// What [`open`] gives, its terminal still within reach.
pub(super) struct Opened {
    pub reader: Box<dyn Read + Send>,
    pub writer: Box<dyn Write + Send>,
    pub control: PtyControl,
}

/// As [`open`].
pub(super) fn spawn(program: &Program, size: Size) -> Result<Opened, Problem> {
    let name = program.argv.first().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let cannot = |why: String, hint: &str| Problem::new(format!("cannot run {name}"), why, hint);
    let pair = native_pty_system().openpty(pty_size(size)).map_err(|e| {
        cannot(format!("no pseudo-terminal: {e:#}"), "check that /dev/pts is mounted; close panes")
    })?;
    let mut command = CommandBuilder::from_argv(program.argv.clone());
    command.env("TERM", "xterm-256color");
    command.env("COLORTERM", "truecolor");
    for (key, value) in &program.env {
        command.env(key, value);
    }
    if let Some(cwd) = program.cwd.clone().or_else(|| std::env::current_dir().ok()) {
        command.cwd(cwd);
    }
    let child = pair
        .slave
        .spawn_command(command)
        .map_err(|e| cannot(format!("{e:#}"), "check that it is installed and in PATH"))?;
    let process = Arc::new(Process {
        state: Mutex::new(State { child, status: None }),
        patience: program.patience,
    });
    // Ours would keep the terminal from coming to its end.
    drop(pair.slave);
    let ends = pair.master.try_clone_reader().and_then(|r| Ok((r, pair.master.take_writer()?)));
    let (reader, writer) = match ends {
        Ok(ends) => ends,
        Err(e) => {
            process.kill();
            return Err(cannot(format!("{e:#}"), "close other panes: too many files are open"));
        }
    };
    let writer = PtyWriter { inner: writer, process: Arc::clone(&process) };
    let terminal = Terminal(Arc::new(Mutex::new(pair.master)));
    Ok(Opened { reader, writer: Box::new(writer), control: PtyControl { process, terminal } })
}

fn pty_size(size: Size) -> PtySize {
    PtySize { rows: size.rows.max(1), cols: size.cols.max(2), pixel_width: 0, pixel_height: 0 }
}

struct State {
    child: Box<dyn Child + Send + Sync>,
    /// Set once it is reaped: from then on its process id is not ours.
    status: Option<ExitStatus>,
}

impl State {
    /// Sends SIGHUP and waits for as long for what comes of it.
    fn hang_up(&mut self, patience: Duration) {
        let pid = self.child.process_id().and_then(|pid| i32::try_from(pid).ok());
        let (Some(pid), false) = (pid, patience.is_zero()) else { return };
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGHUP) {
            tracing::debug!(%error, "a program could not be told that its terminal goes");
        }
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        while self.status.is_none() && Instant::now() < deadline {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
            self.status = self.child.try_wait().ok().flatten();
        }
    }
}

struct Process {
    state: Mutex<State>,
    patience: Duration,
}

impl Process {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has exited; reaps it.
    fn status(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        if state.status.is_none() {
            state.status = state.child.try_wait().ok().flatten();
        }
        state.status.clone()
    }

    /// Ends it for certain and reaps it.
    fn kill(&self) {
        let mut state = self.state();
        if state.status.is_some() {
            return;
        }
        state.hang_up(self.patience);
        if state.status.is_some() {
            return;
        }
        // SIGHUP, a quarter of a second, SIGKILL.
        if let Err(error) = state.child.kill() {
            tracing::debug!(%error, "a program could not be killed");
        }
        state.status = state.child.wait().ok();
    }
}

/// The library's writer sends a newline and an end-of-file when it is dropped: a command that
/// was typed, but not entered, would be run by a shell that is still there. So the program goes
/// first.
struct PtyWriter {
    inner: Box<dyn Write + Send>,
    process: Arc<Process>,
}

impl Write for PtyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Drop for PtyWriter {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Our side of a pseudo-terminal. It stays open for as long as there is one of these.
#[derive(Clone)]
pub(super) struct Terminal(Arc<Mutex<Box<dyn MasterPty + Send>>>);

impl Terminal {
    /// Whether the program has taken each key as it is: before, the kernel gathers lines, shows
    /// what is typed, and turns Ctrl-C into a signal.
    pub fn is_raw(&self) -> bool {
        let modes = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_termios();
        modes.is_some_and(|modes| modes.local_flags.bits() & nix::libc::ICANON == 0)
    }
}

pub(super) struct PtyControl {
    process: Arc<Process>,
    terminal: Terminal,
}

impl PtyControl {
    pub fn terminal(&self) -> Terminal {
        self.terminal.clone()
    }
}

impl Control for PtyControl {
    fn resize(&mut self, size: Size) -> io::Result<()> {
        let master = self.terminal.0.lock().unwrap_or_else(PoisonError::into_inner);
        master.resize(pty_size(size)).map_err(|e| io::Error::other(format!("{e:#}")))
    }

    fn close(&mut self) {
        self.process.kill();
    }

    fn end(&mut self) -> String {
        let deadline = Instant::now() + LAST_WORDS;
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match self.process.status() {
                Some(status) => break status,
                None if Instant::now() < deadline => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                None => {
                    self.process.kill();
                    return "the program left its terminal and was ended".to_owned();
                }
            }
        };
        sentence(&status)
    }
}

fn sentence(status: &ExitStatus) -> String {
    match (status.signal(), status.exit_code()) {
        (Some(signal), _) => format!("the program was ended by a signal ({signal})"),
        (None, 0) => "the program ended".to_owned(),
        (None, code) => format!("the program ended with exit code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { cols: 40, rows: 10 };

    fn shell(script: &str) -> Program {
        Program {
            argv: ["sh", "-c", script].map(OsString::from).to_vec(),
            env: vec![("GREETING".into(), "hello".into())],
            cwd: Some("/".into()),
            patience: Duration::ZERO,
        }
    }

    fn read_all(session: &mut Session) -> String {
        let mut text = String::new();
        session.reader.read_to_string(&mut text).unwrap();
        text
    }

    fn read_until(session: &mut Session, text: &str) -> String {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.contains(text) {
            assert_eq!(session.reader.read(&mut byte).unwrap(), 1, "ended after {seen:?}");
            seen.push(char::from(byte[0]));
        }
        seen
    }

    #[test]
    fn a_program_has_its_terminal_environment_and_directory() {
        let mut session =
            open(&shell("echo $GREETING $TERM; pwd; stty size; exit 3"), SIZE).unwrap();
        assert_eq!(read_all(&mut session), "hello xterm-256color\r\n/\r\n10 40\r\n");
        assert_eq!(session.control.end(), "the program ended with exit code 3");
    }

    #[test]
    fn it_is_told_its_size_and_reads_what_is_typed() {
        // The signal may or may not end a read.
        let script = "trap 'stty size' WINCH; echo ready; line=
                      while [ -z \"$line\" ]; do read line; done; echo got $line";
        let mut session = open(&shell(script), SIZE).unwrap();
        read_until(&mut session, "ready\r\n");
        session.control.resize(Size { cols: 100, rows: 30 }).unwrap();
        session.writer.write_all(b"\n").unwrap();
        read_until(&mut session, "30 100\r\n");
        session.writer.write_all(b"text\n").unwrap();
        read_until(&mut session, "got text\r\n");
        assert_eq!(read_all(&mut session), "");
        assert_eq!(session.control.end(), "the program ended");
    }

    #[test]
    fn closing_ends_even_a_program_that_ignores_it_and_leaves_no_zombie() {
        let mut session =
            open(&shell("trap '' HUP TERM; echo $$; while :; do sleep 1; done"), SIZE).unwrap();
        let pid: u32 = read_until(&mut session, "\r\n").trim().parse().unwrap();
        assert!(PathBuf::from(format!("/proc/{pid}")).exists());
        session.control.close();
        // Not even as a zombie.
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
        read_all(&mut session);
        assert_eq!(session.control.end(), "the program was ended by a signal (Killed)");
        session.control.close();
    }

    #[test]
    fn a_program_that_clears_up_has_the_time_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        // Twice what one without patience is left.
        let script =
            "trap 'sleep 0.5; touch clean; exit 0' HUP; echo ready; while :; do read x; done";
        let mut program = shell(script);
        program.cwd = Some(dir.path().to_owned());
        program.patience = Duration::from_secs(30);
        let mut session = open(&program, SIZE).unwrap();
        read_until(&mut session, "ready\r\n");
        session.control.close();
        assert!(dir.path().join("clean").exists());
        assert_eq!(session.control.end(), "the program ended");
    }

    #[test]
    fn a_line_that_was_not_entered_is_not_run_when_the_session_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = shell("echo ready; read line; touch ran");
        program.cwd = Some(dir.path().to_owned());
        let mut session = open(&program, SIZE).unwrap();
        read_until(&mut session, "ready\r\n");
        session.writer.write_all(b"half a line").unwrap();
        read_until(&mut session, "half a line");
        let Session { reader: _reader, writer, mut control } = session;
        drop(writer);
        assert_eq!(control.end(), "the program was ended by a signal (Hangup)");
        assert!(!dir.path().join("ran").exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_a_problem() {
        let program = Program { argv: vec!["/no/such/program".into()], ..Program::default() };
        let problem = open(&program, SIZE).err().unwrap();
        assert_eq!(problem.what, "cannot run /no/such/program");
        assert!(!problem.why.is_empty() && !problem.hint.is_empty(), "{problem}");
    }
}
