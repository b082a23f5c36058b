//! The Firecracker backend against a stand-in of which every request is checked, and against the
//! real one where there is one.

mod api;
#[path = "../common/mod.rs"]
mod common;
mod guest;
mod jailed;
mod linux;
mod program;
mod real;

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    thread,
    time::Duration,
};

use banger::{
    domain::{Method, StopLadder, VmId, VmmKind},
    host::{
        process::{ProcessRef, Signal, die_with_us, wait_gone},
        pty,
    },
    vmm::{
        Backend, Disk, GuestMemory, Machine, MachineEvent, MachineExit, MachineSpec, Nic, VmmError,
        firecracker::Firecracker, ladder::climb,
    },
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

/// Far more than anything here takes, on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a program in it and a machine for it.
struct Bench {
    dir: TempDir,
    spec: MachineSpec,
    backend: Firecracker,
}

impl Bench {
    /// With a stand-in of this manner.
    fn new(manner: &str) -> Self {
        let dir = tempfile::tempdir().expect("temp");
        let program = program::install(dir.path(), manner);
        let backend = Firecracker::new(program).prepared_by(die_with_us);
        let spec = spec(dir.path());
        Self { dir, spec, backend }
    }

    async fn boot(&self) -> (Box<dyn Machine>, Console) {
        let (master, slave) = pty::open_raw().expect("pty");
        let machine = self.backend.launch(&self.spec, slave).await.expect("launch");
        let mut console = Console::new(File::from(master));
        console.read_until("the guest runs").await;
        (machine, console)
    }

    /// The error of a launch that must fail, and leave nothing.
    async fn fail(&self) -> VmmError {
        let (master, slave) = pty::open_raw().expect("pty");
        let error = self.backend.launch(&self.spec, slave).await.err().expect("it cannot run");
        self.nothing_is_left();
        // All descriptors of the slave are closed only when the process is gone.
        Console::new(File::from(master)).end().await;
        error
    }

    fn nothing_is_left(&self) {
        assert!(!self.spec.socket.exists(), "the socket is left behind");
        for piece in self.backend.pieces(&self.spec) {
            assert!(!piece.path().exists(), "{piece:?} is left behind");
        }
    }

    fn notes(&self) -> Vec<String> {
        let notes = program::notes(self.dir.path());
        let bad: Vec<_> = notes.iter().filter(|line| line.starts_with('!')).collect();
        assert!(bad.is_empty(), "no Firecracker takes these: {bad:#?}");
        notes
    }
}

fn spec(dir: &Path) -> MachineSpec {
    let at = |name: &str| dir.join(name);
    for file in ["vmlinux", "initrd", "disk"] {
        fs::write(at(file), "not looked at").expect("file");
    }
    fs::create_dir(at("r")).expect("run directory");
    MachineSpec {
        vm: VmId::from_bytes([0xab; 4]),
        vcpus: 3,
        memory_mib: 64,
        kernel: at("vmlinux"),
        initrd: at("initrd"),
        cmdline: Firecracker::new("").kernel_cmdline(),
        disks: vec![Disk { path: at("disk"), read_only: false }],
        // The one interface that every network namespace has.
        nics: vec![Nic::Tap { device: "lo".to_owned(), mac: [2, 0, 0, 0, 0, 1] }],
        socket: at("r/vmm.sock"),
    }
}

/// Our end of a machine's console, read by a thread until it ends.
struct Console {
    to: File,
    from: mpsc::UnboundedReceiver<Vec<u8>>,
    text: Vec<u8>,
}

impl Console {
    fn new(master: File) -> Self {
        let (heard, from) = mpsc::unbounded_channel();
        let mut reader = master.try_clone().expect("dup");
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                let _ = heard.send(buffer[..n].to_vec());
            }
        });
        Self { to: master, from, text: Vec::new() }
    }

    async fn read_until(&mut self, wanted: &str) {
        while !String::from_utf8_lossy(&self.text).contains(wanted) {
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let more = timeout(PATIENCE, self.from.recv()).await.ok().flatten();
        let said = String::from_utf8_lossy(&self.text);
        self.text.extend(more.unwrap_or_else(|| panic!("it said only this: {said}")));
    }

    async fn end(&mut self) {
        while timeout(PATIENCE, self.from.recv()).await.expect("its end").is_some() {}
    }
}

async fn exit_of(machine: &mut Box<dyn Machine>) -> MachineExit {
    let MachineEvent::Exited(exit) =
        timeout(PATIENCE, machine.next_event()).await.expect("an end of the machine");
    exit
}

#[tokio::test]
async fn a_machine_is_made_of_requests_that_firecracker_takes() {
    let bench = Bench::new("");
    let (mut machine, _console) = bench.boot().await;
    assert_eq!(bench.backend.kind(), VmmKind::Firecracker);
    assert!(ProcessRef::of(machine.pid()).expect("it runs").alive());
    let notes = bench.notes();
    let asked: Vec<_> = notes.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(
        asked,
        [
            "/version",
            "/metrics",
            "/machine-config",
            "/boot-source",
            "/drives/disk0",
            "/network-interfaces/eth0",
            "/vsock",
            "/entropy",
            "/balloon",
            "/actions",
        ]
    );
    assert!(notes[4].contains(r#""cache_type":"Writeback""#), "{}", notes[4]);
    assert!(notes.last().is_some_and(|last| last.contains("InstanceStart")));
    machine.power_button().await.expect("press");
    assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);
    drop(machine);
    bench.notes();
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_machine_is_paused_resumed_and_asked_for_its_memory() {
    let bench = Bench::new("");
    let (mut machine, _console) = bench.boot().await;
    machine.pause().await.expect("pause");
    machine.resume().await.expect("resume");
    let memory = machine.memory().await.expect("memory");
    let said = GuestMemory {
        ballooned: 1 << 20,
        total: Some(3000),
        free: Some(1000),
        available: Some(2000),
    };
    assert_eq!(memory, said);
    assert!(matches!(machine.quit().await, Err(VmmError::Unsupported)));
    let notes = bench.notes();
    assert!(notes.iter().any(|line| line == r#"PATCH /vm {"state":"Paused"}"#), "{notes:?}");
    assert!(notes.iter().any(|line| line == r#"PATCH /vm {"state":"Resumed"}"#), "{notes:?}");
}

#[tokio::test]
async fn whoever_does_not_wait_for_an_answer_disturbs_nobody() {
    let bench = Bench::new("hangs-at=Paused");
    let (mut machine, _console) = bench.boot().await;
    for _ in 0..2 {
        let early = timeout(Duration::from_millis(50), machine.pause()).await;
        assert!(early.is_err(), "{early:?}");
        machine.resume().await.expect("resume");
    }
    assert!(machine.memory().await.is_ok());
    machine.power_button().await.expect("press");
    assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);
}

#[tokio::test]
async fn sockets_that_an_earlier_one_left_do_not_keep_it_from_starting() {
    let bench = Bench::new("");
    for name in ["vmm.sock", "vsock", "vmm.log", "vmm.met"] {
        fs::write(bench.dir.path().join("r").join(name), "stale").expect("file");
    }
    for _ in 0..2 {
        let (mut machine, _console) = bench.boot().await;
        assert!(bench.spec.socket.exists());
        let pieces = bench.backend.pieces(&bench.spec);
        assert!(pieces.iter().all(|piece| piece.path().exists()), "{pieces:?}");
        // It does not tidy up after SIGTERM.
        machine.signal(false).expect("signal");
        assert_eq!(exit_of(&mut machine).await, MachineExit::Asked);
        drop(machine);
        bench.nothing_is_left();
    }
}

#[tokio::test]
async fn what_it_refuses_comes_with_its_words_and_with_what_to_do() {
    let error = Bench::new("refuses=start").fail().await.to_string();
    assert!(error.starts_with("the start failed: Start microvm error"), "{error}");
    assert!(error.contains("Invalid Elf magic number; the kernel must be"), "{error}");
    let bench = Bench::new("refuses=drive");
    let error = bench.fail().await.to_string();
    let disk = bench.dir.path().join("disk");
    assert!(error.starts_with(&format!("the disk {} failed: ", disk.display())), "{error}");
    assert!(
        !bench.notes().iter().any(|line| line.contains("InstanceStart")),
        "and goes no further"
    );
}

#[tokio::test]
async fn a_version_out_of_the_range_is_refused_and_a_newer_minor_is_not() {
    let error = Bench::new("version=1.7.0").fail().await.to_string();
    assert!(error.contains("1.7.0 is too old"), "{error}");
    let error = Bench::new("version=2.0.0-dev").fail().await.to_string();
    assert!(error.contains("update banger"), "{error}");
    let error = Bench::new("version=unknown").fail().await.to_string();
    assert!(error.contains("“unknown” is no version"), "{error}");
    Bench::new("version=1.99.0").boot().await;
}

#[tokio::test]
async fn an_end_before_the_machine_runs_says_why() {
    let error = Bench::new("ends-early").fail().await;
    let VmmError::EarlyExit { stderr, .. } = error else { panic!("{error}") };
    assert!(stderr.contains("Error: RunWithApi"), "{stderr}");
    assert!(stderr.contains("Running Firecracker"), "its log, too: {stderr}");
    // In the middle of being told what machine it is to be.
    let error = Bench::new("breaks-at=/vsock").fail().await;
    assert!(matches!(error, VmmError::EarlyExit { .. }), "{error}");
}

#[tokio::test]
async fn ends_are_told_apart() {
    let bench = Bench::new("ends=0");
    let (mut machine, _console) = bench.boot().await;
    assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);

    let bench = Bench::new("ends=148");
    let (mut machine, _console) = bench.boot().await;
    let exit = exit_of(&mut machine).await;
    let MachineExit::Unexpected { code: Some(148), stderr, .. } = exit else { panic!("{exit:?}") };
    assert!(stderr.contains("filter forbids"), "{stderr}");
    assert!(stderr.contains("the last words"), "{stderr}");
    assert!(stderr.contains("vcpu.failures 7") && !stderr.contains("rx_fails"), "{stderr}");
    assert!(timeout(Duration::ZERO, machine.next_event()).await.is_err(), "once is enough");

    let bench = Bench::new("");
    let (mut machine, _console) = bench.boot().await;
    let process = ProcessRef::of(machine.pid()).expect("it runs");
    process.signal(Signal::SIGKILL).expect("signal");
    let exit = exit_of(&mut machine).await;
    assert!(matches!(exit, MachineExit::Unexpected { signal: Some(9), .. }), "{exit:?}");
}

#[tokio::test]
async fn a_guest_that_is_deaf_is_stopped_all_the_same() {
    let bench = Bench::new("deaf");
    let (mut machine, _console) = bench.boot().await;
    let ended = climb(machine.as_mut(), &StopLadder::polite(50), |_| {}).await;
    assert_eq!(ended, Ok((Method::Terminate, MachineExit::Asked)));
}

#[tokio::test]
async fn a_tap_that_is_not_there_is_missed_before_anything_runs() {
    let mut bench = Bench::new("");
    bench.spec.nics = vec![Nic::Tap { device: "bang-none".to_owned(), mac: [2; 6] }];
    let error = bench.fail().await.to_string();
    assert!(error.starts_with("the network interface bang-none failed: No such device"), "{error}");
    assert!(bench.notes().is_empty());
}

#[tokio::test]
async fn paths_that_no_socket_can_have_and_programs_that_are_not_there_are_named() {
    let mut bench = Bench::new("");
    bench.spec.socket = bench.dir.path().join("x".repeat(108));
    assert!(matches!(bench.fail().await, VmmError::SocketPath(_)));
    let mut bench = Bench::new("");
    bench.backend = Firecracker::new("/nonexistent/firecracker");
    assert!(matches!(bench.fail().await, VmmError::Spawn { .. }));
}

#[tokio::test]
async fn dropping_a_machine_kills_it() {
    let bench = Bench::new("");
    let (machine, mut console) = bench.boot().await;
    let pid = machine.pid();
    let process = ProcessRef::of(pid).expect("it runs");
    drop(machine);
    // Its console closes a moment before it is gone.
    console.end().await;
    assert!(wait_gone(process, PATIENCE).expect("watched"));
    bench.nothing_is_left();
}

/// What the real one could not read is refused by the stand-in, and what it took is taken.
#[test]
fn the_stand_in_agrees_with_what_was_recorded() {
    let api = api::Api::load();
    let (mut taken, mut unread) = (0, 0);
    for reply in api::replies() {
        let request = if reply.request == "null" { "" } else { &reply.request };
        let checked = api.check(&reply.method, &reply.path, request);
        // It takes a context id that its description does not allow.
        if reply.status == 204 && reply.path != "/vsock" {
            taken += 1;
            assert_eq!(checked, Ok(()), "{reply:?}");
        }
        // An address is text to us.
        if reply.body.contains("deserializing") && !reply.body.contains("MAC address") {
            unread += 1;
            assert!(checked.is_err(), "{reply:?}");
        }
    }
    assert!(taken >= 2 && unread >= 2, "{taken} {unread}");
    for (method, path, body, what) in [
        ("GET", "/nope", "", "Invalid request"),
        ("PUT", "/machine-config", r#"{"vcpu_count":33,"mem_size_mib":1}"#, "out of its range"),
        ("PUT", "/machine-config", r#"{"vcpu_count":"1"}"#, "no integer"),
        ("PUT", "/vsock", r#"{"guest_cid":2,"uds_path":"/x"}"#, "out of its range"),
        ("PUT", "/actions", r#"{"action_type":"Dance"}"#, "none of"),
        ("PUT", "/actions", "{}", "missing field `action_type`"),
        ("PUT", "/drives/a", r#"{"drive_id":"b","is_root_device":true}"#, "does not match"),
    ] {
        let wrong = api.check(method, path, body).expect_err(body);
        assert!(wrong.contains(what), "{wrong}");
    }
}

/// Our own description of the API against Firecracker's, where there is one.
#[test]
fn the_stand_in_agrees_with_firecrackers_own_description() {
    let name = "BANGER_TEST_FIRECRACKER_API";
    let Some(path) = std::env::var_os(name) else {
        let reason = format!("{name} names no firecracker.yaml");
        return common::skip("vmm_firecracker::the_stand_in_agrees_with_its_description", &reason);
    };
    let text = fs::read_to_string(path).expect("a description");
    let theirs: serde_json::Value = serde_norway::from_str(&text).expect("YAML");
    for (request, fields) in api::Api::load().0 {
        let (method, path) = request.split_once(' ').expect("two words");
        let operation = &theirs["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "there is no {request}");
        let body = operation["parameters"].as_array().and_then(|all| {
            let schema = all.iter().find(|one| one["in"] == "body")?["schema"]["$ref"].as_str()?;
            theirs.pointer(schema.strip_prefix('#')?)
        });
        let Some(body) = body else {
            assert!(fields.is_empty(), "{request} has no body");
            continue;
        };
        for required in body["required"].as_array().into_iter().flatten() {
            let known = required.as_str().and_then(|name| fields.get(name));
            assert!(known.is_some_and(|field| field.required), "{request}: {required}");
        }
        for (name, field) in fields {
            let property = &body["properties"][&name];
            assert_eq!(property["type"], field.kind.as_str(), "{request}: {name}");
            let required = body["required"].as_array().into_iter().flatten().any(|r| *r == name);
            assert_eq!(required, field.required, "{request}: {name}");
            assert_eq!(property["minimum"].as_u64(), field.minimum, "{request}: {name}");
            assert_eq!(property["maximum"].as_u64(), field.maximum, "{request}: {name}");
            let words = property["enum"].as_array().into_iter().flatten();
            let words: Vec<_> = words.filter_map(|word| word.as_str()).collect();
            assert!(field.words.is_empty() || field.words == words, "{request}: {name}");
        }
    }
}
