//! `banger renumber`: other addresses for the VMs.

use super::{
    client::Client,
    exit::{self, Outcome},
    out,
    setup::Setup,
};
use crate::supervisor::renumber::{Renumbered, renumber};

/// Chooses others, if those that the VMs have cannot be used any more.
///
/// # Errors
/// Which VMs still have one; when the host has no room, or the output cannot be written.
pub fn run(mut client: Client, setup: &Setup) -> Outcome {
    // At its end all that dead monitors left, a TAP perhaps, is gone.
    client.loaded()?;
    drop(client);
    out::line(match renumber(&setup.layout)? {
        Renumbered::Kept(subnet) => format!("{subnet} stays: nothing else uses it"),
        Renumbered::Changed { from, to, because } => {
            format!("the VMs' network is {to} now; {from} has addresses in common with {because}")
        }
    })?;
    Ok(exit::OK)
}
