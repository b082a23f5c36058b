//! The older iptables, whose tables nftables does not see: where Docker uses it, it is told there.

use super::docker::CHAIN;
use crate::{
    domain::{Problem, Tag},
    host::net::{nft, proc_net},
};

const PROGRAM: &str = "iptables-legacy";
const TABLE: &str = "filter";

/// Puts the rules into Docker's chain, if there is one.
pub(super) fn told(what: &str, tag: &Tag) -> Result<(), Problem> {
    let Some(listing) = list(what, CHAIN)? else { return Ok(()) };
    for rule in rules(tag).iter().filter(|rule| !is_in(&listing, tag, rule)) {
        change(what, "-I", rule)?;
    }
    Ok(())
}

/// Takes the rules out of Docker's chain.
pub(super) fn untold(what: &str, tag: &Tag) -> Result<(), Problem> {
    let Some(listing) = list(what, CHAIN)? else { return Ok(()) };
    for rule in rules(tag).iter().filter(|rule| is_in(&listing, tag, rule)) {
        change(what, "-D", rule)?;
    }
    Ok(())
}

/// Whether a chain of its own drops what none of its rules knows, and none names the bridge.
pub(in crate::host::net) fn legacy_policy(
    what: &str,
    chain: &str,
    bridge: &str,
) -> Result<bool, Problem> {
    // In whatever chain the bridge is named: from Docker's everything comes by.
    let Some(listing) = list(what, chain)? else { return Ok(false) };
    let docker = list(what, CHAIN)?.unwrap_or_default();
    let drops = listing.lines().any(|line| line == format!("-P {chain} DROP"));
    let names = |listing: &str| listing.split_ascii_whitespace().any(|word| word == bridge);
    Ok(drops && !names(&listing) && !(chain == "FORWARD" && names(&docker)))
}

fn rules(tag: &Tag) -> [Vec<String>; 2] {
    let (bridge, comment) = (tag.bridge(), tag.alias(None));
    ["-i", "-o"].map(|way| {
        let words = [way, &bridge, "-m", "comment", "--comment", &comment, "-j", "ACCEPT"];
        words.map(str::to_owned).to_vec()
    })
}

/// Whether a rule is in a listing, where a comment of two words is in quotes.
fn is_in(listing: &str, tag: &Tag, rule: &[String]) -> bool {
    let comment = tag.alias(None);
    let word = |w: &String| if *w == comment { format!("\"{w}\"") } else { w.clone() };
    let words: Vec<String> = rule.iter().map(word).collect();
    let wanted = format!("-A {CHAIN} {}", words.join(" "));
    listing.lines().any(|line| line == wanted)
}

/// A chain as `iptables -S` prints it; `None` if there is none, or nobody uses these tables.
fn list(what: &str, chain: &str) -> Result<Option<String>, Problem> {
    // There is no such file while nobody uses them; looking with the program would load them.
    let tables = proc_net("ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|table| table == TABLE) {
        return Ok(None);
    }
    let Some(program) = nft::program(PROGRAM) else { return Ok(None) };
    let output = nft::feed(&program, &["-w", "-S", chain], &[])
        .map_err(|error| Problem::new(what, format!("{PROGRAM}: {error}"), "banger doctor"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success().then_some(text))
}

fn change(what: &str, how: &str, rule: &[String]) -> Result<(), Problem> {
    let failed = |why: String| Problem::new(what, why, format!("{PROGRAM} -S {CHAIN}"));
    let program = nft::program(PROGRAM).ok_or_else(|| failed(format!("there is no {PROGRAM}")))?;
    let mut arguments = vec!["-w", how, CHAIN];
    arguments.extend(rule.iter().map(String::as_str));
    let output = nft::feed(&program, &arguments, &[]).map_err(|e| failed(e.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(nft::said(&output))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_as_it_is_printed() {
        let tag = Tag::from_bytes([0x3f, 0xa2, 0xc1]);
        let listing = "-N DOCKER-USER\n\
            -A DOCKER-USER -o bgr-3fa2c1 -m comment --comment \"banger 3fa2c1\" -j ACCEPT\n\
            -A DOCKER-USER -j RETURN\n";
        let [into, out] = rules(&tag);
        assert!(!is_in(listing, &tag, &into) && is_in(listing, &tag, &out));
    }
}
