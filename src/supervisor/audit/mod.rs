//! The ledger compared with the host, both ways.
//!
//! [`compare`] is pure: what the database says and what was seen go in, findings come out. What is
//! seen is gathered by [`look`]; what is found too much is removed by [`remove`].
//!
//! Between writing down and making, and between removing and striking out, ledger and host differ
//! for a moment although all is well. So [`look`] looks twice, and only what was found both times
//! counts.

mod files;
mod look;
mod proc;
mod remove;
mod things;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    domain::{Layout, MadeState, MadeView, OrphanView, Tag, VmId, tap_name},
    monitor::VmmDetail,
    store::{LedgerEntry, LedgerKind},
};

pub use look::{Audit, look};
pub use remove::remove;
pub use things::{Role, Thing};

/// A VM of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// Whether its run lock is held.
    pub up: bool,
    /// Who holds it, if that is known.
    pub monitor: Option<u32>,
    /// The SHA-256 of the base its disk is a snapshot of, or is being made from.
    pub base: Option<String>,
}

/// What the database says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// All VMs.
    pub vms: BTreeMap<VmId, Vm>,
    /// The whole ledger, oldest first.
    pub entries: Vec<LedgerEntry>,
    /// The contents that images of the user's are of.
    pub contents: BTreeSet<String>,
    /// One of them does not say which: then any content may be needed.
    pub unsure: bool,
}

/// What the host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What bears our mark, or lies where only ours lies.
    pub things: BTreeSet<Thing>,
    /// What could not be looked at for want of privileges, and why; rules, snapshots and loop
    /// devices are then not among the things.
    pub blind: Option<String>,
    /// Those of the ledger's paths that are there.
    pub paths: BTreeSet<PathBuf>,
    /// Those of the ledger's processes that run, by their ids.
    pub processes: BTreeSet<u32>,
    /// TCP ports of this host on which something listens.
    pub ports: BTreeSet<u16>,
    /// Whether the kernel forwards IPv4.
    pub forwarding: bool,
    /// Whether somebody is making or removing a base.
    pub bases_busy: bool,
}

/// Something that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orphan {
    /// In the ledger, of a VM that is off or of none that is up: to be undone and struck out.
    Entry(LedgerEntry),
    /// On the host, and not in the ledger.
    Thing(Thing),
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Every entry of the ledger with how it stands.
    pub made: Vec<MadeView>,
    /// What nobody needs, with what is shown of it.
    pub orphans: Vec<(OrphanView, Orphan)>,
}

impl Findings {
    /// Entries of VMs that run whose thing is not there.
    pub fn missing(&self) -> impl Iterator<Item = &MadeView> {
        self.made.iter().filter(|made| made.state == MadeState::Missing)
    }
}

/// Compares.
#[must_use]
pub fn compare(known: &Known, seen: &Seen, tag: &Tag, layout: &Layout) -> Findings {
    let pair = Pair { known, seen, tag, layout };
    let mut findings = Findings::default();
    for entry in &known.entries {
        let state = match (pair.is_needed(entry), pair.is_there(entry)) {
            (false, _) => MadeState::OfDead,
            (true, Some(true)) => MadeState::There,
            (true, Some(false)) => MadeState::Missing,
            (true, None) => MadeState::Unknown,
        };
        if state == MadeState::OfDead {
            findings.orphans.push((pair.view_entry(entry), Orphan::Entry(entry.clone())));
        }
        findings.made.push(MadeView {
            vm: entry.vm.clone(),
            owner: entry.vm.as_ref().map_or_else(|| "shared".to_owned(), |vm| pair.name(vm)),
            kind: entry.kind.to_string(),
            key: entry.key.clone(),
            created: entry.created,
            state,
        });
    }
    for thing in seen.things.iter().filter(|thing| !pair.is_accounted_for(thing)) {
        findings.orphans.push((pair.view_thing(thing), Orphan::Thing(thing.clone())));
    }
    findings
}

/// Both sides.
struct Pair<'a> {
    known: &'a Known,
    seen: &'a Seen,
    tag: &'a Tag,
    layout: &'a Layout,
}

impl Pair<'_> {
    fn is_up(&self, vm: &VmId) -> bool {
        self.known.vms.get(vm).is_some_and(|vm| vm.up)
    }

    fn name(&self, vm: &VmId) -> String {
        self.known.vms.get(vm).map_or_else(|| vm.to_string(), |vm| vm.name.clone())
    }

    fn has(&self, vm: Option<&VmId>, kind: LedgerKind, key: &str) -> bool {
        let same = |e: &LedgerEntry| e.vm.as_ref() == vm && e.kind == kind && e.key == key;
        self.known.entries.iter().any(same)
    }

    fn has_kind(&self, vm: Option<&VmId>, kind: LedgerKind) -> bool {
        self.known.entries.iter().any(|e| e.vm.as_ref() == vm && e.kind == kind)
    }

    fn has_path(&self, kind: LedgerKind, path: &Path) -> bool {
        self.known.entries.iter().any(|e| e.kind == kind && Path::new(&e.key) == path)
    }

    /// Whether a VM that is up needs it: its own, or one of those that share it.
    fn is_needed(&self, entry: &LedgerEntry) -> bool {
        if let Some(vm) = &entry.vm {
            return self.is_up(vm);
        }
        self.known.entries.iter().any(|other| {
            let uses = match entry.kind {
                LedgerKind::BaseLoop => {
                    other.kind == LedgerKind::Snapshot
                        && other.detail["base"].as_str() == Some(entry.key.as_str())
                }
                _ => other.kind == LedgerKind::Tap,
            };
            uses && other.vm.as_ref().is_some_and(|vm| self.is_up(vm))
        })
    }

    /// Whether an entry's thing is on the host; `None` if that cannot be seen.
    fn is_there(&self, entry: &LedgerEntry) -> Option<bool> {
        let seen = self.seen;
        let has = |thing: Thing| seen.things.contains(&thing);
        let privileged = |there: bool| (there || seen.blind.is_none()).then_some(there);
        let vm = || entry.vm.clone();
        Some(match entry.kind {
            LedgerKind::Process => {
                let detail = serde_json::from_value::<VmmDetail>(entry.detail.clone()).ok()?;
                match detail.process {
                    Some(process) => seen.processes.contains(&process.pid),
                    // Between its start and this being written down.
                    None => return None,
                }
            }
            LedgerKind::Socket
            | LedgerKind::Directory
            | LedgerKind::File
            | LedgerKind::Mount
            | LedgerKind::Cgroup => seen.paths.contains(Path::new(&entry.key)),
            LedgerKind::PortForward => {
                entry.key.parse().is_ok_and(|port: u16| seen.ports.contains(&port))
            }
            LedgerKind::Bridge => has(Thing::Bridge),
            LedgerKind::Tap => has(Thing::Tap(vm()?)),
            LedgerKind::Forwarding => seen.forwarding,
            LedgerKind::Rules => return privileged(has(Thing::Rules)),
            LedgerKind::Snapshot => return privileged(has(Thing::Snapshot(vm()?))),
            LedgerKind::BaseLoop => {
                let base = |t: &Thing| matches!(t, Thing::Loop { cow_of: None, .. });
                return privileged(seen.things.iter().any(base));
            }
            // See `names::Piece::key`.
            LedgerKind::DnsRecord => match entry.key.split(' ').next() {
                Some(things::HOSTS) => has(Thing::Hosts),
                // A setting of the bridge's link goes with it.
                Some(things::RESOLVER) => has(Thing::Bridge),
                // Only a mapdns itself knows.
                _ => return None,
            },
        })
    }

    /// Whether the ledger, or the database, knows why it is there.
    fn is_accounted_for(&self, thing: &Thing) -> bool {
        match thing {
            Thing::Bridge => self.has_kind(None, LedgerKind::Bridge),
            Thing::Rules => self.has_kind(None, LedgerKind::Rules),
            Thing::Forwarding => self.has_kind(None, LedgerKind::Forwarding),
            Thing::Tap(vm) => self.has(Some(vm), LedgerKind::Tap, &tap_name(vm)),
            Thing::Snapshot(vm) => self.has_kind(Some(vm), LedgerKind::Snapshot),
            Thing::Loop { cow_of: Some(vm), .. } => self.has_kind(Some(vm), LedgerKind::Snapshot),
            Thing::Loop { cow_of: None, .. } => self.has_kind(None, LedgerKind::BaseLoop),
            Thing::Node(path) => self.known.entries.iter().any(|entry| {
                entry.kind == LedgerKind::Snapshot
                    && path.file_name().is_some_and(|name| name == entry.key.as_str())
            }),
            Thing::Hosts => self.known.entries.iter().any(|entry| {
                entry.kind == LedgerKind::DnsRecord
                    && entry.key.split(' ').next() == Some(things::HOSTS)
            }),
            Thing::Process { pid, vm, role: Role::Monitor } => {
                let held = self.known.vms.get(vm).filter(|vm| vm.up);
                held.is_some_and(|vm| vm.monitor.is_none_or(|holder| holder == *pid))
            }
            Thing::Process { vm, role: Role::Vmm, .. } => {
                self.has_kind(Some(vm), LedgerKind::Process)
            }
            Thing::RunDir(vm) => self.has_path(LedgerKind::Directory, self.layout.vm(vm).run_dir()),
            Thing::Lock { vm, held } => *held || self.known.vms.contains_key(vm),
            Thing::Stray(path) => {
                let entries = self.known.entries.iter();
                entries.map(|entry| Path::new(&entry.key)).any(|key| key.starts_with(path))
            }
            Thing::VmDir(vm) => self.known.vms.contains_key(vm),
            Thing::Base(path) => {
                let sha256 = path.file_name().and_then(|name| name.to_str());
                let used = |vm: &Vm| vm.base.is_some() && vm.base.as_deref() == sha256;
                self.known.unsure
                    || sha256.is_some_and(|sha256| self.known.contents.contains(sha256))
                    || self.known.vms.values().any(used)
                    || (self.seen.bases_busy && path.extension().is_some())
            }
            Thing::Mount(path) => self.has_path(LedgerKind::Mount, path),
            Thing::Cgroup(vm, path) => {
                // Another home's VM may have one, too: nothing tells whose it is.
                !self.known.vms.contains_key(vm) || self.has_path(LedgerKind::Cgroup, path)
            }
        }
    }

    fn view_thing(&self, thing: &Thing) -> OrphanView {
        let whose = match thing.vm() {
            None => "of banger, and not in its ledger".to_owned(),
            Some(vm) => match self.known.vms.get(vm) {
                Some(known) => format!("of {}, and not in the ledger", known.name),
                None => format!("of VM {vm}, which the database does not know"),
            },
        };
        OrphanView {
            what: thing.what(self.tag, self.layout),
            whose,
            command: thing.command(self.tag, self.layout),
        }
    }

    fn view_entry(&self, entry: &LedgerEntry) -> OrphanView {
        let there = self.is_there(entry) != Some(false);
        let mut whose = match &entry.vm {
            Some(_) => "its monitor died".to_owned(),
            None => "shared by VMs, and none of them is up".to_owned(),
        };
        let command = if there {
            things::command_of(entry, self.tag)
        } else {
            whose.push_str("; gone already, and still in the ledger");
            format!("# gone already: {} {}", entry.kind, entry.key)
        };
        // Two VMs can each have one of the same name: a process is always a “vmm”.
        let of = entry.vm.as_ref().map_or_else(String::new, |vm| format!(" of {}", self.name(vm)));
        OrphanView { what: format!("{} {}{of}", entry.kind, entry.key), whose, command }
    }
}
