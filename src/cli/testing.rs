//! Pictures of VMs for the tests of this module.

use std::sync::Arc;

use crate::domain::{
    BootTimes, Fleet, OverlayKind, Phase, UnixMs, VmId, VmSpec, VmView, Wanted, Wishes,
};

/// A fleet that has been read.
pub fn fleet(vms: impl IntoIterator<Item = VmView>) -> Fleet {
    Fleet { loaded: true, vms: vms.into_iter().map(Arc::new).collect(), ..Fleet::default() }
}

/// A VM that is off.
pub fn vm(name: &str) -> VmView {
    let sum = name.bytes().fold(17_u32, |n, b| n.wrapping_mul(31).wrapping_add(b.into()));
    VmView {
        id: VmId::from_bytes(sum.to_be_bytes()),
        spec: VmSpec {
            name: name.parse().unwrap(),
            image: "tiny".into(),
            vcpus: 1,
            memory_mib: 128,
            disk_mib: None,
            restore: false,
            wishes: Wishes::default(),
            extras: Default::default(),
        },
        phase: Phase::Stopped,
        wanted: Wanted::Stopped,
        created: UnixMs(1_000),
        since: UnixMs(2_000),
        up_since: None,
        ssh: None,
        vmm: None,
        overlay: OverlayKind::SparseCopy,
        made_from: None,
        disk_used: Some(3 << 20),
        fill: None,
        network: None,
        address: None,
        dns_name: None,
        boot: BootTimes::default(),
        last_exit: None,
        problem: None,
    }
}
