//! The JSON of `ls --json` and `doctor --json`, described in `docs/cli.md`.
//!
//! Fields may be added within a version; none is renamed, removed or given another meaning
//! without a new one. These types are apart from the domain's for that reason.

use core::net::Ipv4Addr;

use serde::Serialize;

use crate::domain::{
    BundleView, ExitReason, Fleet, NetworkKind, OverlayKind, Problem, SshEndpoint, UnixMs, VmView,
    VmmKind, Wanted,
};

/// The version of what is printed.
pub const VERSION: u32 = 1;

/// `ls --json`.
#[derive(Debug, Serialize)]
pub struct List {
    version: u32,
    vms: Vec<Vm>,
    host: Host,
}

#[derive(Debug, Serialize)]
struct Vm {
    id: String,
    name: String,
    state: &'static str,
    wanted: Wanted,
    restore_at_login: bool,
    image: String,
    image_sha256: Option<String>,
    outdated: Option<Outdated>,
    vcpus: u32,
    memory_mib: u64,
    disk_mib: Option<u64>,
    disk_used_bytes: Option<u64>,
    overlay: OverlayKind,
    fill: Option<Fill>,
    vmm: Option<VmmKind>,
    network: Option<NetworkKind>,
    address: Option<Ipv4Addr>,
    dns_name: Option<String>,
    ssh: Option<SshEndpoint>,
    created_ms: u64,
    since_ms: u64,
    uptime_ms: Option<u64>,
    last_exit: Option<LastExit>,
    problem: Option<Problem>,
}

/// Why a disk is not what would be made of its image now.
#[derive(Debug, Serialize)]
struct Outdated {
    text: String,
    #[serde(flatten)]
    why: crate::domain::Outdated,
}

/// How full a snapshot is.
#[derive(Debug, Serialize)]
struct Fill {
    used_bytes: u64,
    total_bytes: u64,
    overflowed: bool,
}

#[derive(Debug, Serialize)]
struct LastExit {
    at_ms: u64,
    clean: bool,
    text: String,
    #[serde(flatten)]
    reason: ExitReason,
}

#[derive(Debug, Serialize)]
struct Host {
    vmm: Option<VmmKind>,
    vmm_reason: String,
    overlay: Option<OverlayKind>,
    overlay_reason: String,
    network: Option<NetworkKind>,
    network_reason: String,
    runtime_dir: Option<String>,
    problem: Option<Problem>,
    cpus: u32,
    memory_total_bytes: u64,
    memory_available_bytes: u64,
    disk_total_bytes: u64,
    disk_available_bytes: u64,
}

impl List {
    /// The picture as of `now`.
    #[must_use]
    pub fn of(fleet: &Fleet, now: UnixMs) -> Self {
        let host = &fleet.host;
        let (runtime_dir, problem) = match &host.bundle {
            BundleView::Unknown => (None, None),
            BundleView::Ready { dir } => (Some(dir.display().to_string()), None),
            BundleView::Missing { problem } => (None, Some(problem.clone())),
        };
        Self {
            version: VERSION,
            vms: fleet.vms.iter().map(|vm| Vm::of(vm, fleet, now)).collect(),
            host: Host {
                vmm: host.vmm,
                vmm_reason: host.vmm_reason.clone(),
                overlay: host.overlay,
                overlay_reason: host.overlay_reason.clone(),
                network: host.network,
                network_reason: host.network_reason.clone(),
                runtime_dir,
                problem,
                cpus: host.cpus,
                memory_total_bytes: host.memory_total,
                memory_available_bytes: host.memory_available,
                disk_total_bytes: host.disk_total,
                disk_available_bytes: host.disk_available,
            },
        }
    }
}

impl Vm {
    fn of(vm: &VmView, fleet: &Fleet, now: UnixMs) -> Self {
        Self {
            id: vm.id.to_string(),
            name: vm.spec.name.to_string(),
            state: vm.phase.word(),
            wanted: vm.wanted,
            restore_at_login: vm.spec.restore,
            image: vm.spec.image.clone(),
            image_sha256: vm.made_from.clone(),
            outdated: super::ls::outdated_vm(vm, fleet)
                .map(|outdated| Outdated { text: outdated.to_string(), why: outdated }),
            vcpus: vm.spec.vcpus,
            memory_mib: vm.spec.memory_mib,
            disk_mib: super::ls::disk_bytes(vm, fleet).map(|bytes| bytes >> 20),
            disk_used_bytes: vm.disk_used,
            overlay: vm.overlay,
            fill: vm.fill.map(|fill| Fill {
                used_bytes: fill.used,
                total_bytes: fill.total,
                overflowed: fill.overflowed,
            }),
            vmm: vm.vmm,
            network: vm.network,
            address: vm.address,
            dns_name: vm.dns_name.clone(),
            ssh: vm.ssh.clone(),
            created_ms: vm.created.0,
            since_ms: vm.since.0,
            uptime_ms: vm.uptime(now),
            last_exit: vm.last_exit.as_ref().map(|exit| LastExit {
                at_ms: exit.at.0,
                clean: exit.reason.is_clean(),
                text: exit.reason.sentence(),
                reason: exit.reason.clone(),
            }),
            problem: vm.problem.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::testing::{fleet, vm},
        domain::{self, ExitRecord, Method, Phase},
    };

    #[test]
    fn the_list_is_as_documented() {
        let mut up = vm("web");
        up.phase = Phase::Running;
        up.up_since = Some(up.since);
        up.vmm = Some(VmmKind::QemuTcg);
        up.ssh = Some(SshEndpoint { host: "127.0.0.1".into(), port: 40022 });
        up.network = Some(NetworkKind::User);
        let mut bridged = vm("ci");
        bridged.phase = Phase::Paused;
        bridged.up_since = Some(bridged.since);
        bridged.vmm = Some(VmmKind::Firecracker);
        bridged.overlay = OverlayKind::DmSnapshot;
        bridged.network = Some(NetworkKind::Tap);
        bridged.address = Some([172, 30, 4, 2].into());
        bridged.dns_name = Some("ci.vm".into());
        let fill = domain::Fill { used: 8 << 20, total: 64 << 20, overflowed: false };
        bridged.fill = Some(fill);
        bridged.ssh = Some(SshEndpoint { host: "172.30.4.2".into(), port: 22 });
        let mut off = vm("db");
        let reason = ExitReason::Stopped { by: Method::PowerButton };
        off.last_exit = Some(ExitRecord { at: UnixMs(1_500), reason });
        let list = List::of(&fleet([up, bridged, off]), UnixMs(5_000));
        insta::assert_snapshot!(serde_json::to_string_pretty(&list).unwrap());
    }
}
