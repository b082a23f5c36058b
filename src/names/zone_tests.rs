//! What is answered to whom.

use hickory_proto::{
    op::{Edns, Message, MessageType, Query},
    rr::{DNSClass, RecordType as T},
};
use proptest::prelude::*;

use super::*;
use crate::names::testing::{Fake, query, subnet};

fn from(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn host() -> SocketAddr {
    from("127.0.0.1:4000")
}

fn fake() -> Fake {
    Fake::with(&[("web", 2), ("db", 3)])
}

fn verdict(packet: &[u8], side: Side) -> Verdict {
    Zones::new(subnet()).answer(packet, host(), side, true, &fake())
}

fn answered(packet: &[u8]) -> Message {
    match verdict(packet, Side::Host) {
        Verdict::Answer(answer) => Message::from_vec(&answer).expect("a message"),
        other => panic!("no answer: {other:?}"),
    }
}

fn ask(name: &str, kind: T) -> Message {
    answered(&query(name, kind))
}

/// What an answer says, in a line.
fn said(message: &Message) -> String {
    let records = |records: &[Entry]| {
        let texts = records.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.data));
        texts.collect::<Vec<_>>().join(", ")
    };
    let aa = if message.metadata.authoritative { " aa" } else { "" };
    let code = message.metadata.response_code;
    format!("{code:?}{aa} [{}] [{}]", records(&message.answers), records(&message.authorities))
}

const NO_SOA: &str = "[vm. 1 localhost. nobody.invalid. 1 3600 1200 604800 1]";

#[test]
fn a_running_vm_has_an_address_and_no_other_records() {
    assert_eq!(said(&ask("web.vm.", T::A)), "NoError aa [web.vm. 5 172.30.4.2] []");
    assert_eq!(said(&ask("web.vm.", T::ANY)), "NoError aa [web.vm. 5 172.30.4.2] []");
    for kind in [T::AAAA, T::MX, T::HTTPS, T::TXT, T::SOA, T::NS, T::CNAME] {
        assert_eq!(said(&ask("web.vm.", kind)), format!("NoError aa [] {NO_SOA}"), "{kind}");
    }
}

#[test]
fn names_before_its_name_are_its_too() {
    assert_eq!(said(&ask("api.web.vm.", T::A)), "NoError aa [api.web.vm. 5 172.30.4.2] []");
    assert_eq!(said(&ask("_x.b.web.vm.", T::A)), "NoError aa [_x.b.web.vm. 5 172.30.4.2] []");
    assert_eq!(said(&ask("web.db.vm.", T::A)), "NoError aa [web.db.vm. 5 172.30.4.3] []");
}

#[test]
fn who_does_not_run_has_no_name() {
    for name in ["gone.vm.", "*.vm.", "_tcp.vm.", "web_.vm.", "a.gone.vm.", "vm.vm."] {
        assert_eq!(said(&ask(name, T::A)), format!("NXDomain aa [] {NO_SOA}"), "{name}");
    }
}

#[test]
fn letters_come_back_as_they_were_sent() {
    assert_eq!(said(&ask("WeB.vM.", T::A)), "NoError aa [WeB.vM. 5 172.30.4.2] []");
    let message = ask("WeB.vM.", T::A);
    assert_eq!(message.queries[0].name().to_ascii(), "WeB.vM.");
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_desired && !message.metadata.recursion_available);
}

#[test]
fn the_zones_say_whose_they_are() {
    let soa = "localhost. nobody.invalid. 1 3600 1200 604800 1";
    for zone in ["vm.", "4.30.172.in-addr.arpa.", "7.30.172.in-addr.arpa."] {
        assert_eq!(said(&ask(zone, T::SOA)), format!("NoError aa [{zone} 5 {soa}] []"));
        assert_eq!(said(&ask(zone, T::NS)), format!("NoError aa [{zone} 5 localhost.] []"));
        assert_eq!(said(&ask(zone, T::A)), format!("NoError aa [] [{zone} 1 {soa}]"));
    }
}

#[test]
fn addresses_have_names_and_only_in_our_zones() {
    let web = "2.4.30.172.in-addr.arpa.";
    assert_eq!(said(&ask(web, T::PTR)), format!("NoError aa [{web} 5 web.vm.] []"));
    assert_eq!(ask(web, T::A).metadata.response_code, ResponseCode::NoError);
    for nobody in [
        "9.4.30.172.in-addr.arpa.",
        "1.7.30.172.in-addr.arpa.",
        "02.4.30.172.in-addr.arpa.",
        "a.2.4.30.172.in-addr.arpa.",
        "2.4.30.172.in-addr.arpa.4.30.172.in-addr.arpa.",
    ] {
        assert_eq!(ask(nobody, T::PTR).metadata.response_code, ResponseCode::NXDomain, "{nobody}");
    }
    for foreign in ["2.8.30.172.in-addr.arpa.", "30.172.in-addr.arpa.", "1.0.0.127.in-addr.arpa."] {
        assert_eq!(said(&ask(foreign, T::PTR)), "Refused [] []", "{foreign}");
    }
}

#[test]
fn other_names_are_refused_to_the_host_and_relayed_for_guests() {
    for name in ["example.org.", ".", "vm.example.org.", "webvm.", "xvm."] {
        assert_eq!(said(&ask(name, T::A)), "Refused [] []", "{name}");
        let Verdict::Relay { failed } = verdict(&query(name, T::A), Side::Guest) else {
            panic!("{name} is to be relayed")
        };
        let failed = Message::from_vec(&failed).expect("a message");
        assert_eq!(said(&failed), "ServFail [] []");
        assert!(failed.metadata.recursion_available);
    }
    assert!(matches!(verdict(&query("gone.vm.", T::A), Side::Guest), Verdict::Answer(_)));
    assert!(matches!(
        verdict(&query("9.4.30.172.in-addr.arpa.", T::PTR), Side::Guest),
        Verdict::Answer(_)
    ));
}

#[test]
fn what_we_do_not_do_is_said_in_the_right_code() {
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = Message::from_vec(&query("web.vm.", T::A)).expect("a message");
        change(&mut message);
        answered(&message.to_vec().expect("a message")).metadata.response_code
    };
    let update = |m: &mut Message| m.metadata.op_code = OpCode::Update;
    assert_eq!(with(&update), ResponseCode::NotImp);
    let chaos = |m: &mut Message| {
        m.queries[0].set_query_class(DNSClass::CH);
    };
    assert_eq!(with(&chaos), ResponseCode::Refused);
    let transfer = |m: &mut Message| {
        m.queries[0].set_query_type(T::AXFR);
    };
    assert_eq!(with(&transfer), ResponseCode::Refused);
    let two = |m: &mut Message| {
        m.add_query(Query::query(Name::root(), T::A));
    };
    assert_eq!(with(&two), ResponseCode::FormErr);
    let answer = |m: &mut Message| {
        m.add_answer(soa(&Name::root(), 1));
    };
    assert_eq!(with(&answer), ResponseCode::FormErr);
}

#[test]
fn options_are_answered_with_options() {
    let mut message = Message::from_vec(&query("web.vm.", T::A)).expect("a message");
    assert!(answered(&message.to_vec().expect("bytes")).edns.is_none());
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    message.set_edns(edns.clone());
    let answer = answered(&message.to_vec().expect("bytes"));
    assert_eq!(answer.edns.expect("options").max_payload(), UDP_MAX);
    edns.set_version(1);
    message.set_edns(edns);
    let answer = answered(&message.to_vec().expect("bytes"));
    // The code has two names: BADSIG is the other.
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn nobody_is_answered_who_may_not_have_asked() {
    let zones = Zones::new(subnet());
    let loopback = Ipv4Addr::LOCALHOST;
    let bridge = Ipv4Addr::new(172, 30, 4, 1);
    for (socket, asker, side) in [
        (loopback, "127.0.0.1:4000", Some(Side::Host)),
        (loopback, "127.0.0.1:0", None),
        (loopback, "172.30.4.2:4000", None),
        (bridge, "172.30.4.2:4000", Some(Side::Guest)),
        (bridge, "172.30.7.254:4000", Some(Side::Guest)),
        (bridge, "172.30.4.1:4000", Some(Side::Host)),
        (bridge, "172.30.4.0:4000", None),
        (bridge, "172.30.7.255:4000", None),
        (bridge, "172.30.8.2:4000", None),
        (bridge, "8.8.8.8:53", None),
        (bridge, "[::1]:4000", None),
    ] {
        assert_eq!(zones.side(socket, from(asker)), side, "{asker} at {socket}");
    }
}

#[test]
fn junk_gets_little_or_nothing() {
    assert_eq!(verdict(b"", Side::Guest), Verdict::Silence);
    assert_eq!(verdict(&[0; 11], Side::Guest), Verdict::Silence);
    let mut response = query("web.vm.", T::A);
    response[2] |= 0x80;
    assert_eq!(verdict(&response, Side::Guest), Verdict::Silence, "two servers never talk");
    let formerr = |packet: &[u8], why: &str| match verdict(packet, Side::Guest) {
        Verdict::Answer(answer) => {
            assert_eq!(
                (answer.len(), answer[3] & 15, &answer[..2]),
                (12, 1, &packet[..2]),
                "{why}"
            );
        }
        other => panic!("{why}: {other:?}"),
    };
    let mut many = query("web.vm.", T::A);
    many[4..6].copy_from_slice(&[0xff, 0xff]);
    formerr(&many, "65535 questions");
    let mut looped = query("web.vm.", T::A);
    looped.splice(12.., [0xc0, 12, 0, 1, 0, 1]);
    formerr(&looped, "a name that points at itself");
    let mut ahead = query("web.vm.", T::A);
    ahead.splice(12.., [0xc0, 14, 0xc0, 12, 0, 1, 0, 1]);
    formerr(&ahead, "names that point at each other");
    formerr(&query("web.vm.", T::A)[..15], "half a question");
    let long = [query("web.vm.", T::A), vec![0; QUERY_MAX]].concat();
    formerr(&long, "longer than a query");
}

#[test]
fn a_reply_is_one_to_the_question_that_was_sent() {
    let asked = query("example.org.", T::A);
    let mut reply = asked.clone();
    reply[2] |= 0x80;
    assert!(is_reply(&asked, 0x1234, &reply));
    let mut loud = reply.clone();
    loud[12..25].make_ascii_uppercase();
    assert!(is_reply(&asked, 0x1234, &loud), "{loud:?}");
    assert!(!is_reply(&asked, 0x1235, &reply), "another id");
    assert!(!is_reply(&asked, 0x1234, &asked), "not a reply");
    let mut other = query("example.com.", T::A);
    other[2] |= 0x80;
    assert!(!is_reply(&asked, 0x1234, &other), "another name");
    let mut other = query("example.org.", T::AAAA);
    other[2] |= 0x80;
    assert!(!is_reply(&asked, 0x1234, &other), "another type");
    assert!(!is_reply(&asked, 0x1234, &reply[..20]));
}

/// A packet that is nearly a query: one with bytes changed, cut off or put behind.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let names =
        prop::sample::select(vec!["web.vm.", "example.org.", "2.4.30.172.in-addr.arpa.", "."]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let tail = prop::collection::vec(any::<u8>(), 0..64);
    (names, any::<u16>(), changes, tail, any::<prop::sample::Index>()).prop_map(
        |(name, kind, changes, tail, cut)| {
            let mut packet = query(name, T::from(kind));
            packet.extend(tail);
            for (at, byte) in changes {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            packet.truncate(cut.index(packet.len() * 2) + 1);
            packet
        },
    )
}

fn holds(packet: &[u8]) -> Result<(), TestCaseError> {
    let zones = Zones::new(subnet());
    for (side, udp) in [(Side::Host, true), (Side::Guest, true), (Side::Guest, false)] {
        let verdict = zones.answer(packet, host(), side, udp, &fake());
        let answer = match verdict {
            Verdict::Silence => continue,
            Verdict::Answer(answer) => answer,
            Verdict::Relay { failed } => {
                prop_assert_eq!(side, Side::Guest);
                failed
            }
        };
        prop_assert_eq!(&answer[..2], &packet[..2], "the id");
        prop_assert!(answer[2] & 0x80 != 0, "an answer");
        // A question and, at most, one record of ours behind it, and the options.
        prop_assert!(answer.len() <= packet.len() + 160, "{} for {}", answer.len(), packet.len());
        if udp {
            prop_assert!(answer.len() <= usize::from(UDP_MAX));
        }
        let message = Message::from_vec(&answer);
        prop_assert!(message.is_ok(), "{:?}", message);
        prop_assert_eq!(message.expect("looked").metadata.message_type, MessageType::Response);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_taken(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        holds(&packet)?;
        let _ = is_reply(&packet, 1, &packet);
    }

    #[test]
    fn nearly_queries_are_taken(packet in nearly(), other in nearly()) {
        holds(&packet)?;
        let _ = is_reply(&packet, 0x1234, &other);
    }
}
