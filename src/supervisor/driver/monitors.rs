//! Monitors: finding, watching, starting, stopping them.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};

use crate::{
    domain::{ExtraKey, Layout, MonitorReply, NamesSettings, Problem, StopLadder, VmId},
    host::{
        lock,
        process::{self, ProcessRef, Signal},
    },
    monitor::client::{self, Watch},
    supervisor::{core::Input, extras},
    vmm::choose::Choice,
};

/// Between looks at a lock that will change hands in a moment.
const LOOK: Duration = Duration::from_millis(10);
/// How long a monitor whose lock is held may be without a socket that answers: it holds the lock
/// before it has one, and after it took it away.
const SOCKETLESS: Duration = Duration::from_secs(30);
/// How long a killed monitor may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a monitor holds the VM's lock.
pub fn is_up(layout: &Layout, vm: &VmId) -> bool {
    lock::is_held(layout.vm(vm).run_lock()).unwrap_or(false)
}

/// Follows the monitor of a VM, telling the core its status, until its lock is free.
pub async fn follow(vm: &VmId, layout: &Layout, inputs: &mpsc::UnboundedSender<Input>) {
    let paths = layout.vm(vm);
    let mut waited = Duration::ZERO;
    while is_up(layout, vm) {
        match Watch::open(&paths.monitor_socket()).await {
            Ok(mut watch) => {
                while let Some(status) = watch.next().await {
                    waited = Duration::ZERO;
                    if status.vm == *vm && inputs.send(Input::MonitorUp(status)).is_err() {
                        return;
                    }
                }
            }
            Err(error) if waited >= SOCKETLESS => {
                tracing::warn!(%vm, %error, "its lock is held, but nobody answers");
                waited = Duration::ZERO;
            }
            Err(_) => {}
        }
        sleep(LOOK).await;
        waited += LOOK;
    }
}

/// How monitors are started here.
#[derive(Clone, Debug)]
pub struct Starter {
    /// The banger binary.
    pub program: PathBuf,
    /// Where everything of the user's lies.
    pub layout: Layout,
    /// See [`crate::supervisor::Options::jailer`].
    pub jailer: Option<bool>,
    /// See [`crate::supervisor::Options::names`].
    pub names: NamesSettings,
    /// See [`crate::supervisor::Options::extra_keys`].
    pub extra_keys: Vec<ExtraKey>,
    /// See [`crate::supervisor::Options::stop_timeout_ms`].
    pub stop_timeout_ms: u64,
}

impl Starter {
    /// Starts a monitor and waits for its first words. Blocks. Fine as well if one is up.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start(&self, vm: &VmId, runtime: &Path, choice: &Choice) -> Result<(), Problem> {
        let paths = self.layout.vm(vm);
        if is_up(&self.layout, vm) {
            return Ok(());
        }
        extras::keep_for_all(&self.layout, &self.extra_keys)?;
        let fail = |e: std::io::Error| {
            Problem::new(
                "cannot start the VM's monitor",
                format!("{}: {e}", self.program.display()),
                "was banger moved or rebuilt while it ran? start it again",
            )
        };
        let mut command = Command::new(&self.program);
        command.arg("monitor").arg(vm.as_str());
        command.arg("--state").arg(&self.layout.state);
        command.arg("--run").arg(&self.layout.run);
        command.arg("--runtime").arg(runtime);
        command.args(["--vmm", choice.vmm.word(), "--network", choice.network.word()]);
        let names = serde_json::to_string(&self.names).map_err(|e| fail(e.into()))?;
        command.args(["--names", &names]);
        if let Some(jailer) = self.jailer {
            command.args(["--jailer", if jailer { "true" } else { "false" }]);
        }
        command.arg("--stop-timeout-ms").arg(self.stop_timeout_ms.to_string());
        command.current_dir("/");
        let (ours, theirs) = nix::unistd::pipe().map_err(|e| fail(e.into()))?;
        let monitor = process::spawn_detached(command, File::from(theirs)).map_err(fail)?;
        let mut said = String::new();
        let mut reader = BufReader::new(File::from(ours));
        reader.read_line(&mut said).map_err(fail)?;
        match serde_json::from_str(&said) {
            Ok(MonitorReply::Ok) => Ok(()),
            Ok(MonitorReply::Denied { .. }) if is_up(&self.layout, vm) => Ok(()),
            Ok(MonitorReply::Denied { problem }) => Err(problem),
            Err(_) => {
                let mut rest = String::new();
                let _ = std::io::Read::read_to_string(&mut reader, &mut rest);
                let how = monitor.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                let log = paths.monitor_log();
                Err(Problem::new(
                    "the VM's monitor ended at once",
                    format!("{how}: {}", format!("{said}{rest}").trim()),
                    format!("its log is {}", log.display()),
                ))
            }
        }
    }
}

/// Asks the monitor to climb a ladder. Fine as well if there is none.
///
/// # Errors
/// Its refusal.
pub async fn stop(layout: &Layout, vm: &VmId, ladder: StopLadder) -> Result<(), Problem> {
    client::stop(&layout.vm(vm).monitor_socket(), ladder).await.map(drop)
}

/// Ends a monitor that does not do what it should. Blocks.
///
/// # Errors
/// If it cannot be ended.
pub fn kill(layout: &Layout, vm: &VmId) -> Result<(), Problem> {
    let path = layout.vm(vm).run_lock();
    let ended = || -> std::io::Result<bool> {
        let Some(pid) = lock::holder(&path)? else { return Ok(true) };
        let Ok(monitor) = ProcessRef::of(pid) else { return Ok(true) };
        monitor.signal(Signal::SIGKILL)?;
        process::wait_gone(monitor, KILL_PATIENCE)
    };
    let fail = |why: String| {
        Problem::new(format!("cannot end the monitor of {vm}"), why, "end it by hand, or reboot")
    };
    match ended() {
        Ok(true) => Ok(()),
        Ok(false) => Err(fail("it does not end after SIGKILL".to_owned())),
        Err(error) => Err(fail(error.to_string())),
    }
}
