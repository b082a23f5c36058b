//! What the first picture waits for. It is all that `banger ls` ever shows, so it must be whole.

use std::collections::HashSet;

use crate::{domain::VmId, supervisor::core::Input};

#[derive(Debug, PartialEq, Eq, Hash)]
enum Part {
    Store,
    Disks,
    Host,
    Bundle,
    /// What the monitor of a VM that is up has to say.
    Monitor(VmId),
}

/// What the first picture still waits for.
#[derive(Debug)]
pub struct FirstPicture {
    missing: HashSet<Part>,
}

impl FirstPicture {
    /// Waits for everything.
    pub fn new() -> Self {
        let missing = [Part::Store, Part::Disks, Part::Host, Part::Bundle];
        Self { missing: missing.into() }
    }

    /// Takes note of an input that the core is about to get.
    pub fn note(&mut self, input: &Input) {
        let part = match input {
            Input::Loaded(found) => {
                let up = found.iter().filter(|found| found.up);
                self.missing.extend(up.map(|found| Part::Monitor(found.row.id.clone())));
                Part::Store
            }
            Input::DiskUsed(_) => Part::Disks,
            Input::HostFacts(_) => Part::Host,
            Input::Bundle(_) => Part::Bundle,
            Input::MonitorUp(status) => Part::Monitor(status.vm.clone()),
            Input::MonitorGone { vm, .. } => Part::Monitor(vm.clone()),
            Input::RowsChanged(_)
            | Input::Command { .. }
            | Input::EffectDone { .. }
            | Input::Timer { .. }
            | Input::Images(_)
            | Input::HostReport(_)
            | Input::JobProgress { .. } => return,
        };
        self.missing.remove(&part);
    }

    /// Whether there is nothing to wait for any more.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// Makes do with what is there.
    pub fn give_up(&mut self) {
        if !self.missing.is_empty() {
            tracing::warn!(missing = ?self.missing, "the first picture is not whole");
            self.missing.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{BundleView, HostView, OverlayKind, UnixMs, VmDraft},
        store::VmRow,
        supervisor::core::Found,
    };

    #[test]
    fn it_waits_for_every_part_and_for_each_monitor_that_is_up() {
        let id = VmId::from_bytes([0, 0, 0, 1]);
        let draft = VmDraft {
            name: "web".into(),
            image: "tiny".into(),
            vcpus: "1".into(),
            memory: "128".into(),
            ..VmDraft::default()
        };
        let spec = draft.validate().expect("valid");
        let row = VmRow::new(id.clone(), spec, OverlayKind::SparseCopy, UnixMs(0));
        let mut first = FirstPicture::new();
        let parts = [
            Input::HostFacts(HostView::default()),
            Input::Bundle(BundleView::Unknown),
            Input::Loaded(vec![Found {
                row,
                up: true,
                ledger: 1,
                abandoned: false,
                orphan: false,
            }]),
            Input::DiskUsed(Vec::new()),
        ];
        for part in parts {
            first.note(&part);
            assert!(!first.is_whole(), "after {part:?}");
        }
        first.note(&Input::MonitorGone { vm: id, exit: None });
        assert!(first.is_whole());
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let mut first = FirstPicture::new();
        first.give_up();
        assert!(first.is_whole());
    }
}
