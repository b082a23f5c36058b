//! The real host: VMs on the bridge, with snapshots for disks and names, as root and as a user
//! with the root helper; with QEMU and, when one is given, with Firecracker.

use std::{
    env,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Part, sh};
use crate::{
    Home, Scenario, User,
    common::{signal, skip, until, until_or},
    inside::as_dev,
};

const ROOT: &[User] = &[User::Root];

pub const ALL: &[Scenario] = &[
    Scenario::new("workstation::qemu_from_create_to_delete", ROOT, |home| life(home, "qemu-kvm")),
    Scenario::new("workstation::firecracker_from_create_to_delete", ROOT, |home| {
        if firecracker("workstation::firecracker_from_create_to_delete") {
            life(home, "firecracker");
        }
    }),
    Scenario::new("workstation::docker_drops_what_it_does_not_know", ROOT, beside_docker),
    Scenario::new("workstation::qemu_killed", ROOT, |home| killed(home, "qemu-kvm")),
    Scenario::new("workstation::firecracker_killed", ROOT, |home| {
        if firecracker("workstation::firecracker_killed") {
            killed(home, "firecracker");
        }
    }),
    Scenario::new("workstation::a_user_with_the_helper", ROOT, with_helper),
    Scenario::new("workstation::ten_at_once", ROOT, ten_at_once),
    Scenario::cut("workstation::power_cut_while_two_run", ROOT, start_two, two_are_back),
];

/// What a user does who has been given the helper; see [`with_helper`].
pub const PARTS: &[Part] = &[("with_helper", |home| life(home, "qemu-kvm"))];

/// Whether there is a Firecracker; a note if not.
fn firecracker(test: &str) -> bool {
    let given = env::var_os("BANGER_TEST_FIRECRACKER").is_some_and(|path| !path.is_empty());
    if !given {
        skip(test, "BANGER_TEST_FIRECRACKER names no Firecracker");
    }
    given
}

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

fn create(home: &Home, name: &str, vmm: &str) -> Value {
    home.ok(&["create", name, "--image", "tiny", "--vmm", vmm, "--start", "--wait"]);
    let vm = home.wait_state(name, "running");
    assert_eq!(
        (text(&vm, "vmm"), text(&vm, "network"), text(&vm, "overlay")),
        (vmm, "tap", "dm-snapshot"),
        "{vm}"
    );
    vm
}

fn life(home: &Home, vmm: &str) {
    let web = create(home, "web", vmm);
    let db = create(home, "db", vmm);
    found_by_name(&web);
    found_by_name(&db);
    assert_ne!(text(&web, "address"), text(&db, "address"));
    reaches_the_outside(home, "web");
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
    let doctor = home.run(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
}

fn beside_docker(home: &Home) {
    sh("iptables -N DOCKER-USER
        iptables -A DOCKER-USER -j RETURN
        iptables -A FORWARD -j DOCKER-USER
        iptables -P FORWARD DROP");
    let before = sh("iptables -S");
    create(home, "web", "qemu-kvm");
    reaches_the_outside(home, "web");
    assert!(sh("iptables -S").contains("-P FORWARD DROP"), "Docker's policy is Docker's");
    home.ok(&["rm", "--yes", "--force", "web"]);
    home.assert_nothing_runs();
    assert_eq!(sh("iptables -S"), before);
    sh("iptables -P FORWARD ACCEPT
        iptables -F
        iptables -X DOCKER-USER
        nft delete table ip filter");
}

fn killed(home: &Home, vmm: &str) {
    create(home, "web", vmm);
    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    until("the monitor's end", || home.monitors().is_empty());
    assert!(!home.ledger().is_empty(), "nobody has cleared up yet");
    home.ok(&["start", "web", "--wait"]);
    let vm = home.wait_state("web", "running");
    found_by_name(&vm);
    let vmms: Vec<i32> = home.processes("").difference(&home.monitors()).copied().collect();
    vmms.into_iter().for_each(|vmm| signal(vmm, Signal::SIGKILL));
    until("the end of the monitor", || home.monitors().is_empty());
    assert_eq!(home.ledger(), [], "{}", home.report());
    home.assert_nothing_runs();
    home.ok(&["start", "web", "--wait"]);
    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    home.ok(&["rm", "--yes", "--force", "web"]);
    home.assert_nothing_runs();
}

fn with_helper(home: &Home) {
    home.ok(&["helper", "install", "--user", "dev"]);
    let status = as_dev("with_helper");
    home.ok(&["helper", "uninstall"]);
    assert!(status.success(), "what dev did ended with {status}");
}

fn ten_at_once(home: &Home) {
    let names: Vec<String> = (0..10).map(|i| format!("vm{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        home.ok(&["create", name, "--image", "tiny"]);
    }
    home.ok(&[&["start"], names.as_slice(), &["--wait"]].concat());
    let bases = sh("losetup --noheadings --output BACK-FILE | grep -c tiny.img");
    assert_eq!(bases, "1\n", "ten disks, one base");
    for name in &names {
        let vm = home.wait_state(name, "running");
        found_by_name(&vm);
        assert_eq!(home.ok(&["ssh", name, "hostname"]), format!("{name}\n"));
    }
    home.ok(&[&["stop"], names.as_slice()].concat());
    home.assert_nothing_runs();
    home.ok(&[&["rm", "--yes"], names.as_slice()].concat());
}

fn start_two(home: &Home) {
    for name in ["web", "db"] {
        create(home, name, "qemu-kvm");
        home.ok(&["ssh", name, "echo written >file && sync"]);
    }
}

fn two_are_back(home: &Home) {
    assert_eq!(home.state("web"), "crashed");
    home.ok(&["--restore"]);
    for name in ["web", "db"] {
        let vm = home.wait_state(name, "running");
        found_by_name(&vm);
        assert_eq!(home.ok(&["ssh", name, "cat file"]), "written\n");
    }
    home.ok(&["rm", "--yes", "--force", "web", "db"]);
    home.assert_nothing_runs();
}
