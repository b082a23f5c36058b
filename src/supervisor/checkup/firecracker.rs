//! Firecracker and its jailer.

use nix::unistd::geteuid;

use super::Subject;
use crate::{
    bundle::{Bundle, locate},
    domain::CheckView,
    host::facts::{self, KvmState},
    vmm::firecracker::{Standing, Version},
};

const ID: &str = "firecracker";
const FETCH: &str = "`banger runtime bootstrap` fetches Firecracker and its jailer";

/// What is there of it; nothing if there is no runtime directory, which is a check of its own.
pub(super) fn firecracker(subject: &Subject) -> Option<CheckView> {
    let bundle = Bundle::open(&locate(&subject.runtime_dir).ok()?.dir).ok()?;
    let program = match bundle.firecracker() {
        Ok(program) => program,
        Err(why) => return Some(none(&why)),
    };
    let version = match Version::of(&program).and_then(|v| Ok((v, v.check()?))) {
        Ok((version, standing)) => (version, standing),
        Err(why) => {
            let what = format!("{} cannot be used", program.display());
            return Some(CheckView::warning(ID, what, why, FETCH));
        }
    };
    let jailed = subject.jailer.unwrap_or_else(|| geteuid().is_root());
    let jailer = bundle.jailer().and_then(|jailer| Version::of(&jailer));
    Some(judge(version, jailed, jailer))
}

fn none(why: &str) -> CheckView {
    const WHAT: &str = "there is no Firecracker";
    match facts::kvm(None) {
        KvmState::Usable => CheckView::warning(ID, WHAT, why, FETCH),
        KvmState::Unusable { .. } => {
            CheckView::ok(ID, WHAT, format!("{why}; without KVM it would be of no use"))
        }
    }
}

fn judge(
    (version, standing): (Version, Standing),
    jailed: bool,
    jailer: Result<Version, String>,
) -> CheckView {
    let newer = match standing {
        Standing::Known => "",
        Standing::Newer => "it is newer than what this banger knows",
    };
    let what = format!("Firecracker is version {version}");
    match jailer {
        _ if !jailed => CheckView::ok(ID, what, newer),
        Err(why) => CheckView::warning(
            ID,
            format!("{what}, and there is no jailer for it"),
            why,
            format!("{FETCH}; jailer = \"off\" in config.toml does without"),
        ),
        Ok(other) if other != version => CheckView::warning(
            ID,
            format!("{what}, and its jailer {other}"),
            "they must be of one version",
            FETCH,
        ),
        Ok(_) => CheckView::ok(ID, format!("{what}, and so is its jailer"), newer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CheckLevel;

    #[test]
    fn a_jailer_counts_only_where_it_is_used_and_must_be_of_the_same_version() {
        let version = |text: &str| Version::parse(text).expect("a version");
        let here = (version("1.17.0"), Standing::Known);
        assert_eq!(judge(here, false, Err("none".into())).level, CheckLevel::Ok);
        assert_eq!(judge(here, true, Ok(version("1.17.0"))).level, CheckLevel::Ok);
        let missing = judge(here, true, Err("none".into()));
        assert_eq!(missing.level, CheckLevel::Warning);
        assert!(missing.fix.contains("jailer = \"off\""), "{missing:?}");
        let other = judge(here, true, Ok(version("1.16.1")));
        assert_eq!(other.what, "Firecracker is version 1.17.0, and its jailer 1.16.1");
    }
}
