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

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use serde_json::json;

    use super::*;

    fn ended(raw_status: i32, stderr: &str) -> Ended {
        Ended { status: ExitStatus::from_raw(raw_status), stderr: stderr.to_owned() }
    }

    fn shutdown(reason: &str) -> Option<Shutdown> {
        let data = json!({"guest": true, "reason": reason});
        shutdown_reason(&Event { name: "SHUTDOWN".to_owned(), data })
    }

    /// As wait(2) encodes it.
    const fn exited(code: i32) -> i32 {
        code << 8
    }

    #[test]
    fn the_guests_own_reasons_stand_whoever_asked() {
        for asked in [false, true] {
            let of = |reason| combine(shutdown(reason), &ended(exited(0), ""), asked);
            assert_eq!(of("guest-shutdown"), MachineExit::GuestPoweroff);
            assert_eq!(of("guest-reset"), MachineExit::GuestReboot);
            assert_eq!(of("guest-panic"), MachineExit::GuestPanic);
            assert_eq!(of("host-qmp-quit"), MachineExit::Asked);
        }
        let other = Event { name: "POWERDOWN".to_owned(), data: json!(null) };
        assert_eq!(shutdown_reason(&other), None);
        let odd = Event { name: "SHUTDOWN".to_owned(), data: json!([1]) };
        assert_eq!(shutdown_reason(&odd), Some(Shutdown::Other));
    }

    #[test]
    fn a_signal_is_ours_or_it_is_unexpected() {
        let said = "qemu-system-x86_64: terminating on signal 15 from pid 4711 (kill)\n";
        let caught = ended(exited(0), said);
        assert_eq!(combine(shutdown("host-signal"), &caught, true), MachineExit::Asked);
        let exit = combine(shutdown("host-signal"), &caught, false);
        assert!(
            matches!(exit, MachineExit::Unexpected { code: Some(0), signal: Some(15), .. }),
            "{exit:?}"
        );
        assert_eq!(combine(None, &ended(9, ""), true), MachineExit::Asked);
        let exit = combine(None, &ended(9, ""), false);
        assert!(matches!(exit, MachineExit::Unexpected { code: None, signal: Some(9), .. }));
        // A crash is a crash even while it was being stopped.
        let exit = combine(None, &ended(11, ""), true);
        assert!(matches!(exit, MachineExit::Unexpected { signal: Some(11), .. }), "{exit:?}");
    }

    #[test]
    fn an_end_without_a_word_is_unexpected() {
        let exit = combine(None, &ended(exited(1), "out of memory\n"), false);
        let stderr = "out of memory\n".to_owned();
        assert_eq!(exit, MachineExit::Unexpected { code: Some(1), signal: None, stderr });
        assert!(matches!(
            combine(shutdown("host-error"), &ended(exited(0), ""), true),
            MachineExit::Unexpected { .. }
        ));
    }

    #[test]
    fn an_early_end_has_a_cause() {
        // Recorded from QEMU 7.2.
        let taken = "qemu-system-x86_64: -netdev user,id=net0,hostfwd=tcp:127.0.0.1:40123-:22: \
                     Could not set up host forwarding rule 'tcp:127.0.0.1:40123-:22'\n";
        assert!(matches!(early("q", &ended(exited(1), taken)), VmmError::PortTaken(40123)));
        let error = early("q", &ended(exited(1), "q: no such file\n")).to_string();
        assert_eq!(error, "q ended before the machine ran: q: no such file");
        let error = early("q", &ended(9, "")).to_string();
        assert!(error.contains("signal: 9"), "{error}");
        let odd = "Could not set up host forwarding rule 'tcp:127.0.0.1:99999-:22'";
        assert!(matches!(early("q", &ended(exited(1), odd)), VmmError::EarlyExit { .. }));
    }
}
