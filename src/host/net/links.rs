//! The links of the host, as far as they matter here.

use std::io;

use rtnetlink::{
    LinkUnspec,
    packet_core::Nla,
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoData, InfoKind, InfoTun, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    },
};

use super::netlink::Netlink;
use crate::domain::{BRIDGE_PREFIX, TAP_PREFIX, Tag, VmId};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    /// What made it; `None` for hardware and loopback.
    pub kind: Option<InfoKind>,
    pub mtu: u32,
    /// The bridge (or the like) it is a port of.
    pub master: Option<u32>,
    pub mac: Vec<u8>,
    pub up: bool,
    /// Whether there is a carrier: for a TAP, that a program has it open.
    pub carrier: bool,
    pub loopback: bool,
    pub tun: Option<Tun>,
}

/// What only TUNs and TAPs have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tun {
    /// Who may attach to it beside root; `None` if nobody was named.
    pub owner: Option<u32>,
    pub tap: bool,
    pub vnet_hdr: bool,
    /// Whether there is a header of four bytes before each packet.
    pub packet_info: bool,
    pub persistent: bool,
}

impl Link {
    fn read(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            kind: None,
            mtu: 0,
            master: None,
            mac: Vec::new(),
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            tun: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = Some(kind),
                            LinkInfo::Data(InfoData::Tun(data)) => {
                                link.tun = Some(Tun::read(&data));
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }

    /// The VM whose TAP of this tag's it is, as its alias says.
    pub fn tap_of(&self, tag: &Tag) -> Option<VmId> {
        let (owner, vm) = self.marks()?;
        vm.filter(|_| owner == *tag && self.name.starts_with(TAP_PREFIX))
    }

    /// What its alias says of whose it is: the tag, and the VM of a TAP.
    pub fn marks(&self) -> Option<(Tag, Option<VmId>)> {
        let words = self.alias.as_deref()?.strip_prefix("banger ")?;
        match words.split_once(' ') {
            Some((tag, vm)) => Some((tag.parse().ok()?, Some(vm.parse().ok()?))),
            None => Some((words.parse().ok()?, None)),
        }
    }

    /// Whether it is called as banger calls what it makes.
    pub fn has_our_prefix(&self) -> bool {
        self.name.starts_with(TAP_PREFIX) || self.name.starts_with(BRIDGE_PREFIX)
    }
}

impl Tun {
    /// Reads `IFLA_TUN_*` (linux/if_link.h, Linux 4.16).
    fn read(data: &[InfoTun]) -> Self {
        let mut tun = Self::default();
        for info in data {
            let mut value = vec![0; info.value_len()];
            info.emit_value(&mut value);
            let flag = value.first().is_some_and(|b| *b != 0);
            match info.kind() {
                1 => tun.owner = value.try_into().ok().map(u32::from_ne_bytes),
                // IFF_TAP of linux/if_tun.h.
                3 => tun.tap = value.first() == Some(&2),
                4 => tun.packet_info = flag,
                5 => tun.vnet_hdr = flag,
                6 => tun.persistent = flag,
                _ => {}
            }
        }
        tun
    }
}

/// All links.
pub(super) fn all(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    let messages = netlink.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let link = |message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(Link::read(link)),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(link).collect())
}

/// The link of this name, if there is one.
pub(super) fn named(netlink: &mut Netlink, name: &str) -> io::Result<Option<Link>> {
    one(netlink, LinkUnspec::new_with_name(name).build())
}

/// The link with this number, if there is one.
pub(super) fn numbered(netlink: &mut Netlink, index: u32) -> io::Result<Option<Link>> {
    one(netlink, LinkUnspec::new_with_index(index).build())
}

fn one(netlink: &mut Netlink, which: LinkMessage) -> io::Result<Option<Link>> {
    match netlink.get(RouteNetlinkMessage::GetLink(which)) {
        Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(Link::read(link))),
        Ok(_) => Err(io::Error::from(io::ErrorKind::InvalidData)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a link; content if it is gone.
pub(super) fn delete(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let message = LinkUnspec::new_with_index(index).build();
    match netlink.set(RouteNetlinkMessage::DelLink(message)) {
        Err(error) if is_gone(&error) => Ok(()),
        done => done,
    }
}

/// Whether the kernel says that there is no such link.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENODEV | nix::libc::ENXIO))
}
