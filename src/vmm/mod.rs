//! Virtual machine monitors: one trait, its backends, and a fake.
//!
//! A [`Backend`] knows a program (Firecracker, QEMU). [`Backend::launch`] starts it for one
//! [`MachineSpec`] with the serial console on a descriptor it is given, and returns a
//! [`Machine`]: one running VMM process. The trait holds what both programs can do; what one of
//! them cannot answers [`VmmError::Unsupported`], and the stop ladder goes on to its next rung.

pub mod choose;
pub mod fake;
pub mod firecracker;
pub mod ladder;
mod piece;
mod process;
pub mod qemu;
pub mod qmp;
mod rest;
mod shell;

use std::{future::Future, os::fd::OwnedFd, path::PathBuf, pin::Pin};

use crate::domain::{ExitReason, SOCKET_PATH_MAX, VmId, VmmKind};

pub use piece::Piece;
pub use process::Prepare;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A program that can run VMs.
pub trait Backend: Send + Sync {
    /// Which one.
    fn kind(&self) -> VmmKind;

    /// What the kernel command line needs with this VMM, to be followed by the guest's own part.
    fn kernel_cmdline(&self) -> String;

    /// Whether the process ends when the guest powers off. Firecracker's goes on for ever: with
    /// it, the kernel's last words on the console are the end, and the process is to be killed.
    fn ends_at_poweroff(&self) -> bool {
        true
    }

    /// What a launch of this machine makes on the host beside the process and
    /// [`MachineSpec::socket`], oldest first. To be written down before the launch, and undone
    /// from the end, with [`Piece::remove`], once the process is gone.
    fn pieces(&self, spec: &MachineSpec) -> Vec<Piece> {
        let _ = spec;
        Vec::new()
    }

    /// What a user would type for a launch of this machine, in order: the program, and what is
    /// asked of it until the guest runs. For the eye; what cannot be launched may be told in part.
    fn commands(&self, spec: &MachineSpec) -> Vec<String>;

    /// What a user would type to tell this machine, which runs as process `pid`, so; nothing if
    /// this VMM knows no such thing.
    fn told(&self, spec: &MachineSpec, pid: u32, order: Told) -> Option<String>;

    /// Starts the program, configures the machine and lets it run. `console` becomes the
    /// guest's serial port (both directions); the caller keeps the other end.
    ///
    /// On an error nothing is left running and no socket behind.
    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        console: OwnedFd,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, VmmError>>;
}

/// What a machine can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// [`Machine::power_button`].
    PowerButton,
    /// [`Machine::pause`].
    Pause,
    /// [`Machine::resume`].
    Resume,
    /// [`Machine::quit`].
    Quit,
    /// [`Machine::signal`] with SIGTERM.
    Terminate,
    /// [`Machine::signal`] with SIGKILL.
    Kill,
}

impl Told {
    /// A signal as a user sends it.
    fn signal(self, pid: u32) -> Option<String> {
        match self {
            Self::Terminate => Some(format!("kill -TERM {pid}")),
            Self::Kill => Some(format!("kill -KILL {pid}")),
            Self::PowerButton | Self::Pause | Self::Resume | Self::Quit => None,
        }
    }
}

/// One running VMM process.
pub trait Machine: Send {
    /// The VMM's process id.
    fn pid(&self) -> u32;

    /// The next thing that happens to it. After [`MachineEvent::Exited`] it never resolves
    /// again. Dropping the future loses nothing.
    fn next_event(&mut self) -> BoxFuture<'_, MachineEvent>;

    /// Asks the guest to shut down (ACPI power button; Ctrl-Alt-Del with Firecracker).
    fn power_button(&mut self) -> BoxFuture<'_, Result<(), VmmError>>;

    /// Stops the guest's CPUs, until [`Machine::resume`]. Doing it twice is no error.
    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmmError>>;

    /// Lets a paused guest go on. One that runs already just does.
    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmmError>>;

    /// What the guest says of its memory.
    fn memory(&mut self) -> BoxFuture<'_, Result<GuestMemory, VmmError>> {
        Box::pin(async { Err(VmmError::Unsupported) })
    }

    /// Tells the VMM to end, without the guest's say.
    fn quit(&mut self) -> BoxFuture<'_, Result<(), VmmError>>;

    /// Sends the VMM a signal: SIGTERM, or SIGKILL if `kill`.
    fn signal(&mut self, kill: bool) -> Result<(), VmmError>;
}

/// A guest's memory, in bytes, as its balloon's driver says it every few seconds; nothing until
/// it has done so first, and nothing if it has no such driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestMemory {
    /// Taken from the guest by the balloon.
    pub ballooned: u64,
    /// All that its kernel has.
    pub total: Option<u64>,
    /// Used for nothing at all.
    pub free: Option<u64>,
    /// What could be had without swapping: free, and what caches would give up.
    pub available: Option<u64>,
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// The VMM process is gone and has been reaped.
    Exited(MachineExit),
}

/// Why a VMM process is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineExit {
    /// The guest powered off.
    GuestPoweroff,
    /// The guest asked for a reboot; this VMM ends at that, and is to be started again.
    ///
    /// A kernel that panics with `panic=-1` asks for one too: only the console tells.
    GuestReboot,
    /// The guest's kernel reported its own panic to the VMM.
    GuestPanic,
    /// It was told to end, by its control socket or a signal of ours.
    Asked,
    /// It ended by itself.
    Unexpected {
        /// Its exit code.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The last 4 KiB of its standard error.
        stderr: String,
    },
}

impl MachineExit {
    /// The reason to record, if nobody asked for a stop and it is not started again.
    #[must_use]
    pub fn reason(&self) -> ExitReason {
        match self {
            Self::GuestPoweroff | Self::GuestReboot => ExitReason::GuestPoweroff,
            Self::GuestPanic => ExitReason::GuestPanic,
            Self::Asked => {
                ExitReason::VmmExited { code: None, signal: None, stderr: String::new() }
            }
            Self::Unexpected { code, signal, stderr } => {
                ExitReason::VmmExited { code: *code, signal: *signal, stderr: stderr.clone() }
            }
        }
    }
}

/// A machine to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// The VM; names the process.
    pub vm: VmId,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// An uncompressed `vmlinux`.
    pub kernel: PathBuf,
    /// The initrd with our init.
    pub initrd: PathBuf,
    /// The whole kernel command line.
    pub cmdline: String,
    /// Disks in order; the first is `/dev/vda`. Raw files or block devices.
    pub disks: Vec<Disk>,
    /// Network interfaces in order.
    pub nics: Vec<Nic>,
    /// Where the control socket goes; at most 107 bytes.
    pub socket: PathBuf,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A raw file or a block device.
    pub path: PathBuf,
    /// Whether the guest may only read.
    pub read_only: bool,
}

/// A network interface of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nic {
    /// The VMM's own user-mode network: 10.0.2.0/24, gateway 10.0.2.2, DNS 10.0.2.3, the guest
    /// 10.0.2.15.
    User {
        /// Ports of 127.0.0.1 that lead into the guest.
        forwards: Vec<Forward>,
    },
    /// A TAP device of the host that exists already.
    Tap {
        /// Its name, at most 15 bytes.
        device: String,
        /// The guest's own address.
        mac: [u8; 6],
    },
}

/// An address as it is written: `02:00:5e:10:00:01`.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A TCP port of the host's loopback that leads to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// On 127.0.0.1.
    pub host_port: u16,
    /// In the guest.
    pub guest_port: u16,
}

/// What can go wrong with a VMM.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The program is not there or cannot be executed.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A forwarded port was taken between choosing and using it. Choose another, try again.
    #[error("port {0} of 127.0.0.1 is taken")]
    PortTaken(u16),
    /// It ended before the machine ran.
    #[error("{program} ended before the machine ran: {stderr}")]
    EarlyExit {
        /// Which.
        program: String,
        /// What it said.
        stderr: String,
    },
    /// The control socket said no.
    #[error("{command} failed: {message}")]
    Refused {
        /// What was asked.
        command: String,
        /// The VMM's words.
        message: String,
    },
    /// The control socket's path is longer than the kernel takes.
    #[error("{} has {} bytes and a socket's path at most {SOCKET_PATH_MAX}", .0.display(), .0.as_os_str().len())]
    SocketPath(PathBuf),
    /// The control socket did not do what it should.
    #[error("the VMM's control socket: {0}")]
    Control(String),
    /// This VMM has nothing of the kind.
    #[error("this VMM cannot do that")]
    Unsupported,
}
