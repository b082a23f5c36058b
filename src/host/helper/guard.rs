//! What of that which can be asked is done: rules about one operation, told everything they need.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::claims::Claim;
use crate::{
    domain::{Subnet, Tag, VmId, tap_name},
    host::ops::{HostsName, Inventory, Op},
};

/// Bytes of a packet that a link may have: from the least of IPv6 (RFC 8200, 5) to the most of IP.
const MTU: RangeInclusive<u32> = 1280..=65535;
/// Below this a port is for the host's own services: ip(7).
const PORT_LEAST: u16 = 1024;
/// Machines that a tag may have things of: the places of its subnet.
const VMS_MAX: usize = (*Subnet::GUESTS.end() - *Subnet::GUESTS.start()) as usize + 1;

/// What is there that bears a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct There {
    /// The bridge.
    pub bridge: bool,
    /// TAPs.
    pub taps: BTreeSet<VmId>,
    /// Snapshots.
    pub snapshots: BTreeSet<VmId>,
    /// Anything, but lines in `/etc/hosts`.
    pub anything: bool,
    /// Lines in `/etc/hosts`.
    pub hosts: bool,
}

impl From<Inventory> for There {
    fn from(seen: Inventory) -> Self {
        let kernel = seen.bridge
            || seen.rules
            || !(seen.taps.is_empty()
                && seen.snapshots.is_empty()
                && seen.loops.is_empty()
                && seen.nodes.is_empty());
        Self {
            bridge: seen.bridge,
            taps: seen.taps.into_iter().collect(),
            snapshots: seen.snapshots.into_iter().collect(),
            anything: kernel,
            hosts: seen.hosts > 0,
        }
    }
}

impl There {
    /// Takes note of what was done.
    pub fn did(&mut self, op: &Op) {
        match op {
            Op::Bridge { .. } => self.bridge = true,
            Op::BridgeGone => self.bridge = false,
            Op::Tap { vm, .. } => drop(self.taps.insert(vm.clone())),
            Op::TapGone { vm } => drop(self.taps.remove(vm)),
            Op::Snapshot { vm, .. } => drop(self.snapshots.insert(vm.clone())),
            Op::SnapshotGone { vm } => drop(self.snapshots.remove(vm)),
            _ => {}
        }
    }
}

/// All that decides whether an operation is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// Who asks.
    pub uid: u32,
    /// What is known about the tag; it is the asker's, or the asker is root.
    pub claim: &'a Claim,
    /// What is there that bears the tag.
    pub there: &'a There,
    /// The subnets of other tags' bridges.
    pub others: &'a [(Tag, Subnet)],
    /// What of the host's shares addresses with the bridge's, its own network left out. For
    /// [`Op::Bridge`] only.
    pub collision: Option<&'a str>,
    /// Whether there is an interface that has the name of the VM's TAP. For those operations only.
    pub tap_exists: bool,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The rule.
    pub why: String,
    /// What to do instead.
    pub hint: &'static str,
}

impl Refusal {
    pub fn new(why: impl Into<String>, hint: &'static str) -> Self {
        Self { why: why.into(), hint }
    }
}

const BUG: &str = "this is a bug in banger, or it is not banger that asks";

/// How many descriptors an operation comes with.
pub(super) const fn files(op: &Op) -> usize {
    match op {
        Op::Snapshot { .. } => 2,
        _ => 0,
    }
}

/// Whether an operation touches nothing but what is the asker's own. The files it comes with are
/// looked at elsewhere (`files`).
///
/// # Errors
/// Why it is not done.
pub(super) fn check(op: &Op, view: View<'_>) -> Result<(), Refusal> {
    match op {
        Op::Bridge { subnet, mtu } => bridge(*subnet, *mtu, view),
        Op::Tap { vm, mtu, owner } => {
            check_mtu(*mtu)?;
            if *owner != view.uid && view.uid != 0 {
                let why = format!("the TAP would be the user {owner}'s");
                return Err(Refusal::new(why, BUG));
            }
            enough("TAPs", &view.there.taps, vm)?;
            own_tap(vm, view)
        }
        Op::TapGone { vm } => own_tap(vm, view),
        Op::Rules { subnet, dns } => {
            own_subnet(*subnet, view)?;
            dns.map_or(Ok(()), check_port)
        }
        Op::Snapshot { vm, .. } => enough("snapshots", &view.there.snapshots, vm),
        Op::Resolve { server, subnet } => {
            own_subnet(*subnet, view)?;
            if !server.ip().is_loopback() {
                let why = format!("a name server at {} is not of this host", server.ip());
                return Err(Refusal::new(why, BUG));
            }
            check_port(server.port())
        }
        Op::Hosts { names } => hosts(names, view),
        // The bridge is what shows that it is needed, and keeps others from turning it off.
        Op::Forwarding if !view.there.bridge => {
            Err(Refusal::new("there is no bridge that it would be needed for", BUG))
        }
        // Their names follow from the tag, and the tag is the asker's. Forwarding is turned off only
        // for the last banger that has a bridge: `net::forwarding_gone` looks.
        Op::BridgeGone
        | Op::RulesGone
        | Op::Forwarding
        | Op::ForwardingGone
        | Op::SnapshotGone { .. }
        | Op::SnapshotFill { .. }
        | Op::SnapshotExtend { .. }
        | Op::ResolveGone
        | Op::Inventory => Ok(()),
    }
}

fn bridge(subnet: Subnet, mtu: u32, view: View<'_>) -> Result<(), Refusal> {
    check_mtu(mtu)?;
    if !is_private(subnet) {
        let why = format!("{subnet} is not for private networks");
        return Err(Refusal::new(why, "use one within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"));
    }
    if let Some(other) = view.claim.subnet.filter(|own| *own != subnet && view.there.bridge) {
        let why = format!("the bridge has the addresses {other} already");
        return Err(Refusal::new(why, "stop all VMs, so that it is removed, and start one again"));
    }
    let taken = "let banger choose another subnet, or take that network down";
    if let Some((tag, other)) = view.others.iter().find(|(_, other)| *other == subnet) {
        let why = format!("{other} is in use by another banger on this host (tag {tag})");
        return Err(Refusal::new(why, taken));
    }
    if let Some(collision) = view.collision {
        return Err(Refusal::new(format!("{subnet} is in use: {collision}"), taken));
    }
    Ok(())
}

fn check_mtu(mtu: u32) -> Result<(), Refusal> {
    if MTU.contains(&mtu) {
        return Ok(());
    }
    let why = format!("an MTU of {mtu} is not within {} to {}", MTU.start(), MTU.end());
    Err(Refusal::new(why, BUG))
}

fn check_port(port: u16) -> Result<(), Refusal> {
    if port >= PORT_LEAST {
        return Ok(());
    }
    Err(Refusal::new(format!("port {port} may be a service of this host"), BUG))
}

/// RFC 1918, 3.
fn is_private(subnet: Subnet) -> bool {
    // A subnet is smaller than each of these and begins where one of its size can.
    subnet.network().is_private()
}

fn own_subnet(subnet: Subnet, view: View<'_>) -> Result<(), Refusal> {
    match view.claim.subnet {
        Some(own) if own == subnet => Ok(()),
        Some(own) => {
            Err(Refusal::new(format!("the bridge has the addresses {own}, not {subnet}"), BUG))
        }
        None => Err(Refusal::new(format!("there is no bridge with the addresses {subnet}"), BUG)),
    }
}

/// TAPs bear the name of their VM only: two tags could mean the same.
fn own_tap(vm: &VmId, view: View<'_>) -> Result<(), Refusal> {
    if view.there.taps.contains(vm) || !view.tap_exists {
        return Ok(());
    }
    let why = format!("{} is there and is not yours", tap_name(vm));
    Err(Refusal::new(why, "`ip -d link` shows whose it is; a new VM gets another name"))
}

fn enough(what: &str, there: &BTreeSet<VmId>, vm: &VmId) -> Result<(), Refusal> {
    if there.contains(vm) || there.len() < VMS_MAX {
        return Ok(());
    }
    let why = format!("there are {} {what}, and that is the most", there.len());
    Err(Refusal::new(why, "stop VMs that are not needed"))
}

fn hosts(names: &[HostsName], view: View<'_>) -> Result<(), Refusal> {
    if names.is_empty() {
        return Ok(());
    }
    let Some(subnet) = view.claim.subnet else {
        return Err(Refusal::new("there is no bridge that the addresses could be on", BUG));
    };
    if names.len() > VMS_MAX {
        let why = format!("{} names are more than {VMS_MAX}", names.len());
        return Err(Refusal::new(why, BUG));
    }
    let mut seen = BTreeSet::new();
    for HostsName { name, address } in names {
        let place = address.to_bits().wrapping_sub(subnet.network().to_bits());
        let place = u16::try_from(place).ok().and_then(|place| subnet.guest(place));
        if place != Some(*address) {
            let why = format!("{address} is no address of a VM in {subnet}");
            return Err(Refusal::new(why, BUG));
        }
        if !seen.insert(name) {
            return Err(Refusal::new(format!("{name} is named twice"), BUG));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn claim(own: Option<&str>) -> Claim {
        let own = own.map(subnet);
        Claim { uid: 1000, boot: "b".into(), subnet: own }
    }

    fn vm(n: u16) -> VmId {
        let [a, b] = n.to_be_bytes();
        VmId::from_bytes([0, 0, a, b])
    }

    /// What `check` says to the user 1000 whose bridge has 172.30.4.0/22.
    fn says(op: &Op, there: &There) -> Result<(), String> {
        let claim = claim(Some("172.30.4.0/22"));
        let view = View {
            uid: 1000,
            claim: &claim,
            there,
            others: &[],
            collision: None,
            tap_exists: false,
        };
        check(op, view).map_err(|refusal| refusal.why)
    }

    fn refused(op: &Op, why: &str) {
        let told = says(op, &There::default()).expect_err(why);
        assert!(told.contains(why), "{op:?}: {told}");
    }

    fn taken(op: &Op) {
        says(op, &There::default()).unwrap_or_else(|why| panic!("{op:?}: {why}"));
    }

    #[test]
    fn a_bridge_has_a_private_subnet_and_a_sane_mtu() {
        let there = There::default();
        let claim = claim(None);
        let view = View {
            uid: 1000,
            claim: &claim,
            there: &there,
            others: &[],
            collision: None,
            tap_exists: false,
        };
        let ask = |text: &str, mtu| check(&Op::Bridge { subnet: subnet(text), mtu }, view);
        for good in ["10.0.0.0/22", "10.255.252.0/22", "172.31.252.0/22", "192.168.252.0/22"] {
            ask(good, 1500).expect(good);
        }
        for bad in [
            "0.0.0.0/22",
            "8.8.8.0/22",
            "127.0.0.0/22",
            "169.254.0.0/22",
            "172.32.0.0/22",
            "224.0.0.0/22",
            "255.255.252.0/22",
            "172.15.252.0/22",
            "192.169.0.0/22",
            "11.0.0.0/22",
        ] {
            assert!(ask(bad, 1500).unwrap_err().why.contains("private"), "{bad}");
        }
        for mtu in [0, 1279, 65536, u32::MAX] {
            assert!(ask("10.0.0.0/22", mtu).unwrap_err().why.contains("MTU"), "{mtu}");
        }
    }

    #[test]
    fn a_bridge_takes_nobodys_addresses() {
        let there = There::default();
        let own = claim(None);
        let others = [(Tag::from_bytes([1; 3]), subnet("172.30.0.0/22"))];
        let view = View {
            uid: 1000,
            claim: &own,
            there: &there,
            others: &others,
            collision: None,
            tap_exists: false,
        };
        let ask = |text: &str| check(&Op::Bridge { subnet: subnet(text), mtu: 1500 }, view);
        ask("172.30.4.0/22").expect("free");
        assert!(ask("172.30.0.0/22").unwrap_err().why.contains("010101"));
        let view = View { collision: Some("wg0 has the address 10.0.0.1/8"), ..view };
        let op = Op::Bridge { subnet: subnet("10.0.0.0/22"), mtu: 1500 };
        assert!(check(&op, view).unwrap_err().why.contains("wg0"));
    }

    #[test]
    fn a_bridge_keeps_its_subnet() {
        let other = Op::Bridge { subnet: subnet("172.30.8.0/22"), mtu: 1500 };
        let same = Op::Bridge { subnet: subnet("172.30.4.0/22"), mtu: 1400 };
        let there = There { bridge: true, ..There::default() };
        says(&same, &there).expect("again");
        assert!(says(&other, &there).unwrap_err().contains("already"));
        says(&other, &There::default()).expect("there is no bridge any more");
    }

    #[test]
    fn a_tap_is_for_the_one_who_asks_and_takes_no_other() {
        let tap = |owner| Op::Tap { vm: vm(1), mtu: 1500, owner };
        taken(&tap(1000));
        refused(&tap(1001), "1001");
        refused(&tap(0), "user 0");
        refused(&Op::Tap { vm: vm(1), mtu: 9, owner: 1000 }, "MTU");
        let claim = claim(Some("172.30.4.0/22"));
        let (none, own) = (There::default(), There { taps: [vm(1)].into(), ..There::default() });
        let view = |there| View {
            uid: 1000,
            claim: &claim,
            there,
            others: &[],
            collision: None,
            tap_exists: true,
        };
        for op in [tap(1000), Op::TapGone { vm: vm(1) }] {
            assert!(check(&op, view(&none)).unwrap_err().why.contains("bgt-00000001"), "{op:?}");
            check(&op, view(&own)).expect("its own");
        }
        check(&tap(1001), View { uid: 0, ..view(&own) }).expect("root gives to anybody");
    }

    #[test]
    fn there_is_an_end_to_what_one_may_have() {
        let full: BTreeSet<_> = (0..1021).map(vm).collect();
        let there = There { taps: full.clone(), snapshots: full, ..There::default() };
        for n in [0, 1021] {
            let tap = Op::Tap { vm: vm(n), mtu: 1500, owner: 1000 };
            let snapshot = Op::Snapshot { vm: vm(n), bytes: 512 };
            for op in [tap, snapshot] {
                assert_eq!(says(&op, &there).is_ok(), n == 0, "{op:?}");
            }
        }
    }

    #[test]
    fn rules_and_resolver_are_for_ones_own_subnet() {
        let (own, other) = (subnet("172.30.4.0/22"), subnet("192.168.0.0/22"));
        taken(&Op::Rules { subnet: own, dns: None });
        taken(&Op::Rules { subnet: own, dns: Some(1024) });
        refused(&Op::Rules { subnet: other, dns: None }, "172.30.4.0/22");
        refused(&Op::Rules { subnet: own, dns: Some(53) }, "port 53");
        let resolve =
            |server: &str, subnet| Op::Resolve { server: server.parse().unwrap(), subnet };
        taken(&resolve("127.0.0.1:5353", own));
        taken(&resolve("127.8.9.1:1024", own));
        refused(&resolve("127.0.0.1:5353", other), "172.30.4.0/22");
        refused(&resolve("127.0.0.1:53", own), "port 53");
        refused(&resolve("8.8.8.8:5353", own), "8.8.8.8");
        refused(&resolve("0.0.0.0:5353", own), "0.0.0.0");
        let none = claim(None);
        let there = There::default();
        let view = View {
            uid: 1000,
            claim: &none,
            there: &there,
            others: &[],
            collision: None,
            tap_exists: false,
        };
        assert!(check(&Op::Rules { subnet: own, dns: None }, view).is_err(), "no bridge");
    }

    #[test]
    fn names_lead_to_vms_and_nowhere_else() {
        let name = |name: &str, address: &str| HostsName {
            name: name.parse().unwrap(),
            address: address.parse().unwrap(),
        };
        taken(&Op::Hosts { names: vec![] });
        taken(&Op::Hosts { names: vec![name("a", "172.30.4.2"), name("b", "172.30.7.254")] });
        for bad in [
            "172.30.4.0",
            "172.30.4.1",
            "172.30.7.255",
            "172.30.3.255",
            "172.30.8.2",
            "127.0.0.1",
            "8.8.8.8",
            "0.0.0.0",
            "255.255.255.255",
            "172.31.4.2",
        ] {
            refused(&Op::Hosts { names: vec![name("a", bad)] }, "no address of a VM");
        }
        let twice = vec![name("a", "172.30.4.2"), name("a", "172.30.4.3")];
        refused(&Op::Hosts { names: twice }, "twice");
    }
}
