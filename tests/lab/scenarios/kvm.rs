//! VMs under QEMU with KVM and user networking: what any user of a workstation has without the
//! root helper.

use super::Part;
use crate::{Home, Scenario, User};

/// Said, as there may be better.
const PLAIN: [&str; 4] = ["--image", "tiny", "--vmm", "qemu-kvm"];

pub const ALL: &[Scenario] =
    &[Scenario::new("kvm::from_create_to_delete", &[User::Dev], from_create_to_delete)];

/// What a user does around a power cut: `workstation::ten_at_once_and_a_power_cut`.
pub const PARTS: &[Part] = &[("one_before_the_cut", start_one), ("one_after_the_cut", one_is_back)];

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
    assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
    home.ok(&["rm", "--yes", "--force", "web"]);
    assert!(home.list().is_empty());
    home.assert_nothing_runs();
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
