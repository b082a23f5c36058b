//! `web.vm`: the names of running VMs.
//!
//! There is no daemon. Each monitor waits for one lock of its home; the one that has it serves
//! ([`NameServer`]), and when that one is gone the kernel hands the lock to the next.
//!
//! Names are not kept by the server: it asks [`Records`] at each query. How the host's programs
//! come to ask it is a [`Way`]; a mapdns is told, too, where the user runs one ([`mapdns`]). What is
//! made for a VM is a [`Plan`] of [`Piece`]s, each of which can be undone from a ledger.

mod check;
mod election;
pub mod mapdns;
mod publish;
mod records;
mod relay;
mod route;
mod serve;
mod slots;
mod zone;

pub use check::{Check, Lookup, getaddrinfo};
pub use election::{NameServer, PORTS, Settings, port, sweep};
pub use publish::{Context, Piece, Plan, plan};
pub use records::{Record, Records};
pub use relay::{Upstreams, host_upstreams};
pub use route::{Way, choose};
pub use zone::{NEGATIVE_TTL, QUERY_MAX, TTL};

#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod testing;
