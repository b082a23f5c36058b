//! Looking: what the database says, what the host has, and both compared.

use std::{collections::BTreeSet, path::Path, path::PathBuf, thread, time::Duration};

use super::{Findings, Known, Seen, Thing, Vm, compare, files, proc};
use crate::{
    domain::{Layout, MadeState, Problem, Tag, VmId},
    host::{
        lock, net,
        ops::{Done, Inventory, Op},
        resolver,
    },
    image::content,
    monitor::{Ground, VmmDetail},
    store::{LedgerKind, Store, VmState},
};

/// Between the two looks. Writing down and making are milliseconds apart.
const PAUSE: Duration = Duration::from_millis(250);
/// Where control groups of version 2 are, on every host that has them.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A look at ledger and host.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// What differs.
    pub findings: Findings,
    /// What could not be looked at, and why.
    pub blind: Option<String>,
    /// Links that are called as ours are, and are of others: for the eye only.
    pub strangers: Vec<String>,
}

/// Locks that whoever looks holds: they are no sign that somebody else is at work.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// Those of this VM.
    pub vm: Option<VmId>,
    /// That of the bases.
    pub bases: bool,
}

/// Looks, and if something differs once more: what counts is what differs still. Blocks.
///
/// # Errors
/// The database.
pub fn look(ground: &Ground<'_>) -> Result<Audit, Problem> {
    let first = once(ground, &Ours::default())?;
    if first.findings.orphans.is_empty() && first.findings.missing().next().is_none() {
        return Ok(first);
    }
    thread::sleep(PAUSE);
    let mut second = once(ground, &Ours::default())?;
    let before = first.findings;
    second.findings.orphans.retain(|(view, _)| before.orphans.iter().any(|(v, _)| v == view));
    let missing = second.findings.made.iter_mut().filter(|m| m.state == MadeState::Missing);
    for made in missing {
        // Not there now, but there or not yet written down a moment ago: on its way.
        if !before.missing().any(|was| was == made) {
            made.state = MadeState::There;
        }
    }
    Ok(second)
}

/// Looks once.
///
/// # Errors
/// The database.
pub fn once(ground: &Ground<'_>, ours: &Ours) -> Result<Audit, Problem> {
    let mut known = known(ground.store, ground.layout)?;
    let (mut seen, strangers) = seen(ground, &known);
    if let Some(id) = &ours.vm {
        if let Some(vm) = known.vms.get_mut(id) {
            vm.up = false;
        }
        if seen.things.remove(&Thing::Lock { vm: id.clone(), held: true }) {
            seen.things.insert(Thing::Lock { vm: id.clone(), held: false });
        }
    }
    seen.bases_busy &= !ours.bases;
    let findings = compare(&known, &seen, &ground.tag, ground.layout);
    Ok(Audit { findings, blind: seen.blind, strangers })
}

/// What the database says, and whose locks are held.
pub fn known(store: &Store, layout: &Layout) -> Result<Known, Problem> {
    let vms = store.vms()?.into_iter().map(|row| {
        let path = layout.vm(&row.id).run_lock();
        // A lock that cannot be looked at is no proof that the VM is off.
        let up = lock::is_held(&path).unwrap_or(true);
        let monitor = lock::holder(&path).ok().flatten();
        let base = row.base.or(row.made_from.filter(|_| row.state != VmState::Ready));
        (row.id, Vm { name: row.spec.name.to_string(), up, monitor, base })
    });
    let contents = content::of_images(layout);
    Ok(Known {
        vms: vms.collect(),
        entries: store.all_entries()?,
        unsure: contents.is_err(),
        contents: contents.unwrap_or_default(),
    })
}

/// What the host has, and the names of links that are not ours.
fn seen(ground: &Ground<'_>, known: &Known) -> (Seen, Vec<String>) {
    let Ground { layout, tag, .. } = ground;
    let mut seen = Seen {
        ports: proc::ports(),
        forwarding: proc::forwarding(),
        bases_busy: files::bases_busy(layout),
        ..Seen::default()
    };
    proc::processes(layout, &mut seen.things);
    proc::mounts(layout, &mut seen.things);
    files::files(layout, &mut seen.things);
    for root in CGROUPS {
        files::cgroups(Path::new(root), &mut seen.things);
    }
    let strangers = links(tag, &mut seen);
    if net::is_left_forwarding().unwrap_or(false) {
        seen.things.insert(Thing::Forwarding);
    }
    match ground.ops.as_ref().map_err(Problem::clone).and_then(|ops| ops.run(&Op::Inventory, &[])) {
        Ok(Done::Inventory(inventory)) => add(inventory, tag, &mut seen.things),
        Ok(other) => seen.blind = Some(format!("asked what is there, it was answered {other:?}")),
        Err(problem) => seen.blind = Some(problem.why),
    }
    if seen.blind.is_some() && resolver::hosts_lines(tag).is_ok_and(|lines| lines > 0) {
        seen.things.insert(Thing::Hosts);
    }
    for entry in &known.entries {
        match entry.kind {
            LedgerKind::Process => {
                let detail = serde_json::from_value::<VmmDetail>(entry.detail.clone());
                let process = detail.ok().and_then(|detail| detail.process);
                seen.processes.extend(process.filter(|p| p.alive()).map(|p| p.pid));
            }
            LedgerKind::Socket
            | LedgerKind::Directory
            | LedgerKind::File
            | LedgerKind::Mount
            | LedgerKind::Cgroup => {
                let path = PathBuf::from(&entry.key);
                if path.symlink_metadata().is_ok() {
                    seen.paths.insert(path);
                }
            }
            _ => {}
        }
    }
    (seen, strangers)
}

/// Bridge and TAPs, which anybody may see.
fn links(tag: &Tag, seen: &mut Seen) -> Vec<String> {
    let mut others = Vec::new();
    for link in net::strangers().unwrap_or_default() {
        match (link.tag == Some(tag.clone()), link.vm) {
            (true, Some(vm)) => drop(seen.things.insert(Thing::Tap(vm))),
            (true, None) if link.name == tag.bridge() => {
                seen.things.insert(Thing::Bridge);
            }
            _ => others.push(link.name),
        }
    }
    others
}

fn add(inventory: Inventory, tag: &Tag, things: &mut BTreeSet<Thing>) {
    let Inventory { bridge, taps, rules, snapshots, loops, nodes, hosts } = inventory;
    things.extend(bridge.then_some(Thing::Bridge));
    things.extend(taps.into_iter().map(Thing::Tap));
    things.extend(rules.then_some(Thing::Rules));
    things.extend(snapshots.into_iter().map(Thing::Snapshot));
    things.extend(nodes.into_iter().map(Thing::Node));
    things.extend((hosts > 0).then_some(Thing::Hosts));
    for (device, label) in loops {
        let cow = label.strip_prefix(&format!("banger {tag} cow "));
        let cow_of = cow.and_then(|vm| vm.parse::<VmId>().ok());
        things.insert(Thing::Loop { device: device.into(), cow_of });
    }
}
