//! Users who want what is not theirs, or want others not to have what is.

use std::{os::unix::fs::symlink, time::Instant};

use super::*;

fn snapshot() -> Op {
    Op::Snapshot { vm: vm(1), bytes: 1 << 20 }
}

#[test]
fn a_file_is_what_was_opened_whatever_its_name_is_now() {
    if !is_root("a_file_is_what_was_opened_whatever_its_name_is_now") {
        return;
    }
    let fixture = Fixture::new();
    let (base, cow) = fixture.disk(ANA, "a");
    let meant = [files::id(base.as_fd()).unwrap(), files::id(cow.as_fd()).unwrap()];
    let (secret, _cow) = fixture.disk(0, "secret");
    for name in ["a.base", "a.cow"] {
        let path = fixture.dir.path().join(name);
        fs::rename(&path, fixture.dir.path().join(format!("{name}.old"))).unwrap();
        symlink(fixture.dir.path().join("secret.cow"), &path).unwrap();
    }
    fixture.run_with(ANA, &tag(1), &snapshot(), &[base.as_fd(), cow.as_fd()]).unwrap();
    assert_eq!(fixture.world.done()[0].files, meant);
    assert!(!meant.contains(&files::id(secret.as_fd()).unwrap()));
}

#[test]
fn files_of_others_and_what_is_no_file_are_refused() {
    if !is_root("files_of_others_and_what_is_no_file_are_refused") {
        return;
    }
    let fixture = Fixture::new();
    let (base, cow) = fixture.disk(ANA, "a");
    let (bobs_base, bobs_cow) = fixture.disk(BOB, "b");
    let (_, roots_cow) = fixture.disk(0, "r");
    let read_only = File::open(fixture.dir.path().join("a.cow")).unwrap();
    let a_cow = fixture.dir.path().join("a.cow");
    let append = OpenOptions::new().read(true).append(true).open(a_cow).unwrap();
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let status = File::open("/proc/self/status").unwrap();
    let dir = File::open("/tmp").unwrap();
    let (_, gone) = fixture.disk(ANA, "g");
    fs::remove_file(fixture.dir.path().join("g.cow")).unwrap();
    for (base, cow, why) in [
        (&bobs_base, &cow, "belongs to the user 4002"),
        (&base, &bobs_cow, "belongs to the user 4002"),
        (&base, &roots_cow, "belongs to the user 0"),
        (&base, &read_only, "not open for"),
        (&base, &append, "not open for"),
        (&base, &null, "no regular file"),
        (&null, &cow, "no regular file"),
        (&status, &cow, "file system"),
        (&dir, &cow, "no regular file"),
        (&base, &gone, "no name"),
        (&cow, &cow, "is the base"),
    ] {
        let files = [base.as_fd(), cow.as_fd()];
        let problem = fixture.run_with(ANA, &tag(1), &snapshot(), &files).unwrap_err();
        assert!(problem.why.contains(why), "{why}: {problem}");
    }
    assert_eq!(fixture.world.done(), []);
}

#[test]
fn one_user_who_is_slow_or_many_keeps_nobody_else_waiting() {
    if !is_root("one_user_who_is_slow_or_many_keeps_nobody_else_waiting") {
        return;
    }
    let limits = Limits { connections: 4, ..Limits::default() };
    let fixture = Fixture::with(limits, None);
    let socket = fixture.socket();
    // Connections that say nothing, take all of Ana's places.
    let connect = || Connection::to(&socket, Duration::from_secs(10)).unwrap();
    let silent: Vec<_> = as_user(ANA, || (0..4).map(|_| connect()).collect());
    let busy = as_user(ANA, || {
        let connection = connect();
        Answer::decode(&connection.receive(PACKET_MAX).unwrap().unwrap().bytes)
    });
    assert_eq!(busy, Ok(Reply::Busy));
    fixture.run(BOB, &tag(2), &bridge(2)).expect("Bob has places of his own");
    drop(silent);
    // An operation that hangs holds up its own tag only.
    fixture.run(ANA, &tag(1), &bridge(1)).expect("asks again until there is a place");
    thread::scope(|scope| {
        let slow = scope.spawn(|| fixture.run(ANA, &tag(1), &Op::SnapshotGone { vm: vm(SLOW) }));
        until("the slow one to begin", || {
            let is_slow = |r: &Reached| r.op == Op::SnapshotGone { vm: vm(SLOW) };
            fixture.world.done().iter().any(is_slow)
        });
        fixture.run(BOB, &tag(2), &bridge(2)).expect("Bob");
        fixture.run(ANA, &tag(3), &bridge(3)).expect("Ana's other tag");
        assert!(!slow.is_finished());
        fixture.world.open_gate();
        slow.join().unwrap().unwrap();
    });
}

#[test]
fn one_who_says_nothing_or_takes_no_answer_is_hung_up_on() {
    if !is_root("one_who_says_nothing_or_takes_no_answer_is_hung_up_on") {
        return;
    }
    let short = Duration::from_millis(50);
    let limits = Limits { silence: short, send: short, penalty: short, ..Limits::default() };
    let fixture = Fixture::with(limits, None);
    as_user(ANA, || {
        let silent = Connection::to(&fixture.socket(), Duration::from_secs(10)).unwrap();
        assert!(silent.receive(PACKET_MAX).unwrap().is_none(), "it hangs up");

        // Answers fill the way back, and nobody takes them.
        let deaf = Connection::to(&fixture.socket(), Duration::from_secs(10)).unwrap();
        let look = asked(&tag(1), Op::Inventory);
        let begun = Instant::now();
        while deaf.send(&look, &[]).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never hangs up");
        }
    });
    fixture.run(ANA, &tag(1), &bridge(1)).expect("it still works");
}

#[test]
fn a_flood_of_descriptors_leaves_none_behind() {
    if !is_root("a_flood_of_descriptors_leaves_none_behind") {
        return;
    }
    let fixture = Fixture::new();
    let (base, _cow) = fixture.disk(ANA, "a");
    fixture.run(ANA, &tag(1), &bridge(1)).unwrap();
    let marked = |file: &File| {
        let id = files::id(file.as_fd()).unwrap();
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .filter(|meta| std::os::unix::fs::MetadataExt::ino(meta) == id.2)
            .count()
    };
    let before = marked(&base);
    for _ in 0..50 {
        let many = vec![base.as_fd(); 253];
        let bytes = asked(&tag(1), Op::RulesGone);
        as_user(ANA, || raw(&fixture.socket(), &bytes, &many)).unwrap();
        as_user(ANA, || raw(&fixture.socket(), b"{", &many)).unwrap();
        // Nobody reads these: the connection is gone before.
        as_user(EVE, || drop(raw(&fixture.socket(), &bytes, &many)));
    }
    until("all of them to be closed", || marked(&base) == before);
}

#[test]
fn a_bug_ends_one_request_and_nothing_else() {
    if !is_root("a_bug_ends_one_request_and_nothing_else") {
        return;
    }
    let fixture = Fixture::new();
    fixture.run(ANA, &tag(1), &bridge(1)).unwrap();
    let problem = fixture.run(ANA, &tag(1), &Op::SnapshotGone { vm: vm(PANICS) }).unwrap_err();
    assert!(problem.why.contains("bug"), "{problem}");
    fixture.run(ANA, &tag(1), &bridge(1)).expect("the tag is not stuck");
    fixture.run(BOB, &tag(2), &bridge(2)).expect("nor anything else");
}

#[test]
fn strangers_do_not_fill_the_journal() {
    if !is_root("strangers_do_not_fill_the_journal") {
        return;
    }
    let fixture = Fixture::new();
    let begun = Instant::now();
    for _ in 0..200 {
        as_user(EVE, || super::super::hello(&fixture.socket())).unwrap_err();
    }
    let lines = fixture.journal.text().lines().count() as u64;
    assert!(lines <= begun.elapsed().as_secs() + 1, "{lines} lines");
}

#[test]
fn it_goes_when_nobody_needs_it() {
    let idle = Duration::from_millis(50);
    let fixture = Fixture::with(Limits::default(), Some(idle));
    // Whoever is there keeps it.
    let guest = Connection::to(&fixture.socket(), Duration::from_secs(10)).unwrap();
    guest.send(&asked(&tag(1), Op::Inventory), &[]).unwrap();
    // Only those who may ask count; the tests may be run by somebody else.
    let _answer = guest.receive(PACKET_MAX);
    drop(guest);
    fixture.ended().unwrap();
}
