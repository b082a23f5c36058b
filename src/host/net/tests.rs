use std::process::Command;

use super::*;
use crate::{
    domain::{Subnet, Tag, VmId},
    host::{ops::Inventory, testing::alone},
};

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

#[test]
fn what_is_not_ours_is_refused_and_stays() {
    alone("what_is_not_ours_is_refused_and_stays", || {
        let (bridge_name, tap_name) = ("bgr-3fa2c1", "bgt-0a1b2c01");
        for kind in ["bridge", "veth"] {
            ip(&format!("link add {bridge_name} type {kind}"));
            let problem = bridge(&tag(), subnet(), 1500).expect_err("foreign");
            assert!(problem.why.contains(bridge_name) && problem.hint.contains("ip link delete"));
            bridge_gone(&tag()).expect("not ours to remove");
            ip(&format!("link delete {bridge_name}"));
        }
        let problem = tap(&tag(), &vm(1), 1500, 0).expect_err("no bridge");
        assert!(problem.why.contains(bridge_name), "{problem}");
        bridge(&tag(), subnet(), 1500).expect("a bridge");
        ip(&format!("tuntap add {tap_name} mode tap"));
        for alias in ["", "banger 3fa2c1", "banger 000000 0a1b2c01", "banger 3fa2c1 0a1b2c02"] {
            let output = Command::new("ip")
                .args(["link", "set", tap_name, "alias", alias])
                .output()
                .expect("ip");
            assert!(output.status.success(), "{output:?}");
            let problem = tap(&tag(), &vm(1), 1500, 0).expect_err("foreign");
            assert!(problem.why.contains(tap_name), "{alias}: {problem}");
            if alias != "banger 3fa2c1 0a1b2c02" {
                tap_gone(&tag(), &vm(1)).expect("not ours to remove");
            }
            ip(&format!("link show {tap_name}"));
        }
        let found = strangers().expect("a look");
        let names: Vec<_> = found.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, [bridge_name, tap_name]);
        assert_eq!(found[1].vm, Some(vm(2)));
    });
}

#[test]
fn a_bridge_whose_maker_died_at_once_is_taken_up() {
    alone("a_bridge_whose_maker_died_at_once_is_taken_up", || {
        ip("link add bgr-3fa2c1 address 02:fc:ac:1e:04:01 type bridge");
        bridge(&tag(), subnet(), 1500).expect("ours");
        assert!(ip("-d link show bgr-3fa2c1").contains("alias banger 3fa2c1"));
        // Another subnet, another MTU: the old address goes.
        let moved = "10.9.8.0/22".parse().expect("a subnet");
        bridge(&tag(), moved, 1380).expect("changed");
        let text = ip("-4 addr show bgr-3fa2c1");
        assert!(text.contains("mtu 1380") && text.contains("10.9.8.1/22"), "{text}");
        assert!(!text.contains("172.30"), "{text}");
    });
}

#[test]
fn a_tap_that_differs_is_made_to_fit_unless_it_is_in_use() {
    alone("a_tap_that_differs_is_made_to_fit_unless_it_is_in_use", || {
        let show = || ip("-d link show bgt-0a1b2c01");
        bridge(&tag(), subnet(), 1500).expect("a bridge");
        tap(&tag(), &vm(1), 1500, 1000).expect("a TAP");
        let before = show();
        ip("link set bgt-0a1b2c01 nomaster down");
        tap(&tag(), &vm(1), 1400, 1000).expect("mended");
        let after = show();
        assert!(after.contains("mtu 1400") && after.contains("master bgr-3fa2c1"), "{after}");
        assert_eq!(before.split(':').next(), after.split(':').next(), "the same link");

        tap(&tag(), &vm(1), 1400, 54321).expect("made anew for another owner");
        assert!(show().contains("user 54321"), "{}", show());

        let file = tap::attach_for_test("bgt-0a1b2c01");
        tap(&tag(), &vm(1), 1400, 54321).expect("in use, but as it should be");
        for problem in [
            tap(&tag(), &vm(1), 1400, 0).expect_err("in use"),
            tap_gone(&tag(), &vm(1)).expect_err("in use"),
        ] {
            let me = std::process::id().to_string();
            assert!(problem.why.contains(&me) && problem.hint.contains(&me), "{problem}");
        }
        drop(file);
        tap_gone(&tag(), &vm(1)).expect("free again");
        assert!(!ip("link").contains("bgt-"));
    });
}

#[test]
fn a_bad_mtu_is_refused_before_anything_is_made() {
    for mtu in [0, 1279, 65_536] {
        let problem = bridge(&tag(), subnet(), mtu).expect_err("no MTU");
        assert!(problem.why.contains(&mtu.to_string()), "{problem}");
        assert!(tap(&tag(), &vm(1), mtu, 0).is_err());
    }
}

#[test]
fn the_uplink_and_what_is_taken_are_seen() {
    alone("the_uplink_and_what_is_taken_are_seen", || {
        let hit = |subnet: &str| {
            collision(&tag(), subnet.parse().expect("a subnet"))
                .expect("a look")
                .unwrap_or_default()
        };
        assert_eq!(uplink_mtu(), None);
        ip("link add up0 mtu 1420 type veth peer name out0");
        ip("link set up0 up");
        ip("link set out0 up");
        ip("addr add 192.168.7.2/24 dev up0");
        ip("route add default via 192.168.7.1");
        assert_eq!(uplink_mtu(), Some(1420));
        assert_eq!(hit("172.30.4.0/22"), "", "a default route takes nothing");
        assert_eq!(hit("192.168.4.0/22"), "up0 has the address 192.168.7.2/24");

        // A VPN: two routes before the default one, a network, and a table of its own.
        ip("route add 0.0.0.0/1 dev out0 mtu 1300");
        ip("route add 128.0.0.0/1 dev out0");
        assert_eq!(uplink_mtu(), Some(1300), "the route says so");
        ip("route replace 0.0.0.0/1 dev out0 mtu 900");
        assert_eq!(uplink_mtu(), Some(1280), "a bridge cannot have less");
        ip("route add 172.28.0.0/14 dev out0 table 51820");
        ip("route add blackhole 10.0.0.0/8");
        assert_eq!(hit("172.30.4.0/22"), "172.28.0.0/14 is routed to out0");
        assert_eq!(hit("10.200.0.0/22"), "10.0.0.0/8 is routed away");
        let chosen = choose_subnet(&tag()).expect("something is free");
        assert_eq!(hit(&chosen.to_string()), "");
        assert!(chosen.overlaps([172, 16, 0, 0].into(), 16), "{chosen}: Docker is elsewhere");

        // Our own bridge is no reason against itself; it is one for others.
        bridge(&tag(), chosen, 1500).expect("a bridge");
        assert_eq!(hit(&chosen.to_string()), "");
        let other = Tag::from_bytes([1, 2, 3]);
        assert!(collision(&other, chosen).expect("a look").is_some());
        ip("route del 0.0.0.0/1 dev out0");
        ip("route replace blackhole 0.0.0.0/0");
        assert_eq!(uplink_mtu(), None);
    });
}
