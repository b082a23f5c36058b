//! Whether the kernel forwards IPv4 (`net.ipv4.ip_forward`), and whether that is banger's doing.
//!
//! Any value but 0 turns it on (ip-sysctl of Linux: "0 - disabled, not 0 - enabled"), so the value
//! itself says who did: banger writes a number of its own, all others write 1. Setting and mark are
//! one word, which no crash comes between, which goes with the host's restart, which every banger home
//! can read, and which whoever else turns forwarding on writes over. The last home that has a bridge
//! turns it off again, whichever turned it on.

use std::{fs, io, os::unix::fs::MetadataExt};

use rtnetlink::packet_route::link::InfoKind;

use super::{
    links::{self, Link},
    netlink::Netlink,
    nft, refused,
    uplink::uplink,
};
use crate::domain::{BRIDGE_PREFIX, Problem, Tag};

/// Of the calling thread's network namespace, as all of `/proc/sys/net`.
const FILE: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the kernel forwards.
///
/// # Errors
/// If there is no `/proc/sys`.
pub fn is_forwarding() -> io::Result<bool> {
    Ok(fs::read_to_string(FILE)?.trim() != "0")
}

/// Whether the kernel forwards because a banger said so, and no banger has a bridge any more.
///
/// # Errors
/// If the host cannot be looked at.
pub fn is_left_forwarding() -> io::Result<bool> {
    if !is_marked()? {
        return Ok(false);
    }
    Ok(!links::all(&mut Netlink::open()?)?.iter().any(is_bangers_bridge))
}

/// Lets the kernel forward. Answers whether it did before. The caller has a bridge: that is how
/// others see that it is needed.
///
/// # Errors
/// If that may not be changed.
pub fn forwarding() -> Result<bool, Problem> {
    let what = "cannot turn on forwarding";
    let failed = |error: io::Error| refused(what, &error);
    let before = is_forwarding().map_err(failed)?;
    if !before {
        fs::write(FILE, mark().map_err(failed)?).map_err(failed)?;
    }
    Ok(before)
}

/// Takes back that the kernel forwards, if it was a banger that turned it on. Stays on for another
/// banger's bridge, and then it is for that one to turn it off; and if it looks as if somebody else
/// needs it by now - other bridges, virtual cables, tunnels, anybody else's network address
/// translation - it is theirs from then on.
///
/// # Errors
/// If the host cannot be looked at, or that may not be changed.
pub fn forwarding_gone(tag: &Tag) -> Result<(), Problem> {
    let what = "cannot turn off forwarding";
    let failed = |error: io::Error| refused(what, &error);
    if !is_marked().map_err(failed)? {
        return Ok(());
    }
    let write = |value: &str| fs::write(FILE, value).map_err(failed);
    let mut needed = needed(what, tag)?;
    let turned_off = needed == Needed::No;
    if turned_off {
        write("0")?;
        // Whoever came after the look may have found it on. Whoever comes after this one does not.
        needed = self::needed(what, tag)?;
    }
    match needed {
        Needed::No => Ok(()),
        Needed::ByBanger if turned_off => write(&mark().map_err(failed)?),
        Needed::ByBanger => Ok(()),
        Needed::ByOthers => write("1"),
    }
}

/// What banger writes to turn it on: nothing that anybody writes by chance, and in each network
/// namespace another number, as a new one begins with the value of the host's. It begins with a 1,
/// as that is what some programs look for.
fn mark() -> io::Result<String> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok((1_000_000_000 + namespace % 1_000_000_000).to_string())
}

fn is_marked() -> io::Result<bool> {
    Ok(fs::read_to_string(FILE)?.trim() == mark()?)
}

/// Who beside a tag's banger needs the kernel to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    No,
    ByBanger,
    ByOthers,
}

fn needed(what: &str, tag: &Tag) -> Result<Needed, Problem> {
    let failed = |error: io::Error| refused(what, &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let links = links::all(&mut netlink).map_err(failed)?;
    let own = tag.bridge();
    if let Some(link) = links.iter().find(|link| is_bangers_bridge(link) && link.name != own) {
        tracing::info!(link.name, "forwarding is left on: another banger needs it");
        return Ok(Needed::ByBanger);
    }
    // The way to the world is no sign of forwarding, whatever it is: in a container, a cable's end.
    let uplink = uplink(&mut netlink).map_err(failed)?;
    let mut others = links.iter().filter(|link| Some(link.index) != uplink);
    if let Some(link) = others.find(|link| forwards(link)) {
        tracing::info!(link.name, "forwarding is left on: somebody else may need it");
        return Ok(Needed::ByOthers);
    }
    if translates(what)? {
        tracing::info!("forwarding is left on: there is a translation of addresses");
        return Ok(Needed::ByOthers);
    }
    Ok(Needed::No)
}

/// By its name, as it has nothing else of banger's when it is new.
fn is_bangers_bridge(link: &Link) -> bool {
    link.kind == Some(InfoKind::Bridge) && link.name.starts_with(BRIDGE_PREFIX)
}

/// Whether a link is of a kind that is used for forwarding, and no banger's.
fn forwards(link: &Link) -> bool {
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
    kind && !is_bangers_bridge(link) && link.marks().is_none()
}

/// Whether somebody who is no banger changes senders on the way out.
fn translates(what: &str) -> Result<bool, Problem> {
    let chains = nft::list(what, &["chains"])?.unwrap_or_default();
    Ok(chains.iter().map(|object| &object["chain"]).any(|chain| {
        let banger = chain["table"].as_str().is_some_and(|table| Tag::of_table(table).is_some());
        chain["hook"] == "postrouting" && chain["type"] == "nat" && !banger
    }))
}

#[cfg(test)]
mod tests;
