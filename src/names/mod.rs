//! `web.vm`: the names of running VMs.
//!
//! There is no daemon. Each monitor waits for one lock of its home; the one that has it serves
//! and when that one is gone the kernel hands the lock to the next.
//!
//! Names are not kept by the server: it asks [`Records`] at each query. How the host's programs
//! come to ask it is a route; a mapdns is told instead where the user runs one .

mod records;

pub use records::{Record, Records};
