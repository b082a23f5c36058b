//! The ledger: what was made on the host, written down before it is made.

use std::fmt;

use rusqlite::{Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{
    Failure, Store, StoreError, Survive, now,
    row::{number, parsed_or_null, to_word, word},
};
use crate::domain::{Problem, UnixMs, VmId};

/// Identifies an entry; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(pub i64);

/// What an entry is about. Its key is what finds it on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerKind {
    /// A process; the key is what it is (`vmm`), the detail says how to recognise it.
    Process,
    /// A UNIX socket; the key is its path.
    Socket,
    /// A directory; the key is its path.
    Directory,
    /// A file; the key is its path.
    File,
    /// A TCP port of 127.0.0.1 that leads into the guest; the key is the port.
    PortForward,
    /// The bridge; the key is its name. Shared.
    Bridge,
    /// A VM's TAP, a port of the bridge; the key is its name.
    Tap,
    /// The nftables table with all its elements; the key is its name. Shared.
    Rules,
    /// That the kernel forwards, for the bridge, whoever turned it on; the key is the setting. Shared.
    Forwarding,
    /// The loop device of a base; the key is the base's SHA-256. Shared.
    BaseLoop,
    /// A VM's snapshot with its loop device and node; the key is the device-mapper name.
    Snapshot,
    /// A name that is published; the key is the name, the detail says where.
    DnsRecord,
    /// A mount; the key is where.
    Mount,
    /// A control group; the key is its directory.
    Cgroup,
}

impl LedgerKind {
    /// Whether it is still there after a power cut: then the entry must be, too.
    const fn outlives_power(self) -> bool {
        match self {
            Self::Process
            | Self::Socket
            | Self::PortForward
            | Self::Bridge
            | Self::Tap
            | Self::Rules
            | Self::Forwarding
            | Self::BaseLoop
            | Self::Snapshot
            | Self::Mount
            | Self::Cgroup => false,
            // A name can be in a file: /etc/hosts, or that of a mapdns.
            Self::Directory | Self::File | Self::DnsRecord => true,
        }
    }
}

impl fmt::Display for LedgerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Socket => "socket",
            Self::Directory => "directory",
            Self::File => "file",
            Self::PortForward => "port forward",
            Self::Bridge => "bridge",
            Self::Tap => "TAP",
            Self::Rules => "nftables table",
            Self::Forwarding => "kernel setting",
            Self::BaseLoop => "loop device of base",
            Self::Snapshot => "snapshot",
            Self::DnsRecord => "name",
            Self::Mount => "mount",
            Self::Cgroup => "control group",
        })
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its id.
    pub id: LedgerId,
    /// Whose it is; `None` if all VMs share it.
    pub vm: Option<VmId>,
    /// What it is.
    pub kind: LedgerKind,
    /// What finds it on the host.
    pub key: String,
    /// What else must be known to remove it.
    pub detail: serde_json::Value,
    /// When it was written.
    pub created: UnixMs,
}

const READ: &str = "cannot read the ledger";
const WRITE: &str = "cannot write the ledger";
const SELECT: &str = "SELECT id, vm, kind, key, detail, created FROM ledger";

impl Store {
    /// Writes down what is about to be made; committed when this returns. The same thing noted
    /// again keeps its id and place, and takes the new detail.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVm`], or the file. Then nothing must be made.
    pub fn note(
        &self,
        vm: &VmId,
        kind: LedgerKind,
        key: &str,
        detail: &serde_json::Value,
    ) -> Result<LedgerId, StoreError> {
        self.write(survival(kind), WRITE, |tx| {
            if !tx.prepare_cached("SELECT 1 FROM vms WHERE id = ?1")?.exists([vm.as_str()])? {
                return Err(Failure::Said(StoreError::NoSuchVm(vm.clone())));
            }
            insert(tx, Some(vm), kind, key, detail)
        })
    }

    /// As [`Store::note`], for what all VMs share. The caller holds the host lock.
    ///
    /// # Errors
    /// The file. Then nothing must be made.
    pub fn note_shared(
        &self,
        kind: LedgerKind,
        key: &str,
        detail: &serde_json::Value,
    ) -> Result<LedgerId, StoreError> {
        self.write(survival(kind), WRITE, |tx| insert(tx, None, kind, key, detail))
    }

    /// Strikes out what is gone from the host. Striking out twice is no error.
    ///
    /// # Errors
    /// The file.
    pub fn clear(&self, id: LedgerId) -> Result<(), StoreError> {
        // Lost in a power cut it is only found gone again.
        self.write(Survive::Crash, WRITE, |tx| {
            tx.prepare_cached("DELETE FROM ledger WHERE id = ?1")?.execute([id.0])?;
            Ok(())
        })
    }

    /// The entries of a VM, oldest first: undo them from the end.
    ///
    /// # Errors
    /// The file.
    pub fn entries(&self, vm: &VmId) -> Result<Vec<LedgerEntry>, Problem> {
        self.read(READ, |conn| {
            conn.prepare_cached(&format!("{SELECT} WHERE vm = ?1 ORDER BY id"))?
                .query_map([vm.as_str()], entry)?
                .collect()
        })
    }

    /// The entries of what all VMs share, oldest first.
    ///
    /// # Errors
    /// The file.
    pub fn shared_entries(&self) -> Result<Vec<LedgerEntry>, Problem> {
        self.read(READ, |conn| {
            conn.prepare_cached(&format!("{SELECT} WHERE vm IS NULL ORDER BY id"))?
                .query_map([], entry)?
                .collect()
        })
    }

    /// All entries, oldest first.
    ///
    /// # Errors
    /// The file.
    pub fn all_entries(&self) -> Result<Vec<LedgerEntry>, Problem> {
        self.read(READ, |conn| {
            conn.prepare_cached(&format!("{SELECT} ORDER BY id"))?.query_map([], entry)?.collect()
        })
    }
}

const fn survival(kind: LedgerKind) -> Survive {
    if kind.outlives_power() { Survive::PowerLoss } else { Survive::Crash }
}

fn insert(
    tx: &Transaction<'_>,
    vm: Option<&VmId>,
    kind: LedgerKind,
    key: &str,
    detail: &serde_json::Value,
) -> Result<LedgerId, Failure> {
    let sql = "INSERT INTO ledger (vm, kind, key, detail, created) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (coalesce(vm, ''), kind, key) DO UPDATE SET detail = excluded.detail \
               RETURNING id";
    let vm = vm.map(VmId::as_str);
    let values = params![vm, to_word(&kind), key, detail.to_string(), now().0.cast_signed()];
    Ok(tx.prepare_cached(sql)?.query_row(values, |row| row.get(0).map(LedgerId))?)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    let detail = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(e))
    })?;
    Ok(LedgerEntry {
        id: LedgerId(row.get(0)?),
        vm: parsed_or_null(row, 1)?,
        kind: word(row, 2)?,
        key: row.get(3)?,
        detail,
        created: UnixMs(number(row, 5)?),
    })
}
