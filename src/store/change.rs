//! Changes of VMs as data, so that a pure core can ask for them.

use super::{Store, StoreError, VmRow, VmState};
use crate::domain::{VmId, VmName, Wanted};

/// A change of one VM; one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// See [`Store::insert_vm`].
    Insert(Box<VmRow>),
    /// See [`Store::set_wanted`].
    Wanted(VmId, Wanted),
    /// See [`Store::set_state`].
    State(VmId, VmState),
    /// See [`Store::rename`].
    Rename(VmId, VmName),
    /// See [`Store::resize`].
    Resize(VmId, u64),
    /// See [`Store::remove_vm`].
    Remove(VmId),
}

impl Store {
    /// Makes a change.
    ///
    /// # Errors
    /// What the method it stands for returns.
    pub fn apply(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Insert(row) => self.insert_vm(row),
            Change::Wanted(vm, wanted) => self.set_wanted(vm, *wanted),
            Change::State(vm, state) => self.set_state(vm, *state),
            Change::Rename(vm, name) => self.rename(vm, name),
            Change::Resize(vm, mib) => self.resize(vm, *mib),
            Change::Remove(vm) => self.remove_vm(vm),
        }
    }
}
