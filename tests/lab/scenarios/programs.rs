//! Other test programs of this project, for what they cannot do on most machines.

use std::process::Command;

use crate::{Scenario, User};

/// What all names of these begin with; the rest is the program's.
pub const PREFIX: &str = "programs::";

pub const ALL: &[Scenario] = &[
    Scenario::new("programs::host_dm", &[User::Root], |_| run("host_dm")),
    Scenario::new("programs::host_names", &[User::Root], |_| run("host_names")),
    Scenario::new("programs::vmm_firecracker", &[User::Root], |_| run("vmm_firecracker")),
];

/// Runs a test program that was brought along.
fn run(name: &str) {
    let path = format!("/lab/{name}");
    let status = Command::new(&path).arg("--test-threads=1").status();
    let status = status.unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(status.success(), "{name} ended with {status}");
}
