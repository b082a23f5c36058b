//! What is said of a guest that does not answer, and when.

use std::time::Duration;

use crate::domain::{Problem, VmmKind};

/// How long a boot takes before something is said about it. An emulated CPU is some ten times as
/// slow, on a busy host more; and a system that waits for a disk that is not there waits 90 s.
#[must_use]
pub const fn patience(vmm: VmmKind) -> Duration {
    match vmm {
        VmmKind::Firecracker | VmmKind::QemuKvm => Duration::from_secs(120),
        VmmKind::QemuTcg => Duration::from_secs(240),
    }
}

/// A guest whose system is up, and which has nothing on the SSH port.
#[must_use]
pub fn no_ssh(name: &str) -> Problem {
    Problem::new(
        "no SSH server answers",
        "its system is up, and can be reached by its serial console only",
        format!("press c, or run `banger console {name}`; a server started there is noticed"),
    )
}

/// How far a boot came that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The VMM runs, and the kernel has not started our init.
    Kernel,
    /// Our init runs.
    Init,
    /// The image's own init runs.
    System,
}

/// A guest that has not come up after this time.
#[must_use]
pub fn late(name: &str, reached: Reached, after: Duration) -> Problem {
    let minutes = after.as_secs().div_ceil(60);
    let why = match reached {
        Reached::Kernel => "its kernel has not come as far as its init",
        Reached::Init => "the init of the initrd has not entered the image",
        Reached::System => {
            "the image's own init was started, and neither an SSH server nor a login on the \
             console came of it"
        }
    };
    let hint = format!(
        "see what it does: press c, or run `banger console {name}`; `banger logs {name}` has all \
         that it said"
    );
    Problem::new(format!("it has been booting for more than {minutes} minutes"), why, hint)
}
