//! The bridge that a banger's TAPs are on.

use std::{fs, io, net::IpAddr};

use rtnetlink::{
    AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{BridgeStpState, InfoBridge, InfoKind},
    },
};

use super::{
    check_mtu,
    links::{self, Link},
    netlink::Netlink,
    refused,
};
use crate::domain::{Problem, Subnet, Tag, mac};

/// Makes the bridge, or takes it as it is and changes what differs: its address, its MTU. Up, with
/// an address of its own that no port changes, without spanning tree, and deaf to routers.
///
/// # Errors
/// If the kernel refuses; if there is a link of the name that is not this tag's bridge.
pub fn bridge(tag: &Tag, subnet: Subnet, mtu: u32) -> Result<(), Problem> {
    let name = tag.bridge();
    let what = format!("cannot make the bridge {name}");
    check_mtu(&what, mtu)?;
    let failed = |error: io::Error| refused(&what, &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let link = match links::named(&mut netlink, &name).map_err(failed)? {
        Some(link) => link,
        None => create(&mut netlink, &name, subnet).map_err(failed)?,
    };
    if !is_ours(&link, tag) {
        let why = format!("there is a link {name} that is not banger's");
        return Err(Problem::new(what, why, format!("if nobody needs it: ip link delete {name}")));
    }
    settle(&mut netlink, &link, tag, subnet, mtu).map_err(failed)
}

/// The bridge goes.
///
/// # Errors
/// If something is still on it, or the kernel refuses. A link of the name that is not banger's is
/// left alone, and no error.
pub fn bridge_gone(tag: &Tag) -> Result<(), Problem> {
    let name = tag.bridge();
    let what = format!("cannot remove the bridge {name}");
    let failed = |error: io::Error| refused(&what, &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let Some(link) = links::named(&mut netlink, &name).map_err(failed)? else { return Ok(()) };
    if !is_ours(&link, tag) {
        return Ok(());
    }
    let all = links::all(&mut netlink).map_err(failed)?;
    let ports = all.iter().filter(|port| port.master == Some(link.index));
    let ports: Vec<&str> = ports.map(|port| port.name.as_str()).collect();
    if !ports.is_empty() {
        let why = format!("still on it: {}", ports.join(", "));
        return Err(Problem::new(what, why, "stop the VMs first; banger doctor"));
    }
    links::delete(&mut netlink, link.index).map_err(failed)
}

/// The tag's bridge, if it is there.
pub(super) fn find(netlink: &mut Netlink, tag: &Tag) -> io::Result<Option<Link>> {
    Ok(links::named(netlink, &tag.bridge())?.filter(|link| is_ours(link, tag)))
}

/// By its alias; or, if whoever made it did not come to that, by the address that it is made with.
pub(super) fn is_ours(link: &Link, tag: &Tag) -> bool {
    let marked = match &link.alias {
        Some(alias) => *alias == tag.alias(None),
        None => link.mac.starts_with(&[0x02, 0xfc]),
    };
    marked && link.name == tag.bridge() && link.kind == Some(InfoKind::Bridge)
}

fn create(netlink: &mut Netlink, name: &str, subnet: Subnet) -> io::Result<Link> {
    let message = LinkMessageBuilder::<LinkBridge>::new(name)
        .append_info_data(InfoBridge::StpState(BridgeStpState::Disabled))
        .append_info_data(InfoBridge::ForwardDelay(0))
        .address(mac(subnet.gateway()).to_vec())
        .build();
    match netlink.create(RouteNetlinkMessage::NewLink(message)) {
        // Another VM's monitor was as quick.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => done?,
    }
    links::named(netlink, name)?.ok_or_else(|| io::Error::from_raw_os_error(nix::libc::ENODEV))
}

/// Changes what differs.
fn settle(
    netlink: &mut Netlink,
    link: &Link,
    tag: &Tag,
    subnet: Subnet,
    mtu: u32,
) -> io::Result<()> {
    let (alias, mac) = (tag.alias(None), mac(subnet.gateway()));
    let whole = link.alias.as_deref() == Some(&alias) && link.mtu == mtu && link.mac == mac;
    if !whole {
        // The MTU in a message of its own kind: only one that is set later than the bridge is
        // made does not follow that of its ports (br_mtu_auto_adjust).
        let message = LinkUnspec::new_with_index(link.index)
            .mtu(mtu)
            .alias(alias)
            .address(mac.to_vec())
            .build();
        netlink.set(RouteNetlinkMessage::SetLink(message))?;
    }
    if !link.up {
        // No guest is to become the host's router. Without IPv6 there is no such file.
        let accept = format!("/proc/sys/net/ipv6/conf/{}/accept_ra", link.name);
        match fs::write(accept, "0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    let mut has = false;
    for address in ipv4(netlink)?.into_iter().filter(|a| a.header.index == link.index) {
        let ours = address.header.prefix_len == Subnet::PREFIX
            && local(&address) == Some(subnet.gateway().into());
        has |= ours;
        if !ours {
            netlink.set(RouteNetlinkMessage::DelAddress(address))?;
        }
    }
    if !has {
        let address = AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(link.index)
            .address(subnet.gateway(), Subnet::PREFIX)
            .build();
        netlink.ensure(RouteNetlinkMessage::NewAddress(address))?;
    }
    if !link.up {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        netlink.set(RouteNetlinkMessage::SetLink(message))?;
    }
    Ok(())
}

/// All IPv4 addresses of the host.
pub(super) fn ipv4(netlink: &mut Netlink) -> io::Result<Vec<AddressMessage>> {
    let mut which = AddressMessage::default();
    which.header.family = AddressFamily::Inet;
    let messages = netlink.dump(&RouteNetlinkMessage::GetAddress(which))?;
    let address = |message| match message {
        RouteNetlinkMessage::NewAddress(address) => Some(address),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(address).collect())
}

/// The address itself; of a point-to-point link, the near end.
pub(super) fn local(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
}
