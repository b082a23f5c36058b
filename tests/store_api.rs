//! The store through its public interface: VMs, the ledger, events, two connections at once.

use std::path::Path;

use banger::{
    domain::{
        BootMark, BootTimes, ExitReason, ExitRecord, HostCall, Method, Notice, NoticeLevel,
        OverlayKind, Tag, UnixMs, VmId, VmSpec, VmmKind, Wanted, Wishes,
    },
    store::{
        CALLS_MAX, Change, EVENTS_MAX, EventId, LedgerKind, Store, StoreError, VmRow, VmState,
    },
};
use serde_json::json;

fn open(dir: &Path) -> Store {
    Store::open(&dir.join("banger.db")).expect("opens")
}

fn id(n: u32) -> VmId {
    VmId::from_bytes(n.to_be_bytes())
}

fn vm(n: u32, name: &str) -> VmRow {
    let spec = VmSpec {
        name: name.parse().expect("name"),
        image: "tiny".into(),
        vcpus: 2,
        memory_mib: 256,
        disk_mib: Some(1024),
        restore: true,
        wishes: Wishes::default(),
        extras: Default::default(),
    };
    VmRow::new(id(n), spec, OverlayKind::SparseCopy, UnixMs(1_700_000_000_000))
}

fn exit(reason: ExitReason) -> ExitRecord {
    ExitRecord { at: UnixMs(5), reason }
}

#[test]
fn a_vm_comes_back_as_it_was_stored() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut row = vm(1, "web");
    row.wanted = Wanted::Running;
    row.state = VmState::Ready;
    row.vmm = Some(VmmKind::QemuTcg);
    row.ssh_port = Some(65_535);
    row.started = Some(UnixMs(7));
    row.last_exit = Some(exit(ExitReason::VmmExited {
        code: None,
        signal: Some(9),
        stderr: "“quoted”\n".into(),
    }));
    row.last_boot = BootTimes(vec![(BootMark::Vmm, 12), (BootMark::Ssh, 2_300)]);
    open(dir.path()).insert_vm(&row).expect("insert");

    let store = open(dir.path());
    assert_eq!(store.vms(), Ok(vec![row.clone()]));
    assert_eq!(store.vm(&row.id), Ok(Some(row.clone())));
    assert_eq!(store.vm_named(&row.spec.name), Ok(Some(row)));
    assert_eq!(store.vm(&id(2)), Ok(None));
}

#[test]
fn a_name_belongs_to_one_vm() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (one, two) = (open(dir.path()), open(dir.path()));
    let web = "web".parse().expect("name");
    let db = "db".parse().expect("name");
    one.insert_vm(&vm(1, "web")).expect("first");
    assert_eq!(two.insert_vm(&vm(2, "web")), Err(StoreError::NameTaken(web)));
    assert_eq!(two.insert_vm(&vm(1, "other")), Err(StoreError::IdTaken(id(1))));
    two.insert_vm(&vm(2, "db")).expect("another name");
    assert_eq!(one.rename(&id(1), &db), Err(StoreError::NameTaken(db.clone())));
    one.rename(&id(2), &db).expect("its own name");
    assert_eq!(one.rename(&id(9), &"x".parse().expect("name")), Err(StoreError::NoSuchVm(id(9))));
    let names: Vec<String> =
        one.vms().expect("list").iter().map(|vm| vm.spec.name.to_string()).collect();
    assert_eq!(names, ["db", "web"]);
}

#[test]
fn a_run_is_open_from_start_to_exit() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.insert_vm(&vm(1, "web")).expect("insert");
    let row = || store.vm(&id(1)).expect("read").expect("there");
    assert!(!row().run_is_open(), "it never ran");
    assert_eq!(store.record_lost(&id(1), &exit(ExitReason::MonitorLost)), Ok(false));
    assert_eq!(row().last_exit, None);

    store.set_wanted(&id(1), Wanted::Running).expect("wanted");
    let early = store.record_start(&id(1), UnixMs(9), VmmKind::QemuKvm, None);
    assert_eq!(early, Err(StoreError::NotReady(id(1))));
    store.set_state(&id(1), VmState::Ready).expect("state");
    store.record_start(&id(1), UnixMs(9), VmmKind::QemuKvm, Some(2222)).expect("start");
    let boot = BootTimes(vec![(BootMark::Init, 130)]);
    store.record_boot(&id(1), &boot).expect("boot");
    assert!(row().run_is_open());
    assert_eq!((row().ssh_port, row().last_boot), (Some(2222), boot));

    let stopped = exit(ExitReason::Stopped { by: Method::PowerButton });
    store.record_exit(&id(1), &stopped).expect("exit");
    assert_eq!(store.record_lost(&id(1), &exit(ExitReason::MonitorLost)), Ok(false));
    assert_eq!(row().last_exit, Some(stopped), "the monitor knew better");
    assert_eq!(row().wanted, Wanted::Running, "a stop by others is no wish");

    store.record_start(&id(1), UnixMs(10), VmmKind::QemuKvm, None).expect("start");
    assert_eq!((row().last_exit, row().last_boot), (None, BootTimes::default()));
    assert_eq!(row().ssh_port, Some(2222), "kept where none is given");
    assert_eq!(store.record_lost(&id(1), &exit(ExitReason::MonitorLost)), Ok(true));
    assert_eq!(row().last_exit, Some(exit(ExitReason::MonitorLost)));

    store.record_start(&id(1), UnixMs(11), VmmKind::QemuKvm, None).expect("start");
    store.record_exit(&id(1), &exit(ExitReason::GuestPoweroff)).expect("exit");
    assert_eq!(row().wanted, Wanted::Stopped, "its user powered it off");
    let lost = store.record_lost(&id(9), &exit(ExitReason::MonitorLost));
    assert_eq!(lost, Err(StoreError::NoSuchVm(id(9))));
}

#[test]
fn a_vm_with_something_on_the_host_stays() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.insert_vm(&vm(1, "web")).expect("insert");
    let detail = json!({"pid": 77, "start": 12});
    let entry = store.note(&id(1), LedgerKind::Process, "vmm", &detail).expect("note");
    let still = StoreError::StillOnHost { vm: id(1), entries: 1 };
    assert_eq!(store.apply(&Change::Remove(id(1))), Err(still));
    let entries = store.entries(&id(1)).expect("entries");
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].id, &entries[0].detail), (entry, &detail));

    store.clear(entry).expect("clear");
    store.clear(entry).expect("twice is no error");
    store.remove_vm(&id(1)).expect("remove");
    assert_eq!(store.remove_vm(&id(1)), Err(StoreError::NoSuchVm(id(1))));
    let note = store.note(&id(1), LedgerKind::File, "/x", &json!(null));
    assert_eq!(note, Err(StoreError::NoSuchVm(id(1))), "nothing is made for nobody");
}

#[test]
fn noting_again_keeps_the_place() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.insert_vm(&vm(1, "web")).expect("insert");
    let first = store.note(&id(1), LedgerKind::File, "/a", &json!(1)).expect("note");
    let second = store.note(&id(1), LedgerKind::File, "/b", &json!(2)).expect("note");
    assert_eq!(store.note(&id(1), LedgerKind::File, "/a", &json!(3)), Ok(first));
    let entries = store.entries(&id(1)).expect("entries");
    let seen: Vec<_> = entries.iter().map(|e| (e.id, e.key.as_str(), e.detail.clone())).collect();
    assert_eq!(seen, [(first, "/a", json!(3)), (second, "/b", json!(2))]);
    // Ids are never used twice: a late `clear` cannot strike out another's entry.
    store.clear(second).expect("clear");
    assert!(store.note(&id(1), LedgerKind::File, "/c", &json!(4)).expect("note") > second);
}

#[test]
fn events_are_kept_in_order_and_bounded() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let notice = |n: i64| Notice {
        at: UnixMs(n.unsigned_abs()),
        level: NoticeLevel::Warning,
        vm: (n % 2 == 0).then(|| id(1)),
        job: None,
        text: format!("event {n}"),
        hint: String::new(),
    };
    let extra = 5;
    for n in 1..=EVENTS_MAX + extra {
        assert_eq!(store.push_event(&notice(n)), Ok(EventId(n)));
    }
    let all = store.events_since(EventId(0)).expect("read");
    assert_eq!(all.len() as i64, EVENTS_MAX);
    assert_eq!((all[0].id, &all[0].notice), (EventId(extra + 1), &notice(extra + 1)));
    let last = store.recent_events(2).expect("read");
    assert_eq!(last, store.events_since(EventId(EVENTS_MAX + extra - 2)).expect("read"));
    assert_eq!(last[1].notice, notice(EVENTS_MAX + extra));
}

#[test]
fn the_data_version_tells_of_others_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (one, two) = (open(dir.path()), open(dir.path()));
    let before = one.data_version().expect("read");
    one.insert_vm(&vm(1, "web")).expect("insert");
    assert_eq!(one.data_version(), Ok(before), "its own change");
    two.set_wanted(&id(1), Wanted::Running).expect("wanted");
    assert_ne!(one.data_version(), Ok(before), "the other's change");
}

#[test]
fn what_all_share_has_entries_of_its_own() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    store.insert_vm(&vm(1, "web")).expect("insert");
    let own = store.note(&id(1), LedgerKind::Tap, "bgt-1", &json!(null)).expect("note");
    let shared = store.note_shared(LedgerKind::Bridge, "bgr-1", &json!(1)).expect("note");
    assert_eq!(store.note_shared(LedgerKind::Bridge, "bgr-1", &json!(2)), Ok(shared));
    let entries = store.shared_entries().expect("entries");
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].id, &entries[0].vm, &entries[0].detail), (shared, &None, &json!(2)));
    assert_eq!(store.all_entries().expect("entries").len(), 2);
    store.clear(own).expect("clear");
    store.remove_vm(&id(1)).expect("what all share does not hold a VM");
}

#[test]
fn places_are_kept_and_reused_only_after_the_vm_is_gone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    for n in 1..=3 {
        store.insert_vm(&vm(n, &format!("vm{n}"))).expect("insert");
    }
    assert_eq!(store.place(&id(2)), Ok(Some(2)));
    assert_eq!(store.place(&id(1)), Ok(Some(3)));
    store.remove_vm(&id(2)).expect("remove");
    assert_eq!(store.place(&id(3)), Ok(Some(2)), "the lowest that is free");
    assert_eq!(store.place(&id(1)), Ok(Some(3)), "it keeps its own");
    assert_eq!(store.place(&id(9)), Err(StoreError::NoSuchVm(id(9))));

    let tag = store.tag(|| Tag::from_bytes([1, 2, 3])).expect("tag");
    assert_eq!(store.tag(|| Tag::from_bytes([4, 5, 6])), Ok(tag), "made once");
    let subnet = "10.1.4.0/22".parse().expect("subnet");
    assert_eq!(store.subnet(), Ok(None));
    store.set_subnet(subnet).expect("set");
    assert_eq!(store.subnet(), Ok(Some(subnet)));
}

#[test]
fn calls_are_kept_in_order_and_bounded() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open(dir.path());
    let call = |n: u64| HostCall {
        at: UnixMs(n),
        vm: n.is_multiple_of(2).then(|| id(1)),
        command: format!("ip link add x{n}"),
        took_us: n,
        error: n.is_multiple_of(3).then(|| "no".to_owned()),
    };
    let all: Vec<_> = (1..=CALLS_MAX.unsigned_abs() + 7).map(call).collect();
    for some in all.chunks(1000) {
        store.push_calls(some).expect("push");
    }
    let kept = store.recent_calls(u32::MAX).expect("read");
    assert_eq!(kept, all[7..]);
    assert_eq!(store.recent_calls(1).expect("read"), all[all.len() - 1..]);
}
