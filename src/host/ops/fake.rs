//! A host on which operations change a picture and nothing else, and fail when told to.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Done, Fill, Inventory, Op, Operate};
use crate::domain::{Problem, VmId};

/// Does operations to a picture of a host.
#[derive(Debug, Default)]
pub struct FakeOps(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    done: Vec<Op>,
    failures: BTreeSet<usize>,
    bridge: bool,
    rules: bool,
    forwards: bool,
    hosts: usize,
    taps: BTreeSet<VmId>,
    snapshots: BTreeMap<VmId, Fill>,
}

impl FakeOps {
    /// Lets the operation number `nth` (the first is 0) fail without doing anything.
    pub fn fail(&self, nth: usize) {
        self.inner().failures.insert(nth);
    }

    /// The operations so far, failed ones included.
    #[must_use]
    pub fn done(&self) -> Vec<Op> {
        self.inner().done.clone()
    }

    /// Sets how full a VM's snapshot is said to be.
    pub fn fill(&self, vm: &VmId, fill: Fill) {
        self.inner().snapshots.insert(vm.clone(), fill);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operate for FakeOps {
    fn run(&self, op: &Op, files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
        let mut inner = self.inner();
        let nth = inner.done.len();
        inner.done.push(op.clone());
        let fail = |why: &str| Err(Problem::new("the fake host fails", why, "as it was told"));
        if inner.failures.contains(&nth) {
            return fail("told to");
        }
        match op {
            Op::Bridge { .. } => inner.bridge = true,
            Op::BridgeGone if !inner.taps.is_empty() => return fail("the bridge has TAPs"),
            Op::BridgeGone => inner.bridge = false,
            Op::Tap { .. } if !inner.bridge => return fail("there is no bridge"),
            Op::Tap { vm, .. } => drop(inner.taps.insert(vm.clone())),
            Op::TapGone { vm } => drop(inner.taps.remove(vm)),
            Op::Rules { .. } => inner.rules = true,
            Op::RulesGone => inner.rules = false,
            Op::Forwarding => {
                let before = std::mem::replace(&mut inner.forwards, true);
                return Ok(Done::Forwarding { before });
            }
            Op::ForwardingGone => inner.forwards = false,
            Op::Snapshot { .. } if files.len() != 2 => return fail("two files are needed"),
            Op::Snapshot { vm, bytes } => {
                let fresh = Fill { used: 8192, total: *bytes, overflowed: false };
                inner.snapshots.entry(vm.clone()).or_insert(fresh);
                let path = format!("/dev/banger/fake-{vm}").into();
                return Ok(Done::Device { path, major: 253, minor: 0 });
            }
            Op::SnapshotGone { vm } => drop(inner.snapshots.remove(vm)),
            Op::SnapshotFill { vm } | Op::SnapshotExtend { vm } => {
                let Some(fill) = inner.snapshots.get(vm) else { return fail("no such snapshot") };
                return Ok(Done::Fill(*fill));
            }
            Op::Resolve { .. } if !inner.bridge => return fail("there is no bridge"),
            Op::Resolve { .. } | Op::ResolveGone => {}
            Op::Hosts { names } => inner.hosts = names.len(),
            Op::Inventory => {
                return Ok(Done::Inventory(Inventory {
                    bridge: inner.bridge,
                    taps: inner.taps.iter().cloned().collect(),
                    rules: inner.rules,
                    snapshots: inner.snapshots.keys().cloned().collect(),
                    hosts: inner.hosts,
                    ..Inventory::default()
                }));
            }
        }
        Ok(Done::So)
    }
}
