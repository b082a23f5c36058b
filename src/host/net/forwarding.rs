//! Whether the kernel forwards IPv4 (`net.ipv4.ip_forward`, ip-sysctl of Linux).

use std::{fs, io};

use rtnetlink::packet_route::link::InfoKind;

use super::{
    links::{self, Link},
    netlink::Netlink,
    nft, refused,
    uplink::uplink,
};
use crate::domain::{Problem, Tag};

/// Of the calling thread's network namespace, as all of `/proc/sys/net`.
const FILE: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the kernel forwards.
///
/// # Errors
/// If there is no `/proc/sys`.
pub fn is_forwarding() -> io::Result<bool> {
    Ok(fs::read_to_string(FILE)?.trim() != "0")
}

/// Lets the kernel forward. Answers whether it did before.
///
/// # Errors
/// If that may not be changed.
pub fn forwarding() -> Result<bool, Problem> {
    let what = "cannot turn on forwarding";
    let failed = |error: io::Error| refused(what, &error);
    let before = is_forwarding().map_err(failed)?;
    if !before {
        fs::write(FILE, "1").map_err(failed)?;
    }
    Ok(before)
}

/// Takes back that the kernel forwards, unless it looks as if somebody else needs it by now: other
/// bridges, virtual cables, tunnels, or anybody else's network address translation. For whoever
/// turned it on.
///
/// # Errors
/// If the host cannot be looked at, or that may not be changed.
pub fn forwarding_gone(tag: &Tag) -> Result<(), Problem> {
    let what = "cannot turn off forwarding";
    let failed = |error: io::Error| refused(what, &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let links = links::all(&mut netlink).map_err(failed)?;
    // The way to the world is no sign of forwarding, whatever it is: in a container, a cable's end.
    let uplink = uplink(&mut netlink).map_err(failed)?;
    let mut others = links.iter().filter(|link| Some(link.index) != uplink);
    if let Some(link) = others.find(|link| forwards(link, tag)) {
        tracing::info!(link.name, "forwarding is left on: somebody else may need it");
        return Ok(());
    }
    if translates(what, tag)? {
        tracing::info!("forwarding is left on: there is a translation of addresses");
        return Ok(());
    }
    fs::write(FILE, "0").map_err(failed)
}

/// Whether a link is of a kind that is used for forwarding, and not this tag's own.
fn forwards(link: &Link, tag: &Tag) -> bool {
    let ours = link.marks().is_some_and(|(owner, _)| owner == *tag);
    let kind = matches!(
        link.kind,
        Some(
            InfoKind::Bridge
                | InfoKind::Veth
                | InfoKind::Wireguard
                | InfoKind::Tun
                | InfoKind::MacVlan
                | InfoKind::MacVtap
                | InfoKind::IpVlan
                | InfoKind::Vxlan
                | InfoKind::Vrf
        )
    );
    kind && !ours
}

/// Whether somebody else changes senders on the way out.
fn translates(what: &str, tag: &Tag) -> Result<bool, Problem> {
    let chains = nft::list(what, &["chains"])?.unwrap_or_default();
    Ok(chains.iter().map(|object| &object["chain"]).any(|chain| {
        chain["hook"] == "postrouting"
            && chain["type"] == "nat"
            && chain["table"] != tag.table().as_str()
    }))
}
