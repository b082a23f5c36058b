//! Which addresses are taken, and which the VMs can have.

use std::{fs, io, net::Ipv4Addr};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use serde_json::Value;

use super::{bridge, links, netlink::Netlink, refused};
use crate::domain::{Problem, Subnet, Tag};

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    address: Ipv4Addr,
    /// Bits of the network part, 0 to 32.
    prefix: u8,
}

impl Range {
    const fn new([a, b, c, d]: [u8; 4], prefix: u8) -> Self {
        Self { address: Ipv4Addr::new(a, b, c, d), prefix }
    }

    fn read(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|bits| *bits <= 32)?;
        Some(Self { address: address.parse().ok()?, prefix })
    }
}

/// A range that somebody has, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    range: Range,
    says: String,
}

/// Where candidates come from (RFC 1918), in this order: what companies and their VPNs use least
/// first.
const PRIVATE: [Range; 3] = [
    Range::new([172, 16, 0, 0], 12),
    Range::new([10, 0, 0, 0], 8),
    Range::new([192, 168, 0, 0], 16),
];

/// What others take as they come, whether they are here now or not: candidates only if there is
/// nothing else. The ends of Docker's pools (172.28.0.0/14, 192.168.0.0/16) are not among them: it
/// gets there last, and asks the routes first.
const CUSTOMARY: [Range; 9] = [
    // Docker: 172.17.0.0/16 for its own bridge, then upwards (libnetwork's ipamutils).
    Range::new([172, 17, 0, 0], 16),
    Range::new([172, 18, 0, 0], 15),
    Range::new([172, 20, 0, 0], 14),
    Range::new([172, 24, 0, 0], 14),
    // Podman's and netavark's.
    Range::new([10, 88, 0, 0], 15),
    // Kubernetes: services, flannel's pods, k3s.
    Range::new([10, 96, 0, 0], 12),
    Range::new([10, 244, 0, 0], 16),
    Range::new([10, 42, 0, 0], 15),
    // libvirt's default network.
    Range::new([192, 168, 122, 0], 24),
];

/// Routes to more than this share of all addresses are ways to the world, not networks: the
/// default route, and the two or four that VPNs put before it.
const WORLD: u8 = 8;

/// Where Docker's own pools are configured.
const DOCKER: &str = "/etc/docker/daemon.json";

/// The VMs' addresses: the first candidate that shares none with any address or route of this host,
/// whatever made it. The order of the candidates depends on the tag, so that two bangers choose
/// differently.
///
/// # Errors
/// If the host cannot be looked at, or all private addresses are taken.
pub fn choose_subnet(tag: &Tag) -> Result<Subnet, Problem> {
    let what = "cannot choose addresses for VMs";
    let taken = taken(tag).map_err(|error| refused(what, &error))?;
    let ranges: Vec<Range> = taken.iter().map(|taken| taken.range).collect();
    let mut customary = CUSTOMARY.to_vec();
    customary.extend(docker_pools(&fs::read_to_string(DOCKER).unwrap_or_default()));
    first_free(tag, &ranges, &customary).ok_or_else(|| {
        let why = "every private network is in use here, or routed elsewhere";
        Problem::new(
            what,
            why,
            "ip route show table all; leave a VPN that routes all of 10.0.0.0/8",
        )
    })
}

/// What shares addresses with a subnet, if anything does: a clause for the user. The tag's own
/// bridge does not count.
///
/// # Errors
/// If the host cannot be looked at.
pub fn collision(tag: &Tag, subnet: Subnet) -> Result<Option<String>, Problem> {
    let taken = taken(tag).map_err(|e| refused("cannot look at the host's addresses", &e))?;
    let hit = taken.into_iter().find(|t| subnet.overlaps(t.range.address, t.range.prefix));
    Ok(hit.map(|taken| taken.says))
}

/// The first candidate that overlaps neither what is taken nor what is customary; if there is none,
/// the first that does not overlap what is taken.
fn first_free(tag: &Tag, taken: &[Range], customary: &[Range]) -> Option<Subnet> {
    let free = |subnet: &Subnet, ranges: &[Range]| {
        ranges.iter().all(|range| !subnet.overlaps(range.address, range.prefix))
    };
    let polite = candidates(tag).find(|s| free(s, taken) && free(s, customary));
    polite.or_else(|| candidates(tag).find(|s| free(s, taken)))
}

/// Every subnet of each private range once, from a place and in steps that the tag decides. A range
/// has a power of two of them, so that any odd step comes by all.
fn candidates(tag: &Tag) -> impl Iterator<Item = Subnet> {
    let seed = u32::from_str_radix(tag.as_str(), 16).unwrap_or(0);
    PRIVATE.into_iter().flat_map(move |range| {
        let count = 1u32 << (Subnet::PREFIX - range.prefix);
        let mixed = mix(seed);
        let (start, step) = (mixed, mixed >> 16 | 1);
        (0..count).filter_map(move |i| {
            let place = start.wrapping_add(i.wrapping_mul(step)) % count;
            Subnet::at(Ipv4Addr::from_bits(range.address.to_bits() + place * Subnet::SIZE))
        })
    })
}

/// Spreads what differs in any bit over all bits (the finalizer of MurmurHash3).
fn mix(mut bits: u32) -> u32 {
    bits = (bits ^ bits >> 16).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ bits >> 13).wrapping_mul(0xc2b2_ae35);
    bits ^ bits >> 16
}

/// `default-address-pools` and `bip` of Docker's configuration.
fn docker_pools(json: &str) -> Vec<Range> {
    let document: Value = serde_json::from_str(json).unwrap_or_default();
    let pools = document["default-address-pools"].as_array();
    let bases = pools.into_iter().flatten().map(|pool| &pool["base"]);
    let ranges = bases.chain([&document["bip"]]).filter_map(Value::as_str);
    ranges.filter_map(Range::read).collect()
}

/// Every address and route of the host but those of the tag's bridge.
fn taken(tag: &Tag) -> io::Result<Vec<Taken>> {
    let mut netlink = Netlink::open()?;
    let links = links::all(&mut netlink)?;
    let own = links.iter().find(|link| bridge::is_ours(link, tag)).map(|link| link.index);
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    };
    let mut taken = Vec::new();
    for message in bridge::ipv4(&mut netlink)? {
        let (index, prefix) = (message.header.index, message.header.prefix_len);
        if let Some(std::net::IpAddr::V4(address)) = bridge::local(&message)
            && Some(index) != own
        {
            let says = format!("{} has the address {address}/{prefix}", name(index));
            taken.push(Taken { range: Range { address, prefix }, says });
        }
    }
    let mut all = RouteMessage::default();
    all.header.address_family = AddressFamily::Inet;
    for message in netlink.dump(&RouteNetlinkMessage::GetRoute(all))? {
        if let RouteNetlinkMessage::NewRoute(route) = message
            && let Some(range) = destination(&route)
            && (own.is_none() || way(&route) != own)
        {
            let says = match way(&route) {
                Some(index) => {
                    format!("{}/{} is routed to {}", range.address, range.prefix, name(index))
                }
                None => format!("{}/{} is routed away", range.address, range.prefix),
            };
            taken.push(Taken { range, says });
        }
    }
    Ok(taken)
}

/// `RT_TABLE_LOCAL`: what the kernel derives from addresses (linux/rtnetlink.h).
const LOCAL: u8 = 255;

/// The network a route leads to; `None` of ways to the world, and of what is none.
fn destination(route: &RouteMessage) -> Option<Range> {
    let RouteHeader { destination_prefix_length: prefix, table, kind, .. } = route.header;
    if prefix < WORLD || table == LOCAL || kind == RouteType::Multicast {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
            Some(Range { address: *address, prefix })
        }
        _ => None,
    })
}

/// The interface a route leads to; of several, the first.
pub(super) fn way(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> Range {
        Range::read(text).expect("a range")
    }

    #[test]
    fn candidates_are_all_private_subnets_each_once() {
        let tag = Tag::from_bytes([0x3f, 0xa2, 0xc1]);
        let all: Vec<Subnet> = candidates(&tag).collect();
        assert_eq!(all.len(), 1024 + 16_384 + 64);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let private = |s: &Subnet| PRIVATE.iter().any(|r| s.overlaps(r.address, r.prefix));
        assert!(all.iter().all(private));
    }

    #[test]
    fn bangers_choose_differently() {
        let choice = |n: u8| first_free(&Tag::from_bytes([n, 0, 1]), &[], &CUSTOMARY);
        let choices: BTreeSet<_> = (0..20).map(choice).collect();
        assert!(choices.len() > 15, "{choices:?}");
    }

    #[test]
    fn what_is_customary_is_taken_only_when_there_is_nothing_else() {
        let tag = Tag::from_bytes([1, 2, 3]);
        let polite = first_free(&tag, &[], &CUSTOMARY).expect("free");
        assert!(CUSTOMARY.iter().all(|r| !polite.overlaps(r.address, r.prefix)));
        // Only a Docker pool and a half of 192.168 are free.
        let taken = [
            range("10.0.0.0/8"),
            range("172.16.0.0/14"),
            range("172.24.0.0/13"),
            range("192.168.0.0/16"),
        ];
        let rest = first_free(&tag, &taken, &CUSTOMARY).expect("free");
        assert!(rest.overlaps(Ipv4Addr::new(172, 20, 0, 0), 14), "{rest}");
        assert_eq!(first_free(&tag, &[range("0.0.0.0/0")], &[]), None);
    }

    #[test]
    fn dockers_pools_are_read() {
        let json = r#"{"bip": "10.7.0.1/24", "default-address-pools":
            [{"base": "10.200.0.0/16", "size": 24}, {"base": "nonsense"}, {"size": 3}]}"#;
        assert_eq!(docker_pools(json), [range("10.200.0.0/16"), range("10.7.0.1/24")]);
        assert_eq!(docker_pools(""), []);
        assert_eq!(docker_pools("[1, 2]"), []);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free(
            tag in any::<[u8; 3]>(),
            nets in proptest::collection::vec((any::<u32>(), 8u8..=32, 0usize..3), 0..40),
        ) {
            let inside = |(bits, prefix, place): (u32, u8, usize)| {
                // In a private range, so that it matters.
                let home = PRIVATE[place];
                let host = u32::MAX >> home.prefix;
                let address = Ipv4Addr::from_bits(home.address.to_bits() | bits & host);
                Range { address, prefix: prefix.max(home.prefix) }
            };
            let taken: Vec<Range> = nets.into_iter().map(inside).collect();
            let tag = Tag::from_bytes(tag);
            let chosen = first_free(&tag, &taken, &CUSTOMARY);
            prop_assert_eq!(chosen, first_free(&tag, &taken, &CUSTOMARY), "it stays the same");
            let free = |s: Subnet| taken.iter().all(|r| {
                // By its ends: ranges overlap if one has an end of the other.
                let first = s.network().to_bits();
                let last = first + Subnet::SIZE - 1;
                let mask = u32::MAX.checked_shl(32 - u32::from(r.prefix)).unwrap_or(0);
                let low = r.address.to_bits() & mask;
                let high = low | !mask;
                last < low || high < first
            });
            match chosen {
                Some(subnet) => prop_assert!(free(subnet), "{subnet}"),
                None => prop_assert!(candidates(&tag).all(|s| !free(s))),
            }
        }
    }
}
