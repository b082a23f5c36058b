//! The VMs' own network: its address range, and the names of what banger makes on a host.

use core::net::Ipv4Addr;
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::VmId;

/// How a VM reaches the world, and the host reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkKind {
    /// A TAP on banger's bridge: an address of its own, NAT to the outside, a name. Needs root,
    /// or the root helper.
    Tap,
    /// The VMM's own user-mode network: a port of 127.0.0.1 leads to its SSH. Needs nothing.
    User,
}

impl NetworkKind {
    /// All of them, the best first.
    pub const ALL: [Self; 2] = [Self::Tap, Self::User];

    /// The word in configurations, options and stores: `tap`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::User => "user",
        }
    }

    /// As shown to the user.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tap => "bridge",
            Self::User => "user network",
        }
    }
}

/// Marks everything that one database's banger makes on a host, so that several users, and
/// several homes of one user, never touch each other's: six lower-case hex digits, random, made
/// with the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// What every TAP of banger's is called first; no bridge is.
pub const TAP_PREFIX: &str = "bgt-";
/// What every bridge of banger's is called first.
pub const BRIDGE_PREFIX: &str = "bgr-";

impl Tag {
    /// Makes a tag from three random bytes.
    #[must_use]
    pub fn from_bytes([a, b, c]: [u8; 3]) -> Self {
        Self(format!("{a:02x}{b:02x}{c:02x}"))
    }

    /// The six digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bridge's name: `bgr-3fa2c1`. Interface names have at most 15 characters.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("{BRIDGE_PREFIX}{}", self.0)
    }

    /// The nftables table's name, in the family `inet`: `banger_3fa2c1`.
    #[must_use]
    pub fn table(&self) -> String {
        format!("banger_{}", self.0)
    }

    /// Whose a table of this name is, if it is called as banger's are.
    #[must_use]
    pub fn of_table(name: &str) -> Option<Self> {
        name.strip_prefix("banger_")?.parse().ok()
    }

    /// The name of a VM's device-mapper device, and of its node in `/dev/banger`.
    #[must_use]
    pub fn device(&self, vm: &VmId) -> String {
        format!("banger-{}-{vm}", self.0)
    }

    /// What an interface's alias says of whose it is: `banger 3fa2c1`, and the VM for a TAP.
    #[must_use]
    pub fn alias(&self, vm: Option<&VmId>) -> String {
        vm.map_or_else(|| format!("banger {}", self.0), |vm| format!("banger {} {vm}", self.0))
    }
}

/// The name of a VM's TAP: `bgt-0a1b2c3d`.
#[must_use]
pub fn tap_name(vm: &VmId) -> String {
    format!("{TAP_PREFIX}{vm}")
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`Tag`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is no tag: six lower-case hex digits are expected")]
pub struct BadTag(String);

impl FromStr for Tag {
    type Err = BadTag;

    fn from_str(text: &str) -> Result<Self, BadTag> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 6 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadTag(text.chars().take(32).collect()))
        }
    }
}

impl TryFrom<String> for Tag {
    type Error = BadTag;

    fn try_from(text: String) -> Result<Self, BadTag> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

/// The range of addresses of one banger's VMs: 1,022 of them, of which the first is the host's.
///
/// A `/22`, because a bridge has at most 1,024 ports (`BR_MAX_PORTS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(Ipv4Addr);

impl Subnet {
    /// Bits of the network part.
    pub const PREFIX: u8 = 22;
    /// Addresses it has, those of the network and of broadcast included.
    pub const SIZE: u32 = 1 << (32 - Self::PREFIX);
    /// The places a VM can have: [`Subnet::guest`].
    pub const GUESTS: std::ops::RangeInclusive<u16> = 2..=(Self::SIZE as u16 - 2);

    /// The subnet that begins at this address; `None` if none begins there.
    #[must_use]
    pub fn at(network: Ipv4Addr) -> Option<Self> {
        network.to_bits().is_multiple_of(Self::SIZE).then_some(Self(network))
    }

    /// The network's address.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        self.0
    }

    /// The host's address on the bridge: the guests' gateway and name server.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.to_bits() + 1)
    }

    /// The address of the guest with this place; `None` outside [`Subnet::GUESTS`].
    #[must_use]
    pub fn guest(self, place: u16) -> Option<Ipv4Addr> {
        let bits = self.0.to_bits() + u32::from(place);
        Self::GUESTS.contains(&place).then(|| Ipv4Addr::from_bits(bits))
    }

    /// The DNS zones of its addresses: `4.30.172.in-addr.arpa` and so on. They end at whole bytes, so
    /// there are four.
    #[must_use]
    pub fn reverse_zones(self) -> Vec<String> {
        let begin = self.0.to_bits();
        let thirds = (begin..begin + Self::SIZE).step_by(256).map(Ipv4Addr::from_bits);
        thirds
            .map(|third| {
                let [a, b, c, _] = third.octets();
                format!("{c}.{b}.{a}.in-addr.arpa")
            })
            .collect()
    }

    /// Whether it has this address.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() / Self::SIZE == self.0.to_bits() / Self::SIZE
    }

    /// Whether it shares an address with the network of `prefix` bits (0 to 32) around `address`.
    #[must_use]
    pub fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let shorter = u32::from(prefix.min(Self::PREFIX));
        let mask = u32::MAX.checked_shl(32 - shorter).unwrap_or(0);
        (self.0.to_bits() ^ address.to_bits()) & mask == 0
    }
}

/// The MAC address that goes with an address: locally administered, `02:fc` and the four bytes.
#[must_use]
pub const fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0xfc, a, b, c, d]
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, Self::PREFIX)
    }
}

/// Why a text is no [`Subnet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is no subnet: a network of 22 bits is expected, such as 172.30.4.0/22")]
pub struct BadSubnet(String);

impl FromStr for Subnet {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Self, BadSubnet> {
        let bad = || BadSubnet(text.chars().take(40).collect());
        let (network, prefix) = text.split_once('/').ok_or_else(bad)?;
        if prefix != Self::PREFIX.to_string() {
            return Err(bad());
        }
        network.parse().ok().and_then(Self::at).ok_or_else(bad)
    }
}

impl TryFrom<String> for Subnet {
    type Error = BadSubnet;

    fn try_from(text: String) -> Result<Self, BadSubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_where_they_go() {
        let tag = Tag::from_bytes([0x3f, 0xa2, 0xc1]);
        let vm = VmId::from_bytes([10, 27, 44, 61]);
        assert_eq!(tag.bridge(), "bgr-3fa2c1");
        assert_eq!(tap_name(&vm), "bgt-0a1b2c3d");
        assert!(tag.bridge().len() <= 15 && tap_name(&vm).len() <= 15, "IFNAMSIZ");
        assert_eq!(tag.device(&vm), "banger-3fa2c1-0a1b2c3d");
        assert_eq!("3fa2c1".parse::<Tag>(), Ok(tag));
        for bad in ["", "3fa2c", "3fa2c1a", "3FA2C1", "../../"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subnet_has_a_gateway_and_guests_and_nothing_else() {
        let subnet: Subnet = "172.30.4.0/22".parse().expect("a subnet");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(172, 30, 4, 1));
        assert_eq!(subnet.guest(2), Some(Ipv4Addr::new(172, 30, 4, 2)));
        assert_eq!(subnet.guest(1022), Some(Ipv4Addr::new(172, 30, 7, 254)));
        assert_eq!((subnet.guest(0), subnet.guest(1), subnet.guest(1023)), (None, None, None));
        assert!(subnet.contains(Ipv4Addr::new(172, 30, 7, 255)));
        assert!(!subnet.contains(Ipv4Addr::new(172, 30, 8, 0)));
        assert_eq!(subnet.to_string().parse(), Ok(subnet));
        let zones = subnet.reverse_zones();
        assert_eq!((zones.len(), zones[0].as_str()), (4, "4.30.172.in-addr.arpa"));
        assert_eq!(zones[3], "7.30.172.in-addr.arpa");
        for bad in ["172.30.5.0/22", "172.30.4.0/24", "172.30.4.0", "x/22", ""] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlaps_are_seen_both_ways() {
        let subnet: Subnet = "172.30.4.0/22".parse().expect("a subnet");
        let ip = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
        for (address, prefix) in
            [(ip(172, 30, 5, 7), 32), (ip(172, 16, 0, 0), 12), (ip(0, 0, 0, 0), 0)]
        {
            assert!(subnet.overlaps(address, prefix), "{address}/{prefix}");
        }
        for (address, prefix) in [(ip(172, 30, 8, 0), 22), (ip(10, 0, 0, 0), 8)] {
            assert!(!subnet.overlaps(address, prefix), "{address}/{prefix}");
        }
    }

    #[test]
    fn a_mac_is_local_and_unicast() {
        let mac = mac(Ipv4Addr::new(172, 30, 4, 2));
        assert_eq!(mac, [0x02, 0xfc, 172, 30, 4, 2]);
        assert_eq!(mac[0] & 0b11, 0b10);
    }
}
