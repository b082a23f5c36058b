//! The helper with a real host below it.

use std::{net::SocketAddrV4, os::unix::fs::MetadataExt};

use super::*;
use crate::host::{
    helper::surroundings::LinuxSurroundings,
    ops::{HostsName, LinuxOps},
    testing::in_own_netns,
};

/// Set where the helper is installed and may be used for real: in the lab.
const INSTALLED: &str = "BANGER_TEST_HELPER";
/// The lab's user who may use it, and the one who may not.
const DEV: u32 = 1000;
const OTHER: u32 = 1001;

fn links() -> String {
    let output = std::process::Command::new("ip").args(["-d", "link"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_user_has_a_real_bridge_and_a_real_tap() {
    let test = "a_user_has_a_real_bridge_and_a_real_tap";
    if !is_root(test) {
        return;
    }
    // Everything that is started there, the helper's threads included, is in that namespace.
    let ran = in_own_netns(|| {
        let operators = Box::new(|tag: &Tag, uid| {
            Box::new(LinuxOps::new(tag.clone(), uid)) as Box<dyn Operate>
        });
        let make = |claims| Keeper::new(claims, operators, Box::new(LinuxSurroundings));
        let limits = Limits { penalty: Duration::from_millis(1), ..Limits::default() };
        let fixture = Fixture::around(limits, None, Arc::default(), make);
        let run = |uid, op: Op| fixture.run(uid, &tag(0xab), &op);
        run(ANA, bridge(7)).unwrap();
        run(ANA, Op::Tap { vm: vm(0xab), mtu: 1500, owner: ANA }).unwrap();
        let seen = links();
        assert!(seen.contains("bgr-ababab") && seen.contains("user 4001"), "{seen}");
        let other = Op::Tap { vm: vm(0xab), mtu: 1500, owner: BOB };
        let problem = fixture.run(BOB, &tag(0xac), &other).unwrap_err();
        assert!(problem.why.contains("not yours"), "{problem}");
        let problem = fixture.run(BOB, &tag(0xac), &bridge(7)).unwrap_err();
        assert!(problem.why.contains("in use"), "{problem}");
        run(BOB, Op::BridgeGone).unwrap_err();
        run(ANA, Op::TapGone { vm: vm(0xab) }).unwrap();
        run(ANA, Op::BridgeGone).unwrap();
        assert!(!links().contains("bg"), "{}", links());
        assert_eq!(run(ANA, Op::Inventory), Ok(Done::Inventory(Inventory::default())));
    });
    ran.expect("root makes namespaces");
}

/// Under systemd, with all its fences: what a VM needs is made for a user, and goes again.
#[test]
fn the_installed_helper_does_it_all() {
    let test = "the_installed_helper_does_it_all";
    if env::var_os(INSTALLED).is_none() {
        skip(test, &format!("{INSTALLED} is not set: it needs the lab"));
        return;
    }
    let tag = Tag::from_bytes([0x3f, 0xa2, 0xc1]);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let file = |name: &str, bytes: u64| {
        let path = dir.path().join(name);
        fs::write(&path, "as in the base").unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        file.set_len(bytes).unwrap();
        chown(&path, Some(DEV), None).unwrap();
        file
    };
    let (base, cow) = (file("base", 8 << 20), file("cow", 0));
    cow.set_len(9 << 20).unwrap();
    let run = |op: &Op, files: &[BorrowedFd<'_>]| {
        as_user(DEV, || HelperOps::new(tag.clone()).run(op, files))
            .unwrap_or_else(|problem| panic!("{op:?}: {problem}"))
    };
    let (vm, subnet) = (vm(0x2a), Subnet::at([172, 31, 4, 0].into()).unwrap());
    run(&Op::Bridge { subnet, mtu: 1500 }, &[]);
    run(&Op::Tap { vm: vm.clone(), mtu: 1500, owner: DEV }, &[]);
    run(&Op::Rules { subnet, dns: Some(5300) }, &[]);
    assert_eq!(run(&Op::Forwarding, &[]), Done::Forwarding { before: false });
    assert_ne!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
    let snapshot = Op::Snapshot { vm: vm.clone(), bytes: 8 << 20 };
    let made = run(&snapshot, &[base.as_fd(), cow.as_fd()]);
    let Done::Device { path, .. } = made else { panic!("{made:?}") };
    assert_eq!(fs::metadata(&path).unwrap().uid(), DEV);
    as_user(DEV, || {
        let disk = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut words = [0; 14];
        std::os::unix::fs::FileExt::read_exact_at(&disk, &mut words, 0).unwrap();
        assert_eq!(&words, b"as in the base");
        std::os::unix::fs::FileExt::write_all_at(&disk, b"changed", 4096).unwrap();
        disk.sync_all().unwrap();
    });
    as_user(OTHER, || File::open(&path).expect_err("another user's disk"));
    let Done::Fill(fill) = run(&Op::SnapshotFill { vm: vm.clone() }, &[]) else { panic!() };
    assert!(fill.used > 0 && !fill.overflowed, "{fill:?}");
    cow.set_len(12 << 20).unwrap();
    run(&Op::SnapshotExtend { vm: vm.clone() }, &[]);
    let Done::Fill(more) = run(&Op::SnapshotFill { vm: vm.clone() }, &[]) else { panic!() };
    assert!(more.total > fill.total, "{more:?}");
    run(&Op::Resolve { server: "127.0.0.1:5300".parse::<SocketAddrV4>().unwrap(), subnet }, &[]);
    let names = vec![HostsName { name: "web".parse().unwrap(), address: [172, 31, 4, 2].into() }];
    run(&Op::Hosts { names }, &[]);
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    assert!(hosts.contains("web.vm") && hosts.contains("172.31.4.2"), "{hosts}");
    assert_eq!(fs::metadata("/etc/hosts").unwrap().mode() & 0o7777, 0o644);
    let Done::Inventory(there) = run(&Op::Inventory, &[]) else { panic!() };
    assert!(there.bridge && there.rules && there.hosts == 1, "{there:?}");
    assert_eq!((there.taps.len(), there.snapshots.len()), (1, 1), "{there:?}");
    assert!(as_user(OTHER, || HelperOps::new(tag.clone()).run(&Op::Inventory, &[])).is_err());

    run(&Op::Hosts { names: vec![] }, &[]);
    run(&Op::ResolveGone, &[]);
    run(&Op::SnapshotGone { vm: vm.clone() }, &[]);
    run(&Op::TapGone { vm }, &[]);
    run(&Op::RulesGone, &[]);
    run(&Op::BridgeGone, &[]);
    run(&Op::ForwardingGone, &[]);
    assert_eq!(run(&Op::Inventory, &[]), Done::Inventory(Inventory::default()));
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
}
