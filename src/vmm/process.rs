//! One child process that runs a VM: started, watched and reaped by a thread of its own.

use std::{
    collections::VecDeque,
    io,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    process::ChildStderr,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::rest::rest;

/// Something to be done to a command before it is started, such as tying the process to us
/// (`host::process::die_with_us`): that takes `unsafe`, which lives there.
///
/// The thread that starts the process lives as long as the process does.
pub type Prepare = fn(&mut Command);

/// How much of its standard error is kept.
const STDERR_KEPT: usize = 4096;

/// The waiting thread calls little, all of it shallow.
const STACK: usize = 64 * 1024;

/// A running VMM. Killed when dropped.
pub(super) struct Process {
    pid: Pid,
    /// Whether the process id is still its own; locked while it is signalled or reaped.
    reaped: Arc<Mutex<bool>>,
    ended: watch::Receiver<Option<ExitStatus>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// Who reads it, and how it is told that the process is gone.
    stderr_reader: Option<(Option<oneshot::Sender<()>>, JoinHandle<()>)>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The last 4 KiB.
    pub(super) stderr: String,
}

impl Process {
    /// Starts `command`; its standard error is captured here.
    pub(super) async fn start(mut command: Command, prepare: Option<Prepare>) -> io::Result<Self> {
        command.stderr(Stdio::piped());
        let (started, start) = oneshot::channel::<io::Result<Started>>();
        let (end, ended) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        thread::Builder::new().name("vmm".to_owned()).stack_size(STACK).spawn({
            let reaped = Arc::clone(&reaped);
            move || {
                if let Some(prepare) = prepare {
                    prepare(&mut command);
                }
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        // Nobody listens any more: then nobody minds.
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                // It holds the console's descriptors, and they must close with the process.
                drop(command);
                let stderr = child.stderr.take();
                let pid = Pid::from_raw(child.id() as i32);
                if started.send(Ok(Started { pid, stderr })).is_err() {
                    // Whoever wanted it has given up.
                    let _ = child.kill();
                }
                let status = reap(&mut child, pid, &reaped);
                let _ = end.send(status);
            }
        })?;
        let Started { pid, stderr } =
            start.await.map_err(|_| io::Error::other("the starting thread is gone"))??;
        // From here on an early return kills it.
        let mut process = Self { pid, reaped, ended, stderr: Arc::default(), stderr_reader: None };
        if let Some(stderr) = stderr {
            let stderr = ChildStderr::from_std(stderr)?;
            let (gone, is_gone) = oneshot::channel();
            let reader = tokio::spawn(keep_tail(stderr, is_gone, process.stderr.clone()));
            process.stderr_reader = Some((Some(gone), reader));
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Sends a signal, unless it has ended already.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let reaped = lock(&self.reaped);
        if *reaped {
            return Ok(());
        }
        match kill(self.pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for its end. Can be called again, and dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> Ended {
        let status = match self.ended.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The thread is gone without a word: it can only have panicked.
            Err(_) => ExitStatus::default(),
        };
        if let Some((gone, reader)) = &mut self.stderr_reader {
            if let Some(gone) = gone.take() {
                // The reader is at the end already if it does not hear it.
                let _ = gone.send(());
            }
            // It waits for nothing: a child of the process's may have it open for ever.
            let _ = reader.await;
            self.stderr_reader = None;
        }
        let stderr: Vec<u8> = lock(&self.stderr).iter().copied().collect();
        Ended { status, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It cannot fail: it is our child and not reaped.
        let _ = self.signal(Signal::SIGKILL);
    }
}

struct Started {
    pid: Pid,
    stderr: Option<std::process::ChildStderr>,
}

/// Waits for a child, and reaps it while nobody can signal it.
fn reap(child: &mut Child, pid: Pid, reaped: &Mutex<bool>) -> Option<ExitStatus> {
    let without_reaping = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Err(Errno::EINTR) = waitid(Id::Pid(pid), without_reaping) {}
    let mut reaped = lock(reaped);
    let status = child.wait();
    *reaped = true;
    status.ok()
}

/// Until its end, or what is there when the process is gone.
async fn keep_tail(
    mut from: ChildStderr,
    gone: oneshot::Receiver<()>,
    tail: Arc<Mutex<VecDeque<u8>>>,
) {
    let keep = |bytes: &[u8]| {
        let mut tail = lock(&tail);
        tail.extend(bytes);
        let excess = tail.len().saturating_sub(STDERR_KEPT);
        tail.drain(..excess);
    };
    let reading = async {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            keep(&buffer[..n]);
        }
    };
    tokio::select! {
        biased;
        Ok(()) = gone => {}
        () = reading => return,
    }
    rest(&from, keep);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    #[tokio::test]
    async fn the_end_of_standard_error_is_kept() {
        let script = "yes 0123456789 | head -c 100000 >&2; echo the end >&2; exit 3";
        let mut process = Process::start(shell(script), None).await.expect("start");
        let ended = process.ended().await;
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.stderr.len(), STDERR_KEPT);
        assert!(ended.stderr.ends_with("the end\n"));
        assert_eq!(process.ended().await.stderr, ended.stderr, "asked again");
        process.signal(Signal::SIGKILL).expect("too late, and no error");
    }

    #[tokio::test]
    async fn a_child_that_keeps_standard_error_open_does_not_hide_the_end() {
        let mut process =
            Process::start(shell("sleep 86400 & echo $! >&2"), None).await.expect("start");
        let ended = process.ended().await;
        let orphan = Pid::from_raw(ended.stderr.trim().parse().expect("its process id"));
        kill(orphan, Signal::SIGKILL).expect("it still runs");
    }

    #[tokio::test]
    async fn what_it_said_at_last_is_kept_when_the_machine_stands_still() {
        // A child has it open for ever, so there is no end of it to be waited for.
        let script = "sleep 86400 <&- & echo $! >&2; echo the end >&2";
        let mut process = Process::start(shell(script), None).await.expect("start");
        // Nothing else runs here until it is dead, so nothing of it has been read.
        while process.ended.borrow().is_none() {
            thread::yield_now();
        }
        let ended = {
            let mut ended = std::pin::pin!(process.ended());
            tokio::select! {
                biased;
                _ = &mut ended => panic!("the reader has not had a turn"),
                () = std::future::ready(()) => {}
            }
            // Longer than anybody would wait for the reader.
            thread::sleep(std::time::Duration::from_millis(600));
            ended.await
        };
        let (orphan, rest) = ended.stderr.split_once('\n').expect("two lines");
        let orphan = Pid::from_raw(orphan.parse().expect("its process id"));
        kill(orphan, Signal::SIGKILL).expect("it still runs");
        assert_eq!(rest, "the end\n");
    }

    #[tokio::test]
    async fn a_signal_ends_it_and_so_does_dropping() {
        let mut process = Process::start(shell("exec sleep 86400"), None).await.expect("start");
        process.signal(Signal::SIGTERM).expect("signal");
        assert_eq!(process.ended().await.status.signal(), Some(15));

        let process = Process::start(shell("exec sleep 86400"), None).await.expect("start");
        let mut ended = process.ended.clone();
        drop(process);
        let status = *ended.wait_for(Option::is_some).await.expect("end");
        assert_eq!(status.and_then(|status| status.signal()), Some(9));
    }

    #[tokio::test]
    async fn what_is_not_there_cannot_be_started() {
        let error = Process::start(Command::new("/nonexistent/vmm"), None).await.err();
        assert_eq!(error.expect("no such program").kind(), io::ErrorKind::NotFound);
    }
}
