//! What is done in the lab.

mod ground;
mod kvm;
pub mod programs;
mod set_up;
mod workstation;

use std::process::Command;

use crate::{Home, Scenario};

/// All of them, in their order: what the others stand on comes first.
pub const ALL: [&[Scenario]; 5] =
    [ground::ALL, programs::ALL, set_up::ALL, kvm::ALL, workstation::ALL];

/// What a scenario of root's has a user do: a name for it, and what.
pub type Part = (&'static str, fn(&Home));

/// All of them: [`crate::inside::as_dev`].
pub const PARTS: [&[Part]; 2] = [kvm::PARTS, workstation::PARTS];

/// Runs a line of shell, which must go well; what it printed.
fn sh(line: &str) -> String {
    let said = Command::new("bash").args(["-euo", "pipefail", "-c", line]).output();
    let said = said.expect("bash");
    assert!(said.status.success(), "{line}: {said:?}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}
