//! A VM on the bridge: what all VMs share is made first, once, then its TAP.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::json;

use super::{ground::Ground, naming, shared};
use crate::{
    domain::{Problem, Subnet, VmId, mac, tap_name},
    host::{
        net,
        ops::{Done, Op},
    },
    store::LedgerKind,
};

/// Where there is no default route whose link could tell: Ethernet's.
pub const MTU: u32 = 1500;

/// A VM's place on the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The VMs' addresses.
    pub subnet: Subnet,
    /// The VM's.
    pub address: Ipv4Addr,
    /// The name of its TAP.
    pub tap: String,
    /// The address of its network card.
    pub mac: [u8; 6],
    /// Bytes of a packet.
    pub mtu: u32,
}

/// Gives the VM a TAP on the bridge. `owner` is the user who runs its VMM; `dns` the port where
/// the guests' questions for names are answered. Everything is noted before it is made.
///
/// # Errors
/// What could not be made and why; what was is in the ledger, and goes when that is cleared.
pub fn attach(
    ground: &Ground<'_>,
    vm: &VmId,
    owner: u32,
    dns: Option<u16>,
) -> Result<Attached, Problem> {
    let _lock = ground.lock()?;
    let subnet = subnet(ground)?;
    let place = ground.store.place(vm)?;
    let Some(address) = place.and_then(|place| subnet.guest(place)) else {
        let why = format!("all {} addresses of {subnet} are taken", Subnet::GUESTS.len());
        return Err(Problem::new("cannot give the VM an address", why, "delete VMs"));
    };
    let mtu = net::uplink_mtu().unwrap_or(MTU);
    share(ground, subnet, mtu, dns)?;
    let tap = tap_name(vm);
    ground.note(vm, LedgerKind::Tap, &tap, &json!(null))?;
    ground.run(Some(vm), &Op::Tap { vm: vm.clone(), mtu, owner }, &[])?;
    Ok(Attached { subnet, address, tap, mac: mac(address), mtu })
}

/// Lets questions for names go to this port from now on, the guests' and, where the resolver was
/// told of one, the host's.
///
/// # Errors
/// If the rules or the route cannot be changed.
pub fn redirect(ground: &Ground<'_>, dns: u16) -> Result<(), Problem> {
    let _lock = ground.lock()?;
    let entries = ground.store.all_entries()?;
    let has = |kind| entries.iter().any(|entry| entry.kind == kind);
    let Some(subnet) = ground.store.subnet()?.filter(|_| has(LedgerKind::Rules)) else {
        return Ok(());
    };
    rules(ground, subnet, Some(dns))?;
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, dns);
    let mut told = entries.iter().filter(|entry| entry.kind == LedgerKind::DnsRecord);
    if told.any(|entry| naming::is_of_another_server(entry, server)) {
        ground.run(None, &Op::Resolve { server, subnet }, &[])?;
    }
    Ok(())
}

/// The VMs' addresses: chosen once, looked at again at each start. The caller holds the host
/// lock, or is content with what others may choose at the same time.
///
/// # Errors
/// If the host has no room for them, or now uses some of them otherwise.
pub fn subnet(ground: &Ground<'_>) -> Result<Subnet, Problem> {
    let Some(subnet) = ground.store.subnet()? else {
        let subnet = net::choose_subnet(&ground.tag)?;
        ground.store.set_subnet(subnet)?;
        return Ok(subnet);
    };
    match net::collision(&ground.tag, subnet)? {
        None => Ok(subnet),
        Some(with) => Err(Problem::new(
            format!("the VMs' network {subnet} cannot be used now"),
            format!("it has addresses in common with {with}"),
            "end that, or stop all VMs and let banger choose another: `banger renumber`",
        )),
    }
}

/// What came of [`renumber`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renumbered {
    /// Nothing else uses the VMs' addresses.
    Kept(Subnet),
    /// There are others from now on.
    Changed {
        /// Those before.
        from: Subnet,
        /// Those from now on.
        to: Subnet,
        /// What uses those before: a clause.
        because: String,
    },
}

/// Chooses other addresses for the VMs if something else on the host uses theirs. Each VM keeps its
/// place among them.
///
/// # Errors
/// Which VMs still have one, that the host has no room for others, or what could not be looked at.
pub fn renumber(ground: &Ground<'_>) -> Result<Renumbered, Problem> {
    let what = "cannot choose other addresses for VMs";
    let left = shared::release(ground);
    let _lock = ground.lock()?;
    let entries = ground.store.all_entries()?;
    let has_tap =
        |vm: &VmId| entries.iter().any(|e| e.kind == LedgerKind::Tap && e.vm.as_ref() == Some(vm));
    let on: Vec<_> = ground.store.vms()?.into_iter().filter(|row| has_tap(&row.id)).collect();
    if !on.is_empty() {
        let names: Vec<_> = on.iter().map(|row| row.spec.name.as_str()).collect();
        let hint = format!("stop them first: `banger stop {}`", names.join(" "));
        return Err(Problem::new(what, format!("in use by {}", names.join(", ")), hint));
    }
    if !left.is_empty() {
        let hint = "`banger doctor --clean` removes what is left over";
        return Err(Problem::new(what, format!("still on the host: {}", left.join("; ")), hint));
    }
    let Some(from) = ground.store.subnet()? else { return subnet(ground).map(Renumbered::Kept) };
    let Some(because) = net::collision(&ground.tag, from)? else {
        return Ok(Renumbered::Kept(from));
    };
    let to = net::choose_subnet(&ground.tag)?;
    ground.store.set_subnet(to)?;
    Ok(Renumbered::Changed { from, to, because })
}

/// Makes what all VMs share, as far as the ledger does not have it as it is to be.
fn share(ground: &Ground<'_>, subnet: Subnet, mtu: u32, dns: Option<u16>) -> Result<(), Problem> {
    let bridge = json!({ "subnet": subnet, "mtu": mtu });
    ground.note_shared(LedgerKind::Bridge, &ground.tag.bridge(), &bridge)?;
    // Every time: it costs next to nothing, and somebody may have taken the bridge down.
    ground.run(None, &Op::Bridge { subnet, mtu }, &[])?;

    // Noted also where it is on already: whoever turned it on may be another banger, and the last
    // that ends turns it off.
    let entries = ground.store.shared_entries()?;
    let noted = entries.iter().any(|entry| entry.kind == LedgerKind::Forwarding);
    if !noted || !net::is_forwarding().unwrap_or(false) {
        ground.note_shared(LedgerKind::Forwarding, "net.ipv4.ip_forward", &json!(null))?;
        if ground.run(None, &Op::Forwarding, &[])? == (Done::Forwarding { before: false }) {
            tracing::info!("the kernel forwards IPv4 from now on: net.ipv4.ip_forward");
        }
    }
    rules(ground, subnet, dns)
}

fn rules(ground: &Ground<'_>, subnet: Subnet, dns: Option<u16>) -> Result<(), Problem> {
    let rules = json!({ "subnet": subnet, "dns": dns });
    let noted = ground.store.shared_entries()?;
    if noted.iter().any(|entry| entry.kind == LedgerKind::Rules && entry.detail == rules) {
        return Ok(());
    }
    ground.note_shared(LedgerKind::Rules, &ground.tag.table(), &json!(null))?;
    ground.run(None, &Op::Rules { subnet, dns }, &[])?;
    // Only now: one who dies before this lets the next make them again.
    ground.note_shared(LedgerKind::Rules, &ground.tag.table(), &rules)?;
    Ok(())
}
