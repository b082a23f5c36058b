//! Against tables as others make them, in a namespace.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::*;
use crate::{
    domain::Subnet,
    host::{net, testing::alone},
};

fn tag() -> Tag {
    Tag::from_bytes([0x3f, 0xa2, 0xc1])
}

/// What is said of a ruleset.
fn with(test: &str, ruleset: &str, work: impl FnOnce() + Send) {
    let all = || {
        let mut nft =
            Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
        nft.stdin.take().expect("piped").write_all(ruleset.as_bytes()).expect("heard");
        assert!(nft.wait().expect("an end").success(), "{ruleset}");
        work();
    };
    alone(test, all);
}

fn found() -> Vec<Firewall> {
    firewalls(&tag()).expect("a look")
}

const DOCKER: &str = "table ip filter {
    chain DOCKER-USER { counter return; }
    chain DOCKER { }
    chain FORWARD { type filter hook forward priority filter; policy drop;
        counter jump DOCKER-USER
        oifname docker0 ct state established,related counter accept
        oifname docker0 counter jump DOCKER
        iifname docker0 counter accept
    }
}
";

#[test]
fn docker_is_told_and_then_drops_nothing_of_ours() {
    with("docker_is_told_and_then_drops_nothing_of_ours", DOCKER, || {
        let docker = &found()[0];
        assert_eq!(
            (docker.name.as_str(), docker.drops_forward, docker.drops_input),
            ("Docker", true, false)
        );
        let subnet: Subnet = "172.30.4.0/22".parse().expect("a subnet");
        for _ in 0..2 {
            net::rules(&tag(), subnet, None).expect("rules");
        }
        let docker = &found()[0];
        assert_eq!((docker.drops_forward, docker.fix.as_str()), (false, ""));
        let chain = || {
            let arguments = ["list", "chain", "ip", "filter", "DOCKER-USER"];
            let output = Command::new("nft").args(arguments).output().expect("nft");
            String::from_utf8(output.stdout).expect("text")
        };
        let text = chain();
        for rule in [
            "iifname \"bgr-3fa2c1\" accept comment \"banger 3fa2c1\"",
            "oifname \"bgr-3fa2c1\" accept comment \"banger 3fa2c1\"",
        ] {
            assert_eq!(text.matches(rule).count(), 1, "{text}");
        }
        net::rules_gone(&tag()).expect("gone");
        let text = chain();
        assert!(!text.contains("bgr-") && text.contains("return"), "{text}");
    });
}

#[test]
fn a_docker_without_a_chain_for_others_can_be_helped_by_hand() {
    let old = DOCKER.replace("chain DOCKER-USER { counter return; }", "");
    let old = old.replace("counter jump DOCKER-USER", "");
    with("a_docker_without_a_chain_for_others_can_be_helped_by_hand", &old, || {
        assert_eq!(
            found()[0].fix,
            "iptables -I FORWARD -i bgr-3fa2c1 -j ACCEPT && iptables -I FORWARD -o bgr-3fa2c1 -j ACCEPT"
        );
    });
}

#[test]
fn ufw_says_how_until_it_is_done() {
    let ufw = "table ip filter {
        chain ufw-user-forward {
RULE
}
        chain ufw-user-input { }
        chain INPUT { type filter hook input priority 0; policy drop; jump ufw-user-input; }
        chain FORWARD { type filter hook forward priority 0; policy drop; jump ufw-user-forward; }
    }";
    with("ufw_says_how_until_it_is_done", &ufw.replace("RULE", ""), || {
        let ufw = &found()[0];
        assert_eq!(ufw.name, "ufw");
        assert_eq!(ufw.fix, "ufw route allow in on bgr-3fa2c1 && ufw allow in on bgr-3fa2c1");
    });
    with(
        "ufw_says_how_until_it_is_done",
        &ufw.replace("RULE", "iifname bgr-3fa2c1 accept"),
        || {
            let ufw = &found()[0];
            assert_eq!((ufw.drops_forward, ufw.drops_input), (false, true));
            assert_eq!(ufw.fix, "ufw allow in on bgr-3fa2c1");
        },
    );
    with("ufw_says_how_until_it_is_done", &ufw.replace("RULE", "iifname bgr-3fa2c1 drop"), || {
        assert!(found()[0].drops_forward);
    });
}

#[test]
fn firewalld_refuses_without_a_policy() {
    let firewalld = "table inet firewalld {
        chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
            ct state { established, related } accept
            jump filter_INPUT_ZONES
            reject with icmpx admin-prohibited
        }
        chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
            ct state { established, related } accept
            jump filter_FORWARD_ZONES
            reject with icmpx admin-prohibited
        }
        chain filter_INPUT_ZONES {
RULE
}
        chain filter_FORWARD_ZONES {
RULE
}
        chain filter_FWD_trusted { accept; }
    }";
    with("firewalld_refuses_without_a_policy", &firewalld.replace("RULE", ""), || {
        let firewalld = &found()[0];
        assert_eq!(firewalld.name, "firewalld");
        assert!(firewalld.drops_forward && firewalld.drops_input);
        assert!(firewalld.fix.contains("--zone=trusted --add-interface=bgr-3fa2c1"));
    });
    let zoned = firewalld.replace("RULE", "iifname bgr-3fa2c1 goto filter_FWD_trusted");
    with("firewalld_refuses_without_a_policy", &zoned, || {
        let firewalld = &found()[0];
        assert_eq!((firewalld.drops_forward, firewalld.drops_input), (false, false));
    });
}

#[test]
fn a_table_of_ones_own_is_named_with_its_chains() {
    let own = "table inet filter {
        chain arrive { type filter hook input priority 0; policy drop; iif lo accept; }
        chain through { type filter hook forward priority 0; policy drop;
RULE
}
    }
    table ip nat { chain post { type nat hook postrouting priority 100; masquerade; }; }
    table inet banger_000000 { chain relay { type filter hook forward priority 0; policy drop; }; }
    table inet harmless { chain see { type filter hook forward priority 0; counter; }; }";
    with("a_table_of_ones_own_is_named_with_its_chains", &own.replace("RULE", ""), || {
        let found = found();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].name, "nftables inet filter");
        // The commands are right if they help.
        for command in found[0].fix.split(" && ") {
            let done = Command::new("nft").args(command.split(' ').skip(1)).status();
            assert!(done.expect("nft").success(), "{command}");
        }
        let again = self::found();
        assert_eq!((again[0].drops_forward, again[0].drops_input), (false, false));
        assert_eq!(again[0].fix, "");
    });
    let all = own.replace("RULE", "iifname \"bgr-*\" accept");
    with("a_table_of_ones_own_is_named_with_its_chains", &all, || {
        assert_eq!((found()[0].drops_forward, found()[0].drops_input), (false, true));
    });
    with("a_table_of_ones_own_is_named_with_its_chains", "", || assert_eq!(found(), []));
}
