//! What Docker has to be told.
//!
//! Docker sets the policy of iptables' FORWARD to drop, and has everything pass through its
//! chain DOCKER-USER first, which it never changes: there, what a bridge of ours is concerned
//! with is accepted. What may not enter the bridge is dropped in our own table all the same.
//!
//! The rules are put in as nftables' own, in the words that iptables-nft reads as its own:
//! `-i BRIDGE -j ACCEPT` and `-o BRIDGE -j ACCEPT`.

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
    host::net::nft,
};

const TABLE: &str = "filter";
/// What Docker lets others decide first.
pub(super) const CHAIN: &str = "DOCKER-USER";

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

/// By its comment; or, where iptables has saved and restored the rule so that nft does not see its
/// comment, by what it does and nothing else: it accepts what has to do with the bridge.
fn is_ours(rule: &Value, tag: &Tag) -> bool {
    if let Some(comment) = rule["comment"].as_str() {
        return comment == tag.alias(None);
    }
    let statements: Vec<&Value> = rule["expr"].as_array().into_iter().flatten().collect();
    let matches: Vec<_> = statements.iter().filter_map(|s| s["match"]["right"].as_str()).collect();
    let accepts = statements.iter().any(|statement| statement.get("accept").is_some());
    let commented = statements.iter().any(|statement| statement["xt"]["name"] == "comment");
    accepts && commented && matches == [tag.bridge()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_of_ours_are_found_by_comment_or_by_bridge() {
        let tag = Tag::from_bytes([0x3f, 0xa2, 0xc1]);
        let rule = |handle: u32, comment: Option<&str>, interface: &str, verdict: &str| {
            let mut rule = json!({"rule": {
                "family": "ip", "table": "filter", "chain": "DOCKER-USER", "handle": handle,
                "expr": [
                    {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": interface}},
                    {"xt": {"type": "match", "name": "comment"}},
                    {"counter": {"packets": 0, "bytes": 0}},
                    {(verdict): null},
                ],
            }});
            if let Some(comment) = comment {
                rule["rule"]["comment"] = comment.into();
            }
            rule
        };
        let chain = [
            json!({"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 1}}),
            rule(2, Some("banger 3fa2c1"), "bgr-3fa2c1", "accept"),
            rule(3, None, "bgr-3fa2c1", "accept"),
            rule(4, Some("banger 000000"), "bgr-000000", "accept"),
            rule(5, None, "docker0", "accept"),
            rule(6, Some("mine, says the user"), "bgr-3fa2c1", "accept"),
            rule(7, None, "bgr-3fa2c1", "drop"),
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
