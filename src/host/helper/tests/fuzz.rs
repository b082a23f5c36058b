//! Bytes that are no requests, and requests that are nearly ones.

use proptest::prelude::*;

use super::{ownership::any_op, *};

/// One helper for all cases: none may harm it for the next.
fn with_helper(test: &str, work: impl FnOnce(&Fixture)) {
    if !is_root(test) {
        return;
    }
    let fixture = Fixture::new();
    fixture.run(ANA, &tag(1), &bridge(1)).unwrap();
    work(&fixture);
    assert_eq!(fixture.run(ANA, &tag(1), &bridge(1)), Ok(Done::So), "it still works");
    assert!(fixture.journal.text().lines().all(|line| line.len() < 4096 && line.is_ascii()));
}

fn runner(cases: u32) -> proptest::test_runner::TestRunner {
    proptest::test_runner::TestRunner::new(ProptestConfig { cases, ..ProptestConfig::default() })
}

#[test]
fn arbitrary_bytes_reach_nobody() {
    with_helper("arbitrary_bytes_reach_nobody", |fixture| {
        let bytes = prop::collection::vec(any::<u8>(), 1..4000);
        let files = 0_usize..4;
        let before = fixture.world.done().len();
        let result = runner(300).run(&(bytes, files), |(bytes, count)| {
            let (base, _cow) = fixture.disk(ANA, "f");
            let files = vec![base.as_fd(); count];
            let reply = as_user(ANA, || raw(&fixture.socket(), &bytes, &files)).unwrap();
            prop_assert!(matches!(reply, Some(Reply::Problem(_))), "{reply:?}");
            prop_assert_eq!(fixture.world.done().len(), before);
            Ok(())
        });
        result.unwrap();
    });
}

/// Something small is changed in a packet.
fn mutate(mut packet: Vec<u8>, kind: u8, at: usize, byte: u8) -> Vec<u8> {
    let at = at % packet.len();
    match kind % 6 {
        0 => packet.truncate(at.max(1)),
        1 => packet[at] = byte,
        2 => packet.insert(at, byte),
        3 => drop(packet.remove(at)),
        4 => packet.extend_from_within(at..),
        _ => packet.push(byte),
    }
    packet
}

#[test]
fn what_is_nearly_a_request_is_none_or_is_exactly_another_one() {
    let test = "what_is_nearly_a_request_is_none_or_is_exactly_another_one";
    with_helper(test, |fixture| {
        let cases = (any_op(), any::<u8>(), any::<usize>(), any::<u8>());
        let result = runner(1000).run(&cases, |(op, kind, at, byte)| {
            let packet = mutate(asked(&tag(1), op), kind, at, byte);
            if packet.is_empty() {
                return Ok(());
            }
            let before = fixture.world.done().len();
            let reply = as_user(ANA, || raw(&fixture.socket(), &packet, &[])).unwrap();
            prop_assert!(reply.is_some());
            for reached in &fixture.world.done()[before..] {
                let exact = asked(&reached.tag, reached.op.clone());
                prop_assert_eq!(&exact, &packet, "{}", String::from_utf8_lossy(&packet));
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn too_long_and_too_many_are_refused() {
    with_helper("too_long_and_too_many_are_refused", |fixture| {
        let before = fixture.world.done().len();
        let mut long = asked(&tag(1), Op::BridgeGone);
        long.resize(PACKET_MAX + 1, b' ');
        let (base, cow) = fixture.disk(ANA, "f");
        let gone = asked(&tag(1), Op::BridgeGone);
        let snapshot = asked(&tag(1), Op::Snapshot { vm: vm(1), bytes: 1 << 20 });
        let cases: [(&[u8], Vec<BorrowedFd<'_>>); 6] = [
            (&long, vec![]),
            (&gone, vec![base.as_fd()]),
            (&gone, vec![base.as_fd(); 253]),
            (&snapshot, vec![]),
            (&snapshot, vec![base.as_fd()]),
            (&snapshot, vec![base.as_fd(), cow.as_fd(), cow.as_fd()]),
        ];
        for (bytes, files) in cases {
            let reply = as_user(ANA, || raw(&fixture.socket(), bytes, &files)).unwrap();
            let Some(Reply::Problem(problem)) = reply else { panic!("{reply:?}") };
            assert!(
                problem.why.contains("too long") || problem.why.contains("descriptors came"),
                "{problem}"
            );
        }
        assert_eq!(fixture.world.done().len(), before);
    });
}

#[test]
fn another_version_is_told_what_to_do() {
    with_helper("another_version_is_told_what_to_do", |fixture| {
        let newer = br#"{"schema":99,"ask":{"new":true}}"#;
        let reply = as_user(ANA, || raw(&fixture.socket(), newer, &[])).unwrap();
        let Some(Reply::Problem(problem)) = reply else { panic!("{reply:?}") };
        assert!(problem.why.contains("99") && problem.hint.contains("helper install"), "{problem}");
    });
}
