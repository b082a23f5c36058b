//! A program of banger's own that is asked something, as long as somebody waits for the answer.

use std::{
    io::{self, Read},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::host::process::die_with_us;

/// How often it is looked at whether it has ended, or is to.
const TICK: Duration = Duration::from_millis(20);
/// How long it may clear up after itself: a disk is unmounted within three seconds.
const GRACE: Duration = Duration::from_secs(5);

/// What a program says until its end. `None` if `ended` was set meanwhile: it was told to end, and is
/// gone. It does not outlive the calling thread.
///
/// # Errors
/// If it cannot be run.
pub fn output_unless(command: &mut Command, ended: &AtomicBool) -> io::Result<Option<Output>> {
    if ended.load(Ordering::Relaxed) {
        return Ok(None);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_us(command);
    let mut child = command.spawn()?;
    let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if ended.load(Ordering::Relaxed) {
            end(&mut child)?;
            return Ok(None);
        }
        thread::sleep(TICK);
    };
    let all = |thread: JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Some(Output { status, stdout: all(out), stderr: all(err) }))
}

/// Reads a pipe to its end, so that nobody has to wait for us at the other.
fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came until then is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Ends it: politely, then by force.
fn end(child: &mut Child) -> io::Result<()> {
    // It is not waited for yet: its number is its own.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break;
        }
        thread::sleep(TICK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use super::*;

    #[test]
    fn all_that_is_said_is_kept_however_much_it_is() {
        let mut sh = Command::new("sh");
        sh.args(["-c", "seq 100000; echo why >&2; exit 3"]);
        let said = output_unless(&mut sh, &AtomicBool::new(false)).unwrap().unwrap();
        assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(3), &b"why\n"[..]));
        assert!(said.stdout.ends_with(b"\n100000\n"));
    }

    #[test]
    fn one_that_nobody_waits_for_clears_up_and_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (up, left) = (dir.path().join("up"), dir.path().join("left"));
        let ended = Arc::new(AtomicBool::new(false));
        let script = "trap 'rm \"$1\"; exit 1' TERM; touch \"$1\"; echo $$ >\"$0\"; \
            while :; do sleep 0.05; done";
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).args([&up, &left]);
        let flag = Arc::clone(&ended);
        let asking = thread::spawn(move || output_unless(&mut sh, &flag));
        let deadline = Instant::now() + Duration::from_secs(20);
        let pid = loop {
            let pid = fs::read_to_string(&up).unwrap_or_default();
            if pid.ends_with('\n') {
                break pid.trim().to_owned();
            }
            assert!(Instant::now() < deadline, "it did not begin");
            thread::sleep(TICK);
        };
        assert!(left.exists());
        ended.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap().unwrap().is_none());
        assert!(!left.exists(), "it could clear up");
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "it is gone");
        // One that is no longer wanted is not begun.
        let mut sh = Command::new("/no/such/program");
        assert!(output_unless(&mut sh, &ended).unwrap().is_none());
    }
}
