//! The real host: VMs on the bridge, with snapshots for disks and names, as root and as a user
//! with the root helper; with QEMU and, when one is given, with Firecracker.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Part, sh};
use crate::{
    Home, Scenario, User,
    common::{signal, until, until_or},
    inside::as_dev,
};

const ROOT: &[User] = &[User::Root];

pub const ALL: &[Scenario] = &[
    Scenario::new("workstation::qemu_beside_docker_from_create_to_delete", ROOT, |home| {
        life(home, "qemu-kvm");
    }),
    Scenario::new("workstation::firecracker_beside_docker_from_create_to_delete", ROOT, |home| {
        life(home, "firecracker");
    })
    .with_firecracker(),
    Scenario::new("workstation::the_hosts_disk_is_full", ROOT, disk_full),
    Scenario::new("workstation::qemu_killed", ROOT, |home| killed(home, "qemu-kvm")),
    Scenario::new("workstation::firecracker_killed", ROOT, |home| killed(home, "firecracker"))
        .with_firecracker(),
    Scenario::new("workstation::a_user_with_the_helper", ROOT, with_helper),
    Scenario::cut("workstation::ten_at_once_and_a_power_cut", ROOT, ten_at_once, two_are_back),
];

/// What a user does who has been given the helper; see [`with_helper`].
pub const PARTS: &[Part] = &[("with_helper", helped)];

fn text<'v>(vm: &'v Value, field: &str) -> &'v str {
    vm[field].as_str().unwrap_or_else(|| panic!("no {field}: {vm}"))
}

/// Waits until the host finds a VM by its name, as any program asks for it: at its address.
fn found_by_name(vm: &Value) {
    let name = format!("{}.vm", text(vm, "name"));
    let ask = || Command::new("getent").args(["ahostsv4", &name]).stdin(Stdio::null()).output();
    until_or(
        &format!("{name} is {}", text(vm, "address")),
        || {
            let said = ask().expect("getent");
            String::from_utf8_lossy(&said.stdout).starts_with(text(vm, "address")).then_some(())
        },
        || format!("{:?}\n{}", ask(), sh("resolvectl status")),
    );
}

/// A VM's first packets to the outside, which knows nothing of the VMs' addresses.
fn reaches_the_outside(home: &Home, name: &str) {
    let said = home.ok(&["ssh", name, "--", "ping -c 1 -W 20 198.51.100.1 >/dev/null && echo out"]);
    assert_eq!(said, "out\n");
}

/// Makes VMs and starts them; they answer. One begins after the other: see [`Machine::end`] for what
/// two do that begin in the same moment.
///
/// [`Machine::end`]: crate::machine::Machine::end
fn create<const N: usize>(home: &Home, names: [&str; N], vmm: &str) -> [Value; N] {
    for name in names {
        home.ok(&["create", name, "--image", "tiny", "--vmm", vmm, "--start", "--wait"]);
    }
    names.map(|name| {
        let vm = home.vm(name);
        let made = ["state", "vmm", "network", "overlay"].map(|field| text(&vm, field));
        assert_eq!(made, ["running", vmm, "tap", "dm-snapshot"], "{vm}");
        vm
    })
}

/// Rules as Docker makes them: it drops what it does not know, and has a chain for those who know
/// better.
fn docker_drops() -> String {
    sh("iptables -N DOCKER-USER
        iptables -A DOCKER-USER -j RETURN
        iptables -A FORWARD -j DOCKER-USER
        iptables -P FORWARD DROP
        iptables -S")
}

fn docker_goes() {
    sh("iptables -P FORWARD ACCEPT
        iptables -F
        iptables -X DOCKER-USER
        nft delete table ip filter");
}

/// All of a VM's life, on a host that Docker drops packets on.
fn life(home: &Home, vmm: &str) {
    let dockers = docker_drops();
    let [web, db] = create(home, ["web", "db"], vmm);
    found_by_name(&web);
    found_by_name(&db);
    assert_ne!(text(&web, "address"), text(&db, "address"));
    reaches_the_outside(home, "web");
    assert!(sh("iptables -S").contains("-P FORWARD DROP"), "Docker's policy is Docker's");
    // To each other, by name.
    let said = home.ok(&["ssh", "web", "--", "ping -c 1 -W 20 db.vm >/dev/null && echo there"]);
    assert_eq!(said, "there\n");
    // The way out takes packets of 1,400 bytes; a guest that sent longer ones would be deaf.
    assert_eq!(home.ok(&["ssh", "web", "cat /sys/class/net/eth0/mtu"]), "1400\n");

    home.ok(&["pause", "db"]);
    assert_eq!(home.state("db"), "paused");
    home.ok(&["resume", "db"]);
    home.ok(&["ssh", "db", "echo kept >file && sync"]);
    home.ok(&["stop", "db", "web"]);
    home.assert_nothing_runs();
    home.ok(&["start", "db", "--wait"]);
    let again = home.wait_state("db", "running");
    assert_eq!(text(&again, "address"), text(&db, "address"), "it keeps its address");
    assert_eq!(home.ok(&["ssh", "db", "cat file"]), "kept\n");
    home.ok(&["ssh", "db", "poweroff"]);
    home.wait_state("db", "stopped");
    home.ok(&["rm", "--yes", "--force", "web", "db"]);
    home.assert_nothing_runs();
    assert_eq!(sh("iptables -S"), dockers);
    docker_goes();
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
}

/// A VM stands still before its writes would be lost, and goes on when there is room.
fn disk_full(home: &Home) {
    create(home, ["web"], "qemu-kvm");
    home.ok(&["ssh", "web", "echo before >file && sync"]);
    let filler = home.path().join("filler");
    let filler = filler.display();
    // Less than the least that is kept free, and enough for the database.
    sh(&format!(
        "free=$(df --output=avail -B1 {} | tail -n 1)
         fallocate -l $((free - (24 << 20))) {filler}",
        home.path().display()
    ));
    let vm = home.wait_state("web", "paused");
    assert!(text(&vm["problem"], "what").contains("the host's disk is almost full"), "{vm}");
    // Who lets it go on all the same sees it paused again, at once.
    home.ok(&["resume", "web"]);
    home.wait_state("web", "paused");
    sh(&format!("rm {filler}"));
    home.wait_state("web", "running");
    home.ok(&["ssh", "web", "echo after >>file && sync"]);
    assert_eq!(home.ok(&["ssh", "web", "cat file"]), "before\nafter\n");
    home.ok(&["rm", "--yes", "--force", "web"]);
    home.assert_nothing_runs();
}

fn killed(home: &Home, vmm: &str) {
    home.ok(&["create", "web", "--image", "tiny", "--vmm", vmm, "--start"]);
    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    until("the monitor's end", || home.monitors().is_empty());
    assert!(!home.ledger().is_empty(), "nobody has cleared up yet");
    home.ok(&["start", "web", "--wait"]);
    found_by_name(&home.vm("web"));
    let vmms: Vec<i32> = home.processes("").difference(&home.monitors()).copied().collect();
    vmms.into_iter().for_each(|vmm| signal(vmm, Signal::SIGKILL));
    until("the end of the monitor", || home.monitors().is_empty());
    assert_eq!(home.ledger(), [], "{}", home.report());
    home.assert_nothing_runs();
    home.ok(&["start", "web"]);
    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    home.ok(&["rm", "--yes", "--force", "web"]);
    home.assert_nothing_runs();
}

fn with_helper(home: &Home) {
    home.ok(&["helper", "install", "--user", "dev"]);
    as_dev("with_helper");
    home.ok(&["helper", "uninstall"]);
}

/// What root has, by the helper.
fn helped(home: &Home) {
    let [web] = create(home, ["web"], "qemu-kvm");
    found_by_name(&web);
    reaches_the_outside(home, "web");
    home.ok(&["ssh", "web", "echo kept >file && sync"]);
    home.ok(&["stop", "web"]);
    home.assert_nothing_runs();
    home.ok(&["start", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "cat file"]), "kept\n");
    home.ok(&["rm", "--yes", "--force", "web"]);
    home.assert_nothing_runs();
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
}

fn ten_at_once(home: &Home) {
    let names: Vec<String> = (0..10).map(|i| format!("vm{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        home.ok(&["create", name, "--image", "tiny"]);
    }
    // One boots after the other, and those that are up stand still meanwhile: ten at once on emulated
    // CPUs hinder each other for minutes, and the longer guests run on both CPUs, the sooner the
    // emulator fails. So all of them run together for a moment only.
    for name in &names {
        home.ok(&["start", name, "--wait"]);
        home.ok(&["pause", name]);
    }
    home.ok(&[&["resume"], names.as_slice()].concat());
    for vm in home.list() {
        assert_eq!(vm["state"], "running", "{vm}");
    }
    let (kept, others) = names.split_at(2);
    home.ok(&[&["pause"], others].concat());
    let files = sh("losetup --noheadings --output BACK-FILE");
    let bases = files.lines().filter(|file| file.contains("/bases/")).count();
    assert_eq!((bases, files.lines().count()), (1, 11), "ten disks, one base: {files}");
    home.list().iter().for_each(found_by_name);
    for name in kept {
        home.ok(&["ssh", name, "echo written >file && sync"]);
    }
    for name in others {
        home.ok(&["resume", name]);
        home.ok(&["stop", name]);
    }
    as_dev("one_before_the_cut");
}

/// Those that ran when the power went.
fn two_are_back(home: &Home) {
    assert_eq!(home.state("vm0"), "crashed");
    home.ok(&["--restore"]);
    for name in ["vm0", "vm1"] {
        let vm = home.wait_state(name, "running");
        found_by_name(&vm);
        assert_eq!(home.ok(&["ssh", name, "cat file"]), "written\n");
    }
    as_dev("one_after_the_cut");
    let names: Vec<String> = home.list().iter().map(|vm| text(vm, "name").to_owned()).collect();
    assert_eq!(names.len(), 10);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    home.ok(&[&["rm", "--yes", "--force"], names.as_slice()].concat());
    home.assert_nothing_runs();
}
