//! What Docker has to be told.
//!
//! Docker sets the policy of iptables' FORWARD to drop, and has everything pass through its
//! chain DOCKER-USER first, which it never changes: there, what a bridge of ours is concerned
//! with is accepted. What may not enter the bridge is dropped in our own table all the same.
//!
//! The rules are put in as nftables' own, in the words that iptables-nft reads as its own:
//! `-i BRIDGE -j ACCEPT` and `-o BRIDGE -j ACCEPT`. Where Docker uses the older iptables, whose
//! tables nftables does not see, that program is asked.

use nftables::{
    schema::{NfCmd, NfListObject, NfObject, Rule},
    stmt::Statement,
    types::NfFamily,
};
use serde_json::Value;

use super::{
    delete,
    words::{accept, from, to},
};
use crate::{
    domain::{Problem, Tag},
    host::net::{nft, proc_net},
};

const TABLE: &str = "filter";
const CHAIN: &str = "DOCKER-USER";
const LEGACY: &str = "iptables-legacy";

/// The commands that put the rules in, if there is a chain for them, after those that take out
/// any of before.
pub(super) fn told(what: &str, tag: &Tag) -> Result<Vec<NfObject<'static>>, Problem> {
    let Some(chain) = nft::list(what, &["chain", "ip", TABLE, CHAIN])? else {
        return Ok(Vec::new());
    };
    let mut commands = ours(&chain, tag);
    let bridge = &tag.bridge();
    for statement in [from(bridge), to(bridge)] {
        commands.push(NfObject::CmdObject(NfCmd::Insert(NfListObject::Rule(Rule {
            expr: vec![statement, accept()].into(),
            comment: Some(tag.alias(None).into()),
            ..rule()
        }))));
    }
    Ok(commands)
}

/// The commands that take the rules out.
pub(super) fn untold(what: &str, tag: &Tag) -> Result<Vec<NfObject<'static>>, Problem> {
    let chain = nft::list(what, &["chain", "ip", TABLE, CHAIN])?;
    Ok(chain.map(|chain| ours(&chain, tag)).unwrap_or_default())
}

fn rule() -> Rule<'static> {
    Rule {
        family: NfFamily::IP,
        table: TABLE.into(),
        chain: CHAIN.into(),
        expr: Vec::<Statement<'static>>::new().into(),
        ..Rule::default()
    }
}

/// Deletes each rule of ours of a listing.
fn ours(chain: &[Value], tag: &Tag) -> Vec<NfObject<'static>> {
    let handle = |object: &Value| {
        let rule = &object["rule"];
        let handle = u32::try_from(rule["handle"].as_u64()?).ok()?;
        is_ours(rule, tag).then_some(handle)
    };
    let handles = chain.iter().filter_map(handle);
    handles.map(|h| delete(NfListObject::Rule(Rule { handle: Some(h), ..rule() }))).collect()
}

/// By its comment; or, where iptables has saved and restored the rule, by the bridge.
fn is_ours(rule: &Value, tag: &Tag) -> bool {
    if let Some(comment) = rule["comment"].as_str() {
        return comment == tag.alias(None);
    }
    let bridge = tag.bridge();
    let matches = rule["expr"].as_array().into_iter().flatten();
    let mut rights = matches.map(|statement| &statement["match"]["right"]);
    rights.any(|right| *right == bridge.as_str())
}

/// The same with the older iptables, if its tables are in use.
pub(super) fn legacy_told(what: &str, tag: &Tag) -> Result<(), Problem> {
    let Some(there) = legacy(what, tag)? else { return Ok(()) };
    let wanted = legacy_rules(tag);
    for rule in wanted.iter().filter(|rule| !there.contains(rule)) {
        iptables(what, &["-I", CHAIN], rule)?;
    }
    Ok(())
}

/// The same with the older iptables, if its tables are in use.
pub(super) fn legacy_untold(what: &str, tag: &Tag) -> Result<(), Problem> {
    for rule in legacy(what, tag)?.unwrap_or_default() {
        iptables(what, &["-D", CHAIN], &rule)?;
    }
    Ok(())
}

fn legacy_rules(tag: &Tag) -> [Vec<String>; 2] {
    let (bridge, comment) = (tag.bridge(), tag.alias(None));
    ["-i", "-o"].map(|way| {
        let words = [way, &bridge, "-m", "comment", "--comment", &comment, "-j", "ACCEPT"];
        words.map(str::to_owned).to_vec()
    })
}

/// Those of the rules that are in the older iptables' chain; `None` if there is no such chain.
fn legacy(what: &str, tag: &Tag) -> Result<Option<Vec<Vec<String>>>, Problem> {
    // There is no such file while nobody uses them; looking with iptables would load them.
    let tables = proc_net("ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|table| table == TABLE) {
        return Ok(None);
    }
    let Some(program) = nft::program(LEGACY) else { return Ok(None) };
    let output = nft::feed(&program, &["-w", "-S", CHAIN], &[])
        .map_err(|error| Problem::new(what, format!("{LEGACY}: {error}"), "banger doctor"))?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let there = |rule: &Vec<String>| {
        // As it prints them, a comment of two words is in quotes.
        let quoted = tag.alias(None);
        let words = rule
            .iter()
            .map(|word| if *word == quoted { format!("\"{word}\"") } else { word.clone() });
        let line = format!("-A {CHAIN} {}", words.collect::<Vec<_>>().join(" "));
        text.lines().any(|l| l == line)
    };
    Ok(Some(legacy_rules(tag).into_iter().filter(there).collect()))
}

fn iptables(what: &str, how: &[&str], rule: &[String]) -> Result<(), Problem> {
    let failed = |why: String| Problem::new(what, why, "iptables-legacy -S DOCKER-USER");
    let program = nft::program(LEGACY).ok_or_else(|| failed(format!("there is no {LEGACY}")))?;
    let mut arguments = vec!["-w"];
    arguments.extend(how);
    arguments.extend(rule.iter().map(String::as_str));
    let output = nft::feed(&program, &arguments, &[]).map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(nft::said(&output))) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_ours_are_found_by_comment_or_by_bridge() {
        let tag = Tag::from_bytes([0x3f, 0xa2, 0xc1]);
        let rule = |handle: u32, comment: Option<&str>, interface: &str| {
            let mut rule = json!({"rule": {
                "family": "ip", "table": "filter", "chain": "DOCKER-USER", "handle": handle,
                "expr": [
                    {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": interface}},
                    {"counter": {"packets": 0, "bytes": 0}},
                    {"accept": null},
                ],
            }});
            if let Some(comment) = comment {
                rule["rule"]["comment"] = comment.into();
            }
            rule
        };
        let chain = [
            json!({"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 1}}),
            rule(2, Some("banger 3fa2c1"), "bgr-3fa2c1"),
            rule(3, None, "bgr-3fa2c1"),
            rule(4, Some("banger 000000"), "bgr-000000"),
            rule(5, None, "docker0"),
            rule(6, Some("mine, says the user"), "bgr-3fa2c1"),
        ];
        let commands = serde_json::to_value(ours(&chain, &tag)).expect("JSON");
        let handles: Vec<_> = commands
            .as_array()
            .expect("an array")
            .iter()
            .map(|command| command["delete"]["rule"]["handle"].as_u64().expect("a handle"))
            .collect();
        assert_eq!(handles, [2, 3]);
    }
}
