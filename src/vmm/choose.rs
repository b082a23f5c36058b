//! Which VMM a host uses, and why: a pure choice from what was found.

use crate::domain::VmmKind;

/// What was found on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// `None` if KVM is usable; else which test failed.
    pub kvm_unusable: Option<String>,
}

/// A choice with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The VMM.
    pub kind: VmmKind,
    /// Why that and nothing better: a clause for `doctor`.
    pub reason: String,
}

/// Chooses: what the user asked for, else the best that works.
///
/// # Errors
/// If the user asked for what cannot work here: why it cannot.
pub fn choose(findings: &Findings, wanted: Option<VmmKind>) -> Result<Choice, String> {
    let chosen = |kind, reason: String| Ok(Choice { kind, reason });
    match (wanted, &findings.kvm_unusable) {
        (Some(VmmKind::QemuKvm), Some(why)) => Err(format!("KVM is not usable: {why}")),
        (Some(kind), _) => chosen(kind, "asked for by the configuration".to_owned()),
        (None, None) => chosen(VmmKind::QemuKvm, "KVM is usable".to_owned()),
        (None, Some(why)) => {
            chosen(VmmKind::QemuTcg, format!("KVM is not usable ({why}), so CPUs are emulated"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_where_it_works_else_emulation_and_always_a_reason() {
        let with = Findings { kvm_unusable: None };
        let without = Findings { kvm_unusable: Some("there is no /dev/kvm".to_owned()) };
        assert_eq!(choose(&with, None).expect("choice").kind, VmmKind::QemuKvm);
        let choice = choose(&without, None).expect("choice");
        assert_eq!(choice.kind, VmmKind::QemuTcg);
        assert!(choice.reason.contains("there is no /dev/kvm"), "{}", choice.reason);
        let forced = choose(&with, Some(VmmKind::QemuTcg)).expect("choice");
        assert_eq!(forced.kind, VmmKind::QemuTcg);
        let refused = choose(&without, Some(VmmKind::QemuKvm)).expect_err("cannot work");
        assert!(refused.contains("there is no /dev/kvm"));
    }
}
