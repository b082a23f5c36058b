//! Where a Firecracker runs and how it is started: as it is, or in a jail of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use super::steps::Places;
use crate::vmm::{MachineSpec, Piece};

/// The host's side of what a Firecracker reads and writes, and its own view of it.
#[derive(Debug)]
pub(super) struct Room {
    /// Starts it.
    pub(super) command: Command,
    /// What it goes by in messages.
    pub(super) program: String,
    /// Its API's socket. In a jail this may be longer than a socket's path can be.
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) metrics: PathBuf,
    /// Its view.
    pub(super) places: Places,
    /// Whose the pipes must be, if not ours.
    pub(super) owner: Option<u32>,
    /// Removed if it does not come to run.
    pub(super) pieces: Vec<Piece>,
}

/// The files beside the API's socket; none of their names is longer than `vmm.sock`, so they fit
/// where it does.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) vsock: PathBuf,
    pub(super) log: PathBuf,
    pub(super) metrics: PathBuf,
}

impl Beside {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            vsock: socket.with_file_name("vsock"),
            log: socket.with_file_name("vmm.log"),
            metrics: socket.with_file_name("vmm.met"),
        }
    }
}

/// The instance's id: 1 to 64 of letters, digits and `-`.
pub(super) fn instance(spec: &MachineSpec) -> String {
    format!("banger-{}", spec.vm)
}

/// What Firecracker itself is told on its command line. The logger is, so that nothing of it
/// comes out on the console before the API is there to be told.
pub(super) fn arguments(command: &mut Command, spec: &MachineSpec) {
    command.arg("--api-sock").arg(&spec.socket);
    command.arg("--log-path").arg(Beside::new(&spec.socket).log);
    command.args(["--level", "Info", "--show-level"]);
}

/// Starts it without a jail.
pub(super) fn command(program: &Path, spec: &MachineSpec) -> Command {
    let mut command = Command::new(program);
    command.args(["--id", &instance(spec)]);
    arguments(&mut command, spec);
    command
}

/// Without a jail everything is where it is.
pub(super) fn places(spec: &MachineSpec) -> Places {
    let Beside { vsock, metrics, .. } = Beside::new(&spec.socket);
    Places {
        kernel: spec.kernel.clone(),
        initrd: spec.initrd.clone(),
        disks: spec.disks.iter().map(|disk| disk.path.clone()).collect(),
        metrics,
        vsock,
    }
}

impl Room {
    /// Without a jail: everything is where it is.
    pub(super) fn open(program: &Path, spec: &MachineSpec) -> io::Result<Self> {
        let beside = Beside::new(&spec.socket);
        remove_file(&spec.socket)?;
        remove_file(&beside.vsock)?;
        Ok(Self {
            command: command(program, spec),
            program: program.display().to_string(),
            socket: spec.socket.clone(),
            log: beside.log,
            metrics: beside.metrics,
            places: places(spec),
            owner: None,
            pieces: pieces(spec),
        })
    }
}

/// What it makes without a jail.
pub(super) fn pieces(spec: &MachineSpec) -> Vec<Piece> {
    let Beside { vsock, log, metrics } = Beside::new(&spec.socket);
    vec![Piece::Pipe(log), Piece::Pipe(metrics), Piece::Socket(vsock)]
}

/// Removes a file that may be there. Firecracker leaves its sockets behind, even after SIGTERM,
/// and one that is there keeps the next from starting.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
