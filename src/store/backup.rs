//! Backups: a checked copy beside the database, the two newest kept.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rusqlite::Connection;

use super::{
    Store,
    error::{damaged, problem},
    open::{check, sidecar},
};
use crate::domain::{Problem, UnixMs};

/// A backup is made when the newest is older than this.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What [`Store::maintain`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// The newest backup is less than a day old, or another process is making one.
    NotDue,
    /// There is a new backup.
    BackedUp(PathBuf),
}

impl Store {
    /// Makes a backup if the newest is older than a day. For the background: it reads the whole
    /// file, checks it, and writes a copy.
    ///
    /// # Errors
    /// If the database is found damaged (the older backups are then kept), or the copy cannot
    /// be written.
    pub fn maintain(&self, now: UnixMs) -> Result<Maintenance, Problem> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0);
        let age = newest(self.path())
            .and_then(|file| fs::metadata(file).and_then(|meta| meta.modified()).ok())
            // Of a day ahead or more: the clock was wrong then or is now. Make one.
            .map(|made| now.duration_since(made).unwrap_or_else(|ahead| ahead.duration()));
        if age.is_some_and(|age| age < MAX_AGE) {
            return Ok(Maintenance::NotDue);
        }
        // Two processes that find it due must not both rotate. The lock goes with the handle.
        let dir = File::open(self.path().parent().unwrap_or(Path::new("."))).ok();
        if dir.as_ref().is_some_and(|dir| dir.try_lock().is_err()) {
            return Ok(Maintenance::NotDue);
        }
        make(&self.lock(), self.path()).map(Maintenance::BackedUp)
    }
}

/// The newest backup's name, and that of the one before.
fn names(path: &Path) -> [PathBuf; 2] {
    [sidecar(path, ".bak"), sidecar(path, ".bak.1")]
}

/// Copies the database through SQLite, checks the copy, and makes it the newest backup.
pub(super) fn make(conn: &Connection, path: &Path) -> Result<PathBuf, Problem> {
    const WHAT: &str = "cannot back up the database";
    let [newest, older] = names(path);
    let fresh = sidecar(path, &format!(".bak.new-{}", std::process::id()));
    let made = (|| {
        let said = |e: rusqlite::Error| problem(path, WHAT, &e);
        let mut copy = Connection::open(&fresh).map_err(said)?;
        {
            let backup = rusqlite::backup::Backup::new(conn, &mut copy).map_err(said)?;
            // In one go: the database is small, and steps would begin anew at every write.
            backup.run_to_completion(i32::MAX, Duration::ZERO, None).map_err(said)?;
        }
        // A backup is one file: no WAL beside it.
        copy.pragma_update(None, "journal_mode", "DELETE").map_err(said)?;
        check(&copy, None).map_err(said)?.map_err(|why| damaged(path, WHAT, &why))?;
        copy.close().map_err(|(_, e)| said(e))?;

        let io = |e: std::io::Error| {
            Problem::new(WHAT, format!("{}: {e}", fresh.display()), "make room, or look at `dmesg`")
        };
        File::open(&fresh).and_then(|file| file.sync_all()).map_err(io)?;
        if newest.exists() {
            fs::rename(&newest, &older).map_err(io)?;
        }
        fs::rename(&fresh, &newest).map_err(io)?;
        if let Some(dir) = path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        Ok(newest)
    })();
    if made.is_err() {
        // Half a backup is worth nothing; whatever was wrong is being reported already.
        let _ = fs::remove_file(&fresh);
        let _ = fs::remove_file(sidecar(&fresh, "-journal"));
    }
    made
}

/// The backups there are, newest first, with their schema versions.
pub(super) fn all(path: &Path) -> Vec<(PathBuf, u32)> {
    let version = |file: &Path| {
        let header = fs::read(file).ok()?;
        let sound = header.starts_with(b"SQLite format 3\0");
        let word: [u8; 4] = header.get(60..64)?.try_into().ok()?;
        sound.then_some(u32::from_be_bytes(word))
    };
    names(path).into_iter().filter_map(|file| version(&file).map(|v| (file, v))).collect()
}

/// The newest backup.
pub(super) fn newest(path: &Path) -> Option<PathBuf> {
    all(path).into_iter().next().map(|(file, _)| file)
}

/// The command that moves a database away: with its WAL, which holds its newest changes.
pub(super) fn aside_command(path: &Path) -> String {
    let mut command = format!("mv {} {}", shell(path), shell(&sidecar(path, ".damaged")));
    let wal = sidecar(path, "-wal");
    if wal.exists() {
        command.push_str(&format!(
            " && mv {} {}",
            shell(&wal),
            shell(&sidecar(path, ".damaged-wal"))
        ));
    }
    command.push_str(&format!(" && rm -f {}", shell(&sidecar(path, "-shm"))));
    command
}

/// The command that puts a backup in the place of the database.
pub(super) fn restore_command(path: &Path, backup: &Path) -> String {
    format!("{} && cp {} {}", aside_command(path), shell(backup), shell(path))
}

/// A path as one word of a POSIX shell.
pub(super) fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A path as part of an SQLite URI, if it is UTF-8.
pub(super) fn uri_path(path: &Path) -> Option<String> {
    let encode = |c: char| match c {
        '%' => "%25".to_owned(),
        '?' => "%3f".to_owned(),
        '#' => "%23".to_owned(),
        c => c.to_string(),
    };
    Some(path.to_str()?.chars().map(encode).collect())
}
