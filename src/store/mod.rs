//! SQLite: what the user wants, the ledger of host resources, the event log.
//!
//! Several banger processes share one file. The journal is a WAL, so readers never wait for a
//! writer; writers wait up to [`BUSY_MS`] for each other. Every change is one transaction.
//!
//! **Power loss.** A WAL keeps the file consistent whatever happens; what is at stake is whether
//! the last commits survive. They must where something that outlives a power cut depends on them
//! (a VM's row, an intent, a ledger entry for a file), and are synced (`synchronous=FULL`). They
//! need not where what they tell of is gone with the power anyway (a process, a socket, a port)
//! or is a diary (events, boot times): those are written without a sync, which a killed process
//! does not lose either, and the next synced commit carries them along.
//!
//! **Whether a VM runs is not stored.** Its monitor's lock says so. A run is open from
//! [`Store::record_start`] to [`Store::record_exit`]; an open run without a monitor is one whose
//! monitor died.

mod backup;
mod calls;
mod change;
mod error;
mod events;
mod images;
mod ledger;
mod migrate;
mod network;
mod open;
mod row;
mod spare;
mod vms;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rusqlite::Connection;

use crate::domain::{Problem, UnixMs};

pub use backup::Maintenance;
pub use calls::CALLS_MAX;
pub use change::Change;
pub use error::StoreError;
pub use events::{EVENTS_MAX, Event, EventId};
pub use ledger::{LedgerEntry, LedgerId, LedgerKind};
pub use migrate::VERSION;
pub use row::{VmRow, VmState};
pub use spare::{SPARE, SPARES, count as spares, set_aside};

/// How long a write waits for others', in milliseconds. Ten VMs that start at once on a slow disk
/// were seen to keep one waiting for more than five seconds, and a start that could wait is not to
/// fail.
pub const BUSY_MS: u64 = 30_000;

/// An open database. Shared by reference; calls take turns, and none is long.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    conn: Mutex<Connection>,
}

/// What of a commit must outlive what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Survive {
    /// The machine's power.
    PowerLoss,
    /// This process.
    Crash,
}

impl Store {
    /// Opens the database, makes it if there is none, and brings an older one up to
    /// [`VERSION`] after backing it up.
    ///
    /// # Errors
    /// A newer version, a damaged or foreign file, a directory, a place that cannot be written,
    /// a full disk, another process that holds it for longer than [`BUSY_MS`]. In all these
    /// cases the file is left as it was; for a damaged one the hint names the newest backup and
    /// the command that restores it.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let conn = open::open(path)?;
        Ok(Self { path: path.to_owned(), conn: Mutex::new(conn) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number that changes when another connection or process has committed something. Own
    /// changes do not count.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn data_version(&self) -> Result<i64, Problem> {
        self.lock()
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .map_err(|e| error::problem(&self.path, "cannot read the database", &e))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere rolled its transaction back: the connection is fine.
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one transaction that is committed if it succeeds.
    fn write<T>(
        &self,
        survive: Survive,
        what: &str,
        mut work: impl FnMut(&rusqlite::Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut conn = self.lock();
        let mut attempt = || {
            let mode = if survive == Survive::PowerLoss { "FULL" } else { "NORMAL" };
            conn.pragma_update(None, "synchronous", mode)?;
            // Immediate: a read that turns into a write could find itself outrun by another.
            let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        };
        let mut done = attempt();
        while let Err(Failure::Sqlite(e)) = &done
            && error::is_for_want_of_room(&self.path, e)
            && spare::give_up(&self.path)
        {
            done = attempt();
        }
        done.map_err(|failure| match failure {
            Failure::Said(error) => error,
            Failure::Sqlite(e) => error::problem(&self.path, what, &e).into(),
        })
    }

    /// Runs a query.
    fn read<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Problem> {
        work(&self.lock()).map_err(|e| error::problem(&self.path, what, &e))
    }
}

/// Why a transaction was given up.
enum Failure {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// A rule of ours did.
    Said(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::Said(e)
    }
}

/// The time, for rows whose time nobody but a reader of the file cares about.
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lock_that_is_held_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("banger.db");
        let store = Store::open(&path).expect("opens");
        // As if it had waited.
        store.lock().busy_timeout(Duration::ZERO).expect("no patience");
        let subnet = "172.30.4.0/22".parse().expect("a subnet");
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        assert_eq!(store.vms(), Ok(Vec::new()), "readers do not wait");
        let Err(StoreError::Database(problem)) = store.set_subnet(subnet) else {
            panic!("not refused")
        };
        assert!(problem.why.contains("for more than 30 seconds"), "{problem}");
        assert!(problem.hint.contains(&format!("fuser {}", path.display())), "{problem}");
        other.execute_batch("ROLLBACK").expect("unlocked");
        store.set_subnet(subnet).expect("now it is free");
        assert_eq!(store.subnet(), Ok(Some(subnet)));
    }
}
