//! A world in which all is well has no findings; whatever is taken from it or put into it is
//! found.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    domain::{UnixMs, tap_name},
    host::process::ProcessRef,
    store::LedgerId,
};

fn id(n: u8) -> VmId {
    VmId::from_bytes([0, 0, 0, n])
}

fn tag() -> Tag {
    Tag::from_bytes([1, 2, 3])
}

fn layout() -> Layout {
    Layout { state: "/s".into(), run: "/r/banger".into() }
}

/// How a VM is: off, up with user networking and a file as its disk, or up with everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Off,
    Plain,
    Whole,
}

struct World {
    known: Known,
    seen: Seen,
}

impl World {
    fn new(vms: &[How]) -> Self {
        let mut world = Self { known: Known::default(), seen: Seen::default() };
        for (n, how) in vms.iter().enumerate() {
            world.vm(u8::try_from(n).expect("few"), *how);
        }
        world
    }

    fn note(&mut self, vm: Option<&VmId>, kind: LedgerKind, key: &str, detail: serde_json::Value) {
        let number = i64::try_from(self.known.entries.len()).expect("few");
        if vm.is_none() && self.known.entries.iter().any(|e| e.kind == kind && e.key == key) {
            return;
        }
        self.known.entries.push(LedgerEntry {
            id: LedgerId(number),
            vm: vm.cloned(),
            kind,
            key: key.to_owned(),
            detail,
            created: UnixMs(1),
        });
    }

    fn vm(&mut self, n: u8, how: How) {
        let (vm, up) = (id(n), how != How::Off);
        let base = (how == How::Whole).then(|| "5eed".to_owned());
        let monitor = up.then_some(1000 + u32::from(n));
        let name = format!("vm{n}");
        self.known.vms.insert(vm.clone(), Vm { name, up, monitor, base });
        self.seen.things.insert(Thing::VmDir(vm.clone()));
        if !up {
            return;
        }
        let paths = layout().vm(&vm);
        for (kind, path) in [
            (LedgerKind::Directory, paths.run_dir().to_owned()),
            (LedgerKind::Socket, paths.monitor_socket()),
            (LedgerKind::Socket, paths.vmm_socket()),
        ] {
            self.note(Some(&vm), kind, path.to_str().expect("text"), json!(null));
            self.seen.paths.insert(path);
        }
        let pid = 2000 + u32::from(n);
        let process = Some(ProcessRef { pid, start_time: 1, boot: 1 });
        let detail = json!(VmmDetail { process, socket: paths.vmm_socket() });
        self.note(Some(&vm), LedgerKind::Process, "vmm", detail);
        self.seen.processes.insert(pid);
        let things = [
            Thing::RunDir(vm.clone()),
            Thing::Lock { vm: vm.clone(), held: true },
            Thing::Process { pid, vm: vm.clone(), role: Role::Vmm },
            Thing::Process { pid: 1000 + u32::from(n), vm: vm.clone(), role: Role::Monitor },
        ];
        self.seen.things.extend(things);
        if how == How::Plain {
            self.note(
                Some(&vm),
                LedgerKind::PortForward,
                &(40_000 + u16::from(n)).to_string(),
                json!(null),
            );
            self.seen.ports.insert(40_000 + u16::from(n));
            return;
        }
        for (kind, key) in [
            (LedgerKind::Bridge, tag().bridge()),
            (LedgerKind::Forwarding, "net.ipv4.ip_forward".to_owned()),
            (LedgerKind::Rules, tag().table()),
            (LedgerKind::BaseLoop, "5eed".to_owned()),
        ] {
            self.note(None, kind, &key, json!(null));
        }
        let cgroup = PathBuf::from(format!("/sys/fs/cgroup/banger/{vm}"));
        self.note(Some(&vm), LedgerKind::Tap, &tap_name(&vm), json!(null));
        self.note(Some(&vm), LedgerKind::DnsRecord, &format!("hosts vm{n}.vm"), json!(null));
        self.note(Some(&vm), LedgerKind::Snapshot, &tag().device(&vm), json!({ "base": "5eed" }));
        self.note(Some(&vm), LedgerKind::Cgroup, cgroup.to_str().expect("text"), json!(null));
        self.seen.forwarding = true;
        self.seen.paths.insert(cgroup.clone());
        let things = [
            Thing::Bridge,
            Thing::Rules,
            Thing::Hosts,
            Thing::Base(layout().base("5eed")),
            Thing::Loop { device: "/dev/loop0".into(), cow_of: None },
            Thing::Loop { device: format!("/dev/loop{}", n + 1).into(), cow_of: Some(vm.clone()) },
            Thing::Node(Path::new("/dev/banger").join(tag().device(&vm))),
            Thing::Tap(vm.clone()),
            Thing::Snapshot(vm.clone()),
            Thing::Cgroup(vm, cgroup),
        ];
        self.seen.things.extend(things);
    }

    fn findings(&self) -> Findings {
        compare(&self.known, &self.seen, &tag(), &layout())
    }

    fn whats(&self) -> Vec<String> {
        self.findings().orphans.into_iter().map(|(view, _)| view.what).collect()
    }
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![Just(How::Off), Just(How::Plain), Just(How::Whole)]
}

proptest! {
    #[test]
    fn a_world_in_which_all_is_well_has_no_findings(vms in prop::collection::vec(how(), 0..6)) {
        let world = World::new(&vms);
        let findings = world.findings();
        prop_assert!(findings.orphans.is_empty(), "{:?}", findings.orphans);
        prop_assert!(findings.made.iter().all(|made| made.state == MadeState::There));
    }

    #[test]
    fn whatever_is_not_written_down_is_found(
        vms in prop::collection::vec(how(), 0..6),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(&vms);
        let (vm, path) = (id(99), |text: &str| PathBuf::from(text));
        let known = id(0);
        let mut foreign = vec![
            Thing::Tap(vm.clone()),
            Thing::Snapshot(vm.clone()),
            Thing::Loop { device: "/dev/loop77".into(), cow_of: Some(vm.clone()) },
            Thing::Node(Path::new("/dev/banger").join(tag().device(&vm))),
            Thing::Process { pid: 9, vm: vm.clone(), role: Role::Monitor },
            Thing::Process { pid: 9, vm: vm.clone(), role: Role::Vmm },
            Thing::RunDir(vm.clone()),
            Thing::Lock { vm: vm.clone(), held: false },
            Thing::VmDir(vm),
            Thing::Stray(path("/r/banger/what")),
            Thing::Base(path("/s/bases/dead")),
            Thing::Base(path("/s/bases/dead.part")),
            Thing::Mount(path("/s/vms/00000000/mnt")),
        ];
        if !vms.is_empty() {
            // A second monitor of a VM, and a group that its last machine left.
            foreign.push(Thing::Process { pid: 9, vm: known.clone(), role: Role::Monitor });
            foreign.push(Thing::Cgroup(known, path("/sys/fs/cgroup/banger/other")));
        }
        if !vms.contains(&How::Whole) {
            foreign.extend([Thing::Bridge, Thing::Rules, Thing::Forwarding, Thing::Hosts]);
            foreign.push(Thing::Loop { device: "/dev/loop77".into(), cow_of: None });
        }
        let thing = pick.get(&foreign).clone();
        world.seen.things.insert(thing.clone());
        prop_assert_eq!(world.whats(), [thing.what(&tag(), &layout())]);
        let view = &world.findings().orphans[0].0;
        prop_assert!(!view.whose.is_empty() && !view.command.is_empty(), "{view:?}");
    }

    #[test]
    fn whatever_is_taken_away_is_found(
        vms in prop::collection::vec(how(), 1..6),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(&vms);
        let (things, paths) = (world.seen.things.clone(), world.seen.paths.clone());
        // The thing of an entry goes, however it is found.
        if let Some(entry) = (!world.known.entries.is_empty()).then(|| pick.get(&world.known.entries)) {
            let (entry, vm) = (entry.clone(), entry.vm.clone());
            let unneeded = |t: &Thing| match (&entry.kind, t) {
                (LedgerKind::Bridge, Thing::Bridge)
                | (LedgerKind::Rules, Thing::Rules)
                | (LedgerKind::DnsRecord, Thing::Hosts)
                | (LedgerKind::BaseLoop, Thing::Loop { cow_of: None, .. }) => true,
                (LedgerKind::Tap, Thing::Tap(of)) | (LedgerKind::Snapshot, Thing::Snapshot(of)) => {
                    Some(of) == vm.as_ref()
                }
                _ => false,
            };
            world.seen.things.retain(|thing| !unneeded(thing));
            world.seen.paths.remove(Path::new(&entry.key));
            if let Ok(port) = entry.key.parse::<u16>() {
                world.seen.ports.remove(&port);
            }
            match entry.kind {
                LedgerKind::Forwarding => world.seen.forwarding = false,
                LedgerKind::Process => world.seen.processes.clear(),
                _ => {}
            }
            let findings = world.findings();
            prop_assert!(findings.missing().any(|made| made.key == entry.key), "{entry:?}");
            prop_assert!(findings.orphans.is_empty(), "{:?}", findings.orphans);

            // The entry goes, and the thing stays.
            (world.seen.things, world.seen.paths) = (things, paths);
            world.known.entries.retain(|other| other.id != entry.id);
            let silent = [
                LedgerKind::Forwarding,
                LedgerKind::PortForward,
                LedgerKind::Socket,
                LedgerKind::DnsRecord,
            ];
            if !silent.contains(&entry.kind) {
                let found = world.findings();
                prop_assert!(!found.orphans.is_empty(), "{entry:?}");
            }
        }
    }

    #[test]
    fn all_of_a_dead_monitor_is_found_and_nothing_of_others(
        vms in prop::collection::vec(how(), 1..6),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(&vms);
        let n = u8::try_from(pick.index(vms.len())).expect("few");
        let vm = id(n);
        let dead = world.known.vms.get_mut(&vm).expect("a VM");
        (dead.up, dead.monitor) = (false, None);
        world.seen.things.remove(&Thing::Process {
            pid: 1000 + u32::from(n), vm: vm.clone(), role: Role::Monitor,
        });
        let last = vms.iter().filter(|how| **how == How::Whole).count() == 1
            && vms[usize::from(n)] == How::Whole;
        for (_, orphan) in world.findings().orphans {
            let Orphan::Entry(entry) = orphan else { panic!("{orphan:?}") };
            prop_assert!(entry.vm.as_ref() == Some(&vm) || (last && entry.vm.is_none()));
        }
        let expected = world.known.entries.iter()
            .filter(|entry| entry.vm.as_ref() == Some(&vm) || (last && entry.vm.is_none()));
        prop_assert_eq!(world.findings().orphans.len(), expected.count());
        // No two can be taken for each other.
        let mut whats = world.whats();
        whats.sort();
        whats.dedup();
        prop_assert_eq!(whats.len(), world.findings().orphans.len());
    }
}

#[test]
fn what_cannot_be_looked_at_is_unknown_and_not_clean() {
    let mut world = World::new(&[How::Whole]);
    world.seen.blind = Some("there is no root helper".to_owned());
    let hidden = |t: &Thing| {
        matches!(t, Thing::Rules | Thing::Snapshot(_) | Thing::Loop { .. } | Thing::Node(_))
    };
    world.seen.things.retain(|thing| !hidden(thing));
    let findings = world.findings();
    assert!(findings.orphans.is_empty());
    let unknown: Vec<&str> = findings
        .made
        .iter()
        .filter(|made| made.state == MadeState::Unknown)
        .map(|made| made.kind.as_str())
        .collect();
    assert_eq!(unknown, ["nftables table", "loop device of base", "snapshot"]);
    assert_eq!(findings.missing().count(), 0);
}
