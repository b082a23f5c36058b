//! Other test programs of this project, for what they cannot do on most machines.

use std::process::Command;

use crate::{Scenario, User};

/// Where the runtime directory is in the lab.
const RUNTIME: &str = "/lab/lib/banger";

/// What all names of these begin with; the rest is the program's.
pub const PREFIX: &str = "programs::";

pub const ALL: &[Scenario] = &[
    Scenario::new("programs::host_dm", &[User::Root], |_| run("host_dm", 2, "")),
    Scenario::new("programs::host_names", &[User::Root], |_| run("host_names", 1, "")),
    Scenario::new("programs::vm_faults", &[User::Root], |_| run("vm_faults", 1, "a_snapshot_is")),
    Scenario::new("programs::vmm_firecracker", &[User::Root], |_| run("vmm_firecracker", 1, ""))
        .with_firecracker(),
];

/// Runs those tests of a program that was brought along which have this in their names, so many
/// at a time: VMs one by one, each would slow the others down.
fn run(name: &str, threads: u8, tests: &str) {
    let path = format!("/lab/{name}");
    let mut command = Command::new(&path);
    command.arg(format!("--test-threads={threads}")).arg(tests);
    command.env("BANGER_RUNTIME_DIR", RUNTIME);
    let status = command.status().unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(status.success(), "{name} ended with {status}");
}
