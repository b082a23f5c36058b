//! The rules of nftables: an own table for each banger, and two in Docker's chain.
//!
//! | chain | hook | what |
//! |---|---|---|
//! | `origin` | prerouting, raw | what comes from the bridge with a foreign sender is dropped |
//! | `names` | prerouting, dstnat | what guests ask port 53 of the gateway goes to banger's name server |
//! | `relay` | forward | guests may open connections to anywhere; nobody but the host and other guests may open one to them, unless by a DNAT of the user's own |
//! | `leave` | postrouting, srcnat | what leaves by another way than the bridge has the host's address |
//!
//! An `accept` here ends nothing but the chain it is in: a firewall in another table can still
//! drop: see [`firewalls`](super::firewalls()). Docker is told in the chain that it leaves to others
//! for that.

mod docker;
mod legacy;
mod words;

use nftables::{
    schema::{Chain, NfCmd, NfListObject, NfObject, Rule, Table},
    stmt::Statement,
    types::{NfChainPolicy, NfChainType, NfFamily, NfHook},
};

use super::nft;
use crate::domain::{Problem, Subnet, Tag};
pub(super) use legacy::legacy_policy;
use words::{
    accept, clamp, ct, destination, drop, from, masquerade, not_from_subnet, not_to, redirect,
    source, syn, to, to_port,
};

/// Replaces the tag's table, in one transaction: there is no moment without rules, and if nft
/// refuses nothing has changed. Also tells Docker, if it is there.
///
/// # Errors
/// If there is no `nft`, or it refuses.
pub fn rules(tag: &Tag, subnet: Subnet, dns: Option<u16>) -> Result<(), Problem> {
    let what = format!("cannot make the nftables table {}", tag.table());
    let mut commands = gone(tag);
    commands.extend(table(tag, subnet, dns));
    commands.extend(docker::told(&what, tag)?);
    nft::apply(&what, commands)?;
    legacy::told(&what, tag)
}

/// The tag's table goes, and what Docker was told.
///
/// # Errors
/// If there is no `nft`, or it refuses.
pub fn rules_gone(tag: &Tag) -> Result<(), Problem> {
    let what = format!("cannot remove the nftables table {}", tag.table());
    let mut commands = gone(tag);
    commands.extend(docker::untold(&what, tag)?);
    nft::apply(&what, commands)?;
    legacy::untold(&what, tag)
}

/// Whether the tag's table is there.
///
/// # Errors
/// If nft cannot be asked, as for whoever is not root.
pub(super) fn exist(tag: &Tag) -> Result<bool, Problem> {
    let what = "cannot look at nftables";
    let tables = nft::list(what, &["tables", "inet"])?.unwrap_or_default();
    Ok(tables.iter().any(|object| object["table"]["name"] == tag.table().as_str()))
}

/// Removes the table, whether it is there or not: deleting what was just added always works, and
/// `destroy` needs Linux 6.3.
fn gone(tag: &Tag) -> Vec<NfObject<'static>> {
    let table = Table { family: NfFamily::INet, name: tag.table().into(), handle: None };
    vec![add(NfListObject::Table(table.clone())), delete(NfListObject::Table(table))]
}

fn add(object: NfListObject<'static>) -> NfObject<'static> {
    NfObject::CmdObject(NfCmd::Add(object))
}

fn delete(object: NfListObject<'static>) -> NfObject<'static> {
    NfObject::CmdObject(NfCmd::Delete(object))
}

/// A chain's name, its type, its hook, its priority (as in nft(8)) and its rules.
type ChainOf = (&'static str, NfChainType, NfHook, i32, Vec<Vec<Statement<'static>>>);

fn table(tag: &Tag, subnet: Subnet, dns: Option<u16>) -> Vec<NfObject<'static>> {
    let bridge = &tag.bridge();
    let mut names = Vec::new();
    for protocol in ["udp", "tcp"] {
        names.extend(dns.map(|port| {
            vec![from(bridge), destination(subnet.gateway()), to_port(protocol, 53), redirect(port)]
        }));
    }
    let relay = vec![
        // A connection over a tunnel with a smaller MTU, whose hints get lost on the way.
        vec![from(bridge), syn(), clamp()],
        vec![to(bridge), syn(), clamp()],
        vec![from(bridge), accept()],
        vec![to(bridge), ct("state", &["established", "related"]), accept()],
        vec![to(bridge), ct("status", &["dnat"]), accept()],
        vec![to(bridge), drop()],
    ];
    let chains: [ChainOf; 4] = [
        (
            "origin",
            NfChainType::Filter,
            NfHook::Prerouting,
            -300,
            vec![vec![from(bridge), not_from_subnet(subnet), drop()]],
        ),
        ("names", NfChainType::NAT, NfHook::Prerouting, -100, names),
        ("relay", NfChainType::Filter, NfHook::Forward, 0, relay),
        (
            "leave",
            NfChainType::NAT,
            NfHook::Postrouting,
            100,
            vec![vec![source(subnet), not_to(bridge), masquerade()]],
        ),
    ];
    let family = NfFamily::INet;
    let mut commands = Vec::new();
    let name = tag.table();
    let table = Table { family, name: name.clone().into(), handle: None };
    commands.push(add(NfListObject::Table(table)));
    for (chain, kind, hook, priority, rules) in chains {
        commands.push(add(NfListObject::Chain(Chain {
            family,
            table: name.clone().into(),
            name: chain.into(),
            _type: Some(kind),
            hook: Some(hook),
            prio: Some(priority),
            policy: Some(NfChainPolicy::Accept),
            ..Chain::default()
        })));
        commands.extend(rules.into_iter().map(|statements| {
            add(NfListObject::Rule(Rule {
                family,
                table: name.clone().into(),
                chain: chain.into(),
                expr: statements.into(),
                ..Rule::default()
            }))
        }));
    }
    commands
}
