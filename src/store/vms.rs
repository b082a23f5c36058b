//! Reading and changing VMs.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Failure, Store, StoreError, Survive, VmRow, VmState,
    row::{self, COLUMNS, to_json, to_word},
};
use crate::domain::{
    BootTimes, ExitReason, ExitRecord, Problem, UnixMs, VmId, VmName, VmmKind, Wanted,
};

const READ: &str = "cannot read the list of VMs";

impl Store {
    /// All VMs, by name.
    ///
    /// # Errors
    /// If the file cannot be read, or holds a value that this banger does not know.
    pub fn vms(&self) -> Result<Vec<VmRow>, Problem> {
        self.read(READ, |conn| {
            let mut query =
                conn.prepare_cached(&format!("SELECT {COLUMNS} FROM vms ORDER BY name"))?;
            query.query_map([], row::read)?.collect()
        })
    }

    /// One VM.
    ///
    /// # Errors
    /// As [`Store::vms`].
    pub fn vm(&self, id: &VmId) -> Result<Option<VmRow>, Problem> {
        self.read(READ, |conn| {
            conn.prepare_cached(&format!("SELECT {COLUMNS} FROM vms WHERE id = ?1"))?
                .query_row([id.as_str()], row::read)
                .optional()
        })
    }

    /// The VM of a name.
    ///
    /// # Errors
    /// As [`Store::vms`].
    pub fn vm_named(&self, name: &VmName) -> Result<Option<VmRow>, Problem> {
        self.read(READ, |conn| {
            conn.prepare_cached(&format!("SELECT {COLUMNS} FROM vms WHERE name = ?1"))?
                .query_row([name.as_str()], row::read)
                .optional()
        })
    }

    /// Adds a VM.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::IdTaken`], or the file.
    pub fn insert_vm(&self, vm: &VmRow) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the VM", |tx| {
            name_is_free(tx, &vm.spec.name, None)?;
            let taken =
                tx.prepare_cached("SELECT 1 FROM vms WHERE id = ?1")?.exists([vm.id.as_str()])?;
            if taken {
                return Err(StoreError::IdTaken(vm.id.clone()).into());
            }
            tx.prepare_cached(&format!(
                "INSERT INTO vms ({COLUMNS}) \
                 VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,\
                         ?17,?18,?19,?20,?21,?22,?23,?24)"
            ))?
            .execute(params![
                vm.id.as_str(),
                vm.spec.name.as_str(),
                vm.spec.image,
                vm.spec.vcpus,
                vm.spec.memory_mib.cast_signed(),
                vm.spec.disk_mib.map(u64::cast_signed),
                vm.spec.restore,
                to_word(&vm.wanted),
                to_word(&vm.state),
                to_word(&vm.overlay),
                vm.created.0.cast_signed(),
                vm.vmm.as_ref().map(to_word),
                vm.ssh_port,
                vm.started.map(|at| at.0.cast_signed()),
                vm.last_exit.as_ref().map(to_json),
                to_json(&vm.last_boot),
                vm.spec.wishes.vmm.as_ref().map(to_word),
                vm.spec.wishes.network.as_ref().map(to_word),
                vm.spec.wishes.overlay.as_ref().map(to_word),
                vm.base,
                vm.network.as_ref().map(to_word),
                vm.place,
                vm.made_from,
                vm.helper_of,
            ])?;
            Ok(())
        })
    }

    /// Sets what the user wants.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn set_wanted(&self, vm: &VmId, wanted: Wanted) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store what is wanted", |tx| {
            let sql = "UPDATE vms SET wanted = ?2 WHERE id = ?1";
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), to_word(&wanted)])?)
        })
    }

    /// Sets how far the making or removing of a VM is.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn set_state(&self, vm: &VmId, state: VmState) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the state of the VM", |tx| {
            let sql = "UPDATE vms SET state = ?2 WHERE id = ?1";
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), to_word(&state)])?)
        })
    }

    /// Gives another name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::NoSuchVm`], or the file.
    pub fn rename(&self, vm: &VmId, name: &VmName) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot rename the VM", |tx| {
            name_is_free(tx, name, Some(vm))?;
            let sql = "UPDATE vms SET name = ?2 WHERE id = ?1";
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), name.as_str()])?)
        })
    }

    /// Sets the size of the disk, in MiB. The disk itself follows at the next start.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn resize(&self, vm: &VmId, mib: u64) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the size of the disk", |tx| {
            let sql = "UPDATE vms SET disk_mib = ?2 WHERE id = ?1";
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), mib.cast_signed()])?)
        })
    }

    /// Removes a VM of which nothing is left on the host.
    ///
    /// # Errors
    /// [`StoreError::StillOnHost`] if its ledger has entries, [`StoreError::NoSuchVm`], or the
    /// file.
    pub fn remove_vm(&self, vm: &VmId) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot remove the VM", |tx| {
            let entries: i64 = tx
                .prepare_cached("SELECT count(*) FROM ledger WHERE vm = ?1")?
                .query_row([vm.as_str()], |row| row.get(0))?;
            if entries > 0 {
                let entries = entries.cast_unsigned();
                return Err(StoreError::StillOnHost { vm: vm.clone(), entries }.into());
            }
            one(vm, tx.prepare_cached("DELETE FROM vms WHERE id = ?1")?.execute([vm.as_str()])?)
        })
    }

    /// Opens a run: for the monitor, once it has the lock and before it makes anything. The
    /// exit and the boot times of the run before are forgotten.
    ///
    /// # Errors
    /// [`StoreError::NotReady`] if it is being made or removed: then it must not start;
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn record_start(
        &self,
        vm: &VmId,
        at: UnixMs,
        vmm: VmmKind,
        ssh_port: Option<u16>,
    ) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the start", |tx| {
            let state: Option<String> = tx
                .prepare_cached("SELECT state FROM vms WHERE id = ?1")?
                .query_row([vm.as_str()], |row| row.get(0))
                .optional()?;
            if state.is_some_and(|state| state != to_word(&VmState::Ready)) {
                return Err(StoreError::NotReady(vm.clone()).into());
            }
            let sql = "UPDATE vms SET started = ?2, vmm = ?3, ssh_port = coalesce(?4, ssh_port), \
                       last_exit = NULL, last_boot = '[]' WHERE id = ?1";
            let values = params![vm.as_str(), at.0.cast_signed(), to_word(&vmm), ssh_port];
            one(vm, tx.prepare_cached(sql)?.execute(values)?)
        })
    }

    /// Remembers the port that leads to the VM's SSH.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn record_ssh_port(&self, vm: &VmId, port: u16) -> Result<(), StoreError> {
        self.write(Survive::Crash, "cannot store the SSH port", |tx| {
            let sql = "UPDATE vms SET ssh_port = ?2 WHERE id = ?1";
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), port])?)
        })
    }

    /// Keeps how a boot goes.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn record_boot(&self, vm: &VmId, boot: &BootTimes) -> Result<(), StoreError> {
        self.write(Survive::Crash, "cannot store the boot times", |tx| {
            let sql = "UPDATE vms SET last_boot = ?2 WHERE id = ?1";
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), to_json(boot)])?)
        })
    }

    /// Closes a run: for the monitor, when nothing of it is left on the host. If the guest
    /// powered off by itself, its user did that, so it is wanted off from then on.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn record_exit(&self, vm: &VmId, exit: &ExitRecord) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store how the run ended", |tx| {
            let sql = if exit.reason == ExitReason::GuestPoweroff {
                "UPDATE vms SET last_exit = ?2, wanted = 'stopped' WHERE id = ?1"
            } else {
                "UPDATE vms SET last_exit = ?2 WHERE id = ?1"
            };
            one(vm, tx.prepare_cached(sql)?.execute(params![vm.as_str(), to_json(exit)])?)
        })
    }

    /// Closes a run whose monitor died: for whoever finds that, holding the VM's lock. An exit
    /// that is known already is kept. Whether the run was open.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn record_lost(&self, vm: &VmId, exit: &ExitRecord) -> Result<bool, StoreError> {
        self.write(Survive::PowerLoss, "cannot store how the run ended", |tx| {
            let exists =
                tx.prepare_cached("SELECT 1 FROM vms WHERE id = ?1")?.exists([vm.as_str()])?;
            one(vm, usize::from(exists))?;
            let sql = "UPDATE vms SET last_exit = ?2 \
                       WHERE id = ?1 AND started IS NOT NULL AND last_exit IS NULL";
            Ok(tx.prepare_cached(sql)?.execute(params![vm.as_str(), to_json(exit)])? == 1)
        })
    }
}

/// A change of one VM changes one row.
fn one(vm: &VmId, changed: usize) -> Result<(), Failure> {
    if changed == 1 { Ok(()) } else { Err(StoreError::NoSuchVm(vm.clone()).into()) }
}

/// The database has the last word by its UNIQUE; within the transaction this is as good, and
/// knows the name.
fn name_is_free(tx: &Transaction<'_>, name: &VmName, but: Option<&VmId>) -> Result<(), Failure> {
    let owner: Option<String> = tx
        .prepare_cached("SELECT id FROM vms WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?;
    match owner {
        Some(id) if but.is_none_or(|vm| vm.as_str() != id) => {
            Err(StoreError::NameTaken(name.clone()).into())
        }
        _ => Ok(()),
    }
}
