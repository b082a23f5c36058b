//! What the helper has to know of the host's network.

use std::{fs, io, net::Ipv4Addr};

use nix::{errno::Errno, ifaddrs::getifaddrs, net::if_::if_nametoindex};

use super::{guard::Network, keeper::Surroundings};

/// The host we run on.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinuxSurroundings;

impl Surroundings for LinuxSurroundings {
    fn networks(&self, without: &str) -> io::Result<Vec<Network>> {
        let mut all = Vec::new();
        for entry in getifaddrs()? {
            let ip = |storage: Option<nix::sys::socket::SockaddrStorage>| {
                storage.and_then(|s| s.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
            };
            if let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) {
                let prefix = mask.to_bits().count_ones() as u8;
                all.push(Network { what: entry.interface_name, address, prefix });
            }
        }
        // Of this thread's network namespace, which `/proc/net` need not be.
        all.extend(routes(&fs::read_to_string("/proc/thread-self/net/route")?));
        all.retain(|network| network.what != without);
        Ok(all)
    }

    fn has_interface(&self, name: &str) -> io::Result<bool> {
        match if_nametoindex(name) {
            Ok(_) => Ok(true),
            Err(Errno::ENODEV | Errno::ENXIO) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The routes in `/proc/net/route` (proc(5)): a line of headings, then `Iface Destination Gateway
/// Flags RefCnt Use Metric Mask …`, addresses as hexadecimal numbers of the host's byte order.
fn routes(text: &str) -> Vec<Network> {
    let address = |word: &str| {
        u32::from_str_radix(word, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()))
    };
    let route = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (what, destination, mask) = (words.first()?, words.get(1)?, words.get(7)?);
        let prefix = address(mask)?.to_bits().count_ones() as u8;
        Some(Network { what: (*what).to_owned(), address: address(destination)?, prefix })
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read() {
        let text = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
wg0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
";
        let network = |what: &str, address, prefix| Network { what: what.into(), address, prefix };
        assert_eq!(
            routes(text),
            [
                network("eth0", Ipv4Addr::UNSPECIFIED, 0),
                network("wg0", Ipv4Addr::new(10, 0, 0, 0), 8),
                network("eth0", Ipv4Addr::new(192, 168, 1, 0), 24),
            ]
        );
    }

    #[test]
    fn this_host_has_loopback() {
        let host = LinuxSurroundings;
        assert!(host.has_interface("lo").unwrap() && !host.has_interface("bgt-ffffffff").unwrap());
        let is_loopback = |n: &Network| n.address.is_loopback() && n.prefix == 8;
        assert!(host.networks("").unwrap().iter().any(is_loopback));
        assert!(!host.networks("lo").unwrap().iter().any(is_loopback));
    }
}
