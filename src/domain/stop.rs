//! How a VM is stopped: a ladder, as data.

use serde::{Deserialize, Serialize};

/// One way to make a VM stop, politest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Through the guest: the power button (QEMU) or Ctrl-Alt-Del (Firecracker).
    PowerButton,
    /// Through the VMM's control socket: the guest gets no say.
    VmmQuit,
    /// SIGTERM to the VMM.
    Terminate,
    /// SIGKILL to the VMM.
    Kill,
}

impl Method {
    /// As shown to the user.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PowerButton => "power button",
            Self::VmmQuit => "VMM quit",
            Self::Terminate => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}

/// A method and how long to wait for it before the next is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// What is done.
    pub method: Method,
    /// Milliseconds until the next rung.
    pub timeout_ms: u64,
}

/// The rungs in order. The last is always [`Method::Kill`]: a stop always ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopLadder(Vec<Rung>);

impl StopLadder {
    /// The polite ladder; `polite_ms` is what the guest is given to shut down by itself.
    #[must_use]
    pub fn polite(polite_ms: u64) -> Self {
        let rung = |method, timeout_ms| Rung { method, timeout_ms };
        Self(vec![
            rung(Method::PowerButton, polite_ms),
            rung(Method::VmmQuit, 3_000),
            rung(Method::Terminate, 3_000),
            rung(Method::Kill, 5_000),
        ])
    }

    /// SIGKILL at once.
    #[must_use]
    pub fn kill() -> Self {
        Self(vec![Rung { method: Method::Kill, timeout_ms: 5_000 }])
    }

    /// Whether it leaves the guest no time at all.
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.0.first().is_some_and(|rung| rung.method == Method::Kill)
    }

    /// The same without what the guest would have to hear.
    #[must_use]
    pub fn past_the_guest(&self) -> Self {
        let deaf = |rung: &&Rung| rung.method != Method::PowerButton;
        Self(self.0.iter().filter(deaf).copied().collect())
    }

    /// The rungs in order.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.0
    }
}
