//! `web.vm`: the names of running VMs.
//!
//! There is no daemon. Each monitor waits for one lock of its home; the one that has it serves
//! ([`NameServer`]), and when that one is gone the kernel hands the lock to the next.
//!
//! Names are not kept by the server: it asks [`Records`] at each query. How the host's programs
//! come to ask it is a route; a mapdns is told instead where the user runs one.

mod election;
mod records;
mod relay;
mod serve;
mod slots;
mod zone;

pub use election::{NameServer, PORTS, Settings, port, sweep};
pub use records::{Record, Records};
pub use relay::{Upstreams, host_upstreams};
pub use zone::{NEGATIVE_TTL, QUERY_MAX, TTL};

#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod testing;
