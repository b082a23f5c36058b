//! What was done to the host: the newest calls, in a form that can be copied.

use rusqlite::params;

use super::{
    Store, StoreError, Survive,
    row::{number, parsed_or_null},
};
use crate::domain::{HostCall, Problem, UnixMs};

/// How many calls are kept; older ones go.
pub const CALLS_MAX: i64 = 5_000;

impl Store {
    /// Writes down what was done, and forgets what is beyond [`CALLS_MAX`].
    ///
    /// # Errors
    /// The file.
    pub fn push_calls(&self, calls: &[HostCall]) -> Result<(), StoreError> {
        self.write(Survive::Crash, "cannot write down what was done to the host", |tx| {
            for call in calls {
                tx.prepare_cached(
                    "INSERT INTO calls (at, vm, command, took_us, error) VALUES (?1,?2,?3,?4,?5)",
                )?
                .execute(params![
                    call.at.0.cast_signed(),
                    call.vm.as_ref().map(|vm| vm.as_str()),
                    call.command,
                    call.took_us.cast_signed(),
                    call.error,
                ])?;
            }
            tx.prepare_cached("DELETE FROM calls WHERE id <= (SELECT max(id) FROM calls) - ?1")?
                .execute([CALLS_MAX])?;
            Ok(())
        })
    }

    /// The last `count` calls, oldest first.
    ///
    /// # Errors
    /// The file.
    pub fn recent_calls(&self, count: u32) -> Result<Vec<HostCall>, Problem> {
        self.read("cannot read what was done to the host", |conn| {
            let sql = "SELECT at, vm, command, took_us, error FROM calls ORDER BY id DESC LIMIT ?1";
            let mut calls: Vec<HostCall> = conn
                .prepare_cached(sql)?
                .query_map([count], |row| {
                    Ok(HostCall {
                        at: UnixMs(number(row, 0)?),
                        vm: parsed_or_null(row, 1)?,
                        command: row.get(2)?,
                        took_us: number(row, 3)?,
                        error: row.get(4)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            calls.reverse();
            Ok(calls)
        })
    }
}
