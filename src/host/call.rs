//! Running a program that does one thing and ends.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of its output that are kept, for an error.
const SAID_MAX: u64 = 512;
/// How long the rest of its output is waited for when it has ended: a child that it left behind may
/// hold the pipe open for ever.
const REST: Duration = Duration::from_millis(200);

/// A program under way.
#[derive(Debug)]
pub struct Call {
    child: Child,
    line: String,
    said: mpsc::Receiver<Vec<u8>>,
}

impl Call {
    /// Starts a program, in a process group of its own, with nothing to read.
    ///
    /// # Errors
    /// Its name and why it cannot be started.
    pub fn start(program: &Path, args: &[impl AsRef<OsStr>]) -> Result<Self, String> {
        let mut line = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for arg in args {
            line = format!("{line} {}", arg.as_ref().to_string_lossy());
        }
        let failed = |error: io::Error| format!("{line}: {error}");
        let (out, into) = io::pipe().map_err(failed)?;
        let child = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(into.try_clone().map_err(failed)?)
            .stderr(into)
            .spawn()
            .map_err(failed)?;
        let (tell, said) = mpsc::channel();
        thread::spawn(move || {
            let mut kept = Vec::new();
            // What it did not say cannot be shown. All of it is read: a full pipe would stop it.
            let _ = (&out).take(SAID_MAX).read_to_end(&mut kept);
            let _ = tell.send(kept);
            let _ = io::copy(&mut &out, &mut io::sink());
        });
        Ok(Self { child, line, said })
    }

    /// Waits until it ends, for at most `patience`; then it is killed, and what it started with it.
    ///
    /// # Errors
    /// What was run, and the first line of what it said; or that it took too long.
    pub fn end(mut self, patience: Duration) -> Result<(), String> {
        let line = &self.line;
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if begin.elapsed() < patience => thread::sleep(LOOK),
                Ok(None) => {
                    // Not waited for yet, so the number is still its own.
                    let group = Pid::from_raw(self.child.id().cast_signed());
                    let _ = killpg(group, Signal::SIGKILL);
                    let _ = self.child.wait();
                    return Err(format!("{line}: not done within {} s", patience.as_secs()));
                }
                Ok(Some(status)) => break status,
                Err(error) => return Err(format!("{line}: {error}")),
            }
        };
        if status.success() {
            return Ok(());
        }
        let said = self.said.recv_timeout(REST).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let said = said.lines().map(str::trim).find(|line| !line.is_empty());
        let said = said.map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
        Err(format!("{line}: {}", said.unwrap_or_else(|| status.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use nix::{
        fcntl::{FcntlArg, OFlag, fcntl},
        libc,
    };

    use super::*;

    fn sh(script: &str, patience: Duration) -> Result<(), String> {
        Call::start(Path::new("/bin/sh"), &["-c", script])?.end(patience)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_it_said_last_is_told_and_kept_short() {
        assert_eq!(sh("echo fine", LONG), Ok(()));
        let error = sh("echo; echo 'no such zone' >&2; exit 3", LONG).expect_err("it fails");
        assert!(error.ends_with(": no such zone"), "{error}");
        let error = sh("exit 3", LONG).expect_err("it fails");
        assert!(error.ends_with("exit status: 3"), "{error}");
        let flood = "i=0; while [ $i -lt 3000 ]; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done; exit 1";
        let error = sh(flood, LONG).expect_err("it fails");
        assert!(error.len() < flood.len() + 600, "{}", error.len());
        let error = Call::start(Path::new("/nowhere/x"), &[""]).expect_err("no such program");
        assert!(error.starts_with("x "), "{error}");
    }

    #[test]
    fn one_that_does_not_end_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().expect("temp");
        let pipe = dir.path().join("alive");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let mut options = std::fs::OpenOptions::new();
        let mut reader =
            options.read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).expect("ours");
        // Both hold the pipe open for writing; a read of it ends when both are gone.
        let script = format!("exec 3>'{}'; sleep 1000 & sleep 1000", pipe.display());
        let error = sh(&script, Duration::from_millis(100)).expect_err("too long");
        assert!(error.ends_with("not done within 0 s"), "{error}");
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty())).expect("set");
        assert_eq!(reader.read(&mut [0; 8]).expect("its end"), 0);
    }
}
