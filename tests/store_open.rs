//! Opening the store: what it makes, what it refuses and leaves alone, backups, two processes.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use banger::{
    domain::{OverlayKind, Problem, UnixMs, VmId, VmSpec, Wishes},
    store::{LedgerKind, Maintenance, Store, VERSION, VmRow, VmState},
};
use rusqlite::Connection;
use serde_json::json;

fn id(n: u32) -> VmId {
    VmId::from_bytes(n.to_be_bytes())
}

fn vm(n: u32, name: &str) -> VmRow {
    let spec = VmSpec {
        name: name.parse().expect("name"),
        image: "tiny".into(),
        vcpus: 1,
        memory_mib: 128,
        disk_mib: None,
        restore: false,
        wishes: Wishes::default(),
        extras: Default::default(),
    };
    VmRow::new(id(n), spec, OverlayKind::Reflink, UnixMs(1))
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    UnixMs(u64::try_from(since.as_millis()).expect("fits"))
}

/// A state directory (with a space in its name) whose database holds one VM.
fn with_a_vm() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("my state/banger.db");
    Store::open(&path).expect("opens").insert_vm(&vm(1, "web")).expect("insert");
    (dir, path)
}

/// Everything in a directory, byte by byte.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .expect("directory")
        .map(|entry| entry.expect("entry").path())
        .map(|path| (path.clone(), fs::read(&path).unwrap_or_default()))
        .collect();
    all.sort();
    all
}

/// That the file is refused and nothing in its directory changes.
fn refused(path: &Path) -> Problem {
    let dir = path.parent().expect("parent");
    let before = contents(dir);
    let problem = Store::open(path).expect_err("refused");
    assert!(contents(dir) == before, "something was touched: {problem}");
    assert!(!problem.hint.is_empty(), "{problem}");
    problem
}

/// Runs the command that a hint ends with.
fn run_hint(problem: &Problem) {
    let command = &problem.hint[problem.hint.find("mv ").expect("a command")..];
    let done = Command::new("sh").arg("-c").arg(command).status().expect("sh");
    assert!(done.success(), "{command}");
}

#[test]
fn the_state_directory_is_its_owners_only() {
    let (_dir, path) = with_a_vm();
    let mode = fs::metadata(path.parent().expect("parent")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_damaged_file_is_refused_and_the_backup_restores_it() {
    for damage in ["garbage", "truncated", "cut", "empty", "inside"] {
        let (_dir, path) = with_a_vm();
        let store = Store::open(&path).expect("opens");
        assert!(matches!(store.maintain(now()), Ok(Maintenance::BackedUp(_))));
        drop(store);
        let mut bytes = fs::read(&path).expect("read");
        match damage {
            "garbage" => bytes = b"not a database at all, but long enough ".repeat(9),
            "truncated" => bytes.truncate(bytes.len() / 2),
            "cut" => bytes.truncate(50),
            "empty" => bytes.clear(),
            _ => bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        fs::write(&path, bytes).expect("write");
        let problem = refused(&path);
        assert!(problem.why.contains("damaged"), "{damage}: {problem}");
        assert!(problem.hint.contains("banger.db.bak"), "{damage}: {problem}");
        run_hint(&problem);
        let store = Store::open(&path).unwrap_or_else(|e| panic!("{damage}: {e}"));
        assert_eq!(store.vms().expect("read").len(), 1, "{damage}");
        assert!(path.with_file_name("banger.db.damaged").exists(), "{damage}: kept");
    }
}

#[test]
fn a_damaged_file_without_a_backup_can_be_set_aside() {
    let (_dir, path) = with_a_vm();
    fs::write(&path, "x".repeat(5000)).expect("write");
    let problem = refused(&path);
    assert!(problem.hint.contains("no backup"), "{problem}");
    let command = problem.hint.split(" (the VMs'").next().expect("command");
    run_hint(&Problem::new("", "", command));
    assert_eq!(Store::open(&path).expect("new").vms(), Ok(Vec::new()));
}

#[test]
fn a_new_file_may_be_empty() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("banger.db");
    fs::write(&path, "").expect("write");
    assert_eq!(Store::open(&path).expect("opens").vms(), Ok(Vec::new()));
}

#[test]
fn a_newer_version_is_left_alone() {
    let (_dir, path) = with_a_vm();
    Store::open(&path).expect("opens").maintain(now()).expect("backup");
    let conn = Connection::open(&path).expect("open");
    conn.pragma_update(None, "user_version", VERSION + 6).expect("set");
    conn.execute("UPDATE meta SET value = '9.9.9' WHERE key = 'banger'", []).expect("set");
    conn.close().expect("close");
    let problem = refused(&path);
    assert!(problem.why.contains(&format!("version {}", VERSION + 6)), "{problem}");
    assert!(problem.why.contains(&format!("up to {VERSION}")), "{problem}");
    assert!(problem.hint.contains("use banger 9.9.9"), "{problem}");
    run_hint(&problem);
    assert_eq!(Store::open(&path).expect("the backup").vms().expect("read").len(), 1);
}

#[test]
fn a_newer_version_that_is_still_in_the_wal_is_found() {
    let (_dir, path) = with_a_vm();
    let conn = Connection::open(&path).expect("open");
    conn.pragma_update(None, "wal_autocheckpoint", 0).expect("set");
    conn.pragma_update(None, "user_version", VERSION + 1).expect("set");
    let problem = Store::open(&path).expect_err("refused");
    assert!(problem.why.contains("not touched"), "{problem}");
    drop(conn);
}

#[test]
fn other_files_are_left_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("banger.db");
    fs::create_dir(&path).expect("mkdir");
    assert!(refused(&path).why.contains("is a directory"));
    fs::remove_dir(&path).expect("rmdir");

    let conn = Connection::open(&path).expect("open");
    conn.execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1;").expect("make");
    conn.close().expect("close");
    assert!(refused(&path).why.contains("another program"));

    // A place where nobody can make files, root neither.
    let problem = Store::open(Path::new("/proc/banger/banger.db")).expect_err("refused");
    assert!(problem.what.contains("state directory"), "{problem}");
    let problem = Store::open(Path::new("/proc/banger.db")).expect_err("refused");
    assert!(problem.hint.contains("BANGER_STATE_DIR"), "{problem}");
}

/// The database of version 1 as banger 0.1.0 wrote it; regenerated only by a decision.
#[test]
fn the_first_version_is_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("banger.db");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store/v1.db");
    fs::copy(fixture, &path).expect("copy");
    let store = Store::open(&path).expect("opens");
    let vms = store.vms().expect("read");
    let names: Vec<&str> = vms.iter().map(|vm| vm.spec.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    assert!(vms[0].run_is_open() && !vms[1].run_is_open());
    assert_eq!(vms[1].last_exit.as_ref().map(|e| e.reason.is_clean()), Some(true));
    assert_eq!(store.entries(&vms[0].id).expect("read")[0].detail, json!({"pid": 7}));
    assert_eq!(store.recent_events(9).expect("read")[0].notice.text, "web is running");
    store.remove_vm(&vms[1].id).expect("and it can be written");
}

/// Version 2 as it was written before there were images of the user's, with rows of version 1 that
/// it had brought along; regenerated only by a decision.
#[test]
fn rows_of_each_older_version_get_what_is_new_at_its_default() {
    for (version, names) in
        [(1, &["db", "web"][..]), (2, &["app", "db", "going", "half", "web"][..])]
    {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("banger.db");
        let fixture = format!("tests/fixtures/store/v{version}.db");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture), &path).expect("copy");
        let conn = Connection::open(&path).expect("open");
        let columns = |conn: &Connection| -> Vec<String> {
            let mut all = conn.prepare("SELECT name FROM pragma_table_info('vms')").expect("SQL");
            all.query_map([], |row| row.get(0)).expect("read").map(Result::unwrap).collect()
        };
        let before = columns(&conn);
        conn.close().expect("close");

        let store = Store::open(&path).expect("opens");
        let vms = store.vms().expect("read");
        assert_eq!(vms.iter().map(|vm| vm.spec.name.as_str()).collect::<Vec<_>>(), names);
        // All of the version's own that a row had, and all else as of a new VM.
        for vm in &vms {
            let mut new = VmRow::new(vm.id.clone(), vm.spec.clone(), vm.overlay, vm.created);
            (new.wanted, new.state) = (vm.wanted, vm.state);
            (new.vmm, new.ssh_port) = (vm.vmm, vm.ssh_port);
            (new.started, new.last_exit) = (vm.started, vm.last_exit.clone());
            new.last_boot = vm.last_boot.clone();
            if version == 2 {
                (new.network, new.place, new.base) = (vm.network, vm.place, vm.base.clone());
                // A snapshot is of what it was made from.
                new.made_from = vm.base.clone();
            } else {
                assert_eq!(vm.spec.wishes, Wishes::default());
            }
            assert_eq!(*vm, new, "version {version}");
        }
        // A column that is added must be looked at above.
        let conn = Connection::open(&path).expect("open");
        let new: Vec<String> =
            columns(&conn).into_iter().filter(|name| !before.contains(name)).collect();
        let since_2 = ["made_from", "helper_of"];
        let since_1 = ["want_vmm", "want_network", "want_overlay", "base", "network", "place"];
        let expected =
            if version == 1 { [&since_1[..], &since_2].concat() } else { since_2.into() };
        assert_eq!(new, expected, "version {version}");
    }
}

#[test]
fn what_version_2_knew_is_as_it_was() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("banger.db");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store/v2.db");
    fs::copy(fixture, &path).expect("copy");
    let store = Store::open(&path).expect("opens");
    let vms = store.vms().expect("read");
    let [app, db, going, half, web] = &vms[..] else { panic!("{vms:?}") };
    assert_eq!((app.place, app.spec.disk_mib, app.spec.restore), (Some(7), Some(4096), true));
    assert_eq!(app.spec.wishes.overlay, Some(OverlayKind::DmSnapshot));
    assert_eq!(
        (app.base.clone(), app.made_from.clone()),
        (Some("ab".repeat(32)), app.base.clone())
    );
    assert!(db.run_is_open() && !web.run_is_open());
    let states = [app, db, going, half, web].map(|vm| vm.state);
    let ready = VmState::Ready;
    assert_eq!(states, [ready, ready, VmState::Deleting, VmState::Creating, ready]);
    assert_eq!(store.entries(&db.id).expect("read")[0].detail, json!({"pid": 7}));
    // The new state can be had.
    store.begin_recreate(&web.id, &"cd".repeat(32), None).expect("begun");
    assert_eq!(store.vm(&web.id).expect("read").expect("there").state, VmState::Recreating);
    store.end_recreate(&web.id).expect("ended");
    store.remove_vm(&web.id).expect("and it can be written");
}

#[test]
fn two_backups_are_kept_and_none_is_made_twice_a_day() {
    let (_dir, path) = with_a_vm();
    let store = Store::open(&path).expect("opens");
    let today = now();
    let day = 24 * 60 * 60 * 1000 + 60_000;
    let (newest, older) = (path.with_extension("db.bak"), path.with_extension("db.bak.1"));
    assert_eq!(store.maintain(today), Ok(Maintenance::BackedUp(newest.clone())));
    assert_eq!(store.maintain(today), Ok(Maintenance::NotDue));
    assert!(!older.exists());
    store.insert_vm(&vm(2, "db")).expect("insert");
    assert_eq!(store.maintain(UnixMs(today.0 + day)), Ok(Maintenance::BackedUp(newest.clone())));
    assert_eq!(Store::open(&newest).expect("a database").vms().expect("read").len(), 2);
    assert_eq!(Store::open(&older).expect("a database").vms().expect("read").len(), 1);
    let left: Vec<_> = contents(path.parent().expect("parent"))
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains(".bak.new"))
        .collect();
    assert_eq!(left, []);
}

#[test]
fn a_thousand_names_raced_for_are_taken_once_each() {
    let (_dir, path) = with_a_vm();
    let racer = |first: u32| {
        let path = path.clone();
        std::thread::spawn(move || {
            let store = Store::open(&path).expect("opens");
            (0..100).filter(|n| store.insert_vm(&vm(first + n, &format!("vm{n}"))).is_ok()).count()
        })
    };
    let racers: Vec<_> = [1000, 2000, 3000].into_iter().map(racer).collect();
    let won: usize = racers.into_iter().map(|racer| racer.join().expect("no panic")).sum();
    assert_eq!(won, 100);
    assert_eq!(Store::open(&path).expect("opens").vms().expect("read").len(), 101);
}

/// What the child of the next test does: writes entries, says each once it is committed.
#[test]
fn child_that_writes_the_ledger() {
    let Ok(path) = std::env::var("STORE_OPEN_CHILD") else { return };
    let store = Store::open(Path::new(&path)).expect("opens");
    for n in 0_u64.. {
        let key = format!("/{}-{n}", std::process::id());
        store.note(&id(1), LedgerKind::File, &key, &json!(n)).expect("note");
        println!("\nnoted {key}");
    }
}

#[test]
fn killed_processes_lose_nothing_that_was_committed() {
    let (_dir, path) = with_a_vm();
    let spawn = || {
        Command::new(std::env::current_exe().expect("exe"))
            .args(["child_that_writes_the_ledger", "--exact", "--nocapture"])
            .env("STORE_OPEN_CHILD", &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn")
    };
    let mut children = [spawn(), spawn()];
    let mut said = Vec::new();
    for child in &mut children {
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let noted = lines.map(|line| line.expect("line"));
        let noted = noted.filter_map(|line| line.strip_prefix("noted ").map(str::to_owned));
        said.extend(noted.take(20));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    assert_eq!(said.len(), 40);
    let store = Store::open(&path).expect("opens after the kill");
    let keys: Vec<String> =
        store.entries(&id(1)).expect("read").into_iter().map(|e| e.key).collect();
    for key in said {
        assert!(keys.contains(&key), "{key} was committed");
    }
    assert!(matches!(store.maintain(now()), Ok(Maintenance::BackedUp(_))), "and it is sound");
}

#[test]
fn the_clock_of_backups_is_passed_in() {
    let (_dir, path) = with_a_vm();
    let store = Store::open(&path).expect("opens");
    store.maintain(now()).expect("backup");
    // A clock that was wrong and is right again: the backup is "of the future".
    let past = UnixMs(
        now().0 - u64::try_from(Duration::from_secs(2 * 24 * 3600).as_millis()).expect("fits"),
    );
    assert!(matches!(store.maintain(past), Ok(Maintenance::BackedUp(_))));
}

#[test]
fn many_that_make_it_at_once_all_have_it() {
    for _ in 0..60 {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("banger.db");
        let begin = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            let open = || {
                begin.wait();
                Store::open(&path).map(drop)
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            for one in all {
                one.join().expect("no panic").expect("a database");
            }
        });
    }
}
