//! A backend without VMs, for tests of what uses one.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::{Child, Command},
    sync::watch,
};

use super::{
    Backend, BoxFuture, Machine, MachineEvent, MachineExit, MachineSpec, Piece, Told, VmmError,
};
use crate::domain::VmmKind;

/// A process id that no process has: the kernel's ids end at 4 Mi (proc(5), `pid_max`).
const NO_PROCESS: u32 = i32::MAX as u32;

/// What the machines of a [`FakeBackend`] do.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Written to the console at once: readiness markers and whatever else a boot says.
    pub boot: Vec<u8>,
    /// Whether input is written back.
    pub echo: bool,
    /// The guest does not listen to the power button.
    pub ignore_power_button: bool,
    /// The VMM acknowledges a quit and stays.
    pub ignore_quit: bool,
    /// The VMM ignores SIGTERM.
    pub ignore_terminate: bool,
    /// The process stays when the guest powers off, as Firecracker's does.
    pub outlives_poweroff: bool,
    /// What a launch says that it makes. Nothing is made.
    pub pieces: Vec<Piece>,
    /// It ends by itself so, as soon as `boot` is written.
    pub ends: Option<MachineExit>,
    /// Whether there is a real process (`sleep`) that can be killed from outside and is gone
    /// with the machine. Without, the process id is one that nobody has.
    pub process: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct FakeBackend {
    script: Script,
    failures: Mutex<VecDeque<VmmError>>,
    launched: Mutex<Vec<Launched>>,
}

#[derive(Debug)]
struct Launched {
    spec: MachineSpec,
    ended: watch::Sender<Option<MachineExit>>,
    paused: watch::Receiver<bool>,
}

impl FakeBackend {
    /// A backend whose machines follow `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self { script, ..Self::default() }
    }

    /// Lets the next launch that is not yet told to fail, fail.
    pub fn fail_launch(&self, error: VmmError) {
        lock(&self.failures).push_back(error);
    }

    /// What was launched, in order.
    #[must_use]
    pub fn launched(&self) -> Vec<MachineSpec> {
        lock(&self.launched).iter().map(|one| one.spec.clone()).collect()
    }

    /// Whether the machine launched last is paused.
    #[must_use]
    pub fn paused(&self) -> bool {
        lock(&self.launched).last().is_some_and(|one| *one.paused.borrow())
    }

    /// Lets the machine launched last end by itself.
    pub fn end(&self, exit: MachineExit) {
        if let Some(Launched { ended, .. }) = lock(&self.launched).last() {
            ended.send_if_modified(|now| now.is_none() && now.replace(exit).is_none());
        }
    }
}

impl Backend for FakeBackend {
    fn kind(&self) -> VmmKind {
        VmmKind::QemuTcg
    }

    fn kernel_cmdline(&self) -> String {
        "console=ttyS0".to_owned()
    }

    fn ends_at_poweroff(&self) -> bool {
        !self.script.outlives_poweroff
    }

    fn pieces(&self, _: &MachineSpec) -> Vec<Piece> {
        self.script.pieces.clone()
    }

    fn commands(&self, spec: &MachineSpec) -> Vec<String> {
        vec![format!("fake {}", spec.vm)]
    }

    fn told(&self, _: &MachineSpec, _: u32, order: Told) -> Option<String> {
        Some(format!("fake {order:?}"))
    }

    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        console: OwnedFd,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, VmmError>> {
        Box::pin(async move {
            if let Some(error) = lock(&self.failures).pop_front() {
                return Err(error);
            }
            let failed = |source| VmmError::Spawn { program: "a fake".to_owned(), source };
            let process = match self.script.process {
                true => Some(sleeper().map_err(failed)?),
                false => None,
            };
            let pid = process.as_ref().and_then(Child::id).unwrap_or(NO_PROCESS);
            let console = Console::new(console).map_err(failed)?;
            let (ended, ends) = watch::channel(None);
            tokio::spawn(run(console, self.script.clone(), process, ended.clone()));
            let (pause, paused) = watch::channel(false);
            lock(&self.launched).push(Launched {
                spec: spec.clone(),
                ended: ended.clone(),
                paused,
            });
            let script = self.script.clone();
            let machine = FakeMachine { pid, script, ended, ends, pause, reported: false };
            Ok(Box::new(machine) as Box<dyn Machine>)
        })
    }
}

struct FakeMachine {
    pid: u32,
    script: Script,
    ended: watch::Sender<Option<MachineExit>>,
    ends: watch::Receiver<Option<MachineExit>>,
    pause: watch::Sender<bool>,
    reported: bool,
}

impl FakeMachine {
    fn end(&self, exit: MachineExit) {
        self.ended.send_if_modified(|now| now.is_none() && now.replace(exit).is_none());
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.end(MachineExit::Asked);
    }
}

impl Machine for FakeMachine {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn next_event(&mut self) -> BoxFuture<'_, MachineEvent> {
        Box::pin(async {
            if !self.reported
                && let Ok(exit) = self.ends.wait_for(Option::is_some).await
                && let Some(exit) = exit.clone()
            {
                self.reported = true;
                return MachineEvent::Exited(exit);
            }
            pending().await
        })
    }

    fn power_button(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async {
            if !self.script.ignore_power_button && !self.script.outlives_poweroff {
                self.end(MachineExit::GuestPoweroff);
            }
            Ok(())
        })
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async {
            self.pause.send_replace(true);
            Ok(())
        })
    }

    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async {
            self.pause.send_replace(false);
            Ok(())
        })
    }

    fn quit(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async {
            if !self.script.ignore_quit {
                self.end(MachineExit::Asked);
            }
            Ok(())
        })
    }

    fn signal(&mut self, kill: bool) -> Result<(), VmmError> {
        if kill || !self.script.ignore_terminate {
            self.end(MachineExit::Asked);
        }
        Ok(())
    }
}

/// The guest: writes, echoes, ends. Its console is closed when it ends, and not before.
async fn run(
    mut console: Console,
    script: Script,
    mut process: Option<Child>,
    ended: watch::Sender<Option<MachineExit>>,
) {
    let mut end = ended.subscribe();
    let guest = async {
        let mut written = console.to.write_all(&script.boot).await;
        if let Some(exit) = script.ends {
            ended.send_if_modified(|now| now.is_none() && now.replace(exit).is_none());
        }
        let mut buffer = [0; 4096];
        while written.is_ok() {
            let Ok(n @ 1..) = console.from.read(&mut buffer).await else { break };
            if script.echo {
                written = console.to.write_all(&buffer[..n]).await;
            }
        }
        // The other end is closed; a machine runs on without a console.
        pending::<()>().await;
    };
    let killed = async {
        match &mut process {
            Some(child) => child.wait().await,
            None => pending().await,
        }
    };
    let over = async {
        // An error means that nobody is left to tell, which cannot be: we hold a sender.
        let _ = end.wait_for(Option::is_some).await;
    };
    tokio::select! {
        () = guest => {}
        () = over => {}
        status = killed => {
            let status = status.ok();
            let exit = MachineExit::Unexpected {
                code: status.and_then(|status| status.code()),
                signal: status.and_then(|status| status.signal()),
                stderr: String::new(),
            };
            ended.send_if_modified(|now| now.is_none() && now.replace(exit).is_none());
        }
    }
}

fn sleeper() -> io::Result<Child> {
    Command::new("sleep")
        .arg("86400")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Both directions of a console. tokio's pipes will do for any descriptor that epoll knows.
struct Console {
    from: pipe::Receiver,
    to: pipe::Sender,
}

impl Console {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let from = pipe::Receiver::from_owned_fd_unchecked(fd.try_clone()?)?;
        Ok(Self { from, to: pipe::Sender::from_owned_fd_unchecked(fd)? })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
        path::PathBuf,
    };

    use super::*;
    use crate::{
        domain::{Method, StopLadder, VmId},
        vmm::ladder::climb,
    };

    fn spec() -> MachineSpec {
        MachineSpec {
            vm: VmId::from_bytes([0; 4]),
            vcpus: 1,
            memory_mib: 64,
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            cmdline: String::new(),
            disks: vec![],
            nics: vec![],
            socket: PathBuf::new(),
        }
    }

    #[tokio::test]
    async fn a_fake_boots_echoes_and_closes_its_console_when_it_ends() {
        let script = Script { boot: b"hello\n".to_vec(), echo: true, ..Script::default() };
        let backend = FakeBackend::new(script);
        let (mut ours, theirs) = UnixStream::pair().expect("pair");
        let mut machine = backend.launch(&spec(), theirs.into()).await.expect("launch");
        let end = tokio::task::spawn_blocking(move || {
            let mut got = [0; 6];
            ours.read_exact(&mut got).expect("boot");
            ours.write_all(b"ls\r").expect("input");
            ours.read_exact(&mut got[..3]).expect("echo");
            (got, ours)
        });
        let (got, mut ours) = end.await.expect("thread");
        assert_eq!(&got, b"ls\rlo\n");
        machine.pause().await.expect("pause");
        assert!(backend.paused());
        machine.resume().await.expect("resume");
        assert!(!backend.paused());
        machine.power_button().await.expect("press");
        assert_eq!(machine.next_event().await, MachineEvent::Exited(MachineExit::GuestPoweroff));
        let end = tokio::task::spawn_blocking(move || ours.read(&mut [0; 9]).expect("end"));
        assert_eq!(end.await.expect("thread"), 0);
        assert_eq!(backend.launched(), [spec()]);
    }

    #[tokio::test]
    async fn a_fake_with_a_process_can_be_killed_from_outside() {
        let backend = FakeBackend::new(Script { process: true, ..Script::default() });
        let (_ours, theirs) = UnixStream::pair().expect("pair");
        let mut machine = backend.launch(&spec(), theirs.into()).await.expect("launch");
        let pid = nix::unistd::Pid::from_raw(machine.pid() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
        let MachineEvent::Exited(exit) = machine.next_event().await;
        assert!(matches!(exit, MachineExit::Unexpected { signal: Some(9), .. }), "{exit:?}");
    }

    #[tokio::test]
    async fn launches_fail_when_told_and_stubborn_machines_climb_the_ladder() {
        let backend = FakeBackend::new(Script {
            ignore_power_button: true,
            ignore_quit: true,
            ignore_terminate: true,
            ..Script::default()
        });
        backend.fail_launch(VmmError::PortTaken(22));
        let (_ours, theirs) = UnixStream::pair().expect("pair");
        let failed = backend.launch(&spec(), theirs.try_clone().expect("dup").into()).await;
        assert!(matches!(failed.err(), Some(VmmError::PortTaken(22))));
        let mut machine = backend.launch(&spec(), theirs.into()).await.expect("launch");
        tokio::time::pause();
        let ended = climb(machine.as_mut(), &StopLadder::polite(1000), |_| {}).await;
        assert_eq!(ended, Ok((Method::Kill, MachineExit::Asked)));
    }
}
