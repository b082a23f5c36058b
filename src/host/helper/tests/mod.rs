//! The helper as a whole, attacked: a real socket, users of other numbers, and an operator that
//! remembers what reached it.

mod attacks;
mod fuse;
mod fuzz;
mod ownership;
mod real;
mod service;

use std::{
    collections::BTreeMap,
    env, fs,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{Shutdown, shutdown},
    unistd::geteuid,
};
use tempfile::TempDir;

use super::{
    activation,
    allow::Allowed,
    claims::Claims,
    client::HelperOps,
    files,
    journal::{Journal, tests::Kept},
    keeper::{Keeper, Surroundings},
    packet::Connection,
    server::{Limits, Server},
    wire::{Answer, Ask, PACKET_MAX, Reply, Request, SCHEMA},
};
use crate::{
    domain::{Problem, Subnet, Tag, VmId},
    host::ops::{Done, Inventory, Op, Operate},
};

/// Two users who may ask, and one who may not.
pub const ANA: u32 = 4001;
pub const BOB: u32 = 4002;
pub const EVE: u32 = 4003;

pub fn tag(n: u8) -> Tag {
    Tag::from_bytes([n; 3])
}

pub fn vm(n: u8) -> VmId {
    VmId::from_bytes([n; 4])
}

pub fn subnet(n: u8) -> Subnet {
    Subnet::at([10, n, 0, 0].into()).unwrap()
}

pub fn bridge(n: u8) -> Op {
    Op::Bridge { subnet: subnet(n), mtu: 1500 }
}

/// Notes that a test cannot do here what its name says; `scripts/test.sh` counts these.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
    if let Some(path) = env::var_os("BANGER_SKIP_FILE") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        io::Write::write_all(&mut file, format!("{test}: {reason}\n").as_bytes()).unwrap();
    }
}

/// Whether a test can be other users.
pub fn is_root(test: &str) -> bool {
    let is = geteuid().is_root();
    if !is {
        skip(test, "needs root");
    }
    is
}

/// Does something as another user: on a thread of its own, as the kernel has users for threads.
pub fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // SAFETY: the system call itself, which unlike the C library's function changes this
            // thread alone; it takes numbers.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What reached the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    pub tag: Tag,
    pub uid: u32,
    pub op: Op,
    pub files: Vec<(u32, u32, u64)>,
}

/// Does as if, and remembers.
#[derive(Default)]
pub struct World {
    pub reached: Mutex<Vec<Reached>>,
    pub there: Mutex<BTreeMap<Tag, Inventory>>,
    pub interfaces: Mutex<Vec<String>>,
    /// A VM whose snapshot takes until this is opened.
    pub gate: (Mutex<bool>, Condvar),
}

pub const SLOW: u8 = 0xee;
pub const PANICS: u8 = 0xef;

impl World {
    pub fn open_gate(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    /// All that reached it but looks.
    pub fn done(&self) -> Vec<Reached> {
        let all = self.reached.lock().unwrap();
        all.iter().filter(|r| r.op != Op::Inventory).cloned().collect()
    }
}

struct Recorder {
    world: Arc<World>,
    tag: Tag,
    uid: u32,
}

impl Operate for Recorder {
    fn run(&self, op: &Op, files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
        let ids = files.iter().map(|file| files::id(*file).unwrap()).collect();
        let (tag, uid) = (self.tag.clone(), self.uid);
        self.world.reached.lock().unwrap().push(Reached { tag, uid, op: op.clone(), files: ids });
        if matches!(op, Op::SnapshotGone { vm: v } if *v == vm(SLOW)) {
            let (gate, opened) = &self.world.gate;
            drop(opened.wait_while(gate.lock().unwrap(), |open| !*open).unwrap());
        }
        assert!(!matches!(op, Op::SnapshotGone { vm: v } if *v == vm(PANICS)), "as it should");
        let mut all = self.world.there.lock().unwrap();
        let there = all.entry(self.tag.clone()).or_default();
        match op {
            Op::Bridge { .. } => there.bridge = true,
            Op::BridgeGone => there.bridge = false,
            Op::Tap { vm, .. } if !there.taps.contains(vm) => there.taps.push(vm.clone()),
            Op::TapGone { vm } => there.taps.retain(|other| other != vm),
            Op::Snapshot { vm, .. } if !there.snapshots.contains(vm) => {
                there.snapshots.push(vm.clone());
            }
            Op::SnapshotGone { vm } => there.snapshots.retain(|other| other != vm),
            Op::Hosts { names } => there.hosts = names.len(),
            Op::Inventory => return Ok(Done::Inventory(there.clone())),
            Op::Forwarding => return Ok(Done::Forwarding { before: false }),
            _ => {}
        }
        Ok(Done::So)
    }
}

struct Around(Arc<World>);

impl Surroundings for Around {
    fn collision(&self, _tag: &Tag, subnet: Subnet) -> Result<Option<String>, Problem> {
        let lan = subnet.overlaps([192, 168, 0, 7].into(), 24);
        Ok(lan.then(|| "eth0 has the address 192.168.0.7/24".to_owned()))
    }

    fn has_interface(&self, name: &str) -> io::Result<bool> {
        Ok(self.0.interfaces.lock().unwrap().iter().any(|other| other == name))
    }
}

pub fn keeper(world: &Arc<World>, claims: Claims) -> Keeper {
    let of = Arc::clone(world);
    let operators = Box::new(move |tag: &Tag, uid| {
        let world = Arc::clone(&of);
        Box::new(Recorder { world, tag: tag.clone(), uid }) as Box<dyn Operate>
    });
    Keeper::new(claims, operators, Box::new(Around(Arc::clone(world))))
}

/// A helper that listens.
pub struct Fixture {
    pub dir: TempDir,
    pub world: Arc<World>,
    pub journal: Kept,
    listener: Arc<OwnedFd>,
    serving: Option<JoinHandle<io::Result<()>>>,
}

impl Fixture {
    pub fn new() -> Self {
        let penalty = Duration::from_millis(1);
        Self::with(Limits { penalty, ..Limits::default() }, None)
    }

    pub fn with(limits: Limits, idle: Option<Duration>) -> Self {
        let world = Arc::new(World::default());
        let around = Arc::clone(&world);
        Self::around(limits, idle, world, |claims| keeper(&around, claims))
    }

    /// With a keeper of the test's own.
    pub fn around(
        limits: Limits,
        idle: Option<Duration>,
        world: Arc<World>,
        keeper: impl FnOnce(Claims) -> Keeper,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let claims = Claims::open(&dir.path().join("tags"), "a boot").unwrap();
        let journal = Kept::default();
        let server = Server::new(
            Allowed::Users(vec![ANA, BOB]),
            keeper(claims),
            Journal::to(Box::new(journal.clone()), false),
            limits,
        );
        let listener = Arc::new(activation::own(&dir.path().join("socket")).unwrap());
        let listens = Arc::clone(&listener);
        let serving = thread::spawn(move || server.serve(&listens, idle));
        Self { dir, world, journal, listener, serving: Some(serving) }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub fn run(&self, uid: u32, tag: &Tag, op: &Op) -> Result<Done, Problem> {
        self.run_with(uid, tag, op, &[])
    }

    pub fn run_with(
        &self,
        uid: u32,
        tag: &Tag,
        op: &Op,
        files: &[BorrowedFd<'_>],
    ) -> Result<Done, Problem> {
        as_user(uid, || HelperOps::at(self.socket(), tag.clone()).run(op, files))
    }

    /// Waits for the helper to end by itself.
    pub fn ended(mut self) -> io::Result<()> {
        self.serving.take().unwrap().join().unwrap()
    }

    /// Two files of `uid`: a base, open for reading, and one for what changes.
    pub fn disk(&self, uid: u32, name: &str) -> (File, File) {
        let make = |name: String| -> PathBuf {
            let path = self.dir.path().join(name);
            File::create(&path).unwrap().set_len(1 << 20).unwrap();
            chown(&path, Some(uid), None).unwrap();
            path
        };
        let (base, cow) = (make(format!("{name}.base")), make(format!("{name}.cow")));
        let cow = OpenOptions::new().read(true).write(true).open(cow).unwrap();
        (File::open(base).unwrap(), cow)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.world.open_gate();
        if let Some(serving) = self.serving.take() {
            // Wakes whoever waits for connections.
            let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
            let ended = serving.join().unwrap();
            if !thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// Sends bytes as they are, and gives the answer, if there is one.
pub fn raw(socket: &Path, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<Option<Reply>> {
    let connection = Connection::to(socket, Duration::from_secs(10))?;
    connection.set_patience(Duration::from_secs(10), Duration::from_secs(10))?;
    connection.send(bytes, files)?;
    let answer = connection.receive(PACKET_MAX)?;
    Ok(answer.map(|answer| Answer::decode(&answer.bytes).unwrap()))
}

pub fn asked(tag: &Tag, op: Op) -> Vec<u8> {
    Request { schema: SCHEMA, ask: Ask::Do { tag: tag.clone(), op } }.encode().unwrap()
}

/// Waits for something, which the test names.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: did not come");
}

#[test]
fn users_get_what_they_ask_for_and_only_they() {
    if !is_root("users_get_what_they_ask_for_and_only_they") {
        return;
    }
    let fixture = Fixture::new();
    let hello = as_user(ANA, || super::hello(&fixture.socket())).unwrap();
    assert_eq!((hello.uid, hello.version.as_str()), (ANA, env!("CARGO_PKG_VERSION")));
    assert_eq!(fixture.run(ANA, &tag(1), &bridge(1)), Ok(Done::So));
    let tap = |owner| Op::Tap { vm: vm(1), mtu: 1500, owner };
    assert_eq!(fixture.run(ANA, &tag(1), &tap(ANA)), Ok(Done::So));
    let (base, cow) = fixture.disk(ANA, "a");
    let op = Op::Snapshot { vm: vm(1), bytes: 1 << 20 };
    let files = [base.as_fd(), cow.as_fd()];
    assert_eq!(fixture.run_with(ANA, &tag(1), &op, &files), Ok(Done::So));
    let done = fixture.world.done();
    let ops: Vec<_> = done.iter().map(|reached| reached.op.clone()).collect();
    assert_eq!(ops, [bridge(1), tap(ANA), op]);
    assert!(done.iter().all(|reached| reached.uid == ANA && reached.tag == tag(1)));
    assert_eq!(done[2].files.len(), 2);

    let problem = fixture.run(BOB, &tag(1), &Op::BridgeGone).unwrap_err();
    assert!(problem.why.contains("another user's"), "{problem}");
    for op in [Op::Inventory, Op::BridgeGone, Op::TapGone { vm: vm(1) }, tap(BOB)] {
        fixture.run(BOB, &tag(1), &op).expect_err("not Bob's");
    }
    let problem = as_user(EVE, || super::hello(&fixture.socket())).unwrap_err();
    assert!(problem.why.contains("not on its list") && problem.hint.contains("install"));
    fixture.run(EVE, &tag(9), &bridge(9)).expect_err("Eve is not on the list");
    assert_eq!(fixture.world.done().len(), 3, "nothing else reached the host");
    let journal = fixture.journal.text();
    assert!(journal.contains(r#""uid":4001,"pid":"#) && journal.contains(r#""op":"tap""#));
    let refused = |uid: u32| {
        let of = |line: &&str| {
            line.contains(&format!(r#""uid":{uid},"#)) && line.contains(r#""result":"refused""#)
        };
        journal.lines().filter(of).count()
    };
    assert_eq!((refused(ANA), refused(BOB), refused(EVE)), (0, 5, 1), "{journal}");
    assert!(journal.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}
