//! The way to the world.

use std::{io, net::Ipv4Addr};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric},
};

use super::{MTU, links, netlink::Netlink, subnet::way};

/// An address that is reached as the world is: where a packet to it would go is asked, none is
/// sent. Asking takes account of policy routing, as VPNs use it, which looking for a default route
/// does not.
const WORLD: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// Bytes that a packet to the world can have: of the route if that says so, else of its interface.
/// Within what a bridge can be told, 1,280 to 65,535. `None` if there is no way to the world.
#[must_use]
pub fn uplink_mtu() -> Option<u32> {
    mtu().unwrap_or_else(|error| {
        tracing::warn!(%error, "the route to the world cannot be read");
        None
    })
}

/// The number of the interface that leads to the world; `None` if there is no way there.
///
/// # Errors
/// If the kernel does not tell.
pub(super) fn uplink(netlink: &mut Netlink) -> io::Result<Option<u32>> {
    Ok(route(netlink)?.as_ref().and_then(way))
}

fn route(netlink: &mut Netlink) -> io::Result<Option<RouteMessage>> {
    let mut ask = RouteMessage::default();
    ask.header.address_family = AddressFamily::Inet;
    ask.header.destination_prefix_length = 32;
    ask.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(WORLD)));
    match netlink.get(RouteNetlinkMessage::GetRoute(ask)) {
        Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(Some(route)),
        Ok(_) => Ok(None),
        // The errors of routes that lead nowhere, and of none (ip-route(8)).
        Err(error) if is_no_way(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn mtu() -> io::Result<Option<u32>> {
    let mut netlink = Netlink::open()?;
    let Some(route) = route(&mut netlink)? else { return Ok(None) };
    let metrics = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    let told = metrics.into_iter().flatten().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    let Some(index) = way(&route) else { return Ok(None) };
    let link = links::numbered(&mut netlink, index)?.filter(|link| !link.loopback);
    Ok(link.map(|link| told.unwrap_or(link.mtu).clamp(*MTU.start(), *MTU.end())))
}

fn is_no_way(error: &io::Error) -> bool {
    use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
    matches!(error.raw_os_error(), Some(ENETUNREACH | EHOSTUNREACH | EACCES | EINVAL))
}
