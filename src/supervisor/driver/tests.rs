use std::{io::Write, os::unix::net::UnixListener, path::Path};

use super::*;
use crate::{
    bundle::Configured,
    domain::{
        BootTimes, ExitReason, ExitRecord, Layout, MonitorEvent, MonitorPhase, MonitorReply,
        MonitorStatus, NamesSettings, NetworkKind, OverlayKind, Phase, VmDraft, VmmKind,
    },
    host::lock::FileLock,
    session::wire::encode_control,
    store::{LedgerKind, VmRow, VmState},
};

fn options(dir: &Path) -> Options {
    Options {
        layout: Layout { state: dir.join("state"), run: dir.join("run") },
        program: "/nowhere/banger".into(),
        runtime_dir: Configured { runtime_dir: Some(dir.to_owned()), by_repo_root: false },
        vmm: None,
        overlay: Some(OverlayKind::SparseCopy),
        network: Some(NetworkKind::User),
        jailer: None,
        names: NamesSettings::default(),
        extra_keys: Vec::new(),
        stop_timeout_ms: 1_000,
        packages: dir.join("packages"),
        origin: Origin::Script,
    }
}

#[test]
fn a_machine_whose_key_file_is_not_there_is_not_begun() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(dir.path());
    for path in [&options.layout.state, &options.layout.run] {
        std::fs::create_dir_all(path).expect("made");
    }
    let (handle, guard) = start(options).expect("a supervisor");
    let draft = VmDraft {
        name: "web".into(),
        image: "tiny".into(),
        vcpus: "1".into(),
        memory: "128".into(),
        keys: "/nowhere/me.pub".into(),
        ..VmDraft::default()
    };
    let spec = draft.validate().expect("valid");
    let answer = handle.try_send(CommandBody::Create { spec, start: true }).expect("sent");
    match answer.blocking_recv().expect("an answer") {
        Admission::Denied(Denied(why)) => assert!(why.why.contains("/nowhere/me.pub"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(handle.fleet.borrow().jobs.is_empty());
    guard.finish();
}

#[test]
fn a_verbs_picture_waits_for_a_monitor_that_is_slow_to_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = options(dir.path());
    let id = VmId::from_bytes([0, 0, 0, 1]);
    let paths = options.layout.vm(&id);
    for path in [&options.layout.state, &paths.run_dir().to_owned()] {
        std::fs::create_dir_all(path).expect("made");
    }
    let draft = VmDraft {
        name: "web".into(),
        image: "tiny".into(),
        vcpus: "1".into(),
        memory: "128".into(),
        ..VmDraft::default()
    };
    let spec = draft.validate().expect("valid");
    let mut row = VmRow::new(id.clone(), spec, OverlayKind::SparseCopy, UnixMs(1));
    row.state = VmState::Ready;
    let store = Store::open(&options.layout.database()).expect("a store");
    store.insert_vm(&row).expect("stored");
    store.record_start(&id, UnixMs(2), VmmKind::QemuTcg, None).expect("stored");

    let lock = FileLock::try_exclusive(paths.run_lock()).expect("a lock").expect("free");
    let listener = UnixListener::bind(paths.monitor_socket()).expect("a socket");
    let status = MonitorStatus {
        vm: id,
        pid: 1,
        vmm_pid: Some(2),
        vmm: VmmKind::QemuTcg,
        phase: MonitorPhase::Ready,
        since: UnixMs(3),
        ssh: None,
        boot: BootTimes::default(),
        network: NetworkKind::User,
        address: None,
        dns_name: None,
        fill: None,
        problem: None,
    };
    let monitor = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        // This is how slow it is: a picture that does not wait is there long before.
        thread::sleep(2 * FIRST_PICTURE);
        let mut out = Vec::new();
        encode_control(&MonitorReply::Ok, &mut out).expect("encoded");
        encode_control(&MonitorEvent::Status { status }, &mut out).expect("encoded");
        stream.write_all(&out).expect("sent");
        stream
    });

    let (handle, guard) = start(options).expect("a supervisor");
    let mut fleet = handle.fleet;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let first = runtime.block_on(fleet.wait_for(|fleet| fleet.loaded)).expect("a picture").clone();
    assert_eq!(first.vms[0].vmm, Some(VmmKind::QemuTcg), "{:?}", first.vms[0]);
    assert_eq!(first.vms[0].phase, Phase::Running);
    let stream = monitor.join().expect("a monitor");
    drop((lock, stream));
    guard.finish();
}

/// One whose sockets are where another value of `XDG_RUNTIME_DIR` leads.
#[test]
fn a_machine_that_runs_by_other_paths_is_not_cleared_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = options(dir.path()).layout;
    let there = Layout { run: dir.path().join("there"), ..layout.clone() };
    let id = VmId::from_bytes([0, 0, 0, 1]);
    let draft = VmDraft {
        name: "web".into(),
        image: "tiny".into(),
        vcpus: "1".into(),
        memory: "128".into(),
        ..VmDraft::default()
    };
    let mut row = VmRow::new(
        id.clone(),
        draft.validate().expect("valid"),
        OverlayKind::SparseCopy,
        UnixMs(1),
    );
    row.state = VmState::Ready;
    let store = Store::open(&layout.database()).expect("a store");
    store.insert_vm(&row).expect("stored");
    store.record_start(&id, UnixMs(2), VmmKind::QemuTcg, None).expect("stored");
    let paths = there.vm(&id);
    std::fs::create_dir_all(paths.run_dir()).expect("made");
    let key = paths.run_dir().to_str().expect("UTF-8");
    store.note(&id, LedgerKind::Directory, key, &serde_json::json!(null)).expect("noted");
    let lock = FileLock::try_exclusive(paths.run_lock()).expect("a lock").expect("free");

    let lost = ExitRecord { at: UnixMs(3), reason: ExitReason::MonitorLost };
    let refused = files::clean_up(&layout, &store, &id, &lost).expect_err("it runs");
    assert!(refused.why.contains(there.run.to_str().expect("UTF-8")), "{refused}");
    files::delete(&layout, &store, &id).expect_err("it runs");
    assert!(store.vm(&id).expect("read").expect("there").run_is_open());
    assert!(paths.run_dir().exists() && store.entries(&id).expect("read").len() == 1);
    drop(lock);
    files::clean_up(&layout, &store, &id, &lost).expect("nobody runs it");
    assert!(!paths.run_dir().exists() && store.entries(&id).expect("read").is_empty());
}
