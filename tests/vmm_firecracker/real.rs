//! The backend with the real Firecracker: `BANGER_TEST_FIRECRACKER` names one, or the runtime
//! directory has one, with its jailer beside it if that is to be tested, too. The guest is a small one that needs little of KVM.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use banger::{
    host::{
        process::{ProcessRef, die_with_us, with_argument},
        pty,
    },
    vmm::{
        Backend, Disk, Machine, MachineExit, Nic, Piece,
        firecracker::{
            Firecracker,
            jailer::{Jailer, cgroup_root, uid},
        },
    },
};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use crate::{
    Bench, Console,
    common::{runtime_dir, skip},
    exit_of, guest,
};

#[path = "../vmm_qemu/guest.rs"]
#[allow(dead_code)]
mod elf;

/// The one that is named, or else the runtime directory's.
fn program() -> Option<PathBuf> {
    let named = env::var_os("BANGER_TEST_FIRECRACKER").filter(|path| !path.is_empty());
    let bundled = || Some(runtime_dir().join("firecracker")).filter(|path| path.exists());
    named.map(PathBuf::from).or_else(bundled)
}

/// A bench with the real one, or a word on why there is none.
pub fn bench(test: &str) -> Option<Bench> {
    let none = |reason: &str| {
        skip(&format!("vmm_firecracker::real::{test}"), reason);
        None
    };
    let Some(program) = program() else {
        return none("BANGER_TEST_FIRECRACKER names no Firecracker, and the runtime has none");
    };
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return none("/dev/kvm cannot be opened");
    }
    let mut bench = Bench::new("");
    bench.backend = Firecracker::new(program).prepared_by(die_with_us);
    elf::write_elf(&bench.spec.kernel, guest::CODE).expect("kernel");
    bench.spec.nics.clear();
    Some(bench)
}

pub async fn start(bench: &Bench) -> (Box<dyn Machine>, Console) {
    let (master, slave) = pty::open_raw().expect("pty");
    let machine = bench.backend.launch(&bench.spec, slave).await.expect("launch");
    (machine, Console::new(fs::File::from(master)))
}

async fn boot(bench: &Bench) -> (Box<dyn Machine>, Console) {
    let (machine, mut console) = start(bench).await;
    console.read_until("ready").await;
    (machine, console)
}

#[tokio::test]
async fn a_real_machine_lives_and_reboots() {
    let Some(bench) = bench("a_real_machine_lives_and_reboots") else { return };
    for _ in 0..2 {
        let (mut machine, mut console) = boot(&bench).await;
        let said = String::from_utf8_lossy(&console.text).into_owned();
        assert!(!said.contains("Firecracker"), "its log is not for the console: {said}");
        let found = with_argument(bench.spec.socket.as_os_str()).expect("/proc");
        assert_eq!(found.iter().map(|one| one.pid).collect::<Vec<_>>(), [machine.pid()]);
        machine.pause().await.expect("pause");
        machine.pause().await.expect("twice is no error");
        machine.resume().await.expect("resume");
        let memory = machine.memory().await.expect("memory");
        assert_eq!((memory.ballooned, memory.total), (0, None), "a guest without a driver");
        console.to.write_all(b"it is").expect("typed");
        console.read_until("it is").await;
        console.to.write_all(b"r").expect("typed");
        assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);
        drop(machine);
        bench.nothing_is_left();
    }
}

#[tokio::test]
async fn a_real_machine_hears_the_power_button_and_does_not_end_when_it_halts() {
    let test = "a_real_machine_hears_the_power_button_and_does_not_end_when_it_halts";
    let Some(bench) = bench(test) else { return };
    let (mut machine, _console) = boot(&bench).await;
    machine.power_button().await.expect("press");
    assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);

    let (mut machine, mut console) = boot(&bench).await;
    console.to.write_all(b"h").expect("typed");
    console.read_until("reboot: System halted").await;
    assert!(ProcessRef::of(machine.pid()).expect("it stays").alive());
    machine.signal(false).expect("signal");
    assert_eq!(exit_of(&mut machine).await, MachineExit::Asked);
    assert!(bench.spec.socket.exists(), "it leaves its socket");
    drop(machine);
    bench.nothing_is_left();
}

#[tokio::test]
async fn what_a_real_one_refuses_is_explained() {
    let test = "what_a_real_one_refuses_is_explained";
    let Some(mut one) = bench(test) else { return };
    fs::write(&one.spec.kernel, "MZ, as a bzImage begins").expect("kernel");
    let error = one.fail().await.to_string();
    assert!(error.contains("uncompressed vmlinux"), "{error}");
    elf::write_elf(&one.spec.kernel, guest::CODE).expect("kernel");
    one.spec.disks[0].path = "/nonexistent".into();
    let error = one.fail().await.to_string();
    assert!(error.starts_with("the disk /nonexistent failed: "), "{error}");
    assert!(error.contains("banger doctor"), "{error}");
    one.spec.disks.clear();
    one.spec.nics = vec![Nic::Tap { device: "lo".to_owned(), mac: [2, 0, 0, 0, 0, 1] }];
    let error = one.fail().await.to_string();
    assert!(error.starts_with("the network interface lo failed: "), "{error}");
    assert!(error.contains("banger doctor"), "{error}");
    one.spec.nics.clear();
    one.spec.memory_mib = 1 << 30;
    let error = one.fail().await.to_string();
    assert!(error.contains("less memory"), "{error}");
}

/// Runs a program that must succeed; what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device over a file, for as long as it lives.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Self {
        let file = file.to_str().expect("text");
        Self(run("losetup", &["--find", "--show", file]))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[tokio::test]
async fn a_real_machine_is_jailed_with_a_tap_and_a_disk() {
    let test = "a_real_machine_is_jailed_with_a_tap_and_a_disk";
    let Some(mut bench) = bench(test) else { return };
    let skipped = |reason: &str| skip(&format!("vmm_firecracker::real::{test}"), reason);
    if !geteuid().is_root() {
        return skipped("only root can jail");
    }
    let firecracker = program().expect("a Firecracker");
    let jailer = firecracker.with_file_name("jailer");
    if !jailer.exists() {
        return skipped("there is no jailer beside Firecracker");
    }
    // This thread's own: the machine's interfaces are left alone.
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    run("ip", &["tuntap", "add", "bang0", "mode", "tap"]);
    bench.spec.nics = vec![Nic::Tap { device: "bang0".to_owned(), mac: [2, 0, 0, 0, 0, 1] }];

    let image = bench.dir.path().join("image");
    fs::write(&image, [0; 1 << 20]).expect("image");
    let before = fs::metadata(&image).expect("image");
    let attached = Loop::new(&image);
    bench.spec.disks = vec![Disk { path: attached.0.clone().into(), read_only: false }];
    let base = bench.dir.path().join("deep".repeat(20)).join("jail");
    let mut jailer = Jailer::new(jailer, &base);
    let cgroups = cgroup_root();
    match &cgroups {
        Ok(root) => jailer = jailer.in_cgroups_of(root),
        Err(reason) => skipped(&format!("its cgroup: {reason}")),
    }
    bench.backend = Firecracker::new(firecracker).jailed_by(jailer).prepared_by(die_with_us);

    for _ in 0..2 {
        let (mut machine, _console) = boot(&bench).await;
        let proc = Path::new("/proc").join(machine.pid().to_string());
        let status = fs::read_to_string(proc.join("status")).expect("status");
        let uid = uid(&bench.spec.vm);
        assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
        assert!(proc.join("root/disk0").exists() && !proc.join("root/etc").exists());
        if cgroups.is_ok() {
            let groups = fs::read_to_string(proc.join("cgroup")).expect("groups");
            assert!(groups.contains(&format!("0::/banger/{}\n", bench.spec.vm)), "{groups}");
        }
        let found = with_argument(bench.spec.socket.as_os_str()).expect("/proc");
        assert_eq!(found.iter().map(|one| one.pid).collect::<Vec<_>>(), [machine.pid()]);
        machine.pause().await.expect("pause");
        machine.resume().await.expect("resume");
        machine.power_button().await.expect("press");
        assert_eq!(exit_of(&mut machine).await, MachineExit::GuestReboot);
    }
    // As the ledger does it with a machine whose monitor was killed: the cgroup ends it.
    let (machine, _console) = boot(&bench).await;
    let process = ProcessRef::of(machine.pid()).expect("it runs");
    let pieces = bench.backend.pieces(&bench.spec);
    assert_eq!(pieces.len(), 1 + usize::from(cgroups.is_ok()));
    if let Piece::Cgroup(path) = &pieces[0] {
        assert!(path.exists());
        pieces[0].remove().expect("a cgroup with a process in it");
        assert!(!process.alive() && !path.exists());
    }
    drop(machine);
    pieces.iter().rev().for_each(|piece| piece.remove().expect("removed"));
    assert!(pieces.iter().all(|piece| !piece.path().exists()));
    let after = fs::metadata(&image).expect("image");
    let of = |meta: &fs::Metadata| (meta.uid(), meta.gid(), meta.mode(), meta.nlink());
    assert_eq!(of(&after), of(&before), "the user's file is as it was");
}
