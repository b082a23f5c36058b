//! Why a QEMU process is gone: from its last event, its status and its last words.

use std::os::unix::process::ExitStatusExt;

use nix::libc::{SIGKILL, SIGTERM};

use crate::vmm::{MachineExit, VmmError, process::Ended, qmp::Event};

/// The reason in a `SHUTDOWN` event (`ShutdownCause`, QEMU's `qapi/run-state.json`), as far as
/// they differ to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    Poweroff,
    Reset,
    Panic,
    Quit,
    Signal,
    /// The host failed it, and what later versions may add.
    Other,
}

pub(super) fn shutdown_reason(event: &Event) -> Option<Shutdown> {
    if event.name != "SHUTDOWN" {
        return None;
    }
    Some(match event.data["reason"].as_str() {
        Some("guest-shutdown") => Shutdown::Poweroff,
        Some("guest-reset") => Shutdown::Reset,
        Some("guest-panic") => Shutdown::Panic,
        Some("host-qmp-quit") => Shutdown::Quit,
        Some("host-signal") => Shutdown::Signal,
        _ => Shutdown::Other,
    })
}

/// Why it is gone. `asked` is whether we told it to.
pub(super) fn combine(said: Option<Shutdown>, ended: &Ended, asked: bool) -> MachineExit {
    let code = ended.status.code();
    // QEMU catches SIGTERM, SIGINT and SIGHUP and exits with 0, but says who sent it.
    let signal = ended.status.signal().or_else(|| terminating_signal(&ended.stderr));
    let unexpected = || MachineExit::Unexpected { code, signal, stderr: ended.stderr.clone() };
    match said {
        Some(Shutdown::Poweroff) => MachineExit::GuestPoweroff,
        Some(Shutdown::Reset) => MachineExit::GuestReboot,
        Some(Shutdown::Panic) => MachineExit::GuestPanic,
        Some(Shutdown::Quit) => MachineExit::Asked,
        Some(Shutdown::Signal) if asked => MachineExit::Asked,
        Some(Shutdown::Signal | Shutdown::Other) => unexpected(),
        None if asked && (code == Some(0) || matches!(signal, Some(SIGKILL | SIGTERM))) => {
            MachineExit::Asked
        }
        None => unexpected(),
    }
}

/// Why it never ran.
pub(super) fn early(program: &str, ended: &Ended) -> VmmError {
    if let Some(port) = taken_port(&ended.stderr) {
        return VmmError::PortTaken(port);
    }
    let said = ended.stderr.trim();
    let stderr = if said.is_empty() { ended.status.to_string() } else { said.to_owned() };
    VmmError::EarlyExit { program: program.to_owned(), stderr }
}

/// From `…: Could not set up host forwarding rule 'tcp:127.0.0.1:40000-:22'` (`net/slirp.c`).
fn taken_port(stderr: &str) -> Option<u16> {
    let (_, rule) = stderr.split_once("Could not set up host forwarding rule 'tcp:127.0.0.1:")?;
    rule.split_once('-')?.0.parse().ok()
}

/// From `…: terminating on signal 15 from pid 4711 (…)` (`softmmu/runstate.c`).
fn terminating_signal(stderr: &str) -> Option<i32> {
    let (_, rest) = stderr.rsplit_once("terminating on signal ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
