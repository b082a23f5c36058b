//! Processes: who one is, whether it still is, signals that cannot hit another, and starting
//! one that outlives us or one that does not.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt, process::CommandExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{Pid, getppid, setsid},
};
use serde::{Deserialize, Serialize};

pub use nix::sys::signal::Signal;

/// A process, told apart from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks after the boot: field 22 of `/proc/<pid>/stat`, proc(5).
    pub start_time: u64,
    /// The boot of the host: the first 64 bits of `/proc/sys/kernel/random/boot_id`. After a
    /// reboot, ids and even ticks come again.
    pub boot: u64,
}

impl ProcessRef {
    /// The process that has this id now.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, or only its remains (a zombie).
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_time: start_time(pid)?, boot: boot()? })
    }

    /// This process.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Whether it still runs. A zombie does not: what it held is given back, once the last of its
    /// threads has ended.
    #[must_use]
    pub fn alive(self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
            && start_time(self.pid).is_ok_and(|time| time == self.start_time)
    }

    /// Sends a signal to it and to no other. False if it is gone.
    ///
    /// # Errors
    /// If we may not.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(pidfd) = self.open()? else { return Ok(false) };
        // SAFETY: pidfd_send_signal(2) takes a descriptor that is open, a number, no siginfo.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A descriptor for it, if it still runs.
    fn open(self) -> io::Result<Option<OwnedFd>> {
        // SAFETY: pidfd_open(2) takes two numbers; close-on-exec is always set.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid as libc::pid_t, 0) };
        let pidfd = match Errno::result(raw) {
            // SAFETY: the kernel has just given us this descriptor.
            Ok(raw) => unsafe { OwnedFd::from_raw_fd(raw as i32) },
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Only now: what the descriptor refers to cannot change any more.
        Ok(self.alive().then_some(pidfd))
    }
}

/// Our user's processes, as root anyone's, one of whose arguments ends in `end`.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn with_argument(end: &OsStr) -> io::Result<Vec<ProcessRef>> {
    let me = nix::unistd::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Any of these fails if the process ends meanwhile.
        let ours = me == 0 || entry.metadata().is_ok_and(|meta| meta.uid() == me);
        if !ours || pid == std::process::id() {
            continue;
        }
        let Ok(process) = ProcessRef::of(pid) else { continue };
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.split(|b| *b == 0).any(|one| one.ends_with(end.as_bytes())) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Waits until a process, of ours or not, is gone; false if it is still there after `patience`.
/// Blocks.
///
/// # Errors
/// If it cannot be watched.
pub fn wait_gone(process: ProcessRef, patience: Duration) -> io::Result<bool> {
    let Some(pidfd) = process.open()? else { return Ok(true) };
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, lest the last millisecond be spent spinning.
        let timeout =
            PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A process started by [`spawn_detached`].
#[derive(Debug)]
pub struct Detached {
    process: ProcessRef,
    child: Option<Child>,
}

impl Detached {
    /// Who it is.
    #[must_use]
    pub const fn process(&self) -> ProcessRef {
        self.process
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If it cannot be asked for.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => child.try_wait(),
            None => Ok(None),
        }
    }

    /// Waits for its end. Blocks.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        match self.child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        orphans(self.child.take());
    }
}

/// Children that nobody waits for any more, until they are gone: without this each would stay a
/// zombie for as long as we run.
fn orphans(new: Option<Child>) {
    static ORPHANS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    orphans.extend(new);
    orphans.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// Starts a process that outlives us and our terminal: in a session of its own, with nothing on
/// its standard input, `output` for both of its outputs, and no other descriptor of ours.
///
/// # Errors
/// If it cannot be started.
pub fn spawn_detached(mut command: Command, output: File) -> io::Result<Detached> {
    orphans(None);
    command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    // SAFETY: between fork and exec only async-signal-safe calls are made: setsid(2) and
    // close_range(2).
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            close_on_exec()
        });
    }
    let child = command.spawn()?;
    let process = ProcessRef::of(child.id());
    match process {
        Ok(process) => Ok(Detached { process, child: Some(child) }),
        // It has ended already.
        Err(_) => Ok(Detached {
            process: ProcessRef { pid: child.id(), start_time: 0, boot: 0 },
            child: Some(child),
        }),
    }
}

/// Lets everything above standard error be closed by the exec that follows.
fn close_on_exec() -> io::Result<()> {
    // SAFETY: close_range(2) takes three numbers.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    match Errno::result(done) {
        // Older than Linux 5.11: all descriptors that std and we open are close-on-exec anyway.
        Ok(_) | Err(Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Ties a process to be started to the thread that starts it: when that thread ends, however it
/// does, the process gets SIGKILL. It also gets a session of its own, so that signals meant for
/// our terminal do not reach it.
///
/// The tie is to the *thread* (prctl(2), `PR_SET_PDEATHSIG`): start it from one that lives as long
/// as the process is to.
pub fn die_with_us(command: &mut Command) {
    let parent = Pid::this();
    // SAFETY: between fork and exec only async-signal-safe calls are made: setsid(2), prctl(2),
    // getppid(2) and close_range(2).
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            // We may have died in between; then nobody would ever send it.
            if getppid() != parent {
                return Err(Errno::ESRCH.into());
            }
            close_on_exec()
        });
    }
}

fn start_time(pid: u32) -> io::Result<u64> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let (state, threads, start_time) = parse_stat(&stat).ok_or_else(gone)?;
    // The state is the first thread's: the others may go on, and have all of its files open.
    if matches!(state, b'Z' | b'X') && threads <= 1 { Err(gone()) } else { Ok(start_time) }
}

/// State, number of threads and start time from `/proc/<pid>/stat`. The second field is the
/// program's name in parentheses, which may itself hold spaces and parentheses.
fn parse_stat(stat: &[u8]) -> Option<(u8, u32, u64)> {
    let name_end = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace(); // from the third on
    let state = fields.next()?.bytes().next()?;
    let threads = fields.nth(20 - 4)?.parse().ok()?;
    let start_time = fields.nth(22 - 21)?.parse().ok()?;
    Some((state, threads, start_time))
}

fn boot() -> io::Result<u64> {
    static BOOT: OnceLock<u64> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(*boot);
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let boot = u64::from_str_radix(&digits, 16)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "unreadable boot_id"))?;
    Ok(*BOOT.get_or_init(|| boot))
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::process::ExitStatusExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn sleeper(dir: &std::path::Path) -> Detached {
        let mut command = Command::new("sleep");
        command.arg("86400");
        let output = File::create(dir.join("out")).expect("file");
        spawn_detached(command, output).expect("spawn")
    }

    #[test]
    fn the_start_time_is_found_whatever_the_program_is_called() {
        let stat =
            b"4711 (a) R 1 (b) S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 98765 9 9\n";
        assert_eq!(parse_stat(stat), Some((b'S', 3, 98_765)));
        for bad in [
            &b""[..],
            b"1 (x) S",
            b"1 x S 1 1",
            b"1 (x) S 1 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 x 9",
            b"1 (x) S 1 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 x 0 1 9",
        ] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn a_process_is_told_apart_from_its_successors() {
        let us = ProcessRef::current().expect("us");
        assert!(us.alive());
        let earlier = ProcessRef { start_time: us.start_time - 1, ..us };
        let before_reboot = ProcessRef { boot: !us.boot, ..us };
        for other in [earlier, before_reboot] {
            assert!(!other.alive());
            assert!(!other.signal(Signal::SIGKILL).expect("nobody is hit"));
            assert!(wait_gone(other, Duration::ZERO).expect("gone"));
        }
        assert!(!wait_gone(us, Duration::from_millis(10)).expect("still here"));
        assert!(ProcessRef::of(i32::MAX as u32).is_err());
    }

    /// As a VMM is for a moment when it is killed, and for longer on a machine that does much else.
    #[test]
    fn a_process_whose_first_thread_has_ended_goes_on_until_the_last_has() {
        // SAFETY: what the child does needs nothing that another thread of ours may have held: two
        // system calls, on a thread of its own and on its first one.
        let pid = match unsafe { nix::unistd::fork() }.expect("fork") {
            nix::unistd::ForkResult::Parent { child } => child,
            nix::unistd::ForkResult::Child => {
                let mut thread: libc::pthread_t = 0;
                extern "C" fn wait(_: *mut libc::c_void) -> *mut libc::c_void {
                    loop {
                        // SAFETY: pause(2) takes nothing.
                        unsafe { libc::pause() };
                    }
                }
                // SAFETY: a function that never returns, without an argument; exit(2) ends the
                // calling thread alone.
                unsafe {
                    let (no_attributes, nothing) = (std::ptr::null(), std::ptr::null_mut());
                    let failed = libc::pthread_create(&mut thread, no_attributes, wait, nothing);
                    libc::syscall(libc::SYS_exit, failed);
                    libc::_exit(1)
                }
            }
        };
        let state = || {
            let stat = fs::read(format!("/proc/{pid}/stat")).expect("not waited for yet");
            parse_stat(&stat).expect("as documented")
        };
        let begin = Instant::now();
        while state().0 != b'Z' {
            assert!(begin.elapsed() < PATIENCE, "{:?}", state());
            std::thread::yield_now();
        }
        assert_eq!(state().1, 2, "its other thread");
        let process = ProcessRef::of(pid.as_raw().cast_unsigned()).expect("it runs");
        assert!(process.alive() && !wait_gone(process, Duration::ZERO).expect("watch"));
        assert!(process.signal(Signal::SIGKILL).expect("signal"));
        assert!(wait_gone(process, PATIENCE).expect("watch"));
        assert!(!process.alive());
        nix::sys::wait::waitpid(pid, None).expect("its remains");
    }

    #[test]
    fn a_detached_process_has_its_own_session_and_nothing_of_ours() {
        let dir = tempfile::tempdir().expect("temp");
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ $(cut -d' ' -f6 /proc/$$/stat); ls /proc/self/fd; cat; exit 7"]);
        let output = File::create(dir.path().join("out")).expect("file");
        // Not close-on-exec, as from a library that knows no better.
        let stray = nix::unistd::dup(&output).expect("dup");
        let status = spawn_detached(command, output).expect("spawn").wait().expect("end");
        drop(stray);
        assert_eq!(status.code(), Some(7));
        let mut text = String::new();
        File::open(dir.path().join("out")).expect("out").read_to_string(&mut text).expect("text");
        let mut words = text.split_whitespace();
        assert_eq!(words.next(), words.next(), "a session of its own: {text}");
        // Beside the three, ls has the directory itself open.
        assert_eq!(words.collect::<Vec<_>>(), ["0", "1", "2", "3"], "{text}");
    }

    #[test]
    fn signals_reach_it_and_its_end_is_seen() {
        let dir = tempfile::tempdir().expect("temp");
        let sleeper = sleeper(dir.path());
        let process = sleeper.process();
        assert!(process.alive());
        assert!(process.signal(Signal::SIGTERM).expect("signal"));
        assert!(wait_gone(process, PATIENCE).expect("watch"));
        assert!(!process.alive(), "a zombie is not alive");
        assert_eq!(sleeper.wait().expect("end").signal(), Some(15));
        assert!(!process.signal(Signal::SIGTERM).expect("gone"));
    }

    #[test]
    fn it_outlives_its_handle_and_leaves_no_zombie_behind() {
        let dir = tempfile::tempdir().expect("temp");
        let first = sleeper(dir.path()).process();
        assert!(first.alive(), "dropped, not killed");
        assert!(first.signal(Signal::SIGKILL).expect("signal"));
        assert!(wait_gone(first, PATIENCE).expect("watch"));
        orphans(None);
        assert!(!std::path::Path::new(&format!("/proc/{}", first.pid)).exists());
    }

    #[test]
    fn what_is_not_there_cannot_be_started() {
        let dir = tempfile::tempdir().expect("temp");
        let output = File::create(dir.path().join("out")).expect("file");
        let error = spawn_detached(Command::new("/nonexistent/x"), output).expect_err("none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
