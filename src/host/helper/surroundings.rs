//! What the helper has to know of the host's network.

use std::io;

use nix::{errno::Errno, net::if_::if_nametoindex};

use super::keeper::Surroundings;
use crate::{
    domain::{Problem, Subnet, Tag},
    host::net,
};

/// The host we run on.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinuxSurroundings;

impl Surroundings for LinuxSurroundings {
    fn collision(&self, tag: &Tag, subnet: Subnet) -> Result<Option<String>, Problem> {
        net::collision(tag, subnet)
    }

    fn has_interface(&self, name: &str) -> io::Result<bool> {
        match if_nametoindex(name) {
            Ok(_) => Ok(true),
            Err(Errno::ENODEV | Errno::ENXIO) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_loopback() {
        let host = LinuxSurroundings;
        assert!(host.has_interface("lo").unwrap());
        assert!(!host.has_interface("bgt-ffffffff").unwrap());
    }
}
