//! The values of parameters, each checked where it is made: none of them can hold a space or a
//! quote, so a command line always splits where it was joined.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use crate::domain::{check_ssh_key, split_ssh_key};

/// Keeps what is quoted back to the user short, and in one line, whatever was given.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// An IPv4 address with the length of its network's prefix: `10.0.2.15/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Ipv4Cidr {
    /// An address of a host in a network with a prefix of 1 to 32 bits.
    ///
    /// # Errors
    /// If the prefix is out of range, or the address cannot be a host's: unspecified, loopback,
    /// multicast or broadcast.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, String> {
        if !(1..=32).contains(&prefix) {
            return Err(format!("the prefix length {prefix} is not 1 to 32"));
        }
        if address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
        {
            return Err(format!("{address} cannot be the address of a machine"));
        }
        Ok(Self { address, prefix })
    }

    /// The host's own address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Bits of the network's prefix, 1 to 32.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether another address is in the same network.
    #[must_use]
    pub fn reaches(self, other: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.prefix));
        self.address.to_bits() & mask == other.to_bits() & mask
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("“{}” is not an address with a prefix, such as 10.0.2.15/24", clip(text));
        let (address, prefix) = text.split_once('/').ok_or_else(expected)?;
        let address = address.parse().map_err(|_| expected())?;
        // Plain digits only: `parse` would take a sign.
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(expected());
        }
        Self::new(address, prefix.parse().map_err(|_| expected())?)
    }
}

/// One line of `authorized_keys` (sshd(8)), without options: type, key, comment.
///
/// As a parameter it is `type:key:comment`, with `%xx` for each byte of the comment that is not
/// a letter, a digit or one of `@._-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKey {
    kind: String,
    blob: String,
    comment: String,
}

impl AuthorizedKey {
    fn new(kind: &str, blob: &str, comment: &str) -> Result<Self, String> {
        check_ssh_key(kind, blob, comment)?;
        let own = str::to_owned;
        Ok(Self { kind: own(kind), blob: own(blob), comment: own(comment) })
    }

    /// The value of `banger.key`.
    pub(super) fn to_parameter(&self) -> String {
        let mut text = format!("{}:{}:", self.kind, self.blob);
        for b in self.comment.bytes() {
            if b.is_ascii_alphanumeric() || b"@._-".contains(&b) {
                text.push(char::from(b));
            } else {
                text.push_str(&format!("%{b:02x}"));
            }
        }
        text
    }

    /// Reads the value of `banger.key`.
    pub(super) fn from_parameter(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(kind), Some(blob), Some(comment), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("“{}” is not type:key:comment", clip(text)));
        };
        let bad = || format!("“{}” is not a comment in percent encoding", clip(comment));
        let mut bytes = Vec::new();
        let mut rest = comment.bytes();
        while let Some(b) = rest.next() {
            if b == b'%' {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(bad());
                };
                bytes.push(u8::try_from(high * 16 + low).expect("two hex digits are a byte"));
            } else {
                bytes.push(b);
            }
        }
        Self::new(kind, blob, &String::from_utf8(bytes).map_err(|_| bad())?)
    }
}

impl fmt::Display for AuthorizedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.blob)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

impl FromStr for AuthorizedKey {
    type Err = String;

    /// Reads a line such as that of `id_ed25519.pub`.
    fn from_str(line: &str) -> Result<Self, String> {
        let (kind, blob, comment) = split_ssh_key(line)?;
        Self::new(kind, blob, comment)
    }
}

/// The name of a systemd unit: `home.mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(String);

impl UnitName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The types of units (systemd.unit(5)).
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

impl FromStr for UnitName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The characters and the length are those of systemd.unit(5).
        let legal = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        let typed = text
            .rsplit_once('.')
            .is_some_and(|(name, kind)| !name.is_empty() && UNIT_TYPES.contains(&kind));
        if !typed || text.len() > 255 || !text.bytes().all(legal) {
            return Err(format!("“{}” is not a unit such as home.mount", clip(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where the root file system is: `root=/dev/vda rootfstype=ext4 rw`, which is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFs {
    device: String,
    fstype: String,
    /// Whether it is mounted read-only. The init then changes nothing in it.
    pub read_only: bool,
}

impl Default for RootFs {
    fn default() -> Self {
        Self::from_checked(None, None, false)
    }
}

impl RootFs {
    /// The block device: `/dev/` and a name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The type of the file system, as the kernel calls it.
    #[must_use]
    pub fn fstype(&self) -> &str {
        &self.fstype
    }

    pub(super) fn from_checked(
        device: Option<String>,
        fstype: Option<String>,
        read_only: bool,
    ) -> Self {
        let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
        Self { device: or(device, "/dev/vda"), fstype: or(fstype, "ext4"), read_only }
    }

    pub(super) fn check_device(text: &str) -> Result<String, String> {
        let name = text.strip_prefix("/dev/").unwrap_or_default();
        if name.is_empty() || name.len() > 31 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(format!("“{}” is not a device such as /dev/vda", clip(text)));
        }
        Ok(text.to_owned())
    }

    pub(super) fn check_fstype(text: &str) -> Result<String, String> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if text.is_empty() || text.len() > 15 || !text.bytes().all(legal) {
            return Err(format!("“{}” is not a file system type such as ext4", clip(text)));
        }
        Ok(text.to_owned())
    }
}
