//! Opening a database, and refusing one without having touched it.

use std::{
    fs::{self, DirBuilder, File},
    io::{ErrorKind, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    BUSY_MS, backup,
    error::{damaged, full, is_for_want_of_room, problem},
    migrate::{self, APPLICATION_ID, VERSION},
    spare,
};
use crate::domain::Problem;

const WHAT: &str = "cannot open the database";
/// How soon what another process was faster with is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// Why it was not opened.
struct Refused {
    problem: Problem,
    /// Whether it is for want of room.
    wants_room: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, wants_room: false }
    }
}

pub(super) fn open(path: &Path) -> Result<Connection, Problem> {
    make_parent(path)?;
    if !spare::make_room(path) {
        return Err(full(path, WHAT));
    }
    loop {
        match attempt(path) {
            Ok(conn) => return Ok(conn),
            Err(refused) if refused.wants_room && spare::give_up(path) => {}
            Err(refused) => return Err(refused.problem),
        }
    }
}

fn attempt(path: &Path) -> Result<Connection, Refused> {
    let found = look(path)?;
    let said = |e: rusqlite::Error| Refused {
        wants_room: is_for_want_of_room(path, &e),
        problem: problem(path, WHAT, &e),
    };
    let wal = sidecar(path, "-wal");
    let at_rest = found == Found::Database && !wal.exists();
    if at_rest
        && let Err(why) = sound_at_rest(path)
        // Somebody opened it meanwhile, and may have written while it was read: look again below.
        && !wal.exists()
    {
        return Err(damaged(path, WHAT, &why).into());
    }

    let mut conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(said)?;
    conn.busy_timeout(Duration::from_millis(BUSY_MS)).map_err(said)?;
    // Until the file has been judged, closing must not write to it.
    let untouched = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    conn.set_db_config(untouched, true).map_err(said)?;
    let version = migrate::version(&conn).map_err(said)?;
    if version > VERSION {
        return Err(newer(path, version).into());
    }
    if found == Found::Database && version > 0 && !at_rest {
        check_first(&conn).map_err(said)?.map_err(|why| damaged(path, WHAT, &why))?;
    }
    conn.set_db_config(untouched, false).map_err(said)?;

    use_wal(&conn).map_err(said)?;
    conn.pragma_update(None, "foreign_keys", true).map_err(said)?;
    if version < VERSION {
        if version > 0 {
            backup::make(&conn, path)?;
        }
        migrate::migrate(&mut conn).map_err(said)?;
    }
    Ok(conn)
}

/// Switches a new database to its write-ahead log.
///
/// Of two processes that do so at once SQLite refuses one on the spot, without the busy timeout:
/// each holds what the other waits for. Tried again, it finds it done.
fn use_wal(conn: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + Duration::from_millis(BUSY_MS);
    loop {
        match conn.pragma_update(None, "journal_mode", "WAL") {
            Err(rusqlite::Error::SqliteFailure(e, _))
                if e.code == ErrorCode::DatabaseBusy && Instant::now() < deadline =>
            {
                thread::sleep(RETRY);
            }
            other => return other,
        }
    }
}

/// Checks a file that nobody has open, so that nothing is made beside it.
fn sound_at_rest(path: &Path) -> Result<(), String> {
    let Some(uri) = backup::uri_path(path) else { return Ok(()) };
    let uri = format!("file:{uri}?mode=ro&immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri, flags).map_err(|e| e.to_string())?;
    if migrate::version(&conn).map_err(|e| e.to_string())? == 0 {
        return Ok(());
    }
    check_first(&conn).map_err(|e| e.to_string())?
}

/// Checks what is read first and must not be wrong; the rest is checked before each backup.
fn check_first(conn: &Connection) -> rusqlite::Result<Result<(), String>> {
    for table in ["vms", "ledger", "meta"] {
        if let Err(why) = check(conn, Some(table))? {
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}

/// `quick_check` of one table or of all: the first finding, if there is one.
pub(super) fn check(
    conn: &Connection,
    table: Option<&str>,
) -> rusqlite::Result<Result<(), String>> {
    let sql = match table {
        Some(table) => format!("PRAGMA quick_check({table})"),
        None => "PRAGMA quick_check(1)".to_owned(),
    };
    let said: String = conn.query_row(&sql, [], |row| row.get(0))?;
    let finding = said.lines().find(|line| !line.starts_with("***")).unwrap_or("").to_owned();
    Ok(if said == "ok" { Ok(()) } else { Err(finding) })
}

/// Makes the state directory, for its owner only: guests' disks and a key will lie in it.
fn make_parent(path: &Path) -> Result<(), Problem> {
    let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) else {
        return Ok(());
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| {
        let hint = "make its parent writable, or set BANGER_STATE_DIR to a directory that is";
        Problem::new(
            format!("cannot make the state directory {}", dir.display()),
            e.to_string(),
            hint,
        )
    })
}

/// What lies at the path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing, or nothing yet.
    Nothing,
    /// A database that may be ours.
    Database,
}

/// Judges the file by its first 100 bytes (<https://www.sqlite.org/fileformat.html>, 1.3),
/// without SQLite, which would make files beside it.
fn look(path: &Path) -> Result<Found, Problem> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(unreadable(path, &e)),
    };
    if !meta.is_file() {
        let kind = if meta.is_dir() { "a directory" } else { "no regular file" };
        return Err(Problem::new(
            WHAT,
            format!("{} is {kind}", path.display()),
            "move it away, or set BANGER_STATE_DIR to another directory",
        ));
    }
    if meta.len() == 0 {
        // SQLite makes the file before it fills it, so an empty one may be brand new - unless
        // there are backups of what it held.
        return match backup::newest(path) {
            Some(_) => Err(damaged(path, WHAT, "it is empty")),
            None => Ok(Found::Nothing),
        };
    }
    let mut header = [0; 100];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) if header.starts_with(b"SQLite format 3\0") => {}
        Ok(()) => return Err(damaged(path, WHAT, "it is no SQLite database")),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            return Err(damaged(path, WHAT, "it is cut short"));
        }
        Err(e) => return Err(unreadable(path, &e)),
    }
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (pages, version, application) = (word(28), word(60), word(68));
    if application != APPLICATION_ID && (application, version) != (0, 0) {
        return Err(Problem::new(
            WHAT,
            format!("{} is the database of another program", path.display()),
            "move it away, or set BANGER_STATE_DIR to another directory",
        ));
    }
    if version > VERSION {
        return Err(newer(path, version));
    }
    // 1 stands for 65,536. With a WAL the file may rightly be shorter than it says.
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let wal = fs::metadata(sidecar(path, "-wal")).is_ok_and(|meta| meta.len() > 0);
    let size = u64::from(pages) * page;
    if !wal && meta.len() < size {
        let why = format!("it is cut short: {} of {size} bytes", meta.len());
        return Err(damaged(path, WHAT, &why));
    }
    Ok(Found::Database)
}

/// A file that belongs to the database: its name with something appended.
pub(super) fn sidecar(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn unreadable(path: &Path, e: &std::io::Error) -> Problem {
    Problem::new(
        WHAT,
        format!("{} cannot be read: {e}", path.display()),
        "make it readable for you, or set BANGER_STATE_DIR to another directory",
    )
}

fn newer(path: &Path, version: u32) -> Problem {
    let by = written_by(path).map_or(String::new(), |by| format!(" (banger {by} wrote it)"));
    let mut hint = match written_by(path) {
        Some(by) => format!("use banger {by} or newer"),
        None => "use the newer banger that wrote it".to_owned(),
    };
    if let Some((older, _)) = backup::all(path).into_iter().find(|(_, v)| *v <= VERSION) {
        hint.push_str(&format!(
            "; or go back to the backup made before the update, {}, with no banger running: {}",
            older.display(),
            backup::restore_command(path, &older)
        ));
    }
    Problem::new(
        WHAT,
        format!(
            "{} has version {version} of the schema{by}, this banger knows versions up to \
             {VERSION}; it was not touched",
            path.display()
        ),
        hint,
    )
}

/// Which banger brought the file to its version, read so that nothing is made beside it.
fn written_by(path: &Path) -> Option<String> {
    let uri = format!("file:{}?mode=ro&immutable=1", backup::uri_path(path)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri, flags).ok()?;
    let sql = "SELECT value FROM meta WHERE key = 'banger'";
    conn.query_row(sql, [], |row| row.get(0)).ok()
}
