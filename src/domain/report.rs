//! What a look at the host found: what is in order, what banger made there, what is left over.

use serde::{Deserialize, Serialize};

use super::{HostCall, Problem, UnixMs, VmId};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckLevel {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// Something will not work.
    Failed,
}

/// A check and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckView {
    /// For scripts: `vmm`. Each check has another, and keeps it.
    pub id: &'static str,
    /// How it went.
    pub level: CheckLevel,
    /// What was found.
    pub what: String,
    /// Why it is so, or what follows from it; may be empty.
    pub why: String,
    /// What to do about it; empty if nothing is to be done.
    pub fix: String,
}

impl CheckView {
    /// As it should be.
    #[must_use]
    pub fn ok(id: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        let level = CheckLevel::Ok;
        Self { id, level, what: what.into(), why: why.into(), fix: String::new() }
    }

    /// It works, and could be better.
    #[must_use]
    pub fn warning(
        id: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let level = CheckLevel::Warning;
        Self { id, level, what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// Something will not work.
    #[must_use]
    pub fn failed(id: &'static str, problem: Problem) -> Self {
        let Problem { what, why, hint } = problem;
        Self { id, level: CheckLevel::Failed, what, why, fix: hint }
    }
}

/// How something that banger made stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MadeState {
    /// It is there, and its VM runs.
    There,
    /// The ledger has it, and the host does not, although its VM runs.
    Missing,
    /// Its VM is off: its monitor died before it could remove it.
    OfDead,
    /// Whether it is there cannot be seen, most often for want of privileges.
    Unknown,
}

impl MadeState {
    /// As shown to the user.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Missing => "missing",
            Self::OfDead => "of a dead monitor",
            Self::Unknown => "cannot be seen",
        }
    }
}

/// Something that banger made on the host: a row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeView {
    /// The VM; `None` for what all share.
    pub vm: Option<VmId>,
    /// The VM's name, or `shared`.
    pub owner: String,
    /// What it is: `TAP`.
    pub kind: String,
    /// What finds it on the host: `bgt-0a1b2c3d`.
    pub key: String,
    /// When it was written down, which is just before it was made.
    pub created: UnixMs,
    /// How it stands.
    pub state: MadeState,
}

/// Something on the host that bears banger's mark and that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrphanView {
    /// What it is, and its name: `TAP bgt-0a1b2c3d`. No two orphans have the same.
    pub what: String,
    /// Whose it was, and why it counts as left over.
    pub whose: String,
    /// The command that would remove it.
    pub command: String,
}

/// What a look at the host found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// When it was looked at.
    pub at: UnixMs,
    /// Everything that was checked.
    pub checks: Vec<CheckView>,
    /// The ledger, each row with how it stands; oldest first.
    pub made: Vec<MadeView>,
    /// What nobody needs.
    pub orphans: Vec<OrphanView>,
    /// What was done to the host lately, oldest first.
    pub calls: Vec<HostCall>,
}

impl HostReport {
    /// The worst of all checks.
    #[must_use]
    pub fn worst(&self) -> CheckLevel {
        self.checks.iter().map(|check| check.level).max().unwrap_or(CheckLevel::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_says_how_a_host_is() {
        let mut report = HostReport {
            at: UnixMs(0),
            checks: Vec::new(),
            made: Vec::new(),
            orphans: Vec::new(),
            calls: Vec::new(),
        };
        assert_eq!(report.worst(), CheckLevel::Ok);
        let failed = CheckView::failed("qemu", Problem::new("none", "not in PATH", "get it"));
        assert_eq!((failed.what.as_str(), failed.fix.as_str()), ("none", "get it"));
        report.checks.push(failed);
        report.checks.push(CheckView::warning("space", "little", "", "more"));
        assert_eq!(report.worst(), CheckLevel::Failed);
    }
}
