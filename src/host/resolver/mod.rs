//! How the programs of this host resolve names, and telling them of ours.

mod facts;
mod hosts;
mod resolved;

pub use facts::{ResolverFacts, facts, upstreams};
pub use hosts::{HostsFile, hosts, hosts_lines};
pub use resolved::{Resolvectl, route, unroute};
