//! Firewalls of others: what is dropped in another table stays dropped, whatever ours accepts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{nft, rules::legacy_policy};
use crate::domain::{BRIDGE_PREFIX, Problem, Tag};

/// A firewall on this host that is not banger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// As its users call it: `ufw`; of one that is not known, its table: `nftables inet filter`.
    pub name: String,
    /// Whether it drops what guests send to the outside, or to each other where it sees that.
    pub drops_forward: bool,
    /// Whether it drops what guests ask the host, such as names.
    pub drops_input: bool,
    /// Commands of a shell that let them through; empty if nothing is dropped.
    pub fix: String,
}

/// The firewalls that look at packets of the bridge. One that has a rule which names the bridge, or
/// banger's bridges as such, is taken not to drop.
///
/// # Errors
/// If nftables cannot be asked, as for whoever is not root.
pub fn firewalls(tag: &Tag) -> Result<Vec<Firewall>, Problem> {
    let what = "cannot look for firewalls";
    let listing = nft::list(what, &["ruleset"])?.unwrap_or_default();
    let mut found = judge(&listing, tag);
    let bridge = tag.bridge();
    let legacy = |chain| legacy_policy(what, chain, &bridge);
    let (drops_forward, drops_input) = (legacy("FORWARD")?, legacy("INPUT")?);
    if drops_forward || drops_input {
        let name = "iptables-legacy".to_owned();
        let fix = iptables(&name, &bridge, drops_forward, drops_input);
        found.push(Firewall { name, drops_forward, drops_input, fix });
    }
    Ok(found)
}

/// A table by its family and its name.
type Table<'a> = (&'a str, &'a str);

fn judge(listing: &[Value], tag: &Tag) -> Vec<Firewall> {
    let chains: Vec<&Value> =
        listing.iter().map(|o| &o["chain"]).filter(|c| c.is_object()).collect();
    let tables: BTreeSet<Table<'_>> = chains
        .iter()
        .filter_map(|chain| Some((chain["family"].as_str()?, chain["table"].as_str()?)))
        .filter(|(family, name)| matches!(*family, "ip" | "inet") && !name.starts_with("banger_"))
        .collect();
    let firewall = |table: Table<'_>| {
        let looks = |hook| Hook::read(listing, table, hook, &tag.bridge());
        let (forward, input) = (looks("forward"), looks("input"));
        let drops = |hook: &Option<Hook>| hook.as_ref().is_some_and(|h| h.drops && !h.knows_us);
        let (drops_forward, drops_input) = (drops(&forward), drops(&input));
        let kind = Kind::of(table, &chains);
        let dropped = forward.as_ref().or(input.as_ref()).is_some_and(|h| h.drops);
        // Tables of others that let everything pass are none; known firewalls are worth a word.
        if !dropped && kind == Kind::Other {
            return None;
        }
        let fix = fix(kind, table, [&forward, &input], &tag.bridge(), drops_forward, drops_input);
        Some(Firewall { name: kind.name(table), drops_forward, drops_input, fix })
    };
    tables.into_iter().filter_map(firewall).collect()
}

/// Who made a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Firewalld,
    Ufw,
    Docker,
    Iptables,
    Other,
}

impl Kind {
    fn of((family, table): Table<'_>, chains: &[&Value]) -> Self {
        let mut of_table = chains
            .iter()
            .filter(|chain| chain["family"] == family && chain["table"] == table)
            .filter_map(|chain| chain["name"].as_str());
        if table == "firewalld" {
            Self::Firewalld
        } else if family != "ip" || table != "filter" {
            Self::Other
        } else if of_table.clone().any(|name| name.starts_with("ufw-")) {
            Self::Ufw
        } else if of_table.clone().any(|name| name.starts_with("DOCKER")) {
            Self::Docker
        } else if of_table.any(|name| matches!(name, "FORWARD" | "INPUT")) {
            Self::Iptables
        } else {
            Self::Other
        }
    }

    fn name(self, (family, table): Table<'_>) -> String {
        match self {
            Self::Firewalld => "firewalld".to_owned(),
            Self::Ufw => "ufw".to_owned(),
            Self::Docker => "Docker".to_owned(),
            Self::Iptables => "iptables".to_owned(),
            Self::Other => format!("nftables {family} {table}"),
        }
    }
}

/// What becomes of a packet that no rule knows, in the first chain of a table at a hook.
struct Hook<'a> {
    chain: &'a str,
    drops: bool,
    /// Whether a rule that a packet can come by names the bridge, and does not refuse.
    knows_us: bool,
}

impl<'a> Hook<'a> {
    fn read(listing: &'a [Value], table: Table<'_>, hook: &str, bridge: &str) -> Option<Self> {
        let within = |object: &Value| object["family"] == table.0 && object["table"] == table.1;
        let base = listing
            .iter()
            .map(|object| &object["chain"])
            .find(|chain| within(chain) && chain["hook"] == hook && chain["type"] == "filter")?;
        let chain = base["name"].as_str()?;
        let rules_of = |name: &str| {
            let rules = listing.iter().map(|object| &object["rule"]);
            let rules = rules.filter(|rule| within(rule) && rule["chain"] == name);
            rules.map(|rule| &rule["expr"]).collect::<Vec<_>>()
        };
        let last = rules_of(chain).last().and_then(|rule| rule.as_array());
        let refuses_rest = last.is_some_and(|statements| {
            statements.iter().any(refuses) && !statements.iter().any(|s| s["match"].is_object())
        });
        let drops = base["policy"] == "drop" || refuses_rest;

        let mut to_see = vec![chain.to_owned()];
        let mut seen = BTreeSet::new();
        let mut knows_us = false;
        while let Some(name) = to_see.pop() {
            for rule in rules_of(&name) {
                let refused = rule.as_array().into_iter().flatten().any(refuses);
                knows_us |= names(rule, bridge) && !refused;
                targets(rule, &mut |target| {
                    if seen.insert(target.to_owned()) {
                        to_see.push(target.to_owned());
                    }
                });
            }
        }
        Some(Self { chain, drops, knows_us })
    }
}

/// Whether a statement ends it badly for the packet.
fn refuses(statement: &Value) -> bool {
    ["drop", "reject"].iter().any(|verdict| statement.get(verdict).is_some())
}

/// Whether a rule has the bridge's name in it, or a beginning of it that banger's bridges share.
fn names(rule: &Value, bridge: &str) -> bool {
    match rule {
        Value::String(text) => {
            let beginning = text.strip_suffix('*');
            text == bridge
                || beginning.is_some_and(|b| b.starts_with(BRIDGE_PREFIX) && bridge.starts_with(b))
        }
        Value::Array(parts) => parts.iter().any(|part| names(part, bridge)),
        Value::Object(parts) => parts.values().any(|part| names(part, bridge)),
        _ => false,
    }
}

/// The chains that a rule leads to, in whatever way.
fn targets<'a>(rule: &'a Value, visit: &mut impl FnMut(&'a str)) {
    match rule {
        Value::Object(parts) => {
            for (key, part) in parts {
                match part.as_str() {
                    Some(target) if key == "target" => visit(target),
                    _ => targets(part, visit),
                }
            }
        }
        Value::Array(parts) => parts.iter().for_each(|part| targets(part, visit)),
        _ => {}
    }
}

/// The commands that let packets of the bridge through.
fn fix(
    kind: Kind,
    (family, table): Table<'_>,
    [forward, input]: [&Option<Hook<'_>>; 2],
    bridge: &str,
    drops_forward: bool,
    drops_input: bool,
) -> String {
    if !drops_forward && !drops_input {
        return String::new();
    }
    let mut commands = Vec::new();
    match kind {
        Kind::Firewalld => {
            commands
                .push(format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge}"));
            commands.push("firewall-cmd --reload".to_owned());
        }
        Kind::Ufw => {
            commands.extend(drops_forward.then(|| format!("ufw route allow in on {bridge}")));
            commands.extend(drops_input.then(|| format!("ufw allow in on {bridge}")));
        }
        Kind::Docker | Kind::Iptables => {
            return iptables("iptables", bridge, drops_forward, drops_input);
        }
        Kind::Other => {
            let insert = |chain: &str, way: &str| {
                format!("nft insert rule {family} {table} {chain} {way} {bridge} accept")
            };
            if let Some(forward) = forward.as_ref().filter(|_| drops_forward) {
                commands.push(insert(forward.chain, "iifname"));
                commands.push(insert(forward.chain, "oifname"));
            }
            if let Some(input) = input.as_ref().filter(|_| drops_input) {
                commands.push(insert(input.chain, "iifname"));
            }
        }
    }
    commands.join(" && ")
}

fn iptables(program: &str, bridge: &str, forward: bool, input: bool) -> String {
    let mut commands = Vec::new();
    if forward {
        commands.push(format!("{program} -I FORWARD -i {bridge} -j ACCEPT"));
        commands.push(format!("{program} -I FORWARD -o {bridge} -j ACCEPT"));
    }
    commands.extend(input.then(|| format!("{program} -I INPUT -i {bridge} -j ACCEPT")));
    commands.join(" && ")
}

#[cfg(test)]
mod tests;
