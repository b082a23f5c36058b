use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use super::*;
use crate::{
    domain::Subnet,
    host::{
        net::{bridge, bridge_gone, rules, rules_gone},
        testing::{Netns, alone},
    },
};

fn tag(n: u8) -> Tag {
    Tag::from_bytes([n; 3])
}

fn subnet(n: u8) -> Subnet {
    Subnet::at([172, 30, n * 4, 0].into()).expect("a subnet")
}

/// Runs a program, which must succeed.
fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output().expect(program);
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

fn set(value: &str) {
    fs::write(FILE, value).expect("set");
}

/// What the setting is; `banger` if it is what banger writes.
fn setting() -> String {
    let text = fs::read_to_string(FILE).expect("there");
    let value = text.trim();
    if value == mark().expect("a namespace") { "banger".to_owned() } else { value.to_owned() }
}

/// What a home does for its first VM. Answers whether the kernel forwarded before.
fn begin(n: u8) -> bool {
    bridge(&tag(n), subnet(n), 1500).expect("a bridge");
    let before = forwarding().expect("turned on");
    rules(&tag(n), subnet(n), None).expect("rules");
    before
}

/// What it does after its last.
fn end(n: u8) {
    rules_gone(&tag(n)).expect("the rules go");
    forwarding_gone(&tag(n)).expect("forwarding goes");
    bridge_gone(&tag(n)).expect("the bridge goes");
}

#[test]
fn the_last_home_that_ends_turns_it_off() {
    alone("the_last_home_that_ends_turns_it_off", || {
        set("0");
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            assert_eq!([1, 2, 3].map(begin), [false, true, true]);
            for n in order {
                assert_eq!(setting(), "banger", "{n} of {order:?} needs it");
                assert!(!is_left_forwarding().expect("a look"));
                end(n);
            }
            assert_eq!(setting(), "0", "{order:?}");
        }
    });
}

#[test]
fn a_home_that_died_between_any_two_steps_gives_it_back_when_it_is_cleared_up() {
    alone("a_home_that_died_between_any_two_steps_gives_it_back_when_it_is_cleared_up", || {
        set("0");
        // Dies after this many steps of beginning and ending, while another has its VMs, or not.
        for (steps, other) in (0..7).flat_map(|steps| [(steps, false), (steps, true)]) {
            let all: [&dyn Fn(); 6] = [
                &|| bridge(&tag(1), subnet(1), 1500).expect("a bridge"),
                &|| assert_eq!(forwarding().expect("turned on"), other),
                &|| rules(&tag(1), subnet(1), None).expect("rules"),
                &|| rules_gone(&tag(1)).expect("the rules go"),
                &|| forwarding_gone(&tag(1)).expect("forwarding goes"),
                &|| bridge_gone(&tag(1)).expect("the bridge goes"),
            ];
            if other {
                begin(2);
            }
            all.iter().take(steps).for_each(|step| step());
            if other {
                assert_eq!(setting(), "banger", "{steps}");
                end(2);
            }
            // From the ledger, whoever comes next.
            end(1);
            assert_eq!(setting(), "0", "{steps}, another: {other}");
        }
    });
}

#[test]
fn a_bridge_that_is_just_being_made_counts() {
    alone("a_bridge_that_is_just_being_made_counts", || {
        set("0");
        begin(1);
        // As the kernel has it before its alias is set.
        ip("link add bgr-020202 address 02:fc:ac:1e:08:01 type bridge");
        end(1);
        assert_eq!(setting(), "banger");
        assert!(begin(2));
        end(2);
        assert_eq!(setting(), "0");
    });
}

#[test]
fn what_was_on_before_or_was_turned_on_by_others_stays_on() {
    alone("what_was_on_before_or_was_turned_on_by_others_stays_on", || {
        set("1");
        assert!(begin(1) && begin(2));
        end(1);
        end(2);
        assert_eq!(setting(), "1");
        // A new namespace begins with the value of its host's, and that is no mark of ours.
        let foreign = (mark().expect("a number").parse::<u64>().expect("digits") + 1).to_string();
        set(&foreign);
        assert!(begin(1));
        end(1);
        assert_eq!(setting(), foreign);
        assert!(!is_left_forwarding().expect("a look"));
        // Somebody comes meanwhile and says so.
        set("0");
        assert!(!begin(1));
        set("1");
        end(1);
        assert_eq!(setting(), "1");
        // Somebody turned it off again: it is on for the next VM, and off after the last.
        set("0");
        begin(1);
        set("0");
        assert!(!begin(2));
        end(2);
        assert_eq!(setting(), "banger", "1 has a bridge");
        end(1);
        assert_eq!(setting(), "0");
    });
}

#[test]
fn whoever_seems_to_need_it_gets_it_for_good() {
    alone("whoever_seems_to_need_it_gets_it_for_good", || {
        let outside = Netns::new().expect("a namespace");
        let cable = format!("link add out type veth peer name in netns {}", outside.tid());
        let nat = || {
            run("nft", "add table ip other");
            run("nft", "add chain ip other post { type nat hook postrouting priority 100 ; }");
        };
        // Containers or other VMs; somebody who translates; a cable that leads to no way out.
        let others: [[&dyn Fn(); 2]; 3] = [
            [&|| ip("link add br0 type bridge"), &|| ip("link delete br0")],
            [&nat, &|| run("nft", "delete table ip other")],
            [&|| ip(&cable), &|| ip("link delete out")],
        ];
        for [come, go] in others {
            set("0");
            begin(1);
            come();
            end(1);
            assert_eq!(setting(), "1");
            go();
            begin(1);
            end(1);
            assert_eq!(setting(), "1", "it is not banger's any more");
        }
        // A container's way to the world is a cable, too.
        set("0");
        begin(1);
        ip(&cable);
        ip("address add 198.51.100.2/24 dev out");
        ip("link set out up");
        ip("route add default via 198.51.100.1");
        end(1);
        assert_eq!(setting(), "0");
    });
}

#[test]
fn what_a_home_that_is_no_more_left_on_is_found() {
    alone("what_a_home_that_is_no_more_left_on_is_found", || {
        set("0");
        begin(1);
        rules_gone(&tag(1)).expect("by hand");
        ip("link delete bgr-010101");
        assert!(is_left_forwarding().expect("a look"));
        forwarding_gone(&tag(7)).expect("any home may turn it off");
        assert_eq!(setting(), "0");
        assert!(!is_left_forwarding().expect("a look"));
    });
}

#[test]
fn homes_that_begin_and_end_at_the_same_time_neither_lose_nor_leave_it() {
    const ROUNDS: u32 = 15;
    const PATIENCE: Duration = Duration::from_secs(30);
    alone("homes_that_begin_and_end_at_the_same_time_neither_lose_nor_leave_it", || {
        set("0");
        let namespace = fs::File::open("/proc/thread-self/ns/net").expect("a namespace");
        thread::scope(|scope| {
            for n in [1, 2] {
                let namespace = &namespace;
                scope.spawn(move || {
                    setns(namespace, CloneFlags::CLONE_NEWNET).expect("the same");
                    for round in 0..ROUNDS {
                        begin(n);
                        // It may be off for as long as the other looks once more.
                        let since = Instant::now();
                        while !is_forwarding().expect("there") {
                            assert!(since.elapsed() < PATIENCE, "{n} has lost it in {round}");
                            thread::yield_now();
                        }
                        end(n);
                    }
                });
            }
        });
        assert_eq!(setting(), "0");
    });
}
