//! What is there of banger's.

use super::{bridge, links, netlink::Netlink, refused, rules};
use crate::{
    domain::{Problem, Tag, VmId},
    host::ops::Inventory,
};

/// Adds what the tag has on the network: the bridge, TAPs, the table.
///
/// # Errors
/// If the host cannot be looked at; nftables only root can.
pub fn inventory(tag: &Tag, inventory: &mut Inventory) -> Result<(), Problem> {
    let failed = |error: std::io::Error| refused("cannot look at the network", &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let links = links::all(&mut netlink).map_err(failed)?;
    inventory.bridge = links.iter().any(|link| bridge::is_ours(link, tag));
    inventory.taps = links.iter().filter_map(|link| link.tap_of(tag)).collect();
    inventory.rules = rules::exist(tag)?;
    Ok(())
}

/// A link that is called as banger's are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The link.
    pub name: String,
    /// Its alias, if it has one.
    pub alias: Option<String>,
    /// Whose it is, as its alias says.
    pub tag: Option<Tag>,
    /// The VM whose TAP it is, as its alias says.
    pub vm: Option<VmId>,
    /// The user who may attach to it, for a TAP.
    pub owner: Option<u32>,
    /// Whether a program has it open, for a TAP.
    pub used: bool,
}

/// All links that are called as banger's are, of any tag, and of none.
///
/// # Errors
/// If the host cannot be looked at.
pub fn strangers() -> Result<Vec<Stranger>, Problem> {
    let failed = |error: std::io::Error| refused("cannot look at the network", &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let links = links::all(&mut netlink).map_err(failed)?;
    let stranger = |link: links::Link| {
        let (tag, vm) = link.marks().map_or((None, None), |(tag, vm)| (Some(tag), vm));
        Stranger {
            tag,
            vm,
            owner: link.tun.and_then(|tun| tun.owner),
            used: link.tun.is_some() && link.carrier,
            name: link.name,
            alias: link.alias,
        }
    };
    Ok(links.into_iter().filter(links::Link::has_our_prefix).map(stranger).collect())
}
