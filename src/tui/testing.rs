//! Machines and pictures for tests.

use std::sync::Arc;

use crate::domain::{
    BootMark, BootTimes, BundleView, Fleet, HostView, ImageView, OverlayKind, Phase, SshEndpoint,
    UnixMs, VmId, VmSpec, VmView, VmmKind, Wanted, Wishes,
};

/// A machine of this name, a minute into its phase when the wall clock says 100,000,000 ms.
pub fn vm(id: u32, name: &str, phase: Phase) -> VmView {
    let up = phase == Phase::Running;
    let boot = [(BootMark::Vmm, 40), (BootMark::Init, 1_700)];
    let boot = boot.into_iter().chain([(BootMark::SwitchRoot, 1_900), (BootMark::Ssh, 2_340)]);
    VmView {
        id: VmId::from_bytes(id.to_be_bytes()),
        spec: VmSpec {
            name: name.parse().expect("a name"),
            image: "tiny".into(),
            vcpus: 1,
            memory_mib: 128,
            disk_mib: None,
            restore: false,
            wishes: Wishes::default(),
            extras: Default::default(),
        },
        phase,
        wanted: if up { Wanted::Running } else { Wanted::Stopped },
        created: UnixMs(90_000_000),
        since: UnixMs(100_000_000 - 60_000),
        up_since: phase.is_up().then_some(UnixMs(100_000_000 - 60_000)),
        ssh: up.then(|| SshEndpoint { host: "127.0.0.1".into(), port: 40_000 + id as u16 }),
        vmm: up.then_some(VmmKind::QemuTcg),
        overlay: OverlayKind::SparseCopy,
        made_from: None,
        disk_used: Some(6 << 20),
        fill: None,
        network: None,
        address: None,
        dns_name: None,
        boot: if up { BootTimes(boot.collect()) } else { BootTimes::default() },
        last_exit: None,
        problem: None,
    }
}

/// A picture with these machines on a plain host.
pub fn fleet(vms: Vec<VmView>) -> Fleet {
    let image = |name: &str, about: &str| ImageView {
        name: name.into(),
        about: about.into(),
        size: 64 << 20,
        default_memory_mib: 128,
        ..ImageView::default()
    };
    Fleet {
        generation: 1,
        loaded: true,
        vms: vms.into_iter().map(Arc::new).collect(),
        images: vec![
            image("debian", "Debian 12 with systemd and sshd"),
            image("tiny", "busybox and dropbear"),
        ],
        jobs: Vec::new(),
        host: HostView {
            bundle: BundleView::Ready { dir: "/opt/banger/runtime".into() },
            vmm: Some(VmmKind::QemuTcg),
            vmm_reason: "the CPU has neither vmx nor svm".into(),
            overlay: Some(OverlayKind::SparseCopy),
            overlay_reason: String::new(),
            network: None,
            network_reason: String::new(),
            cpus: 4,
            memory_total: 8 << 30,
            memory_available: 5 << 30,
            disk_total: 100 << 30,
            disk_available: 60 << 30,
        },
        report: None,
    }
}
