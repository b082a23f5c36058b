//! Schema versions: numbered SQL, each run once, kept in `user_version`.

use rusqlite::{Connection, TransactionBehavior};

/// What brings a database from one version to the next; the first makes version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_host.sql"),
    include_str!("migrations/0003_images.sql"),
];

/// The version of the schema this banger reads and writes.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// Marks a file as banger's (`PRAGMA application_id`): "bngr".
pub(super) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"bngr");

/// Brings a database up to [`VERSION`] in one transaction. Another process may have been faster.
pub(super) fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    run(conn, MIGRATIONS)
}

fn run(conn: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = version(&tx)? as usize;
    for sql in migrations.iter().skip(from) {
        tx.execute_batch(sql)?;
    }
    if from < migrations.len() {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", migrations.len() as u32)?;
        tx.execute(
            "INSERT INTO meta (key, value) VALUES ('banger', ?1) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [env!("CARGO_PKG_VERSION")],
        )?;
    }
    tx.commit()
}

/// The version of a database; 0 if it is new.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_migration_runs_once_and_a_failing_one_changes_nothing() {
        let mut conn = Connection::open_in_memory().expect("memory");
        migrate(&mut conn).expect("first");
        migrate(&mut conn).expect("again: nothing to do");
        assert_eq!(version(&conn), Ok(VERSION));

        let mut next = MIGRATIONS.to_vec();
        next.push("ALTER TABLE vms ADD COLUMN extra TEXT; SELECT nonsense FROM nowhere;");
        run(&mut conn, &next).expect_err("bad SQL");
        assert_eq!(version(&conn), Ok(VERSION));
        conn.prepare("SELECT extra FROM vms").expect_err("rolled back");

        *next.last_mut().expect("one") = "ALTER TABLE vms ADD COLUMN extra TEXT;";
        run(&mut conn, &next).expect("good SQL");
        assert_eq!(version(&conn), Ok(VERSION + 1));
        conn.prepare("SELECT extra FROM vms").expect("migrated");
    }
}
