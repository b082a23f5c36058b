//! What VMs get on this host, and why nothing better: what the supervisor itself would choose.

use super::Subject;
use crate::domain::{CheckView, HostView, NetworkKind, OverlayKind, Problem, VmmKind};

const AUTO: &str = "let banger choose: set it to \"auto\" in config.toml, and unset its variable";

pub(super) fn vmm(subject: &Subject, host: &HostView) -> CheckView {
    const ID: &str = "vmm";
    let why = host.vmm_reason.as_str();
    match host.vmm {
        None => {
            CheckView::failed(ID, Problem::new("nothing can run VMs as it is asked", why, AUTO))
        }
        Some(kind) if subject.vmm.is_some() => {
            CheckView::ok(ID, format!("{} runs VMs, as the settings say", kind.label()), why)
        }
        Some(kind @ VmmKind::QemuTcg) => CheckView::warning(
            ID,
            format!("{} runs VMs, many times slower than KVM", kind.label()),
            why,
            "load the module (modprobe kvm-intel or kvm-amd), switch virtualization on in the \
             firmware, or in the hypervisor if this is a VM (nested virtualization)",
        ),
        Some(kind) => CheckView::ok(ID, format!("{} runs VMs", kind.label()), why),
    }
}

pub(super) fn network(host: &HostView) -> CheckView {
    const ID: &str = "network";
    let why = host.network_reason.as_str();
    match host.network {
        None => {
            CheckView::failed(ID, Problem::new("VMs cannot reach the world as asked", why, AUTO))
        }
        Some(NetworkKind::Tap) => {
            CheckView::ok(ID, "VMs have addresses of their own, on a bridge with NAT", why)
        }
        Some(NetworkKind::User) => CheckView::ok(
            ID,
            "VMs have user networking: a forwarded port of 127.0.0.1 each, no address, no name",
            why,
        ),
    }
}

pub(super) fn overlay(host: &HostView) -> CheckView {
    const ID: &str = "overlay";
    let why = host.overlay_reason.as_str();
    match host.overlay {
        None => CheckView::failed(ID, Problem::new("disks cannot be made as asked", why, AUTO)),
        Some(OverlayKind::DmSnapshot) => {
            CheckView::ok(ID, "new disks are snapshots that share their image's data", why)
        }
        Some(OverlayKind::Reflink) => {
            CheckView::ok(ID, "new disks share their image's data (reflink)", why)
        }
        Some(OverlayKind::SparseCopy) => {
            CheckView::ok(ID, "new disks are sparse copies of their image", why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CheckLevel;

    #[test]
    fn a_choice_comes_with_its_reason_and_a_refusal_with_the_way_out() {
        let chosen = HostView {
            vmm: Some(VmmKind::QemuTcg),
            vmm_reason: "KVM is not usable".to_owned(),
            network: Some(NetworkKind::User),
            overlay: Some(OverlayKind::SparseCopy),
            ..HostView::default()
        };
        let auto = vmm(&Subject::default(), &chosen);
        assert_eq!((auto.level, auto.why.as_str()), (CheckLevel::Warning, "KVM is not usable"));
        assert!(auto.fix.contains("modprobe"), "{auto:?}");
        let asked = Subject { vmm: Some(VmmKind::QemuTcg), ..Subject::default() };
        let asked = vmm(&asked, &chosen);
        assert_eq!(asked.level, CheckLevel::Ok);
        assert!(asked.what.contains("as the settings say"), "{asked:?}");
        assert_eq!(network(&chosen).level, CheckLevel::Ok);
        assert_eq!(overlay(&chosen).level, CheckLevel::Ok);

        let refused = HostView::default();
        let checks = [vmm(&Subject::default(), &refused), network(&refused), overlay(&refused)];
        for check in checks {
            assert_eq!(check.level, CheckLevel::Failed);
            assert!(check.fix.contains("auto"), "{check:?}");
        }
    }
}
