//! Which machines are shown, in which order.

use std::{cmp::Ordering, sync::Arc};

use super::filter::fits;
use crate::{
    domain::{Fleet, Phase, VmId, VmView, name_order},
    tui::screens::browser::{Filter, ordered},
};

/// What the list of machines is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Name.
    #[default]
    Name,
    /// State: what needs a look first.
    State,
    /// Image.
    Image,
    /// vCPUs.
    Vcpus,
    /// Memory.
    Memory,
    /// Bytes its disk takes.
    Disk,
    /// How long it has been up.
    Uptime,
}

/// The rows of the table as places in [`Fleet::vms`].
#[derive(Debug, Default)]
pub struct List {
    rows: Vec<usize>,
}

impl List {
    /// Filters and sorts. Equal ones stay in the order of their names.
    pub fn refresh(&mut self, fleet: &Fleet, filter: &Filter, sort: Sort, reverse: bool) {
        self.rows = ordered(
            &fleet.vms,
            |vm| fits(filter, vm),
            |a, b| compare(a, b, sort),
            reverse,
            |vm| vm.spec.name.as_str(),
        );
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The machine in a row.
    #[must_use]
    pub fn get<'a>(&self, fleet: &'a Fleet, row: usize) -> Option<&'a Arc<VmView>> {
        self.rows.get(row).and_then(|at| fleet.vms.get(*at))
    }

    /// The row of a machine.
    #[must_use]
    pub fn row_of(&self, fleet: &Fleet, id: &VmId) -> Option<usize> {
        self.rows.iter().position(|at| fleet.vms.get(*at).is_some_and(|vm| vm.id == *id))
    }

    /// The machines in their order.
    pub fn iter<'a>(&'a self, fleet: &'a Fleet) -> impl Iterator<Item = &'a Arc<VmView>> {
        self.rows.iter().filter_map(|at| fleet.vms.get(*at))
    }
}

fn compare(a: &VmView, b: &VmView, sort: Sort) -> Ordering {
    match sort {
        Sort::Name => name_order(a.spec.name.as_str(), b.spec.name.as_str()),
        Sort::State => rank(a.phase).cmp(&rank(b.phase)),
        Sort::Image => a.spec.image.cmp(&b.spec.image),
        // Amounts: the largest first.
        Sort::Vcpus => b.spec.vcpus.cmp(&a.spec.vcpus),
        Sort::Memory => b.spec.memory_mib.cmp(&a.spec.memory_mib),
        Sort::Disk => b.disk_used.cmp(&a.disk_used),
        Sort::Uptime => up_since(a).cmp(&up_since(b)),
    }
}

/// When it was started; what is off comes last.
fn up_since(vm: &VmView) -> u64 {
    vm.up_since.map_or(u64::MAX, |since| since.0)
}

/// What needs a look comes first.
const fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Crashed => 0,
        Phase::Paused => 1,
        Phase::Creating => 1,
        Phase::Starting => 2,
        Phase::Booting => 3,
        Phase::Stopping => 4,
        Phase::Running => 5,
        Phase::Deleting => 6,
        Phase::Stopped => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::testing::{fleet, vm};

    fn names(list: &List, fleet: &Fleet) -> Vec<String> {
        list.iter(fleet).map(|vm| vm.spec.name.to_string()).collect()
    }

    #[test]
    fn sorting_and_filtering_keep_rows_and_ids_together() {
        let mut b = vm(2, "b", Phase::Running);
        b.spec.memory_mib = 4096;
        let fleet = fleet(vec![vm(1, "a", Phase::Stopped), b, vm(3, "c", Phase::Crashed)]);
        let mut list = List::default();
        list.refresh(&fleet, &Filter::default(), Sort::State, false);
        assert_eq!(names(&list, &fleet), ["c", "b", "a"]);
        list.refresh(&fleet, &Filter::default(), Sort::Memory, false);
        assert_eq!(names(&list, &fleet), ["b", "a", "c"]);
        list.refresh(&fleet, &Filter::new(&[], "!b"), Sort::Name, true);
        assert_eq!(names(&list, &fleet), ["c", "a"]);
        assert_eq!(list.row_of(&fleet, &fleet.vms[0].id), Some(1));
        assert_eq!(list.row_of(&fleet, &fleet.vms[1].id), None);
    }
}
