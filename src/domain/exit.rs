//! Why a VM is off.

use serde::{Deserialize, Serialize};

use super::{Method, UnixMs};

/// The reason a run of a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ExitReason {
    /// The guest powered off by itself.
    GuestPoweroff,
    /// It was asked to stop, and this rung of the ladder did it.
    Stopped {
        /// The rung that worked.
        by: Method,
    },
    /// The guest's kernel panicked.
    GuestPanic,
    /// The VMM ended by itself.
    VmmExited {
        /// Its exit code, if it exited.
        code: Option<i32>,
        /// The signal, if one ended it.
        signal: Option<i32>,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The monitor died; whoever came next cleaned up.
    MonitorLost,
    /// It never came up.
    StartFailed {
        /// Why, in one line.
        why: String,
    },
}

impl ExitReason {
    /// Whether the user need not worry: a stop, or the guest's own power-off.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::GuestPoweroff | Self::Stopped { .. })
    }

    /// One line for the user.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::GuestPoweroff => "the guest powered off".to_owned(),
            Self::Stopped { by } => format!("stopped ({})", by.label()),
            Self::GuestPanic => "the guest's kernel panicked".to_owned(),
            Self::VmmExited { code, signal, stderr } => {
                let how = match (code, signal) {
                    (_, Some(signal)) => format!("signal {signal}"),
                    (Some(code), None) => format!("exit code {code}"),
                    (None, None) => "unknown status".to_owned(),
                };
                match stderr.trim().lines().next_back() {
                    Some(line) => format!("the VMM ended by itself ({how}): {line}"),
                    None => format!("the VMM ended by itself ({how})"),
                }
            }
            Self::MonitorLost => "its monitor was killed; the rest was cleaned up".to_owned(),
            Self::StartFailed { why } => format!("it did not start: {why}"),
        }
    }
}

/// An exit and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// When.
    pub at: UnixMs,
    /// Why.
    pub reason: ExitReason,
}
