//! Whether there is room for what the guest writes: in its snapshot, and on the host's disk.
//!
//! A write that the host's disk has no room for is lost, and makes a snapshot invalid; a guest
//! that stands still writes nothing. So it is paused before the disk is full, and goes on when
//! there is room again.

use std::{
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::order::{Order, stand_still};
use crate::{
    domain::{ByteSize, Fill, MonitorPhase, MonitorStatus, Problem, VmId},
    host::{
        dm, facts,
        ops::{Done, Op, Operate},
    },
};

/// The least and the most that is kept free, in bytes. Between them a fiftieth of the disk.
const RESERVE: std::ops::RangeInclusive<u64> = (32 << 20)..=(256 << 20);
/// What a guest can write in a second at most; measured are some 1.5 GB/s into the page cache.
const WRITES_PER_SECOND: u64 = 2 << 30;
/// Between looks when there is plenty of room.
const RARELY: Duration = Duration::from_secs(5);
/// Between looks when there is next to none.
const OFTEN: Duration = Duration::from_millis(100);
/// What is set aside for a snapshot where room is scarce, in bytes: what a paused VMM's own cache
/// may still have to write.
const AHEAD: u64 = 64 << 20;
/// From here on, in percent, a snapshot that can grow does.
const EXTEND_AT: u64 = 80;

/// Where the guest's writes go.
#[derive(Clone)]
pub struct Room {
    /// The VM.
    pub vm: VmId,
    /// A directory on the file system that takes them.
    pub state: PathBuf,
    /// Its snapshot, if it has one.
    pub snapshot: Option<Snapshot>,
}

/// A snapshot that is looked after.
#[derive(Clone)]
pub struct Snapshot {
    /// Who asks device-mapper.
    pub ops: Arc<dyn Operate>,
    /// The file for what changes.
    pub cow: PathBuf,
    /// Bytes that it needs if everything changes.
    pub worst: u64,
}

/// What is seen in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    free: u64,
    total: u64,
    fill: Option<Fill>,
    /// What the snapshot takes next could not be set aside.
    short: bool,
}

/// What is to become of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    Pause,
    Resume,
}

/// Looks after it for as long as the VM runs.
pub async fn watch(room: Room, orders: mpsc::Sender<Order>, status: watch::Sender<MonitorStatus>) {
    loop {
        let looked = room.clone();
        let seen = match spawn_blocking(move || looked.look()).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(problem)) => {
                tracing::warn!(%problem, "cannot see how much room there is");
                sleep(RARELY).await;
                continue;
            }
            Err(_) => return,
        };
        status.send_if_modified(|s| std::mem::replace(&mut s.fill, seen.fill) != seen.fill);
        let held = held(&status.borrow());
        let done = match held.map_or(Verdict::Leave, |held| seen.verdict(held)) {
            Verdict::Leave => Ok(()),
            Verdict::Pause => stand_still(&orders, true, Some(seen.problem())).await,
            Verdict::Resume => stand_still(&orders, false, None).await,
        };
        if let Err(problem) = done {
            tracing::warn!(%problem, "the guest is left as it is");
        }
        sleep(seen.until_next()).await;
    }
}

/// Whether the guest stands still because of us; nothing, if it writes nothing, and is not ours
/// to let go on. Looked at each time: a user may have let it go on in spite of us.
fn held(status: &MonitorStatus) -> Option<bool> {
    match status.phase {
        MonitorPhase::Booting | MonitorPhase::Ready => Some(false),
        MonitorPhase::Paused => status.problem.is_some().then_some(true),
        MonitorPhase::Preparing | MonitorPhase::Stopping { .. } | MonitorPhase::Clearing => None,
    }
}

impl Room {
    fn look(&self) -> Result<Seen, Problem> {
        let fail = |e: io::Error| {
            Problem::new("cannot look at the disk", e.to_string(), "`banger doctor` checks it")
        };
        let facts = facts::host_facts(&self.state).map_err(fail)?;
        let fill = match &self.snapshot {
            Some(snapshot) => Some(snapshot.look(&self.vm)?),
            None => None,
        };
        let mut seen =
            Seen { free: facts.disk_available, total: facts.disk_total, fill, short: false };
        if let (true, Some(snapshot), Some(fill)) = (seen.is_tight(), &self.snapshot, fill) {
            seen.short = snapshot.is_short(fill);
        }
        Ok(seen)
    }
}

impl Snapshot {
    fn look(&self, vm: &VmId) -> Result<Fill, Problem> {
        let fill = self.fill(vm)?;
        if fill.overflowed || fill.total >= self.worst || percent(fill) < EXTEND_AT {
            return Ok(fill);
        }
        let longer = fill.total.saturating_mul(2).min(self.worst);
        let file = OpenOptions::new().write(true).open(&self.cow);
        file.and_then(|file| file.set_len(longer)).map_err(|e| {
            let why = format!("{}: {e}", self.cow.display());
            Problem::new("cannot make the snapshot larger", why, "make room on the host's disk")
        })?;
        self.ops.run(&Op::SnapshotExtend { vm: vm.clone() }, &[])?;
        tracing::info!(from = fill.total, to = longer, "the snapshot was made larger");
        self.fill(vm)
    }

    /// Whether what the guest writes next could not be set aside: chunks are taken from the file
    /// in their order, so what is allocated beyond those in use can be written on a full disk.
    fn is_short(&self, fill: Fill) -> bool {
        let set_aside = || dm::reserve(&File::open(&self.cow)?, fill.used, AHEAD);
        matches!(set_aside(), Err(error) if error.kind() == io::ErrorKind::StorageFull)
    }

    fn fill(&self, vm: &VmId) -> Result<Fill, Problem> {
        match self.ops.run(&Op::SnapshotFill { vm: vm.clone() }, &[])? {
            Done::Fill(fill) => Ok(fill),
            other => Err(Problem::new(
                "cannot see how full the snapshot is",
                format!("the answer is {other:?}"),
                "are all bangers of one version?",
            )),
        }
    }
}

const fn percent(fill: Fill) -> u64 {
    fill.used.saturating_mul(100) / if fill.total == 0 { 1 } else { fill.total }
}

impl Seen {
    fn reserve(&self) -> u64 {
        (self.total / 50).clamp(*RESERVE.start(), *RESERVE.end())
    }

    fn overflowed(&self) -> bool {
        self.fill.is_some_and(|fill| fill.overflowed)
    }

    fn is_in_need(&self) -> bool {
        self.overflowed() || self.short
    }

    /// Whether what is free may be gone by the next look.
    fn is_tight(&self) -> bool {
        self.free < 8 * self.reserve()
    }

    fn verdict(&self, held: bool) -> Verdict {
        match held {
            false if self.is_in_need() || self.free < self.reserve() => Verdict::Pause,
            // What was lost does not come back by waiting; and not at every block that is freed.
            true if !self.is_in_need() && self.free > 2 * self.reserve() => Verdict::Resume,
            _ => Verdict::Leave,
        }
    }

    fn problem(&self) -> Problem {
        if self.overflowed() {
            return Problem::new(
                "the VM is paused: its snapshot can take no more",
                "the file for what changes is full, or could not be written to",
                "what was written last is lost; kill the VM, its disk is as it was before that",
            );
        }
        let free = ByteSize(self.free);
        Problem::new(
            "the VM is paused: the host's disk is almost full",
            format!("{free} are free, and what the guest writes beyond that would be lost"),
            format!("make room: at {} it goes on by itself", ByteSize(2 * self.reserve())),
        )
    }

    fn until_next(&self) -> Duration {
        let spare = self.free.saturating_sub(self.reserve());
        let millis = spare.saturating_mul(1000) / WRITES_PER_SECOND;
        Duration::from_millis(millis).clamp(OFTEN, RARELY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{BootTimes, NetworkKind, UnixMs, VmmKind},
        host::ops::FakeOps,
    };

    const GIB: u64 = 1 << 30;

    fn seen(free: u64) -> Seen {
        Seen { free, total: 100 * GIB, fill: None, short: false }
    }

    #[test]
    fn a_guest_is_paused_before_the_disk_is_full_and_goes_on_when_there_is_room() {
        assert_eq!(seen(GIB).verdict(false), Verdict::Leave);
        assert_eq!(seen(200 << 20).verdict(false), Verdict::Pause);
        assert_eq!(seen(300 << 20).verdict(true), Verdict::Leave, "not yet");
        assert_eq!(seen(600 << 20).verdict(true), Verdict::Resume);
        let full = Fill { used: 10, total: 10, overflowed: true };
        let over = Seen { fill: Some(full), ..seen(50 * GIB) };
        assert_eq!((over.verdict(false), over.verdict(true)), (Verdict::Pause, Verdict::Leave));
        assert!(over.problem().what.contains("snapshot"));
        assert!(seen(1 << 20).problem().why.starts_with("1 MiB are free"));
    }

    #[test]
    fn the_less_room_the_oftener_is_looked_and_never_too_late() {
        for free in [0, 100 << 20, GIB, 3 * GIB, 50 * GIB] {
            let seen = seen(free);
            let written = seen.until_next().as_millis() as u64 * WRITES_PER_SECOND / 1000;
            let safe = written <= free.saturating_sub(seen.reserve());
            assert!(safe || seen.until_next() == OFTEN, "{free}");
        }
        assert_eq!(seen(50 * GIB).until_next(), RARELY);
    }

    #[test]
    fn a_snapshot_grows_before_it_is_full_and_not_beyond_the_worst_case() {
        let dir = tempfile::tempdir().expect("temp");
        let (vm, cow) = (VmId::from_bytes([1; 4]), dir.path().join("root.cow"));
        std::fs::File::create(&cow).and_then(|f| f.set_len(1000)).expect("cow");
        let ops = Arc::new(FakeOps::default());
        let snapshot = Snapshot { ops: ops.clone(), cow: cow.clone(), worst: 1500 };
        let length = || std::fs::metadata(&cow).expect("cow").len();

        ops.fill(&vm, Fill { used: 799, total: 1000, overflowed: false });
        snapshot.look(&vm).expect("seen");
        assert_eq!(length(), 1000);
        ops.fill(&vm, Fill { used: 800, total: 1000, overflowed: false });
        snapshot.look(&vm).expect("seen");
        assert_eq!(length(), 1500);
        assert!(ops.done().contains(&Op::SnapshotExtend { vm: vm.clone() }));
        ops.fill(&vm, Fill { used: 1490, total: 1500, overflowed: false });
        snapshot.look(&vm).expect("seen");
        assert_eq!(length(), 1500, "it has all it can need");
    }

    fn status_of(vm: &VmId) -> MonitorStatus {
        MonitorStatus {
            vm: vm.clone(),
            pid: 1,
            vmm_pid: None,
            vmm: VmmKind::QemuKvm,
            phase: MonitorPhase::Ready,
            since: UnixMs(0),
            ssh: None,
            boot: BootTimes::default(),
            network: NetworkKind::Tap,
            address: None,
            dns_name: None,
            fill: None,
            problem: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_let_go_on_in_spite_of_it_is_paused_again_but_for_the_users_own_pause() {
        let dir = tempfile::tempdir().expect("temp");
        let vm = VmId::from_bytes([1; 4]);
        let ops = Arc::new(FakeOps::default());
        let filled = |overflowed| ops.fill(&vm, Fill { used: 9, total: 10, overflowed });
        let snapshot = Snapshot { ops: ops.clone(), cow: dir.path().join("cow"), worst: 10 };
        let room = Room { vm: vm.clone(), state: dir.path().to_owned(), snapshot: Some(snapshot) };
        let (orders, mut asked) = mpsc::channel(1);
        let (status, _) = watch::channel(status_of(&vm));
        let is = |phase, problem| {
            status.send_modify(|s| (s.phase, s.problem) = (phase, problem));
        };
        filled(true);
        let watching = tokio::spawn(super::watch(room, orders, status.clone()));
        // As the machine does it.
        let mut obeyed = async || {
            let order = asked.recv().await.expect("an order");
            let Order::Still { still, problem, reply } = order else { panic!("{order:?}") };
            is(if still { MonitorPhase::Paused } else { MonitorPhase::Ready }, problem);
            reply.send(Ok(())).expect("it waits for that");
            still
        };
        assert!(obeyed().await);
        is(MonitorPhase::Ready, None);
        assert!(obeyed().await, "nobody can let it write what would be lost");
        is(MonitorPhase::Booting, None);
        assert!(obeyed().await, "nor a reboot");
        filled(false);
        assert!(!obeyed().await, "it goes on by itself");
        // One that the user has paused is paused, and not to go on by itself.
        is(MonitorPhase::Paused, None);
        filled(true);
        status.subscribe().wait_for(|s| s.fill.is_some_and(|f| f.overflowed)).await.expect("seen");
        filled(false);
        status.subscribe().wait_for(|s| s.fill.is_some_and(|f| !f.overflowed)).await.expect("seen");
        is(MonitorPhase::Ready, None);
        filled(true);
        assert!(obeyed().await, "it was asked for nothing meanwhile");
        watching.abort();
    }
}
