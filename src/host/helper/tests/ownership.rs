//! What is whose.

use proptest::prelude::*;

use super::*;
use crate::host::{helper::keeper::Told, ops::HostsName};

fn claims(dir: &Path, boot: &str) -> Claims {
    Claims::open(&dir.join("tags"), boot).unwrap()
}

fn refusal(told: Result<Done, Told>) -> String {
    match told {
        Err(Told::Refused(problem)) => problem.why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_tag_stays_its_users_when_helper_and_host_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let first = keeper(&world, claims(dir.path(), "1"));
    first.run(ANA, &tag(1), &bridge(1), &[]).unwrap();
    for boot in ["1", "2"] {
        if boot == "2" {
            world.there.lock().unwrap().clear();
        }
        let later = keeper(&world, claims(dir.path(), boot));
        assert!(refusal(later.run(BOB, &tag(1), &bridge(1), &[])).contains("another"));
        later.run(ANA, &tag(1), &bridge(1), &[]).unwrap();
    }
}

#[test]
fn what_the_helper_did_not_make_is_nobodys_but_roots() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let seen = Inventory { bridge: true, ..Inventory::default() };
    world.there.lock().unwrap().insert(tag(1), seen);
    let keeper = keeper(&world, claims(dir.path(), "1"));
    for op in [bridge(1), Op::BridgeGone, Op::TapGone { vm: vm(1) }] {
        assert!(refusal(keeper.run(ANA, &tag(1), &op, &[])).contains("not made by the helper"));
    }
    keeper.run(ANA, &tag(1), &Op::Inventory, &[]).expect("anybody may look");
    assert_eq!(world.done(), []);
    keeper.run(0, &tag(1), &Op::BridgeGone, &[]).expect("root");
}

#[test]
fn looking_at_a_tag_does_not_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let keeper = keeper(&world, claims(dir.path(), "1"));
    keeper.run(BOB, &tag(1), &Op::Inventory, &[]).unwrap();
    keeper.run(ANA, &tag(1), &bridge(1), &[]).unwrap();
    assert!(refusal(keeper.run(BOB, &tag(1), &Op::Inventory, &[])).contains("another"));
}

#[test]
fn there_is_an_end_to_the_tags_of_a_user_but_not_to_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let keeper = keeper(&world, claims(dir.path(), "1"));
    for n in 0..100 {
        keeper.run(ANA, &tag(n), &Op::RulesGone, &[]).expect("nothing is there of the others");
    }
    let left = claims(dir.path(), "1").all().unwrap().len();
    assert!(left <= 8, "{left}");
    for n in 100..108 {
        keeper.run(ANA, &tag(n), &bridge(n), &[]).unwrap();
    }
    assert!(refusal(keeper.run(ANA, &tag(200), &bridge(200), &[])).contains("8 bangers"));
    keeper.run(BOB, &tag(200), &bridge(200), &[]).expect("that is no concern of Bob's");
    keeper.run(ANA, &tag(100), &Op::BridgeGone, &[]).unwrap();
    keeper.run(ANA, &tag(201), &bridge(201), &[]).expect("there is room again");
}

#[test]
fn subnets_of_two_users_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let keeper = keeper(&world, claims(dir.path(), "1"));
    keeper.run(ANA, &tag(1), &bridge(1), &[]).unwrap();
    assert!(refusal(keeper.run(BOB, &tag(2), &bridge(1), &[])).contains("another banger"));
    let lan = Op::Bridge { subnet: "192.168.0.0/22".parse().unwrap(), mtu: 1500 };
    assert!(refusal(keeper.run(BOB, &tag(2), &lan, &[])).contains("eth0"));
    let rules = Op::Rules { subnet: subnet(1), dns: None };
    assert!(refusal(keeper.run(BOB, &tag(2), &rules, &[])).contains("no bridge"));
    keeper.run(ANA, &tag(1), &rules, &[]).unwrap();
    keeper.run(ANA, &tag(1), &Op::BridgeGone, &[]).unwrap();
    assert!(refusal(keeper.run(ANA, &tag(1), &rules, &[])).contains("no bridge"));
    keeper.run(BOB, &tag(2), &bridge(1), &[]).expect("free again");
}

#[test]
fn a_tap_of_another_tag_is_neither_taken_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let keeper = keeper(&world, claims(dir.path(), "1"));
    let tap = |owner| Op::Tap { vm: vm(7), mtu: 1500, owner };
    keeper.run(ANA, &tag(1), &tap(ANA), &[]).unwrap();
    world.interfaces.lock().unwrap().push("bgt-07070707".to_owned());
    for op in [tap(BOB), Op::TapGone { vm: vm(7) }] {
        assert!(refusal(keeper.run(BOB, &tag(2), &op, &[])).contains("not yours"));
    }
    keeper.run(ANA, &tag(1), &Op::TapGone { vm: vm(7) }, &[]).unwrap();
    assert!(world.done().iter().all(|reached| reached.uid == ANA));
}

#[test]
fn what_was_done_by_hand_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let keeper = keeper(&world, claims(dir.path(), "1"));
    keeper.run(ANA, &tag(1), &bridge(1), &[]).unwrap();
    assert!(refusal(keeper.run(ANA, &tag(1), &bridge(2), &[])).contains("already"));
    // `ip link delete`, by root.
    world.there.lock().unwrap().clear();
    keeper.run(ANA, &tag(1), &bridge(2), &[]).expect("there is no bridge any more");
}

#[test]
fn forwarding_is_for_those_who_have_a_bridge() {
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let keeper = keeper(&world, claims(dir.path(), "1"));
    assert!(refusal(keeper.run(ANA, &tag(1), &Op::Forwarding, &[])).contains("no bridge"));
    keeper.run(ANA, &tag(1), &bridge(1), &[]).unwrap();
    keeper.run(ANA, &tag(1), &Op::Forwarding, &[]).unwrap();
    keeper.run(ANA, &tag(1), &Op::BridgeGone, &[]).unwrap();
    assert!(refusal(keeper.run(ANA, &tag(1), &Op::Forwarding, &[])).contains("no bridge"));
}

pub fn any_op() -> impl Strategy<Value = Op> {
    let vms = || (0_u8..3).prop_map(vm);
    let subnets = || (0_u8..4).prop_map(subnet);
    let users = prop_oneof![Just(ANA), Just(BOB), Just(0), any::<u32>()];
    let address = prop_oneof![
        (0_u8..4, any::<[u8; 2]>()).prop_map(|(n, [a, b])| [10, n, a % 4, b].into()),
        any::<u32>().prop_map(std::net::Ipv4Addr::from_bits),
    ];
    let name = (prop_oneof!["[a-z][a-z0-9-]{0,8}[a-z]"], address)
        .prop_map(|(name, address)| HostsName { name: name.parse().unwrap(), address });
    prop_oneof![
        (subnets(), 1000_u32..2000).prop_map(|(subnet, mtu)| Op::Bridge { subnet, mtu }),
        Just(Op::BridgeGone),
        (vms(), 1000_u32..2000, users).prop_map(|(vm, mtu, owner)| Op::Tap { vm, mtu, owner }),
        vms().prop_map(|vm| Op::TapGone { vm }),
        (subnets(), any::<Option<u16>>()).prop_map(|(subnet, dns)| Op::Rules { subnet, dns }),
        Just(Op::RulesGone),
        Just(Op::Forwarding),
        Just(Op::ForwardingGone),
        (vms(), any::<u64>()).prop_map(|(vm, bytes)| Op::Snapshot { vm, bytes }),
        vms().prop_map(|vm| Op::SnapshotGone { vm }),
        vms().prop_map(|vm| Op::SnapshotFill { vm }),
        vms().prop_map(|vm| Op::SnapshotExtend { vm }),
        (any::<u32>(), any::<u16>(), subnets()).prop_map(|(ip, port, subnet)| Op::Resolve {
            server: std::net::SocketAddrV4::new(ip.into(), port),
            subnet
        }),
        Just(Op::ResolveGone),
        prop::collection::vec(name, 0..4).prop_map(|names| Op::Hosts { names }),
        Just(Op::Inventory),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The golden rule: whatever is asked in whatever order, what reaches the host about a tag
    /// was asked by the one user whose it is, and keeps to what is that user's.
    #[test]
    fn nothing_of_another_user_ever_reaches_the_host(
        asked in prop::collection::vec((any::<bool>(), 0_u8..3, any_op()), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let world = Arc::new(World::default());
        let keeper = keeper(&world, claims(dir.path(), "1"));
        let mut owners = BTreeMap::new();
        for (is_ana, n, op) in asked {
            let uid = if is_ana { ANA } else { BOB };
            let before = world.done().len();
            let result = keeper.run(uid, &tag(n), &op, &[]);
            let done = world.done();
            for reached in &done[before..] {
                prop_assert_eq!(&reached.op, &op);
                prop_assert_eq!(&reached.tag, &tag(n));
                prop_assert_eq!(reached.uid, uid);
                prop_assert_eq!(*owners.entry(n).or_insert(uid), uid);
                match &reached.op {
                    Op::Tap { owner, .. } => prop_assert_eq!(*owner, uid),
                    Op::Resolve { server, .. } => prop_assert!(server.ip().is_loopback()),
                    Op::Snapshot { .. } => prop_assert!(false, "without files"),
                    _ => {}
                }
            }
            if result.is_ok() && op != Op::Inventory {
                prop_assert_eq!(*owners.entry(n).or_insert(uid), uid);
            }
        }
    }
}
