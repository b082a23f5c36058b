//! QEMU's `microvm` machine, under KVM or with emulated CPUs.

mod cmdline;
mod exit;

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    Backend, BoxFuture, Machine, MachineEvent, MachineSpec, Prepare, Told, VmmError,
    process::Process,
    qmp::{self, Client},
    shell,
};
use crate::domain::{SOCKET_PATH_MAX, VmmKind};

/// How soon a control socket that is not there yet is tried again: a small part of the 50 ms or
/// more that QEMU needs, and the guest, which runs already, does not wait for it.
const CONNECT_RETRY: Duration = Duration::from_millis(5);
/// The longest pause between tries, which become rarer: where it takes long, many VMs start, and
/// their monitors must not take the CPUs from them.
const CONNECT_RETRY_MAX: Duration = Duration::from_millis(100);

/// How long QEMU may take until it answers. Usually 0.1 s; on an emulated host that starts many VMs
/// at once, half a minute was seen. One that ends is noticed at once.
const CONNECT_PATIENCE: Duration = Duration::from_secs(120);

/// How long the end of a process may take to be seen whose control connection has broken: what its
/// end says is better than what the connection says, and all that is lost if this is too short.
const BROKEN_PATIENCE: Duration = Duration::from_millis(500);

/// How QEMU runs the guest's CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The host's CPUs do.
    Kvm,
    /// They are emulated.
    Tcg,
}

/// The `qemu-system-*` backend.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    accel: Accel,
    tsc_khz: Option<u32>,
    prepare: Option<Prepare>,
}

impl Qemu {
    /// `program` is `qemu-system-x86_64` or a path to it. `tsc_khz` is the rate of the host's time
    /// stamp counter: guests with emulated CPUs that have to find it out themselves hang in one
    /// of five boots.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, accel: Accel, tsc_khz: Option<u32>) -> Self {
        Self { program: program.into(), accel, tsc_khz, prepare: None }
    }

    /// Has `prepare` done to the command before it is started. With `host::process::die_with_us`
    /// no VM is left running when its monitor is killed.
    #[must_use]
    pub const fn prepared_by(mut self, prepare: Prepare) -> Self {
        self.prepare = Some(prepare);
        self
    }

    fn name(&self) -> String {
        self.program.display().to_string()
    }

    fn command(&self, spec: &MachineSpec) -> Command {
        let mut command = Command::new(&self.program);
        command.args(cmdline::arguments(self.accel, spec));
        command
    }

    async fn start(
        &self,
        spec: &MachineSpec,
        console: OwnedFd,
    ) -> Result<Box<dyn Machine>, VmmError> {
        if spec.socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
            return Err(VmmError::SocketPath(spec.socket.clone()));
        }
        let spawn = |source| VmmError::Spawn { program: self.name(), source };
        remove_socket(&spec.socket).map_err(spawn)?;
        let mut command = self.command(spec);
        command
            .stdin(Stdio::from(console.try_clone().map_err(spawn)?))
            .stdout(Stdio::from(console));
        // Removes the socket if anything goes wrong from here on.
        let socket = Socket(spec.socket.clone());
        let mut process = Process::start(command, self.prepare).await.map_err(spawn)?;

        let end = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&end);
        let on_event = move |event: qmp::Event| {
            if let Some(reason) = exit::shutdown_reason(&event) {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            }
        };
        let client = tokio::select! {
            biased;
            ended = process.ended() => return Err(exit::early(&self.name(), &ended)),
            client = connect(&spec.socket, on_event) => client,
        };
        let client = match client {
            Ok(client) => client,
            // A connection that breaks is the first that is seen of an early end.
            Err(error) => {
                let ended = tokio::time::timeout(BROKEN_PATIENCE, process.ended()).await;
                return Err(ended.map_or(error, |ended| exit::early(&self.name(), &ended)));
            }
        };
        Ok(Box::new(Running { process, client, end, asked: false, exited: false, _socket: socket }))
    }
}

impl Backend for Qemu {
    fn kind(&self) -> VmmKind {
        match self.accel {
            Accel::Kvm => VmmKind::QemuKvm,
            Accel::Tcg => VmmKind::QemuTcg,
        }
    }

    fn kernel_cmdline(&self) -> String {
        cmdline::kernel(self.accel, self.tsc_khz)
    }

    fn commands(&self, spec: &MachineSpec) -> Vec<String> {
        vec![shell::line(&self.command(spec))]
    }

    fn told(&self, spec: &MachineSpec, pid: u32, order: Told) -> Option<String> {
        let Some(command) = qmp_command(order) else { return order.signal(pid) };
        // A monitor of QEMU's wants to be greeted first (docs/interop/qmp-spec).
        let ask =
            format!("printf '{{\"execute\":\"qmp_capabilities\"}}{{\"execute\":\"{command}\"}}'");
        let socket = shell::quoted(spec.socket.as_os_str());
        Some(format!("{ask} | socat -t1 - UNIX-CONNECT:{socket}"))
    }

    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        console: OwnedFd,
    ) -> BoxFuture<'a, Result<Box<dyn Machine>, VmmError>> {
        Box::pin(self.start(spec, console))
    }
}

/// One QEMU process. Dropping it kills it.
struct Running {
    process: Process,
    client: Client,
    /// Why it is ending, as far as it has said so.
    end: Arc<Mutex<Option<exit::Shutdown>>>,
    /// Whether we told it to end.
    asked: bool,
    /// Whether its end has been reported.
    exited: bool,
    _socket: Socket,
}

impl Running {
    async fn tell(&mut self, order: Told) -> Result<(), VmmError> {
        let command = qmp_command(order).ok_or(VmmError::Unsupported)?;
        self.client.execute(command).await.map(drop)
    }
}

/// QMP's word for it, if it is not a signal.
const fn qmp_command(order: Told) -> Option<&'static str> {
    match order {
        Told::PowerButton => Some("system_powerdown"),
        Told::Pause => Some("stop"),
        Told::Resume => Some("cont"),
        Told::Quit => Some("quit"),
        Told::Terminate | Told::Kill => None,
    }
}

impl Machine for Running {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn next_event(&mut self) -> BoxFuture<'_, MachineEvent> {
        Box::pin(async {
            if self.exited {
                std::future::pending::<()>().await;
            }
            let ended = self.process.ended().await;
            // Its last words may not have been read yet.
            self.client.drained().await;
            let said = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.exited = true;
            MachineEvent::Exited(exit::combine(said, &ended, self.asked))
        })
    }

    fn power_button(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async { self.tell(Told::PowerButton).await })
    }

    fn pause(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async { self.tell(Told::Pause).await })
    }

    fn resume(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        Box::pin(async { self.tell(Told::Resume).await })
    }

    fn quit(&mut self) -> BoxFuture<'_, Result<(), VmmError>> {
        self.asked = true;
        Box::pin(async { self.tell(Told::Quit).await })
    }

    fn signal(&mut self, kill: bool) -> Result<(), VmmError> {
        self.asked = true;
        let signal = if kill { Signal::SIGKILL } else { Signal::SIGTERM };
        let sent = self.process.signal(signal);
        sent.map_err(|error| VmmError::Refused {
            command: signal.to_string(),
            message: error.to_string(),
        })
    }
}

/// The control socket's file: removed with the machine, for QEMU does not do it when killed.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // One that stays is removed by the next start.
        let _ = remove_socket(&self.0);
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects as soon as QEMU listens.
async fn connect(
    socket: &Path,
    on_event: impl FnMut(qmp::Event) + Send + 'static,
) -> Result<Client, VmmError> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    let late = || VmmError::Control(format!("no answer within {} s", CONNECT_PATIENCE.as_secs()));
    let mut pause = CONNECT_RETRY;
    let stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(VmmError::Control(error.to_string())),
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        sleep(pause).await;
        pause = (pause * 2).min(CONNECT_RETRY_MAX);
    };
    tokio::time::timeout_at(deadline, Client::start(stream, on_event)).await.map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::VmId;

    #[test]
    fn what_is_asked_of_it_can_be_typed() {
        let spec = MachineSpec {
            vm: VmId::from_bytes([0; 4]),
            vcpus: 1,
            memory_mib: 64,
            kernel: "/rt/vmlinux".into(),
            initrd: "/rt/initrd".into(),
            cmdline: "console=ttyS0 quiet".to_owned(),
            disks: Vec::new(),
            nics: Vec::new(),
            socket: "/run/my vms/vmm.sock".into(),
        };
        let qemu = Qemu::new("/usr/bin/qemu-system-x86_64", Accel::Kvm, None);
        let [line] = &qemu.commands(&spec)[..] else { panic!("one command") };
        assert!(line.starts_with("/usr/bin/qemu-system-x86_64 -name banger-00000000 "), "{line}");
        assert!(line.ends_with(" -append 'console=ttyS0 quiet'"), "{line}");
        assert!(line.contains("'socket,id=qmp,server=on,wait=off,path=/run/my vms/vmm.sock'"));
        assert_eq!(
            qemu.told(&spec, 42, Told::Pause).expect("a command"),
            "printf '{\"execute\":\"qmp_capabilities\"}{\"execute\":\"stop\"}' | socat -t1 - \
             UNIX-CONNECT:'/run/my vms/vmm.sock'"
        );
        assert_eq!(qemu.told(&spec, 42, Told::Terminate).as_deref(), Some("kill -TERM 42"));
    }
}
