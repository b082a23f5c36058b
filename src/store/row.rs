//! A VM as stored.

use rusqlite::{Row, types::Type};
use serde::{Serialize, de::DeserializeOwned};

use crate::domain::{
    BootTimes, ExitRecord, NetworkKind, OverlayKind, UnixMs, VmId, VmName, VmSpec, VmmKind, Wanted,
    Wishes,
};

/// How far the making or removing of a VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmState {
    /// Its disk is being made, or that was interrupted.
    Creating,
    /// All there.
    Ready,
    /// Its new disk is whole and takes the place of the old one, or that was interrupted.
    Recreating,
    /// It is being removed, or that was interrupted.
    Deleting,
}

/// A row of `vms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmRow {
    /// Its id.
    pub id: VmId,
    /// What it is to be.
    pub spec: VmSpec,
    /// What the user wants.
    pub wanted: Wanted,
    /// Whether all of it is there.
    pub state: VmState,
    /// How its disk shares the base's data; never changes.
    pub overlay: OverlayKind,
    /// The SHA-256 of the base, if its disk is a snapshot.
    pub base: Option<String>,
    /// The SHA-256 of the image that its disk was made from, if that was written down.
    pub made_from: Option<String>,
    /// The staged image that it helps to make: such a VM goes with whoever makes that.
    pub helper_of: Option<String>,
    /// How it reached the world in the last run.
    pub network: Option<NetworkKind>,
    /// Its place in the subnet, once it had one: see `Subnet::guest`.
    pub place: Option<u16>,
    /// When it was made.
    pub created: UnixMs,
    /// What ran it last.
    pub vmm: Option<VmmKind>,
    /// The port of 127.0.0.1 that led to its SSH in the last run.
    pub ssh_port: Option<u16>,
    /// When its last run began; `None` if it never ran.
    pub started: Option<UnixMs>,
    /// How its last run ended; `None` if it never ran, or the run is open.
    pub last_exit: Option<ExitRecord>,
    /// How its last boot went.
    pub last_boot: BootTimes,
}

impl VmRow {
    /// A VM as it is stored first: off, its disk not made.
    #[must_use]
    pub fn new(id: VmId, spec: VmSpec, overlay: OverlayKind, created: UnixMs) -> Self {
        Self {
            id,
            spec,
            wanted: Wanted::Stopped,
            state: VmState::Creating,
            overlay,
            base: None,
            made_from: None,
            helper_of: None,
            network: None,
            place: None,
            created,
            vmm: None,
            ssh_port: None,
            started: None,
            last_exit: None,
            last_boot: BootTimes::default(),
        }
    }

    /// Whether a run began whose end nobody wrote down: it goes on, or its monitor died.
    #[must_use]
    pub const fn run_is_open(&self) -> bool {
        self.started.is_some() && self.last_exit.is_none()
    }
}

/// The columns in the order [`read`] takes them.
pub(super) const COLUMNS: &str = "id, name, image, vcpus, memory_mib, disk_mib, restore, wanted, \
     state, overlay, created, vmm, ssh_port, started, last_exit, last_boot, \
     want_vmm, want_network, want_overlay, base, network, place, made_from, helper_of";

/// Reads a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<VmRow> {
    Ok(VmRow {
        id: parsed(row, 0)?,
        spec: VmSpec {
            name: parsed::<VmName>(row, 1)?,
            image: row.get(2)?,
            vcpus: row.get(3)?,
            memory_mib: number(row, 4)?,
            disk_mib: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
            restore: row.get(6)?,
            wishes: Wishes {
                vmm: optional(row, 16, from_word)?,
                network: optional(row, 17, from_word)?,
                overlay: optional(row, 18, from_word)?,
            },
            extras: Default::default(),
        },
        wanted: word(row, 7)?,
        state: word(row, 8)?,
        overlay: word(row, 9)?,
        created: UnixMs(number(row, 10)?),
        vmm: optional(row, 11, from_word)?,
        ssh_port: row.get(12)?,
        started: row.get::<_, Option<i64>>(13)?.map(|ms| UnixMs(ms.cast_unsigned())),
        last_exit: optional(row, 14, from_json)?,
        base: row.get(19)?,
        network: optional(row, 20, from_word)?,
        place: row.get(21)?,
        made_from: row.get(22)?,
        helper_of: row.get(23)?,
        last_boot: from_json(row.get_ref(15)?.as_str()?).map_err(|e| bad(15, e))?,
    })
}

/// A value that is stored as its `FromStr` text.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// As [`parsed`], or NULL.
pub(super) fn parsed_or_null<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    match row.get_ref(column)?.as_str_or_null()? {
        Some(_) => parsed(row, column).map(Some),
        None => Ok(None),
    }
}

/// A number that is never negative.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// A value that is stored as the word serde has for it.
pub(super) fn word<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    from_word(row.get_ref(column)?.as_str()?).map_err(|e| bad(column, e))
}

fn optional<T>(
    row: &Row<'_>,
    column: usize,
    read: impl Fn(&str) -> serde_json::Result<T>,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => read(text).map(Some).map_err(|e| bad(column, e)),
        None => Ok(None),
    }
}

fn bad(column: usize, e: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e))
}

fn from_word<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    T::deserialize(serde::de::value::StrDeserializer::<serde_json::Error>::new(text))
}

fn from_json<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

/// The word serde has for a value without data.
pub(super) fn to_word<T: Serialize>(value: &T) -> String {
    to_json(value).trim_matches('"').to_owned()
}

/// A value as JSON.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the domain's types have string keys only")
}
