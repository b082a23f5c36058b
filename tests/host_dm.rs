//! Disks of VMs on a real device-mapper. It needs root, device-mapper and loop devices: where
//! they are not, as in most build machines, this runs in the lab. How long it takes beside the
//! commands by hand, and that two hundred rounds leak nothing, is a scenario of the lab's own.

mod common;
mod dm_kit;

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use banger::{
    domain::VmId,
    host::{
        dm,
        ops::{Done, Inventory},
    },
};
use common::skip;
use dm_kit::{CHUNK, MIB, Rig, run};

/// A rig, unless this machine has no device-mapper.
fn rig(test: &str) -> Option<Rig> {
    if let Err(why) = dm::usable() {
        skip(test, &format!("{why}; it runs in the lab"));
        return None;
    }
    Some(Rig::new())
}

#[test]
fn what_is_written_stays_when_the_disk_is_made_again() {
    let Some(rig) = rig("what_is_written_stays_when_the_disk_is_made_again") else { return };
    let (base, cow, vm) = (rig.base(8 * MIB), rig.cow("cow", 8 * MIB), rig.vm(1));
    let before = rig.base_sum();
    let disk = rig.make(&vm, 8 * MIB, &base, &cow).open();
    // What is not written to is the base's; what is may lie across chunks, and at the very end.
    assert_eq!(disk.read(4 * MIB, 8), rig.base_bytes(4 * MIB, 8));
    for (at, byte) in [(0, 1), (3 * CHUNK - 512, 2), (8 * MIB - 512, 3)] {
        disk.write(at, &[byte; 512]);
    }
    disk.close();
    rig.gone(&vm);
    assert_eq!(rig.inventory(), Inventory::default());
    let disk = rig.make(&vm, 8 * MIB, &base, &cow).open();
    for (at, byte) in [(0, 1), (3 * CHUNK - 512, 2), (8 * MIB - 512, 3)] {
        assert_eq!(disk.read(at, 512), [byte; 512], "at {at}");
    }
    assert_eq!(disk.read(3 * CHUNK, 512), rig.base_bytes(3 * CHUNK, 512));
    disk.close();
    rig.gone(&vm);
    rig.gone(&vm);
    assert_eq!(rig.base_sum(), before, "the base was written to");
}

#[test]
fn a_disk_that_is_there_is_taken_if_it_is_the_same() {
    let Some(rig) = rig("a_disk_that_is_there_is_taken_if_it_is_the_same") else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.cow("cow", 16 * MIB), rig.vm(1));
    let first = rig.make(&vm, 16 * MIB, &base, &cow);
    let node = fs::symlink_metadata(&first.path).expect("a node");
    assert!(node.file_type().is_block_device());
    assert_eq!((node.uid(), node.mode() & 0o777), (0, 0o600));
    assert_eq!(fs::metadata("/dev/banger").expect("its directory").mode() & 0o777, 0o755);
    let said = dm::snapshot(&rig.tag, &vm, 16 * MIB, rig.fd(&base), rig.fd(&cow), 1000);
    let same = Done::Device { path: first.path.clone(), major: first.major, minor: first.minor };
    assert_eq!(said, Ok(same));
    assert_eq!(fs::metadata(&first.path).expect("a node").uid(), 1000, "its new owner's");
    // A node that leads elsewhere is put right.
    fs::remove_file(&first.path).expect("removed by hand");
    run("mknod", &[first.path.to_str().expect("UTF-8"), "b", "7", "0"]);
    rig.make(&vm, 16 * MIB, &base, &cow);
    assert_eq!(fs::metadata(&first.path).expect("a node").rdev(), node.rdev());

    let (base2, cow2) = (rig.base(4 * MIB), rig.cow("cow2", 16 * MIB));
    for (bytes, base, cow, why) in [
        (16 * MIB, &base2, &cow, "other files"),
        (16 * MIB, &base, &cow2, "other files"),
        (12 * MIB, &base, &cow, "16777216 bytes"),
    ] {
        let said = rig.try_make(&vm, bytes, base, cow).expect_err("of another make-up");
        assert!(said.why.contains(why), "{said}");
    }
    let there = rig.inventory();
    assert_eq!((there.snapshots, there.loops.len()), (vec![vm.clone()], 2));
    rig.gone(&vm);
    assert_eq!(rig.inventory(), Inventory::default());
}

#[test]
fn a_disk_larger_than_its_base_ends_in_zeros() {
    let Some(rig) = rig("a_disk_larger_than_its_base_ends_in_zeros") else { return };
    // A base that ends within a chunk.
    let length = 4 * MIB + 512 * 3;
    let (base, cow, vm) = (rig.base(length), rig.cow("cow", 64 * MIB), rig.vm(1));
    let disk = rig.make(&vm, 64 * MIB, &base, &cow).open();
    assert_eq!(disk.bytes(), 64 * MIB);
    assert_eq!(disk.read(length - 512, 512), rig.base_bytes(length - 512, 512));
    assert_eq!(disk.read(length, 4096), [0; 4096]);
    disk.write(length, &[5; 512]);
    disk.write(64 * MIB - 4096, &[6; 4096]);
    disk.close();
    rig.gone(&vm);
    let disk = rig.make(&vm, 64 * MIB, &base, &cow).open();
    assert_eq!(disk.read(length - 512, 512), rig.base_bytes(length - 512, 512));
    assert_eq!(disk.read(length, 512), [5; 512]);
    assert_eq!(disk.read(length + 512, 512), [0; 512]);
    assert_eq!(disk.read(64 * MIB - 4096, 4096), [6; 4096]);
    disk.close();
    rig.gone(&vm);
    assert_eq!(rig.inventory(), Inventory::default());
}

#[test]
fn ten_at_once_share_one_loop_of_their_base() {
    let Some(rig) = rig("ten_at_once_share_one_loop_of_their_base") else { return };
    let base = rig.base(4 * MIB);
    let vms: Vec<(VmId, File)> =
        (0..10).map(|n| (rig.vm(n), rig.cow(&format!("cow{n}"), 8 * MIB))).collect();
    thread::scope(|scope| {
        for (n, (vm, cow)) in vms.iter().enumerate() {
            let (rig, base) = (&rig, &base);
            scope.spawn(move || {
                let disk = rig.make(vm, 8 * MIB, base, cow).open();
                disk.write(0, &[n as u8; 512]);
                disk.close();
            });
        }
    });
    let there = rig.inventory();
    assert_eq!((there.snapshots.len(), there.nodes.len()), (10, 10), "{there:?}");
    let names: Vec<_> = there.loops.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(" base")).count(), 1, "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 11, "{names:?}");
    thread::scope(|scope| {
        for (n, (vm, cow)) in vms.iter().enumerate() {
            let (rig, base) = (&rig, &base);
            scope.spawn(move || {
                let disk = rig.make(vm, 8 * MIB, base, cow).open();
                assert_eq!(disk.read(0, 512), [n as u8; 512]);
                disk.close();
                rig.gone(vm);
            });
        }
    });
    assert_eq!(rig.inventory(), Inventory::default());
}

#[test]
fn a_file_of_the_length_we_say_takes_a_whole_disk() {
    let Some(rig) = rig("a_file_of_the_length_we_say_takes_a_whole_disk") else { return };
    // The disk ends where an area of records does, and within a chunk.
    for (n, length) in [(1, CHUNK * 512), (2, CHUNK * 513 + 512)] {
        let (base, cow) = (rig.base(length), rig.cow(&format!("cow{n}"), length));
        let vm = rig.vm(n);
        let disk = rig.make(&vm, length, &base, &cow).open();
        disk.write(0, &vec![n; length as usize]);
        let fill = dm::fill(&rig.tag, &vm).expect("a fill");
        assert_eq!(fill.total, dm::cow_bytes(length));
        assert!(!fill.overflowed && fill.used > length && fill.used <= fill.total, "{fill:?}");
        disk.write(0, &[9; 512]);
        disk.close();
        rig.gone(&vm);
    }
}

#[test]
fn a_file_made_longer_in_time_never_overflows() {
    let Some(rig) = rig("a_file_made_longer_in_time_never_overflows") else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.short_cow("cow", 102), rig.vm(1));
    let disk = rig.make(&vm, 4 * MIB, &base, &cow).open();
    let fill = || dm::fill(&rig.tag, &vm).expect("a fill");
    let empty = fill();
    assert_eq!((empty.used, empty.total, empty.overflowed), (2 * CHUNK, 102 * CHUNK, false));
    disk.write(0, &vec![1; (80 * CHUNK) as usize]);
    assert_eq!(fill().used, 82 * CHUNK);
    cow.set_len(dm::cow_bytes(4 * MIB)).expect("longer");
    assert_eq!(fill().total, 102 * CHUNK, "nobody has told it");
    dm::extended(&rig.tag, &vm).expect("extended");
    assert_eq!(fill().total, dm::cow_bytes(4 * MIB));
    disk.write(0, &vec![2; 4 * MIB as usize]);
    assert!(!fill().overflowed);
    disk.close();
    rig.gone(&vm);
    let said = dm::fill(&rig.tag, &vm).expect_err("it is gone");
    assert!(said.why.contains("no device"), "{said}");
    assert!(dm::extended(&rig.tag, &vm).is_err());
}

#[test]
fn an_overflow_loses_nothing_and_ends_when_the_disk_is_made_again() {
    let Some(rig) = rig("an_overflow_loses_nothing_and_ends_when_the_disk_is_made_again") else {
        return;
    };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.short_cow("cow", 34), rig.vm(1));
    let disk = rig.make(&vm, 4 * MIB, &base, &cow).open();
    let written = disk.write_until_refused(4 * MIB);
    assert_eq!(written, 32, "header, records, 32 chunks");
    let fill = dm::fill(&rig.tag, &vm).expect("a fill");
    assert!(fill.overflowed && fill.used == fill.total, "{fill:?}");
    disk.assert_written(written);
    assert!(disk.try_write(0, 1).is_err(), "also what has its chunk already");
    cow.set_len(dm::cow_bytes(4 * MIB)).expect("longer");
    dm::extended(&rig.tag, &vm).expect("extended");
    assert!(disk.try_write(0, 1).is_err(), "too late");
    // In use it cannot be replaced, and it says by whom it is.
    let said = rig.try_make(&vm, 4 * MIB, &base, &cow).expect_err("in use");
    assert!(said.why.contains(&format!("process {}", std::process::id())), "{said}");
    disk.close();
    let disk = rig.make(&vm, 4 * MIB, &base, &cow).open();
    disk.assert_written(written);
    disk.write(0, &vec![2; 4 * MIB as usize]);
    disk.close();
    rig.gone(&vm);
}

#[test]
fn a_full_host_costs_nothing_that_was_acknowledged() {
    let Some(rig) = rig("a_full_host_costs_nothing_that_was_acknowledged") else { return };
    let room = rig.small_fs(24);
    let base = rig.base(4 * MIB);
    let (cow, vm) = (room.cow("cow", 4 * MIB), rig.vm(1));
    let disk = rig.make(&vm, 4 * MIB, &base, &cow).open();
    let filler = room.fill_up_to(MIB / 4);
    let written = disk.write_until_refused(4 * MIB);
    assert!((16..256).contains(&written), "{written}");
    let fill = dm::fill(&rig.tag, &vm).expect("a fill");
    assert!(fill.overflowed, "{fill:?}");
    assert!(disk.try_read(0).is_err(), "the kernel has given it up");
    disk.close();
    rig.gone(&vm);
    // Without more room it comes back, and can be read.
    let disk = rig.make(&vm, 4 * MIB, &base, &cow).open();
    disk.assert_written(written);
    disk.close();
    rig.gone(&vm);
    drop(filler);
    let disk = rig.make(&vm, 4 * MIB, &base, &cow).open();
    disk.assert_written(written);
    disk.write(0, &vec![3; 4 * MIB as usize]);
    assert_eq!(disk.read(4 * MIB - 512, 512), [3; 512]);
    disk.close();
    rig.gone(&vm);
    assert_eq!(rig.inventory(), Inventory::default());
}

#[test]
fn what_was_reserved_can_be_written_on_a_full_host() {
    let Some(rig) = rig("what_was_reserved_can_be_written_on_a_full_host") else { return };
    let room = rig.small_fs(24);
    let base = rig.base(8 * MIB);
    let (cow, vm) = (room.cow("cow", 8 * MIB), rig.vm(1));
    let disk = rig.make(&vm, 8 * MIB, &base, &cow).open();
    let used = dm::fill(&rig.tag, &vm).expect("a fill").used;
    dm::reserve(&cow, used, MIB).expect("room");
    assert!(cow.metadata().expect("meta").blocks() * 512 >= MIB);
    assert_eq!(cow.metadata().expect("meta").len(), dm::cow_bytes(8 * MIB), "as long as before");
    let _filler = room.fill_up_to(0);
    let full = dm::reserve(&cow, used, 4 * MIB).expect_err("full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // 256 chunks, of which one is for records.
    disk.write(0, &vec![4; (250 * CHUNK) as usize]);
    assert!(!dm::fill(&rig.tag, &vm).expect("a fill").overflowed);
    assert_eq!(disk.read(249 * CHUNK, 512), [4; 512]);
    disk.close();
    rig.gone(&vm);
}

#[test]
fn a_disk_in_use_stays_and_it_is_said_who_uses_it() {
    let Some(rig) = rig("a_disk_in_use_stays_and_it_is_said_who_uses_it") else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.cow("cow", 8 * MIB), rig.vm(1));
    let disk = rig.make(&vm, 8 * MIB, &base, &cow).open();
    let said = dm::snapshot_gone(&rig.tag, &vm).expect_err("it is open");
    assert!(said.why.contains(&format!("process {} (", std::process::id())), "{said}");
    assert_eq!(rig.inventory().nodes.len(), 0, "nobody new opens it");
    disk.write(0, &[1; 512]);
    // One that lets go while it is waited for.
    thread::scope(|scope| {
        let gone = scope.spawn(|| dm::snapshot_gone(&rig.tag, &vm));
        disk.close();
        assert_eq!(gone.join().expect("no panic"), Ok(()));
    });
    assert_eq!(rig.inventory(), Inventory::default());
}

#[test]
fn what_an_interrupted_attempt_left_is_replaced() {
    let Some(rig) = rig("what_an_interrupted_attempt_left_is_replaced") else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.cow("cow", 8 * MIB), rig.vm(1));
    let name = rig.tag.device(&vm);
    let lengthened = format!("{name}-base");
    let leave = |which: u8| match which {
        0 => run("dmsetup", &["--noudevsync", "create", "--notable", &name]),
        1 => run("dmsetup", &["--noudevsync", "create", "--notable", &lengthened]),
        _ => run("dmsetup", &["--noudevsync", "create", &lengthened, "--table", "0 8 zero"]),
    };
    for which in 0..3 {
        leave(which);
        assert_eq!(rig.inventory().snapshots, vec![vm.clone()], "{which}");
        rig.gone(&vm);
        leave(which);
        rig.make(&vm, 8 * MIB, &base, &cow).open().write(0, &[1; 512]);
        rig.gone(&vm);
        assert_eq!(rig.inventory(), Inventory::default(), "{which}");
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused_and_nothing_is_left() {
    let name = "files_that_are_not_what_they_should_be_are_refused_and_nothing_is_left";
    let Some(rig) = rig(name) else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.cow("cow", 8 * MIB), rig.vm(1));
    let foreign = rig.cow("foreign", 8 * MIB);
    foreign.write_all_at(b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\0", 0).expect("write");
    let read_only = File::open(rig.path("cow")).expect("open");
    let append = File::options().read(true).append(true).open(rig.path("cow")).expect("open");
    let odd = rig.base(4 * MIB + 1);
    let ruined = rig.short_cow("ruined", 258);
    let null = File::options().read(true).write(true).open("/dev/null").expect("open");
    let dir = File::open(rig.path(".")).expect("open");
    for (bytes, base, cow, why) in [
        (2 * MIB, &base, &cow, "cannot be"),
        (8 * MIB + 1, &base, &cow, "cannot be"),
        (8 * MIB, &base, &base, "open for reading and writing"),
        (16 * MIB, &cow, &cow, "the same file"),
        (8 * MIB, &base, &read_only, "open for reading and writing"),
        (8 * MIB, &base, &append, "open for reading and writing"),
        (8 * MIB, &base, &foreign, "something else"),
        (8 * MIB, &base, &ruined, "length"),
        (8 * MIB, &base, &null, "regular"),
        (8 * MIB, &dir, &cow, "regular"),
        (8 * MIB, &odd, &cow, "multiple of 512"),
    ] {
        let said = rig.try_make(&vm, bytes, base, cow).expect_err("refused");
        assert!(said.why.contains(why), "{why}: {said}");
    }
    assert_eq!(rig.inventory(), Inventory::default());
    // One that another VM writes to.
    let other = rig.vm(2);
    rig.make(&vm, 8 * MIB, &base, &cow);
    let said = rig.try_make(&other, 8 * MIB, &base, &cow).expect_err("in use");
    assert!(said.why.contains("in use already") && said.why.contains("/dev/loop"), "{said}");
    assert_eq!(rig.inventory().snapshots, vec![vm.clone()]);
    rig.gone(&vm);
    assert_eq!(rig.inventory(), Inventory::default());
}

#[test]
fn a_failure_half_way_takes_back_what_was_made() {
    let Some(rig) = rig("a_failure_half_way_takes_back_what_was_made") else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.cow("cow", 8 * MIB), rig.vm(1));
    // The uuid that the snapshot gets is taken: its base is made by then, and the loops.
    let uuid = format!("BANGER-{}-{vm}", rig.tag);
    let taken = format!("taken-{}", rig.tag);
    run("dmsetup", &["--noudevsync", "create", &taken, "--notable", "--uuid", &uuid]);
    let said = rig.try_make(&vm, 8 * MIB, &base, &cow);
    run("dmsetup", &["--noudevsync", "remove", &taken]);
    assert!(said.expect_err("refused").why.contains("somebody else"));
    assert_eq!(rig.inventory(), Inventory::default());
    rig.make(&vm, 8 * MIB, &base, &cow);
    rig.gone(&vm);
}

/// What the test below starts and kills: makes and removes one disk, over and over.
#[test]
fn makes_and_removes_until_it_is_killed() {
    let Ok(dir) = env::var("BANGER_TEST_HELPER") else { return };
    let rig = Rig::at(dir.as_ref());
    let (base, cow, vm) = (rig.open("base0"), rig.open("cow"), rig.vm(1));
    loop {
        println!("round");
        rig.make(&vm, 8 * MIB, &base, &cow);
        rig.gone(&vm);
    }
}

#[test]
fn whoever_comes_after_one_that_was_killed_clears_up() {
    let Some(rig) = rig("whoever_comes_after_one_that_was_killed_clears_up") else { return };
    let (base, cow, vm) = (rig.base(4 * MIB), rig.cow("cow", 8 * MIB), rig.vm(1));
    let disk = rig.make(&vm, 8 * MIB, &base, &cow).open();
    disk.write(0, &[7; 512]);
    disk.close();
    rig.gone(&vm);
    let begin = Instant::now();
    rig.make(&vm, 8 * MIB, &base, &cow);
    rig.gone(&vm);
    let round = begin.elapsed();
    let mut left = BTreeSet::new();
    const KILLS: u32 = 12;
    for n in 0..KILLS {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "makes_and_removes_until_it_is_killed", "--nocapture"])
            .env("BANGER_TEST_HELPER", rig.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        while lines.next().expect("a round").expect("UTF-8") != "round" {}
        // At another point of its round each time.
        thread::sleep(round * n / KILLS);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let there = rig.inventory();
        left.insert((there.snapshots.len(), there.loops.len(), there.nodes.len()));
        // Half of the time the VM is started again, half of the time it is only cleared up.
        if n % 2 == 0 {
            let disk = rig.make(&vm, 8 * MIB, &base, &cow).open();
            assert_eq!(disk.read(0, 512), [7; 512]);
            disk.close();
        }
        rig.gone(&vm);
        assert_eq!(rig.inventory(), Inventory::default());
    }
    println!("found after a kill (snapshots, loops, nodes): {left:?}");
    assert!(left.len() > 1, "it was never killed half-way: {left:?}");
}
