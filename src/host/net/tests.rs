use std::process::Command;

use super::*;
use crate::{
    domain::{Subnet, Tag, VmId},
    host::{ops::Inventory, testing::in_own_netns},
};

/// Says so when there can be no namespace; what needs one is then tested in the lab only.
fn alone(test: &str, work: impl FnOnce() + Send) {
    if let Err(error) = in_own_netns(work) {
        eprintln!("skipped: {test}: no network namespace: {error}");
    }
}

fn tag() -> Tag {
    Tag::from_bytes([0x3f, 0xa2, 0xc1])
}

fn subnet() -> Subnet {
    "172.30.4.0/22".parse().expect("a subnet")
}

fn vm(n: u8) -> VmId {
    VmId::from_bytes([0x0a, 0x1b, 0x2c, n])
}

/// What a program says; it must succeed.
fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().expect(program);
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

#[test]
fn all_of_it_comes_and_goes_and_may_come_twice() {
    alone("all_of_it_comes_and_goes_and_may_come_twice", || {
        let before = ip("-d link");
        for _ in 0..2 {
            bridge(&tag(), subnet(), 1400).expect("a bridge");
            tap(&tag(), &vm(1), 1400, 54321).expect("a TAP");
            rules(&tag(), subnet(), Some(5300)).expect("rules");
        }
        let link = ip("-d link show bgr-3fa2c1");
        for part in ["mtu 1400", "02:fc:ac:1e:04:01", "alias banger 3fa2c1", "stp_state 0", ",UP"] {
            assert!(link.contains(part), "{part}: {link}");
        }
        assert!(ip("addr show bgr-3fa2c1").contains("inet 172.30.4.1/22 brd 172.30.7.255"));
        let link = ip("-d link show bgt-0a1b2c01");
        for part in [
            "mtu 1400",
            "master bgr-3fa2c1",
            "alias banger 3fa2c1 0a1b2c01",
            "addrgenmode none",
            "tun type tap pi off vnet_hdr on persist on user 54321",
            ",UP",
        ] {
            assert!(link.contains(part), "{part}: {link}");
        }
        let mut found = Inventory::default();
        inventory(&tag(), &mut found).expect("an inventory");
        assert_eq!((found.bridge, found.rules, found.taps), (true, true, vec![vm(1)]));

        let problem = bridge_gone(&tag()).expect_err("a TAP is on it");
        assert!(problem.why.contains("bgt-0a1b2c01"), "{problem}");
        for _ in 0..2 {
            tap_gone(&tag(), &vm(1)).expect("the TAP goes");
            rules_gone(&tag()).expect("the rules go");
            bridge_gone(&tag()).expect("the bridge goes");
        }
        assert_eq!(ip("-d link"), before);
        assert_eq!(run("nft", "list ruleset"), "");
    });
}
