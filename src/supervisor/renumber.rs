//! Other addresses for the VMs, where theirs are used otherwise now.

use crate::{
    domain::{Layout, Problem},
    monitor::{self, Ground},
    store::Store,
};

pub use crate::monitor::Renumbered;

/// Lets the VMs have other addresses, if theirs cannot be used any more. Blocks.
///
/// # Errors
/// Which VMs still have one; that there are no others; the database.
pub fn renumber(layout: &Layout) -> Result<Renumbered, Problem> {
    let store = Store::open(&layout.database())?;
    monitor::renumber(&Ground::find(&store, layout)?)
}
