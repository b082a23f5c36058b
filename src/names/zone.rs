//! What the name server answers: a packet in, a packet out. No sockets, no clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::{
    op::{Edns, Metadata, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record as Entry, RecordType,
        rdata::{A, NS, PTR, SOA},
    },
    serialize::binary::BinEncoder,
};
use hickory_server::{
    net::xfer::Protocol,
    server::Request,
    zone_handler::{MessageRequest, MessageResponseBuilder},
};

use super::Records;
use crate::domain::{Subnet, VmName, ZONE};

/// Seconds an answer may be remembered. A VM keeps its address for life, so an old answer is never
/// wrong about where a VM is, only about whether it runs: that should be noticed soon, and a
/// query over loopback costs nothing.
pub const TTL: u32 = 5;

/// Seconds it may be remembered that there is no such VM: whoever tried `web.vm` too early tries
/// again as soon as the VM is up. (RFC 2308: it is the SOA's last field.)
pub const NEGATIVE_TTL: u32 = 1;

/// The most bytes of a query that is looked at. A query is a header, one name of at most 255 bytes,
/// and options (cookies, padding to 128 by RFC 8467).
pub const QUERY_MAX: usize = 4_096;

/// The most bytes of an answer over UDP, whatever the asker would take: more gets fragmented
/// (the value of the DNS flag day 2020).
const UDP_MAX: u16 = 1_232;
/// The same for one who says nothing (RFC 1035, 4.2.1).
const UDP_PLAIN: u16 = 512;

/// Who asks, which decides what one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A program of the host: it has a resolver for everything else.
    Host,
    /// A guest: this is its only resolver.
    Guest,
}

/// What to do about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send this back.
    Answer(Vec<u8>),
    /// Ask somebody else, and send back what they say; if nobody answers, this.
    Relay {
        /// "Server failure", for that query.
        failed: Vec<u8>,
    },
    /// Say nothing.
    Silence,
}

/// The zones that banger is the authority for: `vm`, and the reverse zones of the VMs' addresses.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    subnet: Subnet,
    forward: Name,
    reverse: Vec<Name>,
}

/// What is known of a name.
enum Found {
    /// These are its records of the type asked for; none, if it has others.
    Entries(Vec<Entry>),
    /// There is no such name.
    Nothing,
}

/// How the answers say whose zones these are. As the empty zones of RFC 6303: nobody but this
/// host may ever ask, and nobody can be written to.
const MASTER: &str = "localhost.";
const MAILBOX: &str = "nobody.invalid.";

impl Zones {
    /// For the VMs of this subnet.
    pub fn new(subnet: Subnet) -> Self {
        let reverse = subnet.reverse_zones().iter().map(|zone| name(&format!("{zone}."))).collect();
        Self { subnet, forward: name(&format!("{ZONE}.")), reverse }
    }

    /// Where questions that came to this socket come from; `None` if an answer could go to somebody
    /// who never asked: a packet says of itself who sent it.
    pub fn side(&self, socket: Ipv4Addr, from: SocketAddr) -> Option<Side> {
        let (IpAddr::V4(from), true) = (from.ip(), from.port() != 0) else { return None };
        if socket == Ipv4Addr::LOCALHOST {
            return from.is_loopback().then_some(Side::Host);
        }
        match from {
            own if own == self.subnet.gateway() => Some(Side::Host),
            guest if self.is_guest(guest) => Some(Side::Guest),
            _ => None,
        }
    }

    fn is_guest(&self, address: Ipv4Addr) -> bool {
        let place = address.to_bits().wrapping_sub(self.subnet.network().to_bits());
        u16::try_from(place).is_ok_and(|place| self.subnet.guest(place) == Some(address))
    }

    /// What to do about a packet.
    pub fn answer(
        &self,
        packet: &[u8],
        from: SocketAddr,
        side: Side,
        udp: bool,
        records: &dyn Records,
    ) -> Verdict {
        let Some(head) = Head::of(packet) else { return Verdict::Silence };
        if head.is_response {
            // Answering an answer could go on for ever.
            return Verdict::Silence;
        }
        if packet.len() > QUERY_MAX || !head.is_one_question() {
            // Not parsed at all: the counts alone could make a parser reserve megabytes.
            return Verdict::Answer(head.bare(ResponseCode::FormErr));
        }
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let Ok(request) = Request::from_bytes(packet.to_vec(), from, protocol) else {
            return Verdict::Answer(head.bare(ResponseCode::FormErr));
        };
        let failed = |code| encode(&request, udp, side, code, false, &[], &[]);
        let [query] = request.queries.queries() else {
            return Verdict::Answer(failed(ResponseCode::FormErr));
        };
        if request.version() > 0 {
            return Verdict::Answer(failed(ResponseCode::BADVERS));
        }
        if request.metadata.op_code != OpCode::Query {
            return Verdict::Answer(failed(ResponseCode::NotImp));
        }
        // As it was asked for, upper and lower case as they were: some resolvers check that.
        let asked = query.original().name();
        let Some(zone) = self.zone_of(asked) else {
            return match side {
                Side::Host => Verdict::Answer(failed(ResponseCode::Refused)),
                Side::Guest => Verdict::Relay { failed: failed(ResponseCode::ServFail) },
            };
        };
        let kind = query.query_type();
        let transfer = matches!(kind, RecordType::AXFR | RecordType::IXFR);
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) || transfer {
            return Verdict::Answer(failed(ResponseCode::Refused));
        }
        let (code, entries) = match self.find(zone, asked, kind, records) {
            Found::Entries(entries) => (ResponseCode::NoError, entries),
            Found::Nothing => (ResponseCode::NXDomain, Vec::new()),
        };
        let authority = if entries.is_empty() { vec![soa(zone, NEGATIVE_TTL)] } else { Vec::new() };
        Verdict::Answer(encode(&request, udp, side, code, true, &entries, &authority))
    }

    /// The zone of ours that a name is in.
    fn zone_of(&self, name: &Name) -> Option<&Name> {
        let mut zones = std::iter::once(&self.forward).chain(&self.reverse);
        zones.find(|zone| zone.zone_of(name))
    }

    /// What is known of a name in a zone. Names are compared without regard to case.
    fn find(&self, zone: &Name, asked: &Name, kind: RecordType, records: &dyn Records) -> Found {
        let entry = |data| Entry::from_rdata(asked.clone(), TTL, data);
        // Which of a name's records were asked for. For ANY one is enough (RFC 8482).
        let of = |own: RecordType, entry: Entry| {
            Found::Entries(if kind == own || kind == RecordType::ANY {
                vec![entry]
            } else {
                vec![]
            })
        };
        if asked == zone {
            return match kind {
                RecordType::NS => Found::Entries(vec![entry(RData::NS(NS(name(MASTER))))]),
                _ => of(RecordType::SOA, soa(zone, TTL)),
            };
        }
        if *zone == self.forward {
            // The label before `vm`; what is before that does not matter: `api.web.vm` is web.
            let label = asked.iter().rev().nth(1).map(<[u8]>::to_ascii_lowercase);
            let vm = label.and_then(|label| String::from_utf8(label).ok());
            let vm = vm.and_then(|vm| vm.parse::<VmName>().ok());
            return match vm.and_then(|vm| records.by_name(&vm)) {
                Some(vm) => of(RecordType::A, entry(RData::A(A(vm.address)))),
                None => Found::Nothing,
            };
        }
        match address(asked).and_then(|address| records.by_address(address)) {
            Some(vm) => match Name::from_ascii(format!("{}.{ZONE}.", vm.name)) {
                Ok(to) => of(RecordType::PTR, entry(RData::PTR(PTR(to)))),
                Err(_) => Found::Nothing,
            },
            None => Found::Nothing,
        }
    }
}

/// The address that a name of a reverse zone is for; nothing but the one way to write it.
fn address(name: &Name) -> Option<Ipv4Addr> {
    let text = name.to_ascii().to_ascii_lowercase();
    let digits = text.trim_end_matches('.').strip_suffix(".in-addr.arpa")?;
    let [d, c, b, a] = digits.split('.').collect::<Vec<_>>().try_into().ok()?;
    format!("{a}.{b}.{c}.{d}").parse().ok()
}

fn soa(zone: &Name, ttl: u32) -> Entry {
    // Nobody transfers these zones, so serial, refresh, retry and expire mean nothing: the values
    // are those of RFC 6303.
    let data = SOA::new(name(MASTER), name(MAILBOX), 1, 3_600, 1_200, 604_800, NEGATIVE_TTL);
    Entry::from_rdata(zone.clone(), ttl, RData::SOA(data))
}

/// A name that is known to be one.
fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("labels of few letters and digits")
}

fn encode(
    request: &MessageRequest,
    udp: bool,
    side: Side,
    code: ResponseCode,
    authoritative: bool,
    answers: &[Entry],
    authority: &[Entry],
) -> Vec<u8> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = code;
    metadata.authoritative = authoritative;
    metadata.recursion_available = side == Side::Guest;
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX).set_rcode_high(code.high());
    let builder =
        MessageResponseBuilder::new(&request.queries, request.edns.as_ref().map(|_| &edns));
    let none: [&Entry; 0] = [];
    let response = builder.build(metadata, answers, authority, none, none);
    let mut bytes = Vec::with_capacity(usize::from(UDP_PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(if udp {
        request.max_payload().clamp(UDP_PLAIN, UDP_MAX)
    } else {
        u16::MAX
    });
    match response.destructive_emit(&mut encoder) {
        Ok(_) => bytes,
        // What was asked cannot be repeated in the answer.
        Err(_) => {
            bare(request.metadata.id, request.metadata.recursion_desired, ResponseCode::ServFail)
        }
    }
}

/// The first twelve bytes of a packet.
struct Head {
    id: u16,
    is_response: bool,
    recursion_desired: bool,
    counts: [u16; 4],
}

impl Head {
    fn of(packet: &[u8]) -> Option<Self> {
        let head: &[u8; 12] = packet.first_chunk()?;
        let word = |i: usize| u16::from_be_bytes([head[2 * i], head[2 * i + 1]]);
        Some(Self {
            id: word(0),
            is_response: head[2] & 0x80 != 0,
            recursion_desired: head[2] & 1 != 0,
            counts: [word(2), word(3), word(4), word(5)],
        })
    }

    /// One question, no answers, and of extras at most the options and a signature.
    const fn is_one_question(&self) -> bool {
        matches!(self.counts, [1, 0, 0, 0..=2])
    }

    /// An answer that says nothing but this.
    fn bare(&self, code: ResponseCode) -> Vec<u8> {
        bare(self.id, self.recursion_desired, code)
    }
}

fn bare(id: u16, recursion_desired: bool, code: ResponseCode) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![high, low, 0x80 | u8::from(recursion_desired), code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Whether `reply` is one to `query`, which was sent under the id `id`: of that id, with the same
/// question.
pub(super) fn is_reply(query: &[u8], id: u16, reply: &[u8]) -> bool {
    let (Some(head), Some((asked, kind))) = (Head::of(reply), question(query)) else {
        return false;
    };
    head.id == id
        && head.is_response
        && head.counts[0] == 1
        && question(reply).is_some_and(|(n, k)| n.eq_ignore_ascii_case(asked) && k == kind)
}

/// The first question: its name, and its type and class. Only if the name is written out; there is
/// nothing before it that it could point to.
fn question(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 12;
    loop {
        match *packet.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    Some((packet.get(12..at)?, packet.get(at + 1..at + 5)?))
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
