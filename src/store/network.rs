//! What the VMs' network is, and each VM's place in it. Kept, so that addresses stay.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Failure, Store, StoreError, Survive, row::to_word};
use crate::domain::{NetworkKind, Subnet, Tag, VmId};

const TAG: &str = "tag";
const SUBNET: &str = "subnet";

impl Store {
    /// The tag of everything this database's banger makes; `fresh` becomes it if there is none.
    ///
    /// # Errors
    /// The file.
    pub fn tag(&self, fresh: impl Fn() -> Tag) -> Result<Tag, StoreError> {
        self.write(Survive::PowerLoss, "cannot read the tag", |tx| {
            match get(tx, TAG)?.and_then(|text| text.parse().ok()) {
                Some(tag) => Ok(tag),
                None => {
                    let tag = fresh();
                    set(tx, TAG, tag.as_str())?;
                    Ok(tag)
                }
            }
        })
    }

    /// The VMs' addresses, once they were chosen.
    ///
    /// # Errors
    /// The file.
    pub fn subnet(&self) -> Result<Option<Subnet>, StoreError> {
        self.write(Survive::Crash, "cannot read the subnet", |tx| {
            Ok(get(tx, SUBNET)?.and_then(|text| text.parse().ok()))
        })
    }

    /// Chooses the VMs' addresses, for good.
    ///
    /// # Errors
    /// The file.
    pub fn set_subnet(&self, subnet: Subnet) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the subnet", |tx| {
            set(tx, SUBNET, &subnet.to_string())
        })
    }

    /// The VM's place in the subnet: the one it has, else the lowest that is free, which it then
    /// keeps. `None` if all are taken.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file.
    pub fn place(&self, vm: &VmId) -> Result<Option<u16>, StoreError> {
        self.write(Survive::PowerLoss, "cannot store the VM's address", |tx| {
            let had: Option<Option<u16>> = tx
                .prepare_cached("SELECT place FROM vms WHERE id = ?1")?
                .query_row([vm.as_str()], |row| row.get(0))
                .optional()?;
            let Some(had) = had else { return Err(StoreError::NoSuchVm(vm.clone()).into()) };
            if had.is_some() {
                return Ok(had);
            }
            let taken: Vec<u16> = tx
                .prepare_cached("SELECT place FROM vms WHERE place IS NOT NULL ORDER BY place")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let free =
                Subnet::GUESTS.zip(taken.iter().copied().map(Some).chain(std::iter::repeat(None)));
            let free =
                free.into_iter().find(|(place, taken)| *taken != Some(*place)).map(|(p, _)| p);
            if let Some(place) = free {
                tx.prepare_cached("UPDATE vms SET place = ?2 WHERE id = ?1")?
                    .execute(params![vm.as_str(), place])?;
            }
            Ok(free)
        })
    }

    /// Writes down how a run reaches the world.
    ///
    /// # Errors
    /// The file.
    pub fn record_network(&self, vm: &VmId, network: NetworkKind) -> Result<(), StoreError> {
        self.write(Survive::Crash, "cannot store the network", |tx| {
            tx.prepare_cached("UPDATE vms SET network = ?2 WHERE id = ?1")?
                .execute(params![vm.as_str(), to_word(&network)])?;
            Ok(())
        })
    }

    /// Writes down which base a VM's disk is a snapshot of, and so made from, before it is made.
    ///
    /// # Errors
    /// The file.
    pub fn record_base(&self, vm: &VmId, sha256: &str) -> Result<(), StoreError> {
        self.write(Survive::PowerLoss, "cannot store the base", |tx| {
            tx.prepare_cached("UPDATE vms SET base = ?2, made_from = ?2 WHERE id = ?1")?
                .execute(params![vm.as_str(), sha256])?;
            Ok(())
        })
    }
}

fn get(tx: &Transaction<'_>, key: &str) -> Result<Option<String>, Failure> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
}

fn set(tx: &Transaction<'_>, key: &str, value: &str) -> Result<(), Failure> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) \
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.prepare_cached(sql)?.execute(params![key, value])?;
    Ok(())
}
