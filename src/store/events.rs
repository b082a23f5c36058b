//! The event log.

use rusqlite::{Row, params};

use super::{
    Store, StoreError, Survive,
    row::{number, parsed_or_null, to_word, word},
};
use crate::domain::{Notice, Problem, UnixMs};

/// How many events are kept; older ones go.
pub const EVENTS_MAX: i64 = 10_000;

/// Identifies an event; grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// What happened. Its job is not kept: jobs belong to a process.
    pub notice: Notice,
}

const READ: &str = "cannot read the event log";
const SELECT: &str = "SELECT id, at, level, vm, text, hint FROM events";

impl Store {
    /// Writes down what happened, and forgets what is beyond [`EVENTS_MAX`].
    ///
    /// # Errors
    /// The file.
    pub fn push_event(&self, notice: &Notice) -> Result<EventId, StoreError> {
        self.write(Survive::Crash, "cannot write the event log", |tx| {
            tx.prepare_cached(
                "INSERT INTO events (at, level, vm, text, hint) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                notice.at.0.cast_signed(),
                to_word(&notice.level),
                notice.vm.as_ref().map(|vm| vm.as_str()),
                notice.text,
                notice.hint,
            ])?;
            let id = tx.last_insert_rowid();
            tx.prepare_cached("DELETE FROM events WHERE id <= ?1")?.execute([id - EVENTS_MAX])?;
            Ok(EventId(id))
        })
    }

    /// The last `count` events, oldest first.
    ///
    /// # Errors
    /// The file.
    pub fn recent_events(&self, count: u32) -> Result<Vec<Event>, Problem> {
        self.read(READ, |conn| {
            let mut events: Vec<Event> = conn
                .prepare_cached(&format!("{SELECT} ORDER BY id DESC LIMIT ?1"))?
                .query_map([count], event)?
                .collect::<Result<_, _>>()?;
            events.reverse();
            Ok(events)
        })
    }

    /// The events after `id`, oldest first.
    ///
    /// # Errors
    /// The file.
    pub fn events_since(&self, id: EventId) -> Result<Vec<Event>, Problem> {
        self.read(READ, |conn| {
            conn.prepare_cached(&format!("{SELECT} WHERE id > ?1 ORDER BY id"))?
                .query_map([id.0], event)?
                .collect()
        })
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: EventId(row.get(0)?),
        notice: Notice {
            at: UnixMs(number(row, 1)?),
            level: word(row, 2)?,
            vm: parsed_or_null(row, 3)?,
            job: None,
            text: row.get(4)?,
            hint: row.get(5)?,
        },
    })
}
