//! Everything the UI shows, as one immutable picture.

use core::net::Ipv4Addr;
use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    BootTimes, ExitRecord, Fill, HostReport, ImageView, JobId, JobView, NetworkKind, OverlayKind,
    Phase, Problem, SshEndpoint, UnixMs, VmId, VmSpec, VmmKind, Wanted,
};

/// A picture of everything at one moment; the latest wins.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Grows with each picture.
    pub generation: u64,
    /// False until the store has been read for the first time.
    pub loaded: bool,
    /// All VMs, by name.
    pub vms: Vec<Arc<VmView>>,
    /// The base images that can be used, by name.
    pub images: Vec<ImageView>,
    /// Jobs, oldest first.
    pub jobs: Vec<JobView>,
    /// The machine banger runs on.
    pub host: HostView,
    /// What the last [`super::CommandBody::LookAtHost`] found.
    pub report: Option<Arc<HostReport>>,
}

/// A VM as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmView {
    /// Its id.
    pub id: VmId,
    /// What it is to be.
    pub spec: VmSpec,
    /// What it is doing.
    pub phase: Phase,
    /// What the user wants.
    pub wanted: Wanted,
    /// When it was made.
    pub created: UnixMs,
    /// When the phase began.
    pub since: UnixMs,
    /// When it was started, while it is up: a pause or a guest's reboot in between does not count.
    pub up_since: Option<UnixMs>,
    /// Where its SSH answers, while it is up.
    pub ssh: Option<SshEndpoint>,
    /// What runs it, while it is up.
    pub vmm: Option<VmmKind>,
    /// How its disk shares the base's data.
    pub overlay: OverlayKind,
    /// SHA-256 of the image its disk was made from, where that was written down. If the image of
    /// that name has another now, the VM is of an older one.
    pub made_from: Option<String>,
    /// Bytes its disk takes on the host, as last looked at.
    pub disk_used: Option<u64>,
    /// How full its snapshot is, while it is up.
    pub fill: Option<Fill>,
    /// How it reaches the world, while it is up.
    pub network: Option<NetworkKind>,
    /// Its address on the bridge, while it is up.
    pub address: Option<Ipv4Addr>,
    /// The name under which the host finds it, while it does.
    pub dns_name: Option<String>,
    /// How its last boot went.
    pub boot: BootTimes,
    /// How its last run ended.
    pub last_exit: Option<ExitRecord>,
    /// What is wrong with it now.
    pub problem: Option<Problem>,
}

impl VmView {
    /// Milliseconds since it was started, while it is up.
    #[must_use]
    pub fn uptime(&self, now: UnixMs) -> Option<u64> {
        self.up_since.map(|since| now.since(since))
    }

    /// Whether it is off and only what is left of it on the host is being removed: a matter of
    /// moments, after which it is stopped or crashed.
    #[must_use]
    pub fn is_being_cleared(&self) -> bool {
        // While it is up its monitor says what runs it.
        self.phase == Phase::Stopping && self.vmm.is_none()
    }
}

/// Whether the runtime directory can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BundleView {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// All there.
    Ready {
        /// Where.
        dir: PathBuf,
    },
    /// Not there, or not complete.
    Missing {
        /// What, why (the places looked at), and the command that makes it.
        problem: Problem,
    },
}

/// The machine banger runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// The runtime directory.
    pub bundle: BundleView,
    /// What runs VMs here.
    pub vmm: Option<VmmKind>,
    /// Why that and nothing better.
    pub vmm_reason: String,
    /// How new disks share data here.
    pub overlay: Option<OverlayKind>,
    /// Why that and nothing better.
    pub overlay_reason: String,
    /// How VMs reach the world here.
    pub network: Option<NetworkKind>,
    /// Why that and nothing better.
    pub network_reason: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes of memory that are free for use.
    pub memory_available: u64,
    /// Bytes of the file system that holds the state directory.
    pub disk_total: u64,
    /// Bytes free on it.
    pub disk_available: u64,
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeLevel {
    /// Worth a glance.
    Info,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
}

/// Something that happened. Each is also a row of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub at: UnixMs,
    /// How much it matters.
    pub level: NoticeLevel,
    /// The VM it is about.
    pub vm: Option<VmId>,
    /// The job it is about.
    pub job: Option<JobId>,
    /// One line.
    pub text: String,
    /// What to do, or empty.
    pub hint: String,
}
