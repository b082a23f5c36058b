//! What is sent to Firecracker: the bodies of its API's requests, as far as we use them. Names
//! and types are those of its `firecracker.yaml` (version 1.16.1, unchanged since 1.8).

use serde::{Deserialize, Serialize};

/// `PUT /metrics`.
#[derive(Debug, Serialize)]
pub(super) struct Metrics<'a> {
    pub(super) metrics_path: &'a str,
}

/// `PUT /machine-config`.
#[derive(Debug, Serialize)]
pub(super) struct MachineConfig {
    pub(super) vcpu_count: u32,
    pub(super) mem_size_mib: u64,
    /// With it only even numbers of CPUs could be had.
    pub(super) smt: bool,
}

/// `PUT /boot-source`.
#[derive(Debug, Serialize)]
pub(super) struct BootSource<'a> {
    pub(super) kernel_image_path: &'a str,
    pub(super) initrd_path: &'a str,
    /// Replaces Firecracker's own line altogether.
    pub(super) boot_args: &'a str,
}

/// `PUT /drives/{drive_id}`.
#[derive(Debug, Serialize)]
pub(super) struct Drive<'a> {
    pub(super) drive_id: &'a str,
    pub(super) path_on_host: &'a str,
    /// With it Firecracker adds a `root=` of its own to the kernel's command line.
    pub(super) is_root_device: bool,
    pub(super) is_read_only: bool,
    /// `Writeback`: the default, `Unsafe`, does not heed the guest's fsync.
    pub(super) cache_type: &'a str,
    /// `Sync`: the other one, `Async`, is io_uring, and a developer's preview.
    pub(super) io_engine: &'a str,
}

/// `PUT /network-interfaces/{iface_id}`.
#[derive(Debug, Serialize)]
pub(super) struct NetworkInterface<'a> {
    pub(super) iface_id: &'a str,
    pub(super) host_dev_name: &'a str,
    pub(super) guest_mac: &'a str,
}

/// `PUT /vsock`.
#[derive(Debug, Serialize)]
pub(super) struct Vsock<'a> {
    pub(super) guest_cid: u32,
    pub(super) uds_path: &'a str,
}

/// `PUT /entropy`: a device without a rate limit.
#[derive(Debug, Serialize)]
pub(super) struct Entropy {}

/// `PUT /balloon`.
#[derive(Debug, Serialize)]
pub(super) struct Balloon {
    pub(super) amount_mib: u64,
    pub(super) deflate_on_oom: bool,
    pub(super) stats_polling_interval_s: u32,
}

/// `PUT /actions`.
#[derive(Debug, Serialize)]
pub(super) struct Action {
    pub(super) action_type: &'static str,
}

/// `PATCH /vm`.
#[derive(Debug, Serialize)]
pub(super) struct VmState {
    pub(super) state: &'static str,
}

/// The answer of `GET /version`.
#[derive(Debug, Deserialize)]
pub(super) struct FirecrackerVersion {
    pub(super) firecracker_version: String,
}

/// The answer of `GET /balloon/statistics`, as far as it is used. What the guest says of itself
/// is missing until its driver has done so first.
#[derive(Debug, Deserialize)]
pub(super) struct BalloonStatistics {
    pub(super) actual_mib: u64,
    #[serde(default)]
    pub(super) free_memory: Option<u64>,
    #[serde(default)]
    pub(super) available_memory: Option<u64>,
    #[serde(default)]
    pub(super) total_memory: Option<u64>,
}

/// The answer to whatever failed.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    pub(super) fault_message: String,
}
