//! The ledger: what was made on the host, written down before it is made.

use std::fmt;

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::{
    Failure, Store, StoreError, Survive, now,
    row::{number, parsed, to_word, word},
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
}

impl LedgerKind {
    /// Whether it is still there after a power cut: then the entry must be, too.
    const fn outlives_power(self) -> bool {
        match self {
            Self::Process | Self::Socket | Self::PortForward => false,
            Self::Directory | Self::File => true,
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
        })
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its id.
    pub id: LedgerId,
    /// Whose it is.
    pub vm: VmId,
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
        let survive = if kind.outlives_power() { Survive::PowerLoss } else { Survive::Crash };
        self.write(survive, "cannot write the ledger", |tx| {
            if !tx.prepare_cached("SELECT 1 FROM vms WHERE id = ?1")?.exists([vm.as_str()])? {
                return Err(Failure::Said(StoreError::NoSuchVm(vm.clone())));
            }
            let sql = "INSERT INTO ledger (vm, kind, key, detail, created) \
                       VALUES (?1, ?2, ?3, ?4, ?5) \
                       ON CONFLICT (vm, kind, key) DO UPDATE SET detail = excluded.detail \
                       RETURNING id";
            let values = params![
                vm.as_str(),
                to_word(&kind),
                key,
                detail.to_string(),
                now().0.cast_signed()
            ];
            Ok(tx.prepare_cached(sql)?.query_row(values, |row| row.get(0).map(LedgerId))?)
        })
    }

    /// Strikes out what is gone from the host. Striking out twice is no error.
    ///
    /// # Errors
    /// The file.
    pub fn clear(&self, id: LedgerId) -> Result<(), StoreError> {
        // Lost in a power cut it is only found gone again.
        self.write(Survive::Crash, "cannot write the ledger", |tx| {
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

fn entry(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    let detail = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(e))
    })?;
    Ok(LedgerEntry {
        id: LedgerId(row.get(0)?),
        vm: parsed(row, 1)?,
        kind: word(row, 2)?,
        key: row.get(3)?,
        detail,
        created: UnixMs(number(row, 5)?),
    })
}
