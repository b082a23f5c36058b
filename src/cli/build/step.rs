//! Running one program of a build: its output line by line, as it comes, and its end, also when
//! somebody wants it sooner.

use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicI32, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::host::own_root::spawn_in_group;

/// How often it is looked at whether the program is to end.
const TICK: Duration = Duration::from_millis(50);
/// How long it has to end by itself when it is to.
const GRACE: Duration = Duration::from_secs(5);
/// How long the output of what it left running is listened to after its end.
const ECHO: Duration = Duration::from_millis(300);
/// The longest line that is passed on.
const LINE_MAX: u64 = 4096;

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With status 0.
    Well,
    /// With another, and this as the last line on its standard error.
    Badly {
        /// The status, in words.
        status: String,
        /// Its last words.
        last: String,
    },
    /// Because we were asked to.
    Interrupted,
}

/// A line of output: whether it came from standard error, and the text.
type Line = (bool, String);

/// Runs it, and passes on what it says line by line. `asked` is the number of the signal that wants
/// it to end, 0 as long as none does.
///
/// # Errors
/// If it cannot be started.
pub fn run(
    mut command: Command,
    mut line: impl FnMut(&str),
    asked: &AtomicI32,
) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn_in_group(&mut command)?;
    let (lines, got) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        listen(out, false, lines.clone());
    }
    if let Some(err) = child.stderr.take() {
        listen(err, true, lines);
    }
    let mut last = String::new();
    let mut take = |(is_error, text): Line| {
        line(&text);
        if is_error {
            last = text;
        }
    };
    loop {
        match got.recv_timeout(TICK) {
            Ok(line) => take(line),
            Err(RecvTimeoutError::Disconnected) => break,
            // What it has left running may hold its output for ever.
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait()?.is_some() {
                    while let Ok(line) = got.recv_timeout(ECHO) {
                        take(line);
                    }
                    break;
                }
            }
        }
        if asked.load(Ordering::Relaxed) != 0 {
            end(&mut child)?;
            return Ok(Ended::Interrupted);
        }
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(Ended::Well);
    }
    Ok(Ended::Badly { status: words(status), last })
}

/// A status as a clause: `exit status: 3`.
fn words(status: ExitStatus) -> String {
    status.to_string()
}

/// Ends a program and all of its group: politely, then by force.
fn end(child: &mut Child) -> io::Result<()> {
    let group = Pid::from_raw(child.id().cast_signed());
    // It may be gone already.
    let _ = killpg(group, Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(TICK);
    }
    let _ = killpg(group, Signal::SIGKILL);
    child.wait().map(drop)
}

fn listen(from: impl Read + Send + 'static, is_error: bool, to: Sender<Line>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            // Meters overwrite their line: what follows the last return is what counts.
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end().rsplit('\r').next().unwrap_or_default();
            if !text.is_empty() && to.send((is_error, text.to_owned())).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::build::log::Log;

    fn sh(script: &str, asked: i32) -> (Ended, String) {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("log");
        let mut log = Log::new(&path).expect("log");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let line = |text: &str| log.line(text);
        let ended = run(command, line, &AtomicI32::new(asked)).expect("sh runs");
        (ended, fs::read_to_string(path).expect("log"))
    }

    #[test]
    fn output_and_end_are_told() {
        assert_eq!(sh("echo a; printf 'x\\ry\\n'", 0), (Ended::Well, "a\ny\n".into()));
        let (ended, log) = sh("echo why >&2; printf '\\033[2J'; exit 3", 0);
        let status = "exit status: 3".to_owned();
        assert_eq!(ended, Ended::Badly { status, last: "why".into() });
        assert!(!log.contains('\u{1b}'), "{log:?}");
    }

    #[test]
    fn what_stays_in_the_background_is_not_waited_for() {
        let begun = Instant::now();
        let (ended, _) = sh("sleep 60 & echo $!", 0);
        assert_eq!(ended, Ended::Well);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn it_ends_when_it_is_to() {
        assert_eq!(sh("sleep 600", 2).0, Ended::Interrupted);
    }
}
