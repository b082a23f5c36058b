//! The QEMU backend against the real QEMU, with a guest that fits in a test.

mod guest;

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use banger::{
    domain::{Method, StopLadder, VmId},
    host::{
        process::{ProcessRef, Signal, die_with_us, wait_gone},
        pty,
    },
    vmm::{
        Backend, Disk, Forward, Machine, MachineEvent, MachineExit, MachineSpec, Nic, VmmError,
        ladder::climb,
        qemu::{Accel, Qemu},
    },
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

/// Far more than anything here takes, on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with all that a machine needs.
struct Bench {
    dir: TempDir,
    spec: MachineSpec,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp");
        let at = |name: &str| dir.path().join(name);
        guest::write(&at("vmlinux")).expect("kernel");
        fs::write(at("initrd"), "none").expect("initrd");
        let spec = MachineSpec {
            vm: VmId::from_bytes([0xab; 4]),
            vcpus: 1,
            memory_mib: 64,
            kernel: at("vmlinux"),
            initrd: at("initrd"),
            cmdline: qemu().kernel_cmdline(),
            disks: vec![],
            nics: vec![],
            socket: at("vmm.sock"),
        };
        Self { dir, spec }
    }

    async fn boot(&self) -> (Box<dyn Machine>, Console) {
        let (master, slave) = pty::open_raw().expect("pty");
        let machine = qemu().launch(&self.spec, slave).await.expect("launch");
        let mut console = Console::new(File::from(master));
        console.read_until("ready\n").await;
        (machine, console)
    }

    /// The error of a launch that must fail, and leave nothing.
    async fn fail(&self) -> VmmError {
        let (master, slave) = pty::open_raw().expect("pty");
        let error = qemu().launch(&self.spec, slave).await.err().expect("it cannot run");
        assert!(!self.spec.socket.exists(), "the socket is left behind");
        // All descriptors of the slave are closed only when the process is gone.
        let mut console = Console::new(File::from(master));
        console.end().await;
        error
    }
}

fn qemu() -> Qemu {
    Qemu::new("qemu-system-x86_64", Accel::Tcg, Some(2_000_000)).prepared_by(die_with_us)
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

    fn type_in(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).expect("type");
    }

    async fn read_until(&mut self, text: &str) {
        self.read_bytes_until(text.as_bytes()).await;
    }

    async fn read_bytes_until(&mut self, wanted: &[u8]) {
        while !self.text.windows(wanted.len()).any(|part| part == wanted) {
            let more = timeout(PATIENCE, self.from.recv()).await;
            let more = more.ok().flatten().unwrap_or_else(|| panic!("only {:?}", self.text));
            self.text.extend(more);
        }
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

fn ladder(milliseconds: u64) -> StopLadder {
    let rungs = ["power-button", "vmm-quit", "terminate"];
    let mut rungs: Vec<_> = rungs
        .map(|method| serde_json::json!({"method": method, "timeout_ms": milliseconds}))
        .into();
    rungs.push(serde_json::json!({"method": "kill", "timeout_ms": 60_000}));
    serde_json::from_value(rungs.into()).expect("a ladder")
}

#[tokio::test]
async fn the_console_carries_every_byte_and_the_power_button_reaches_the_guest() {
    let bench = Bench::new();
    let (mut machine, mut console) = bench.boot().await;
    let vmm = ProcessRef::of(machine.pid()).expect("it runs");
    // One at a time: a serial port without FIFO holds one byte.
    let bytes: Vec<u8> = (0..=255).filter(|b| !b"pirt".contains(b)).collect();
    for byte in &bytes {
        console.text.clear();
        console.type_in(&[*byte]);
        console.read_bytes_until(&[*byte]).await;
        assert_eq!(console.text, [*byte], "echoed, once and unchanged");
    }
    machine.power_button().await.expect("pressed");
    assert_eq!(exit_of(&mut machine).await, MachineExit::GuestPoweroff);
    console.end().await;
    assert!(!vmm.alive());
    let never = timeout(Duration::from_millis(20), machine.next_event()).await;
    assert!(never.is_err(), "an end is told once");
    drop(machine);
    assert!(!bench.spec.socket.exists());
}

#[tokio::test]
async fn a_paused_guest_does_nothing_until_it_is_resumed() {
    let (mut machine, mut console) = Bench::new().boot().await;
    for _ in 0..2 {
        machine.pause().await.expect("pause");
    }
    console.text.clear();
    console.type_in(b"x");
    let echo = timeout(Duration::from_millis(50), console.read_until("x")).await;
    assert!(echo.is_err(), "it echoes while it is paused");
    for _ in 0..2 {
        machine.resume().await.expect("resume");
    }
    console.read_until("x").await;
}

#[tokio::test]
async fn the_guests_own_ways_out_are_told_apart() {
    for (letter, exit) in [
        (b"p", MachineExit::GuestPoweroff),
        (b"r", MachineExit::GuestReboot),
        (b"t", MachineExit::GuestReboot),
    ] {
        let (mut machine, mut console) = Bench::new().boot().await;
        console.type_in(letter);
        assert_eq!(exit_of(&mut machine).await, exit, "{letter:?}");
    }
}

#[tokio::test]
async fn our_quit_and_our_signals_are_ours() {
    let (mut machine, _console) = Bench::new().boot().await;
    machine.quit().await.expect("quit");
    assert_eq!(exit_of(&mut machine).await, MachineExit::Asked);
    for kill in [false, true] {
        let (mut machine, _console) = Bench::new().boot().await;
        machine.signal(kill).expect("signal");
        assert_eq!(exit_of(&mut machine).await, MachineExit::Asked, "kill: {kill}");
        machine.signal(kill).expect("a signal that comes too late is no error");
        assert!(machine.power_button().await.is_err(), "nobody is there");
    }
}

#[tokio::test]
async fn the_signals_of_others_are_not() {
    for (signal, number) in [(Signal::SIGTERM, 15), (Signal::SIGKILL, 9), (Signal::SIGSEGV, 11)] {
        let bench = Bench::new();
        let (mut machine, _console) = bench.boot().await;
        let vmm = ProcessRef::of(machine.pid()).expect("it runs");
        assert!(vmm.signal(signal).expect("signal"));
        let exit = exit_of(&mut machine).await;
        let MachineExit::Unexpected { signal: Some(by), .. } = exit else {
            panic!("{signal}: {exit:?}")
        };
        assert_eq!(by, number);
        drop(machine);
        assert!(!bench.spec.socket.exists());
    }
}

#[tokio::test]
async fn a_guest_that_ignores_the_power_button_is_stopped_by_the_next_rung() {
    let (mut machine, mut console) = Bench::new().boot().await;
    console.type_in(b"i");
    console.read_until("i").await;
    let mut tried = Vec::new();
    let stopped = climb(machine.as_mut(), &ladder(500), |rung| tried.push(rung)).await;
    assert_eq!(stopped, Ok((Method::VmmQuit, MachineExit::Asked)));
    assert_eq!(tried, [Method::PowerButton, Method::VmmQuit]);
}

#[tokio::test]
async fn a_vmm_that_answers_nothing_is_killed() {
    let (mut machine, _console) = Bench::new().boot().await;
    let vmm = ProcessRef::of(machine.pid()).expect("it runs");
    assert!(vmm.signal(Signal::SIGSTOP).expect("frozen"));
    let stopped = climb(machine.as_mut(), &ladder(50), |_| {}).await;
    assert_eq!(stopped, Ok((Method::Kill, MachineExit::Asked)));
}

#[tokio::test]
async fn giving_up_on_an_event_or_a_command_loses_nothing() {
    let (mut machine, mut console) = Bench::new().boot().await;
    console.type_in(b"i");
    console.read_until("i").await;
    for _ in 0..50 {
        assert!(timeout(Duration::from_micros(100), machine.next_event()).await.is_err());
        // Given up as soon as it is sent.
        tokio::select! {
            biased;
            _ = machine.power_button() => panic!("answered before anybody could hear it"),
            () = std::future::ready(()) => {}
        }
    }
    machine.power_button().await.expect("it still listens");
    machine.quit().await.expect("quit");
    assert_eq!(exit_of(&mut machine).await, MachineExit::Asked);
}

#[tokio::test]
async fn a_dropped_machine_is_gone() {
    let bench = Bench::new();
    let (machine, mut console) = bench.boot().await;
    let vmm = ProcessRef::of(machine.pid()).expect("it runs");
    drop(machine);
    assert!(wait_gone(vmm, PATIENCE).expect("watch"));
    console.end().await;
    assert!(!bench.spec.socket.exists());
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host_port = taken.local_addr().expect("address").port();
    let mut bench = Bench::new();
    let forwards = vec![Forward { host_port, guest_port: 22 }];
    bench.spec.nics = vec![Nic::User { forwards }];
    let error = bench.fail().await;
    assert!(matches!(error, VmmError::PortTaken(port) if port == host_port), "{error}");
    drop(taken);
    let (mut machine, _console) = bench.boot().await;
    machine.quit().await.expect("quit");
}

#[tokio::test]
async fn disks_are_attached_and_have_one_writer() {
    let mut bench = Bench::new();
    // QEMU's options are cut at commas, and a user's directory may have one.
    let disk = |name: &str| Disk { path: bench.dir.path().join(name), read_only: false };
    bench.spec.disks = vec![disk("a,b=c.img"), disk("second.img")];
    for disk in &bench.spec.disks {
        File::create(&disk.path).and_then(|file| file.set_len(1 << 20)).expect("disk");
    }
    bench.spec.disks[1].read_only = true;
    let (mut machine, _console) = bench.boot().await;

    let mut other = Bench::new();
    other.spec.disks = bench.spec.disks.clone();
    let error = other.fail().await.to_string();
    assert!(error.contains("lock"), "{error}");
    machine.quit().await.expect("quit");
}

#[tokio::test]
async fn what_cannot_run_is_told_in_the_vmms_words_and_leaves_nothing() {
    let mut bench = Bench::new();
    bench.spec.disks = vec![Disk { path: "/nonexistent/root.img".into(), read_only: false }];
    let error = bench.fail().await.to_string();
    assert!(error.contains("/nonexistent/root.img") && error.contains("No such file"), "{error}");

    let mut bench = Bench::new();
    bench.spec.kernel = "/nonexistent/vmlinux".into();
    let error = bench.fail().await.to_string();
    assert!(error.contains("/nonexistent/vmlinux"), "{error}");

    let mut bench = Bench::new();
    bench.spec.socket = Path::new("/tmp").join("x".repeat(200));
    assert!(matches!(bench.fail().await, VmmError::SocketPath(_)));

    let bench = Bench::new();
    let none = Qemu::new("/nonexistent/qemu", Accel::Tcg, None);
    let (_master, slave) = pty::open_raw().expect("pty");
    let error = none.launch(&bench.spec, slave).await.err().expect("no such program");
    assert!(matches!(error, VmmError::Spawn { .. }), "{error}");
}

#[tokio::test]
async fn a_program_that_never_answers_is_ended_with_the_launch() {
    let bench = Bench::new();
    let script = bench.dir.path().join("qemu");
    fs::write(&script, "#!/bin/sh\nexec sleep 86400\n").expect("script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, executable).expect("chmod");
    let (master, slave) = pty::open_raw().expect("pty");
    let mute = Qemu::new(script, Accel::Tcg, None);
    let gave_up = timeout(Duration::from_millis(200), mute.launch(&bench.spec, slave)).await;
    assert!(gave_up.is_err());
    Console::new(File::from(master)).end().await;
}

#[tokio::test]
async fn a_stale_socket_does_not_stand_in_the_way() {
    let bench = Bench::new();
    drop(std::os::unix::net::UnixListener::bind(&bench.spec.socket).expect("bind"));
    assert!(bench.spec.socket.exists());
    let (mut machine, _console) = bench.boot().await;
    machine.quit().await.expect("quit");
}

/// Not a test: what [`no_vmm_survives_the_process_that_started_it`] starts and kills.
#[tokio::test]
async fn helper_that_is_killed() {
    if env::var_os("BANGER_TEST_HELPER").is_none() {
        return;
    }
    let bench = Bench::new();
    let (machine, _console) = bench.boot().await;
    println!("\nvmm={} dir={}", machine.pid(), bench.dir.path().display());
    std::future::pending::<()>().await;
}

#[test]
fn no_vmm_survives_the_process_that_started_it() {
    let mut helper = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "helper_that_is_killed", "--nocapture"])
        .env("BANGER_TEST_HELPER", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("helper");
    let output = BufReader::new(helper.stdout.take().expect("piped"));
    let line = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("vmm=").map(str::to_owned))
        .expect("the helper's line");
    let (pid, dir) = line.split_once(" dir=").expect("both");
    let vmm = ProcessRef::of(pid.parse().expect("number")).expect("it runs");
    helper.kill().expect("SIGKILL");
    helper.wait().expect("reaped");
    assert!(wait_gone(vmm, PATIENCE).expect("watch"), "the VMM runs on without its monitor");
    fs::remove_dir_all(dir).expect("the helper could not clean up");
}

/// What a launch adds to the bare program: printed, and bounded generously, for the machine may
/// be busy.
#[tokio::test]
async fn a_launch_does_not_delay_the_guest() {
    let bench = Bench::new();
    let begun = Instant::now();
    let (master, slave) = pty::open_raw().expect("pty");
    let mut console = Console::new(File::from(master));
    let backend = qemu();
    let launching = backend.launch(&bench.spec, slave);
    let (machine, guest) =
        tokio::join!(async { (launching.await.expect("launch"), begun.elapsed()) }, async {
            console.read_until("ready\n").await;
            begun.elapsed()
        });
    let (_machine, control) = machine;
    println!("guest after {guest:?}, control socket after {control:?}");
    assert!(control < PATIENCE / 10);
}
