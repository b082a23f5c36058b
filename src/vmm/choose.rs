//! Which VMM a VM gets, and how it reaches the world: a pure choice from what was found.

use crate::domain::{NetworkKind, Problem, VmmKind};

/// What was found on the host. An `Err` is the reason why not: a clause for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Whether KVM is usable.
    pub kvm: Result<(), String>,
    /// Whether there is a Firecracker.
    pub firecracker: Result<(), String>,
    /// Whether TAPs on a bridge can be made.
    pub tap: Result<(), String>,
}

/// A choice with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What runs the VM.
    pub vmm: VmmKind,
    /// Why that and nothing better.
    pub vmm_reason: String,
    /// How it reaches the world.
    pub network: NetworkKind,
    /// Why so and not better.
    pub network_reason: String,
}

const ASKED: &str = "asked for";

/// Chooses: what the user asked for, else the best that works.
///
/// # Errors
/// If the user asked for what cannot work here: why it cannot.
pub fn choose(
    found: &Findings,
    vmm: Option<VmmKind>,
    network: Option<NetworkKind>,
) -> Result<Choice, Problem> {
    let refuse = |what: &str, why: &str, hint: &str| {
        Err(Problem::new(format!("cannot use {what} here"), why, hint))
    };
    let (network, network_reason) = match (network, &found.tap) {
        (Some(NetworkKind::Tap), Err(why)) => {
            let hint =
                "run banger as root, or install its root helper: `sudo banger helper install`";
            return refuse("a TAP", why, hint);
        }
        (Some(kind), _) => (kind, ASKED.to_owned()),
        (None, Ok(())) => (NetworkKind::Tap, "TAPs can be made".to_owned()),
        (None, Err(why)) => (NetworkKind::User, format!("no TAPs: {why}")),
    };
    let no_tap = || match network {
        NetworkKind::Tap => Ok(()),
        NetworkKind::User => Err(format!("it needs a TAP ({network_reason})")),
    };
    let firecracker =
        found.kvm.clone().and_then(|()| found.firecracker.clone()).and_then(|()| no_tap());
    let (vmm, vmm_reason) = match (vmm, &found.kvm, &firecracker) {
        (Some(VmmKind::Firecracker), _, Err(why)) => {
            return refuse("Firecracker", why, "leave the VMM to banger: vmm = \"auto\"");
        }
        (Some(VmmKind::QemuKvm), Err(why), _) => {
            return refuse("KVM", why, "leave the VMM to banger: vmm = \"auto\"");
        }
        (Some(kind), ..) => (kind, ASKED.to_owned()),
        (None, _, Ok(())) => (VmmKind::Firecracker, "KVM is usable".to_owned()),
        (None, Ok(()), Err(why)) => {
            (VmmKind::QemuKvm, format!("KVM is usable; no Firecracker: {why}"))
        }
        (None, Err(why), _) => {
            (VmmKind::QemuTcg, format!("KVM is not usable ({why}), so CPUs are emulated"))
        }
    };
    Ok(Choice { vmm, vmm_reason, network, network_reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Findings {
        Findings { kvm: Ok(()), firecracker: Ok(()), tap: Ok(()) }
    }

    fn no(why: &str) -> Result<(), String> {
        Err(why.to_owned())
    }

    #[test]
    fn the_best_that_works_and_always_a_reason() {
        let auto = |found: &Findings| choose(found, None, None).expect("a choice");
        let best = auto(&all());
        assert_eq!((best.vmm, best.network), (VmmKind::Firecracker, NetworkKind::Tap));

        let choice = auto(&Findings { firecracker: no("there is no firecracker"), ..all() });
        assert_eq!(choice.vmm, VmmKind::QemuKvm);
        assert!(choice.vmm_reason.contains("there is no firecracker"), "{choice:?}");

        let choice = auto(&Findings { tap: no("not root"), ..all() });
        assert_eq!((choice.vmm, choice.network), (VmmKind::QemuKvm, NetworkKind::User));
        assert!(choice.vmm_reason.contains("needs a TAP"), "{choice:?}");
        assert!(choice.network_reason.contains("not root"), "{choice:?}");

        let choice = auto(&Findings { kvm: no("there is no /dev/kvm"), ..all() });
        assert_eq!((choice.vmm, choice.network), (VmmKind::QemuTcg, NetworkKind::Tap));
        assert!(choice.vmm_reason.contains("there is no /dev/kvm"), "{choice:?}");
    }

    #[test]
    fn a_wish_is_granted_or_refused_with_the_reason_never_bent() {
        let wish = |found: &Findings, vmm, network| choose(found, vmm, network);
        let slow = wish(&all(), Some(VmmKind::QemuTcg), Some(NetworkKind::User)).expect("fine");
        assert_eq!((slow.vmm, slow.network), (VmmKind::QemuTcg, NetworkKind::User));

        let bare = Findings { kvm: no("no svm"), firecracker: no("none"), tap: no("not root") };
        for (vmm, network, why) in [
            (Some(VmmKind::QemuKvm), None, "no svm"),
            (Some(VmmKind::Firecracker), None, "no svm"),
            (None, Some(NetworkKind::Tap), "not root"),
        ] {
            let refused = wish(&bare, vmm, network).expect_err("cannot work");
            assert!(refused.why.contains(why), "{refused}");
            assert!(!refused.hint.is_empty());
        }
        let user = wish(&all(), Some(VmmKind::Firecracker), Some(NetworkKind::User));
        assert!(user.expect_err("it has none").why.contains("TAP"));
    }
}
