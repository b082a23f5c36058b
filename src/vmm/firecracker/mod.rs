//! Firecracker: each machine a process, controlled through an HTTP API on a UNIX socket.
//!
//! What is peculiar to it:
//!
//! - **A guest that powers off leaves it running** for ever, on x86 at least; the kernel says so
//!   on the console ([`Backend::ends_at_poweroff`]). A guest that reboots ends it.
//! - **It takes one configuration, once.** Nearly all can be said only before the start, and the
//!   start works once: a machine is a process, and a restart a new one.
//! - **A TAP that is not there is made** when it runs as root: the machine then starts, without a
//!   network. So its TAPs are looked for before.
//! - **Its sockets stay** when it is gone, and keep the next one from starting.

mod api;
mod body;
mod exit;
mod hint;
pub mod jailer;
mod pipes;
mod room;
mod running;
mod steps;
mod version;

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::chown},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{net::if_::if_nametoindex, sys::signal::Signal};
use tokio::{task::spawn_blocking, time::timeout};

use self::{
    api::Client, body::FirecrackerVersion, jailer::Jailer, pipes::Pipe, room::Room,
    running::Running, steps::Places,
};
use super::{
    Backend, BoxFuture, Machine, MachineSpec, Nic, Piece, Prepare, Told, VmmError,
    process::Process, shell,
};
use crate::domain::{SOCKET_PATH_MAX, VmmKind};

pub use self::version::{NEWEST, OLDEST, Standing, Version};

/// How long a process that was killed may take to be gone before its jail is left to the ledger.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of a process may take to reach us after its connection broke.
const BROKEN_PATIENCE: Duration = Duration::from_millis(500);

/// The Firecracker backend.
#[derive(Clone, Debug)]
pub struct Firecracker {
    program: PathBuf,
    prepare: Option<Prepare>,
    jailer: Option<Jailer>,
}

impl Firecracker {
    /// `program` is a `firecracker` of a version from [`OLDEST`] on.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), prepare: None, jailer: None }
    }

    /// Has `prepare` done to the command before it is started. With `host::process::die_with_us`
    /// no VM is left running when its monitor is killed - unless it is jailed.
    #[must_use]
    pub const fn prepared_by(mut self, prepare: Prepare) -> Self {
        self.prepare = Some(prepare);
        self
    }

    /// Has machines jailed. Takes root.
    #[must_use]
    pub fn jailed_by(mut self, jailer: Jailer) -> Self {
        self.jailer = Some(jailer);
        self
    }

    async fn start(
        &self,
        spec: &MachineSpec,
        console: OwnedFd,
    ) -> Result<Box<dyn Machine>, VmmError> {
        if spec.socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
            return Err(VmmError::SocketPath(spec.socket.clone()));
        }
        spec.nics.iter().try_for_each(is_there)?;
        let mut room = self.room(spec).await?;
        let pieces = std::mem::take(&mut room.pieces);
        let started = self.start_in(room, spec, console).await;
        if started.is_err() {
            for piece in pieces.iter().rev() {
                if let Err(error) = piece.remove() {
                    // The ledger has it, and tries again.
                    tracing::warn!(%error, path = %piece.path().display(), "stays");
                }
            }
        }
        started.map_err(hint::explain)
    }

    /// How it is started, where its API will be, and what it sees: as the room has it, which this
    /// does not make.
    fn plan(&self, spec: &MachineSpec) -> (Command, PathBuf, Places) {
        match &self.jailer {
            Some(jailer) => {
                // One that is not there is told by the launch.
                let exec = fs::canonicalize(&self.program);
                jailer.plan(&exec.unwrap_or_else(|_| self.program.clone()), spec)
            }
            None => (room::command(&self.program, spec), spec.socket.clone(), room::places(spec)),
        }
    }

    async fn room(&self, spec: &MachineSpec) -> Result<Room, VmmError> {
        let program = self.program.clone();
        let Some(jailer) = self.jailer.clone() else {
            let spawn = |source| VmmError::Spawn { program: program.display().to_string(), source };
            return Room::open(&program, spec).map_err(spawn);
        };
        let spec = spec.clone();
        let made = spawn_blocking(move || {
            jailer.check(&program)?;
            jailer.room(&program, &spec)
        });
        made.await.map_err(|error| VmmError::Control(error.to_string()))?
    }

    async fn start_in(
        &self,
        room: Room,
        spec: &MachineSpec,
        console: OwnedFd,
    ) -> Result<Box<dyn Machine>, VmmError> {
        let Room { mut command, program, socket, log, metrics, places, owner, .. } = room;
        let spawn = |source| VmmError::Spawn { program: program.clone(), source };
        let mut steps = steps::steps(spec, &places)?;
        steps.push(steps::start()?);
        let mut log = pipe(&log, owner, Pipe::log).map_err(spawn)?;
        let metrics = pipe(&metrics, owner, Pipe::metrics).map_err(spawn)?;
        command
            .stdin(Stdio::from(console.try_clone().map_err(spawn)?))
            .stdout(Stdio::from(console));
        // Removes the sockets if anything goes wrong from here on.
        let files = running::Files::new([socket.clone(), socket.with_file_name("vsock")]);
        let mut process = Process::start(command, self.prepare).await.map_err(spawn)?;

        let configured = tokio::select! {
            biased;
            ended = process.ended() => {
                log.finish().await;
                return Err(exit::early(&program, &ended, &log.tail()));
            }
            configured = configure(&socket, &steps) => configured,
        };
        match configured {
            Ok(client) => Ok(Box::new(Running::new(process, client, log, metrics, files))),
            Err(error) => {
                // A connection that breaks is the first that is seen of an early end.
                let broken = matches!(error, VmmError::Control(_));
                if broken && let Ok(ended) = timeout(BROKEN_PATIENCE, process.ended()).await {
                    log.finish().await;
                    return Err(exit::early(&program, &ended, &log.tail()));
                }
                // It must be gone before its jail can be removed.
                let killed = process.signal(Signal::SIGKILL);
                if killed.is_err() || timeout(END_PATIENCE, process.ended()).await.is_err() {
                    tracing::warn!(pid = process.pid(), ?killed, "it does not end");
                }
                Err(error)
            }
        }
    }
}

impl Backend for Firecracker {
    fn kind(&self) -> VmmKind {
        VmmKind::Firecracker
    }

    /// This replaces Firecracker's own line, of which is kept: the reset by the keyboard
    /// controller (`reboot=k`), which is what ends the process, and that only the keyboard is
    /// looked for there (`i8042.…`), which Ctrl-Alt-Del comes through. Left out are `nomodule`, as
    /// our drivers are modules, and `8250.nr_uarts=0`, as the console is a serial port. A panic
    /// ends in a reboot at once: nothing hangs unseen. The kernel's trial of its own ciphers only
    /// costs time.
    fn kernel_cmdline(&self) -> String {
        "console=ttyS0 quiet loglevel=3 reboot=k panic=-1 8250.nr_uarts=1 i8042.noaux \
         i8042.nomux i8042.dumbkbd swiotlb=noforce cryptomgr.notests"
            .to_owned()
    }

    fn ends_at_poweroff(&self) -> bool {
        false
    }

    fn pieces(&self, spec: &MachineSpec) -> Vec<Piece> {
        match &self.jailer {
            Some(jailer) => jailer.pieces(&spec.vm),
            None => room::pieces(spec),
        }
    }

    fn commands(&self, spec: &MachineSpec) -> Vec<String> {
        let (command, socket, places) = self.plan(spec);
        let mut commands = vec![shell::line(&command)];
        if let Ok(steps) = steps::steps(spec, &places) {
            let put = |step: &steps::Step| {
                shell::curl(&socket, "PUT", &step.path, &step.body.to_string())
            };
            commands.extend(steps.iter().chain(&steps::start().ok()).map(put));
        }
        commands
    }

    fn told(&self, spec: &MachineSpec, pid: u32, order: Told) -> Option<String> {
        let Some((method, path, body)) = running::request(order) else { return order.signal(pid) };
        Some(shell::curl(&self.plan(spec).1, method, path, &body.to_string()))
    }

    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        console: OwnedFd,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, VmmError>> {
        Box::pin(self.start(spec, console))
    }
}

/// Whether a network interface has its other end: as root Firecracker would make one that leads
/// nowhere, and say nothing.
fn is_there(nic: &Nic) -> Result<(), VmmError> {
    match nic {
        Nic::Tap { device, .. } => {
            if_nametoindex(device.as_str()).map(drop).map_err(|errno| VmmError::Refused {
                command: format!("the network interface {device}"),
                message: format!("{}; `banger doctor` shows what became of it", errno.desc()),
            })
        }
        Nic::User { .. } => Ok(()),
    }
}

fn pipe(
    path: &Path,
    owner: Option<u32>,
    make: impl FnOnce(&Path) -> io::Result<Pipe>,
) -> io::Result<Pipe> {
    let pipe = make(path)?;
    if owner.is_some() {
        chown(path, owner, owner)?;
    }
    Ok(pipe)
}

/// Says what machine it is to be, and lets it run.
async fn configure(socket: &Path, steps: &[steps::Step]) -> Result<Client, VmmError> {
    let mut client = Client::connect(socket).await?;
    let answer = client.get::<FirecrackerVersion>("/version").await;
    let said = answer.map_err(|failure| failure.of("its version"))?.firecracker_version;
    let version = Version::parse(&said)
        .ok_or_else(|| VmmError::Control(format!("“{said}” is no version of Firecracker")))?;
    let refused = |message| VmmError::Refused { command: "Firecracker".to_owned(), message };
    if version.check().map_err(refused)? == Standing::Newer {
        tracing::warn!(%version, newest = %NEWEST.minor, "newer than what was tested");
    }
    for step in steps {
        client.put(&step.path, &step.body).await.map_err(|failure| failure.of(&step.what))?;
    }
    Ok(client)
}

#[cfg(test)]
mod tests;
