//! What is done in the lab.

mod ground;
mod kvm;
pub mod programs;
mod set_up;

use crate::Scenario;

/// All of them, in the order they are run in: what the others stand on comes first.
pub const ALL: &[&[Scenario]] = &[ground::ALL, programs::ALL, set_up::ALL, kvm::ALL];
