//! What is made on the host for a VM on the bridge with a snapshot for a disk: how long it takes
//! beside the bare commands, and that two hundred times leave nothing.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use banger::{
    domain::{Subnet, Tag, VmId},
    host::{
        dm,
        ops::{Inventory, LinuxOps, Op, Operate},
    },
};

use crate::{Home, Scenario, User, inside::FIGURE};

pub const ALL: &[Scenario] = &[
    Scenario::new("set_up::no_slower_than_the_bare_commands", &[User::Root], beside_commands),
    Scenario::new("set_up::two_hundred_times_leak_nothing", &[User::Root], two_hundred),
];

/// Bytes of the base and of the disks on it.
const BYTES: u64 = 64 << 20;

/// A host with a bridge and rules, and files for disks.
struct Bench {
    ops: LinuxOps,
    tag: Tag,
    subnet: Subnet,
    dir: PathBuf,
    base: File,
    /// Of those that change what all VMs share, as monitors have it.
    turn: Mutex<()>,
}

impl Bench {
    fn new() -> Self {
        let dir = PathBuf::from("/var/tmp/set-up");
        fs::create_dir(&dir).expect("a directory");
        let base = dir.join("base.img");
        File::create(&base).and_then(|file| file.set_len(BYTES)).expect("a base");
        let tag = Tag::from_bytes([0x1a, 0xb0, 0]);
        let subnet = "172.30.4.0/22".parse().expect("a subnet");
        let base = File::open(base).expect("the base");
        let ops = LinuxOps::new(tag.clone(), 0);
        let bench = Self { ops, tag, subnet, dir, base, turn: Mutex::default() };
        bench.run(&Op::Bridge { subnet, mtu: 1500 });
        bench.run(&Op::Rules { subnet, dns: None });
        bench
    }

    fn run(&self, op: &Op) {
        self.ops.run(op, &[]).unwrap_or_else(|problem| panic!("{op:?}: {problem:?}"));
    }

    fn cow(&self, vm: &VmId) -> PathBuf {
        self.dir.join(vm.to_string())
    }

    /// Overlay, TAP and rules of a VM, as a monitor makes them.
    fn make(&self, vm: &VmId) {
        let cow = self.cow(vm);
        dm::make_cow(&cow, BYTES).expect("a COW file");
        let cow = File::options().read(true).write(true).open(cow).expect("the COW file");
        let op = Op::Snapshot { vm: vm.clone(), bytes: BYTES };
        let files = [self.base.as_fd(), cow.as_fd()];
        self.ops.run(&op, &files).unwrap_or_else(|problem| panic!("{op:?}: {problem:?}"));
        self.run(&Op::Tap { vm: vm.clone(), mtu: 1500, owner: 0 });
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(&Op::Rules { subnet: self.subnet, dns: None });
    }

    fn unmake(&self, vm: &VmId) {
        self.run(&Op::TapGone { vm: vm.clone() });
        self.run(&Op::SnapshotGone { vm: vm.clone() });
        fs::remove_file(self.cow(vm)).expect("the COW file");
    }

    fn end(self) {
        self.run(&Op::RulesGone);
        self.run(&Op::BridgeGone);
        let mut left = Inventory::default();
        dm::inventory(&self.tag, &mut left).expect("an inventory");
        assert_eq!(left, Inventory::default());
        fs::remove_dir_all(&self.dir).expect("the directory");
    }
}

/// Runs a command line without a shell; what it printed.
fn command(line: &str, input: Option<&Path>) -> String {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdin(Stdio::null());
    if let Some(input) = input {
        command.stdin(File::open(input).expect("its input"));
    }
    let said = command.output().expect("it runs");
    assert!(said.status.success(), "{line}: {said:?}");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// The same with the programs that there are for it.
fn by_hand(bench: &Bench, rules: &Path) -> [String; 2] {
    let (base, cow) = (bench.dir.join("base.img"), bench.dir.join("by-hand"));
    command(&format!("truncate -s {} {}", BYTES * 2, cow.display()), None);
    let base = command(&format!("losetup --read-only --find --show {}", base.display()), None);
    let cow = command(&format!("losetup --find --show {}", cow.display()), None);
    let sectors = BYTES / 512;
    let table = bench.dir.join("table");
    fs::write(&table, format!("0 {sectors} snapshot {base} {cow} PO 8\n")).expect("a table");
    command("dmsetup create by-hand", Some(&table));
    command("ip tuntap add by-hand mode tap vnet_hdr", None);
    command(&format!("ip link set by-hand mtu 1500 master {} up", bench.tag.bridge()), None);
    command("nft -f -", Some(rules));
    [base, cow]
}

fn by_hand_gone(bench: &Bench, [base, cow]: &[String; 2]) {
    command("nft delete table inet by_hand", None);
    command("ip link delete by-hand", None);
    command("dmsetup remove --retry by-hand", None);
    command(&format!("losetup --detach {base} {cow}"), None);
    fs::remove_file(bench.dir.join("by-hand")).expect("the COW file");
}

/// Of twenty times or more, the one that only every twentieth is above.
fn p95(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() * 95 / 100 - 1]
}

fn beside_commands(_: &Home) {
    let bench = Bench::new();
    let rules = bench.dir.join("rules");
    let text = "table inet by_hand {
        chain post { type nat hook postrouting priority 100; ip saddr 172.30.4.0/22 masquerade; }
        chain forward_ { type filter hook forward priority 0; ip saddr 172.30.4.0/22 accept; }
    }";
    fs::write(&rules, text).expect("rules");
    let vm = VmId::from_bytes([0x1a, 0xb0, 0, 1]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turn, so that both meet the machine in every mood.
    for _ in 0..20 {
        let begin = Instant::now();
        bench.make(&vm);
        ours.push(begin.elapsed());
        bench.unmake(&vm);
        let begin = Instant::now();
        let loops = by_hand(&bench, &rules);
        theirs.push(begin.elapsed());
        by_hand_gone(&bench, &loops);
    }
    bench.end();
    let (ours, theirs) = (p95(&mut ours), p95(&mut theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("{FIGURE}p95 of 20: {ours:.1?}, by hand {theirs:.1?}: {ratio:.2} x");
    assert!(ratio <= 1.0, "{ours:?} is more than {theirs:?}");
}

/// Our own open files and resident memory in KiB.
fn held() -> (usize, u64) {
    let files = fs::read_dir("/proc/self/fd").expect("our files").count();
    let status = fs::read_to_string("/proc/self/status").expect("our status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    (files, line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number"))
}

fn two_hundred(_: &Home) {
    let bench = Bench::new();
    // Two VMs, whose monitors know nothing of each other.
    let rounds = |count: usize| {
        thread::scope(|scope| {
            for n in [2, 3] {
                let bench = &bench;
                scope.spawn(move || {
                    let vm = VmId::from_bytes([0x1a, 0xb0, 0, n]);
                    for _ in 0..count {
                        bench.make(&vm);
                        bench.unmake(&vm);
                    }
                });
            }
        });
    };
    // What is set up once is set up now.
    rounds(5);
    let (files, memory) = held();
    rounds(100);
    let (files_after, memory_after) = held();
    println!(
        "{FIGURE}200 rounds: {files} and {files_after} files, {memory} and {memory_after} KiB"
    );
    assert_eq!(files, files_after, "open files");
    // 2 KiB a round would be a leak; what an allocator keeps is less.
    assert!(memory_after < memory + 400, "memory: {memory} KiB became {memory_after} KiB");
    bench.end();
}
