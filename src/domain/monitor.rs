//! What monitors and their clients say to each other. The frames are in `session::wire`.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Fill, Method, NetworkKind, Problem, StopLadder, UnixMs, VmId, VmmKind};

/// Where a guest's SSH answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshEndpoint {
    /// An address of this host or of the guest.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What a monitor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum MonitorPhase {
    /// Makes host resources and the VMM.
    Preparing,
    /// The VMM runs; the guest has not said it is ready.
    Booting,
    /// The guest is ready.
    Ready,
    /// The guest's CPUs stand still: the user said so, or the monitor for the reason in
    /// [`MonitorStatus::problem`].
    Paused,
    /// The ladder is being climbed; this rung is under way.
    Stopping {
        /// The rung.
        by: Method,
    },
    /// The VMM is gone; host resources are being removed.
    Clearing,
}

/// A point of a boot, each the end of what its doc says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMark {
    /// The host's part: the VMM runs.
    Vmm,
    /// The kernel's part: our init begins.
    Init,
    /// Our init's part: the root file system is entered.
    SwitchRoot,
    /// The image's part: SSH listens.
    Ssh,
}

/// Marks of a boot, in milliseconds after the monitor began; in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTimes(pub Vec<(BootMark, u64)>);

/// What a monitor says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// The VM.
    pub vm: VmId,
    /// The monitor's process id.
    pub pid: u32,
    /// The VMM's process id, while there is one.
    pub vmm_pid: Option<u32>,
    /// What runs the VM.
    pub vmm: VmmKind,
    /// What it is doing.
    #[serde(flatten)]
    pub phase: MonitorPhase,
    /// Since when.
    pub since: UnixMs,
    /// Where SSH answers.
    pub ssh: Option<SshEndpoint>,
    /// How the boot went so far.
    pub boot: BootTimes,
    /// How it reaches the world.
    pub network: NetworkKind,
    /// Its address on the bridge.
    pub address: Option<Ipv4Addr>,
    /// The name under which the host finds it: `web.vm`.
    pub dns_name: Option<String>,
    /// How full its snapshot is.
    pub fill: Option<Fill>,
    /// What is wrong with it while it runs.
    pub problem: Option<Problem>,
}

/// What a client asks: the first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum MonitorRequest {
    /// The serial console: the reply, then what is remembered of its output if `replay`, then
    /// live data both ways.
    Attach {
        /// Whether to replay.
        replay: bool,
    },
    /// A [`MonitorEvent::Status`] now and at each change, until the connection closes.
    Watch,
    /// Let the guest's CPUs stand still.
    Pause,
    /// Let them go on.
    Resume,
    /// Climb this ladder. If one is being climbed already that one goes on, unless this one
    /// starts with the kill.
    Stop {
        /// The rungs.
        ladder: StopLadder,
    },
}

/// The answer to a [`MonitorRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum MonitorReply {
    /// Accepted.
    Ok,
    /// Not possible, and why.
    Denied {
        /// The reason.
        problem: Problem,
    },
}

/// What a monitor tells those who watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum MonitorEvent {
    /// The state as it is now.
    Status {
        /// It.
        status: MonitorStatus,
    },
}
