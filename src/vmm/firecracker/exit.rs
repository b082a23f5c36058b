//! Why a Firecracker process is gone: from its status and its last words.

use std::os::unix::process::ExitStatusExt;

use nix::libc::{SIGKILL, SIGTERM};

use crate::vmm::{MachineExit, VmmError, process::Ended};

/// What its exit codes stand for (`FcExitCode`, Firecracker's `src/vmm/src/lib.rs`).
const CODES: &[(i32, &str)] = &[
    (148, "it made a system call that its filter forbids"),
    (149, "SIGBUS: most likely the host's memory or a disk is full"),
    (150, "SIGSEGV"),
    (151, "SIGXFSZ: a file became larger than allowed"),
    (152, "its configuration is bad"),
    (153, "its command line is bad"),
    (154, "SIGXCPU"),
    (155, "SIGPIPE"),
    (156, "SIGHUP"),
    (157, "SIGILL"),
];

/// How much is kept of what it said, all in all.
const SAID_MAX: usize = 4096;

/// Why it is gone. `asked` is whether we sent it a signal, `log` the end of its log, `failures`
/// what its metrics say went wrong.
///
/// It ends by itself, with 0, when the guest's reboot comes down to a reset, and at nothing else:
/// a guest that powers off leaves it running.
pub(super) fn combine(ended: &Ended, asked: bool, log: &str, failures: &[String]) -> MachineExit {
    let (code, signal) = (ended.status.code(), ended.status.signal());
    match (code, signal) {
        (Some(0), _) => MachineExit::GuestReboot,
        (None, Some(SIGKILL | SIGTERM)) if asked => MachineExit::Asked,
        _ => MachineExit::Unexpected { code, signal, stderr: said(ended, log, failures) },
    }
}

/// Why it never ran.
pub(super) fn early(program: &str, ended: &Ended, log: &str) -> VmmError {
    let stderr = match said(ended, log, &[]) {
        silent if silent.is_empty() => ended.status.to_string(),
        said => said,
    };
    VmmError::EarlyExit { program: program.to_owned(), stderr }
}

/// What its code means, what it wrote to standard error, then the end of its log.
fn said(ended: &Ended, log: &str, failures: &[String]) -> String {
    let code = ended.status.code();
    let meaning = CODES.iter().find(|(known, _)| Some(*known) == code).map(|(_, what)| *what);
    let failures = match failures {
        [] => String::new(),
        some => format!("its metrics: {}", some.join(", ")),
    };
    let parts = [meaning.unwrap_or_default(), ended.stderr.trim(), &failures, log.trim()];
    let mut text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    text.truncate(text.floor_char_boundary(SAID_MAX));
    text
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn ended(raw_status: i32, stderr: &str) -> Ended {
        Ended { status: ExitStatus::from_raw(raw_status), stderr: stderr.to_owned() }
    }

    /// As wait(2) encodes it.
    const fn exited(code: i32) -> i32 {
        code << 8
    }

    #[test]
    fn a_clean_end_is_the_guests_reboot_whoever_asked() {
        for asked in [false, true] {
            assert_eq!(combine(&ended(exited(0), ""), asked, "", &[]), MachineExit::GuestReboot);
        }
    }

    #[test]
    fn a_signal_is_ours_or_it_is_unexpected() {
        for signal in [SIGTERM, SIGKILL] {
            assert_eq!(combine(&ended(signal, ""), true, "", &[]), MachineExit::Asked);
            let exit = combine(&ended(signal, ""), false, "", &[]);
            assert!(matches!(exit, MachineExit::Unexpected { code: None, .. }), "{exit:?}");
        }
        // A crash is a crash even while it was being stopped.
        let exit = combine(&ended(6, ""), true, "", &[]);
        assert!(matches!(exit, MachineExit::Unexpected { signal: Some(6), .. }), "{exit:?}");
    }

    #[test]
    fn an_unexpected_end_says_all_that_is_known() {
        let failures = ["vcpu.failures 1".to_owned()];
        let exit = combine(&ended(exited(148), "oops\n"), false, "a\nb\n", &failures);
        let MachineExit::Unexpected { code, stderr, .. } = exit else { panic!("{exit:?}") };
        assert_eq!(code, Some(148));
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines[0].contains("filter forbids"), "{stderr}");
        assert_eq!(lines[1..], ["oops", "its metrics: vcpu.failures 1", "a", "b"]);
        let long = combine(&ended(exited(1), &"ü".repeat(9000)), false, "", &[]);
        assert!(matches!(long, MachineExit::Unexpected { stderr, .. } if stderr.len() <= SAID_MAX));
    }

    #[test]
    fn an_early_end_has_a_cause_even_if_it_says_nothing() {
        let error = early("fc", &ended(exited(1), "Error: X\n"), "");
        assert_eq!(error.to_string(), "fc ended before the machine ran: Error: X");
        let error = early("fc", &ended(9, ""), " \n").to_string();
        assert!(error.contains("signal: 9"), "{error}");
    }
}
