//! What client and helper say to each other: one packet of JSON each way.
//!
//! Both sides are the same program, so a request has exactly one spelling: what is not, byte for
//! byte, as this program would have written it is refused. That leaves no room for unknown or
//! repeated fields, for bytes behind the end, or for two readers that understand two things.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Problem, Tag},
    host::ops::{Done, Op},
};

/// The number of this format. It goes up with any change to what is said, [`Op`] and [`Done`]
/// included.
pub(super) const SCHEMA: u32 = 1;

/// The most bytes of a packet: a block of `/etc/hosts` with as many names, each of 63 characters,
/// as a subnet has places takes 107 KiB, an inventory with as many VMs a little more. Less than
/// what a socket takes at once (`net.core.wmem_default`, 208 KiB).
pub(super) const PACKET_MAX: usize = 160 * 1024;

/// The most descriptors of a packet.
pub(super) const FILES_MAX: usize = 2;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// [`SCHEMA`] of the one who asks.
    pub schema: u32,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Ask {
    /// Whether the helper is there, and would do something for us.
    Hello,
    /// An operation.
    Do {
        /// Whose things it is about.
        tag: Tag,
        /// The operation.
        op: Op,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// [`SCHEMA`] of the one who answers.
    pub schema: u32,
    /// What it says.
    pub reply: Reply,
}

/// What can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    /// To [`Ask::Hello`].
    Hello {
        /// The helper's version.
        version: String,
        /// Who it takes us for.
        uid: u32,
    },
    /// To [`Ask::Do`].
    Done(Done),
    /// Refused, or failed.
    Problem(Problem),
    /// The same user has too many requests under way: ask again in a moment.
    Busy,
}

/// What every request and answer has, whatever its version.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// Why a packet is no request or no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPacket {
    /// Of another version.
    #[error("it is in version {0} of the protocol, not {SCHEMA}")]
    Schema(u32),
    /// Anything else.
    #[error("{0}")]
    Malformed(String),
}

impl Request {
    /// The packet.
    pub fn encode(&self) -> Result<Vec<u8>, BadPacket> {
        encode(self)
    }

    /// What a packet says.
    pub fn decode(packet: &[u8]) -> Result<Self, BadPacket> {
        check_schema(packet)?;
        let request: Self = parse(packet)?;
        if encode(&request)? != packet {
            let why = "it has more in it than the request that can be read from it";
            return Err(BadPacket::Malformed(why.to_owned()));
        }
        Ok(request)
    }
}

impl Answer {
    /// The packet.
    pub fn encode(reply: Reply) -> Result<Vec<u8>, BadPacket> {
        encode(&Self { schema: SCHEMA, reply })
    }

    /// What a packet says.
    pub fn decode(packet: &[u8]) -> Result<Reply, BadPacket> {
        check_schema(packet)?;
        parse(packet).map(|answer: Self| answer.reply)
    }
}

fn check_schema(packet: &[u8]) -> Result<(), BadPacket> {
    let head: Head = parse(packet)?;
    if head.schema == SCHEMA { Ok(()) } else { Err(BadPacket::Schema(head.schema)) }
}

fn parse<'a, T: Deserialize<'a>>(packet: &'a [u8]) -> Result<T, BadPacket> {
    serde_json::from_slice(packet).map_err(|e| {
        // The text can quote what was sent, and goes into the journal.
        let text: String = e.to_string().chars().take(200).collect();
        BadPacket::Malformed(format!("it cannot be read: {text}"))
    })
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, BadPacket> {
    let packet = serde_json::to_vec(message)
        .map_err(|e| BadPacket::Malformed(format!("it cannot be written: {e}")))?;
    if packet.len() > PACKET_MAX {
        let long = packet.len();
        let why = format!("it would have {long} bytes, and at most {PACKET_MAX} are taken");
        return Err(BadPacket::Malformed(why));
    }
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        domain::{Subnet, VmId},
        host::ops::{HostsName, Inventory},
    };

    fn tag() -> Tag {
        Tag::from_bytes([0x3f, 0xa2, 0xc1])
    }

    fn asked(op: Op) -> Request {
        Request { schema: SCHEMA, ask: Ask::Do { tag: tag(), op } }
    }

    #[test]
    fn a_request_survives_the_wire() {
        let subnet: Subnet = "172.30.4.0/22".parse().unwrap();
        let vm = VmId::from_bytes([1, 2, 3, 4]);
        for op in [
            Op::Bridge { subnet, mtu: 1500 },
            Op::BridgeGone,
            Op::Rules { subnet, dns: None },
            Op::Rules { subnet, dns: Some(5300) },
            Op::Snapshot { vm, bytes: 1 << 30 },
            Op::Hosts { names: vec![] },
        ] {
            let request = asked(op);
            assert_eq!(Request::decode(&request.encode().unwrap()), Ok(request));
        }
        let hello = Request { schema: SCHEMA, ask: Ask::Hello };
        assert_eq!(hello.encode().unwrap(), br#"{"schema":1,"ask":"hello"}"#);
        assert_eq!(Request::decode(&hello.encode().unwrap()), Ok(hello));
    }

    #[test]
    fn there_is_one_spelling_of_a_request() {
        let good = r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"bridge-gone"}}}}"#;
        assert_eq!(Request::decode(good.as_bytes()), Ok(asked(Op::BridgeGone)));
        for bad in [
            // An unknown field, where serde would let it pass, and where it would not.
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"bridge-gone","path":"/"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"bridge-gone"},"uid":0}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"bridge-gone"}}},"uid":0}"#,
            // Twice the same field; nobody shall have to know which one counts.
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","tag":"3fa2c2","op":{"op":"bridge-gone"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"bridge-gone","op":"rules-gone"}}}}"#,
            // Two requests, or something behind one.
            &format!("{good}{good}"),
            &format!("{good}\n"),
            &format!("{good}\0"),
            &format!(" {good}"),
            // Names that are none.
            r#"{"schema":1,"ask":{"do":{"tag":"../../","op":{"op":"bridge-gone"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3FA2C1","op":{"op":"bridge-gone"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"tap-gone","vm":"../../et"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"tap-gone","vm":"eth0"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"run","command":"sh"}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"hosts","names":[{"name":"a b","address":"1.2.3.4"}]}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"snapshot","vm":"01020304","bytes":-1}}}}"#,
            r#"{"schema":1,"ask":{"do":{"tag":"3fa2c1","op":{"op":"snapshot","vm":"01020304","bytes":1e3}}}}"#,
            r#"{"schema":1}"#,
            "{}",
            "",
        ] {
            let bad = Request::decode(bad.as_bytes()).expect_err(bad);
            assert!(matches!(bad, BadPacket::Malformed(_)), "{bad:?}");
        }
        let deep = format!(r#"{{"schema":1,"ask":{}"#, "[".repeat(100_000));
        assert!(Request::decode(deep.as_bytes()).is_err());
    }

    #[test]
    fn another_version_is_told_apart_from_rubbish() {
        let newer = br#"{"schema":7,"ask":{"teleport":{}},"more":1}"#;
        assert_eq!(Request::decode(newer), Err(BadPacket::Schema(7)));
        let newer = br#"{"schema":7,"reply":"whatever"}"#;
        assert_eq!(Answer::decode(newer), Err(BadPacket::Schema(7)));
    }

    #[test]
    fn the_largest_that_can_be_asked_and_answered_fits() {
        let places = usize::from(*Subnet::GUESTS.end());
        let name = HostsName {
            name: "x".repeat(63).parse().unwrap(),
            address: "172.130.104.200".parse().unwrap(),
        };
        let hosts = asked(Op::Hosts { names: vec![name; places] });
        let packet = hosts.encode().expect("fits");
        assert_eq!(Request::decode(&packet), Ok(hosts));
        let vm = VmId::from_bytes([9; 4]);
        let inventory = Inventory {
            bridge: true,
            taps: vec![vm.clone(); places],
            rules: true,
            snapshots: vec![vm.clone(); places],
            loops: vec![
                ("/dev/loop1000".into(), format!("banger {} {vm} cow", tag()));
                places + 16
            ],
            nodes: vec![PathBuf::from(format!("/dev/banger/{}", tag().device(&vm))); places],
            hosts: places,
        };
        Answer::encode(Reply::Done(Done::Inventory(inventory))).expect("fits");
    }

    #[test]
    fn what_cannot_be_read_is_quoted_in_short() {
        let long = format!(r#"{{"schema":1,"ask":{{"{}":1}}}}"#, "x".repeat(9000));
        let Err(BadPacket::Malformed(why)) = Request::decode(long.as_bytes()) else { panic!() };
        assert!(why.len() < 300, "{why}");
    }
}
