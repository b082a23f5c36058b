//! Where the names come from.

use std::net::Ipv4Addr;

use crate::domain::VmName;

/// A VM that has a name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, without the zone.
    pub name: VmName,
    /// Its address on the bridge.
    pub address: Ipv4Addr,
}

/// The VMs that run now and have an address.
///
/// It is asked at each query, and nothing of it is kept: what a VM's lock says is the truth, and a
/// VM that crashed has no name from that moment on. May block for as long as a look into the
/// database takes.
pub trait Records: Send + Sync + 'static {
    /// The VM of this name, if it runs.
    fn by_name(&self, name: &VmName) -> Option<Record>;

    /// The VM with this address, if it runs.
    fn by_address(&self, address: Ipv4Addr) -> Option<Record>;

    /// All that run.
    fn all(&self) -> Vec<Record>;
}
