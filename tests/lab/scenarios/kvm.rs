//! VMs under QEMU with KVM and user networking: what any user of a workstation has without the
//! root helper.

use nix::sys::signal::Signal;

use crate::{
    Home, Scenario, User,
    common::{lives, signal, until},
};

const DEV: &[User] = &[User::Dev];

/// Said, as there may be better.
const PLAIN: [&str; 4] = ["--image", "tiny", "--vmm", "qemu-kvm"];

pub const ALL: &[Scenario] = &[
    Scenario::new("kvm::from_create_to_delete", DEV, from_create_to_delete),
    Scenario::new("kvm::killed_monitor_vmm_and_ui", DEV, killed),
    Scenario::cut("kvm::power_cut_while_one_runs", DEV, start_one, one_is_back),
];

fn from_create_to_delete(home: &Home) {
    home.ok(&[&["create", "web", "--start", "--wait"], &PLAIN[..]].concat());
    let vm = home.wait_state("web", "running");
    assert_eq!(vm["vmm"], "qemu-kvm", "{vm}");
    assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
    home.ok(&["stop", "web"]);
    let vm = home.vm("web");
    assert_eq!(vm["last_exit"]["by"], "power-button", "{vm}");
    home.assert_nothing_runs();
    home.ok(&["start", "web", "--wait"]);
    home.ok(&["restart", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
    home.ok(&["rm", "--yes", "--force", "web"]);
    assert!(home.list().is_empty());
    home.assert_nothing_runs();
}

fn killed(home: &Home) {
    home.ok(&[&["create", "web", "--start", "--wait"], &PLAIN[..]].concat());
    // A script that waits is as mortal as a UI.
    let waiting = home.spawn(&["restart", "web", "--wait"]);
    home.wait_state("web", "stopping");
    signal(waiting.pid(), Signal::SIGKILL);
    drop(waiting);
    home.wait_state("web", "stopped");

    // Nobody waits for what is killed anyway.
    home.ok(&["start", "web"]);
    let vmm = home.only("VMM", &home.vmms());
    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    until("the end of the VMM", || !lives(vmm));
    home.ok(&["start", "web"]);
    signal(home.only("VMM", &home.vmms()), Signal::SIGKILL);
    until("the end of the monitor", || home.monitors().is_empty());
    assert_eq!(home.ledger(), []);
    home.ok(&["start", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "echo back"]), "back\n");
    home.ok(&["rm", "--yes", "--force", "web"]);
}

fn start_one(home: &Home) {
    home.ok(&[&["create", "web", "--start", "--wait"], &PLAIN[..]].concat());
    home.ok(&["ssh", "web", "echo written >file && sync"]);
    // Its disk is a copy that nobody has written to since.
    home.ok(&[&["create", "new"], &PLAIN[..]].concat());
    // What the host has not written yet is lost with it; what the guest synced must not be.
}

fn one_is_back(home: &Home) {
    let vm = home.vm("web");
    assert_eq!((&vm["state"], &vm["wanted"]), (&"crashed".into(), &"running".into()), "{vm}");
    home.ok(&["start", "web", "new", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "cat file"]), "written\n");
    assert_eq!(home.ok(&["ssh", "new", "hostname"]), "new\n");
    home.ok(&["rm", "--yes", "--force", "web", "new"]);
}
