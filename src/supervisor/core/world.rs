//! A world for tests: a store, monitors and time, as simple as can be, and checks of what the
//! core asks of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{CommandId, Core, Effect, Found, Input, Policy, Token};
use crate::{
    domain::{
        Admission, BootTimes, CommandBody, ExitReason, ExitRecord, HostReport, JobId, Method,
        MonitorPhase, MonitorStatus, NetworkKind, Notice, OrphanView, OverlayKind, Phase, Problem,
        UnixMs, VmId, VmSpec, VmmKind, Wanted, Wishes,
    },
    store::{Change, VmRow, VmState},
};

/// A monitor.
#[derive(Clone, Debug)]
pub struct Monitor {
    pub phase: MonitorPhase,
    /// Neither the guest nor the VMM obey: only a kill ends it.
    pub stubborn: bool,
    /// Not even that: its socket does not answer.
    pub hung: bool,
    /// What it says is wrong.
    pub problem: Option<Problem>,
}

pub struct World {
    pub core: Core,
    pub now: UnixMs,
    pub rows: BTreeMap<VmId, VmRow>,
    pub monitors: BTreeMap<VmId, Monitor>,
    /// What was asked and not done yet.
    pub pending: Vec<Effect>,
    /// What monitors said and the core has not heard yet.
    pub inbox: VecDeque<Input>,
    pub timers: Vec<(UnixMs, VmId, u64)>,
    pub replies: BTreeMap<CommandId, Vec<Admission>>,
    pub notices: Vec<Notice>,
    pub asked: u64,
    /// VMs whose guest powered off, so that they are not wanted any more.
    pub overruled: BTreeSet<VmId>,
    /// What lies about on the host.
    pub orphans: Vec<OrphanView>,
    /// The next monitors that are started are like this.
    pub stubborn: bool,
    pub hung: bool,
}

pub fn id(n: u32) -> VmId {
    VmId::from_bytes(n.to_be_bytes())
}

pub fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.parse().expect("name"),
        image: "tiny".into(),
        vcpus: 1,
        memory_mib: 256,
        disk_mib: None,
        restore: false,
        wishes: Wishes::default(),
        extras: Default::default(),
    }
}

/// A VM that is all there and off.
pub fn row(n: u32, name: &str) -> VmRow {
    let mut row = VmRow::new(id(n), spec(name), OverlayKind::SparseCopy, UnixMs(1));
    row.state = VmState::Ready;
    row
}

/// Something that lies about on the host.
pub fn orphan(what: &str) -> OrphanView {
    let (whose, command) = ("a VM that is gone".to_owned(), format!("remove {what}"));
    OrphanView { what: what.to_owned(), whose, command }
}

pub fn problem() -> Problem {
    Problem::new("it failed", "the world is like that", "try again")
}

impl World {
    /// A world with these VMs, all off, and a core that has read them.
    pub fn new(rows: Vec<VmRow>) -> Self {
        let mut world = Self {
            core: Core::new(Policy::default()),
            now: UnixMs(1_000),
            rows: rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
            monitors: BTreeMap::new(),
            pending: Vec::new(),
            inbox: VecDeque::new(),
            timers: Vec::new(),
            replies: BTreeMap::new(),
            notices: Vec::new(),
            asked: 0,
            overruled: BTreeSet::new(),
            orphans: Vec::new(),
            stubborn: false,
            hung: false,
        };
        world.reload();
        world
    }

    /// A new banger process in this world: what the old one waited for is forgotten.
    pub fn reload(&mut self) {
        self.core = Core::new(Policy::default());
        self.pending.clear();
        self.inbox.clear();
        self.timers.clear();
        self.replies.clear();
        self.asked = 0;
        let found = |row: &VmRow| Found {
            row: row.clone(),
            up: self.monitors.contains_key(&row.id),
            ledger: 0,
            abandoned: row.state != VmState::Ready,
            orphan: row.helper_of.as_deref() == Some("gone"),
        };
        let found = self.rows.values().map(found).collect();
        self.give(Input::Loaded(found));
        for vm in self.monitors.keys().cloned().collect::<Vec<_>>() {
            self.says(&vm);
        }
    }

    pub fn give(&mut self, input: Input) {
        let effects = self.core.step(input, self.now);
        for effect in effects {
            self.check(&effect);
            match effect {
                Effect::Reply { command, admission } => {
                    self.replies.entry(command).or_default().push(admission);
                }
                Effect::ArmTimer { vm, epoch, after_ms } => {
                    self.timers.push((UnixMs(self.now.0 + after_ms), vm, epoch));
                }
                Effect::Notice(notice) => self.notices.push(notice),
                Effect::Publish => {
                    self.core.fleet();
                }
                Effect::CancelBootstrap { .. } => {}
                other => self.pending.push(other),
            }
        }
        for (command, answers) in &self.replies {
            assert_eq!(answers.len(), 1, "{command:?} was answered {answers:?}");
        }
    }

    /// What must hold whenever an effect is asked for.
    fn check(&self, effect: &Effect) {
        match effect {
            Effect::StartMonitor { vm, .. } => {
                let row = self.rows.get(vm).expect("a stored VM is started");
                // Only a power-off that the core has not heard of may have come in between.
                let stored = row.wanted == Wanted::Running || self.overruled.contains(vm);
                assert!(stored, "the intent is stored before the start");
                assert_eq!(row.state, VmState::Ready);
                let starts =
                    |e: &&Effect| matches!(e, Effect::StartMonitor { vm: v, .. } if v == vm);
                assert_eq!(self.pending.iter().filter(starts).count(), 0, "two starts of {vm}");
            }
            Effect::CreateDisk { vm, .. } => {
                let row = self.rows.get(vm).expect("the row is stored before the disk is made");
                assert_eq!(row.state, VmState::Creating);
            }
            Effect::DeleteFiles { vm, .. } => {
                let row = self.rows.get(vm).expect("files go before the row");
                assert_ne!(row.state, VmState::Ready, "that they go is stored before they go");
            }
            Effect::RecreateDisk { vm, .. } => {
                let row = self.rows.get(vm).expect("only what is stored is made anew");
                let state = row.state;
                assert!(matches!(state, VmState::Ready | VmState::Recreating), "{state:?}");
                assert!(!self.monitors.contains_key(vm), "a new disk under a running VM");
            }
            Effect::Persist { .. }
            | Effect::ChangeImage { .. }
            | Effect::RequestStop { .. }
            | Effect::StandStill { .. }
            | Effect::KillMonitor { .. }
            | Effect::CleanUp { .. }
            | Effect::RunBootstrap { .. }
            | Effect::CancelBootstrap { .. }
            | Effect::LookAtHost { .. }
            | Effect::CleanHost { .. }
            | Effect::ArmTimer { .. }
            | Effect::Reply { .. }
            | Effect::Notice(_)
            | Effect::Publish => {}
        }
    }

    pub fn ask(&mut self, body: CommandBody) -> Admission {
        self.asked += 1;
        let command = CommandId(self.asked);
        let fresh = id(0xf000_0000 + u32::try_from(self.asked).expect("small"));
        self.give(Input::Command { id: command, body, fresh });
        self.replies[&command][0].clone()
    }

    pub fn queued(&mut self, body: CommandBody) -> JobId {
        match self.ask(body) {
            Admission::Queued(job) => job,
            other => panic!("{other:?}"),
        }
    }

    /// Does the pending effect at `index`, well or not.
    pub fn run(&mut self, index: usize, well: bool) {
        let effect = self.pending.remove(index);
        let (token, result) = self.perform(effect, well);
        self.give(Input::EffectDone { token, result });
    }

    fn perform(&mut self, effect: Effect, well: bool) -> (Token, Result<(), Problem>) {
        let outcome = if well { Ok(()) } else { Err(problem()) };
        match effect {
            Effect::Persist { token, change } => {
                (token, if well { self.apply(change) } else { outcome })
            }
            Effect::StartMonitor { token, vm } => {
                if well && !self.monitors.contains_key(&vm) {
                    self.start_monitor(&vm);
                }
                (token, outcome)
            }
            Effect::RequestStop { token, vm, ladder } => {
                let Some(monitor) = self.monitors.get_mut(&vm) else { return (token, Ok(())) };
                if monitor.hung || !well {
                    return (token, Err(problem()));
                }
                let kill = ladder.rungs()[0].method == Method::Kill;
                monitor.stubborn &= !kill;
                let by = ladder.rungs()[0].method;
                monitor.phase = MonitorPhase::Stopping { by };
                self.says(&vm);
                (token, Ok(()))
            }
            Effect::StandStill { token, vm, still } => {
                let Some(monitor) = self.monitors.get_mut(&vm) else {
                    return (token, Err(problem()));
                };
                monitor.phase = match (monitor.phase, still) {
                    _ if !well || monitor.hung => return (token, Err(problem())),
                    (MonitorPhase::Ready, true) => MonitorPhase::Paused,
                    (MonitorPhase::Paused, false) => MonitorPhase::Ready,
                    _ => return (token, Err(problem())),
                };
                self.says(&vm);
                (token, Ok(()))
            }
            Effect::KillMonitor { token, vm } => {
                if well {
                    self.monitor_dies(&vm);
                }
                (token, outcome)
            }
            Effect::CleanUp { token, vm, lost } => {
                let up = self.monitors.contains_key(&vm);
                if let (Some(row), false, true) = (self.rows.get_mut(&vm), up, well)
                    && row.run_is_open()
                {
                    row.last_exit = Some(lost);
                }
                (token, outcome)
            }
            Effect::DeleteFiles { token, vm } => {
                let up = self.monitors.contains_key(&vm);
                (token, if up { Err(problem()) } else { outcome })
            }
            Effect::RecreateDisk { token, vm } => {
                if let Some(row) = self.rows.get_mut(&vm).filter(|_| well) {
                    row.state = VmState::Ready;
                }
                (token, outcome)
            }
            Effect::CreateDisk { token, .. }
            | Effect::ChangeImage { token, .. }
            | Effect::RunBootstrap { token, .. } => (token, outcome),
            Effect::LookAtHost { token } => {
                if well {
                    self.reports();
                }
                (token, outcome)
            }
            Effect::CleanHost { token, orphans, .. } => {
                if well {
                    self.orphans.retain(|left| !orphans.contains(left));
                }
                self.reports();
                (token, outcome)
            }
            other => panic!("not pending: {other:?}"),
        }
    }

    /// A look at the host as it is.
    fn reports(&mut self) {
        let report = HostReport {
            at: self.now,
            checks: Vec::new(),
            made: Vec::new(),
            orphans: self.orphans.clone(),
            calls: Vec::new(),
        };
        self.give(Input::HostReport(Arc::new(report)));
    }

    fn apply(&mut self, change: Change) -> Result<(), Problem> {
        let gone = || Problem::new("cannot change the VM", "it is gone", "");
        match change {
            Change::Insert(row) => {
                if self.rows.values().any(|other| other.spec.name == row.spec.name) {
                    return Err(Problem::new("cannot create", "the name is taken", ""));
                }
                self.rows.insert(row.id.clone(), *row);
            }
            Change::Wanted(vm, wanted) => {
                self.overruled.remove(&vm);
                self.rows.get_mut(&vm).ok_or_else(gone)?.wanted = wanted;
            }
            Change::State(vm, state) => self.rows.get_mut(&vm).ok_or_else(gone)?.state = state,
            Change::Rename(vm, name) => {
                if self.rows.values().any(|row| row.spec.name == name && row.id != vm) {
                    return Err(Problem::new("cannot rename", "the name is taken", ""));
                }
                self.rows.get_mut(&vm).ok_or_else(gone)?.spec.name = name;
            }
            Change::Resize(vm, mib) => {
                self.rows.get_mut(&vm).ok_or_else(gone)?.spec.disk_mib = Some(mib);
            }
            Change::Remove(vm) => {
                assert!(!self.monitors.contains_key(&vm), "removed while up");
                self.rows.remove(&vm).ok_or_else(gone)?;
            }
        }
        Ok(())
    }

    /// Somebody's monitor comes up.
    pub fn start_monitor(&mut self, vm: &VmId) {
        let Some(row) = self.rows.get_mut(vm) else { return };
        row.started = Some(self.now);
        row.last_exit = None;
        let (stubborn, hung) = (self.stubborn, self.hung);
        let was = self.monitors.insert(
            vm.clone(),
            Monitor { phase: MonitorPhase::Preparing, stubborn, hung, problem: None },
        );
        assert!(was.is_none(), "two monitors of {vm}");
        self.says(vm);
    }

    pub fn says(&mut self, vm: &VmId) {
        let status = MonitorStatus {
            vm: vm.clone(),
            pid: 1,
            vmm_pid: None,
            vmm: VmmKind::QemuTcg,
            phase: self.monitors[vm].phase,
            since: self.now,
            ssh: None,
            boot: BootTimes::default(),
            network: NetworkKind::User,
            address: None,
            dns_name: None,
            fill: None,
            problem: self.monitors[vm].problem.clone(),
        };
        self.inbox.push_back(Input::MonitorUp(status));
    }

    /// A monitor goes on by one phase; the last one ends it.
    pub fn monitor_goes_on(&mut self, vm: &VmId) {
        let Some(monitor) = self.monitors.get_mut(vm) else { return };
        monitor.phase = match monitor.phase {
            MonitorPhase::Preparing => MonitorPhase::Booting,
            MonitorPhase::Booting => MonitorPhase::Ready,
            MonitorPhase::Ready | MonitorPhase::Paused => return,
            MonitorPhase::Stopping { .. } if monitor.stubborn || monitor.hung => return,
            MonitorPhase::Stopping { .. } => MonitorPhase::Clearing,
            MonitorPhase::Clearing => {
                return self.monitor_ends(vm, &ExitReason::Stopped { by: Method::PowerButton });
            }
        };
        self.says(vm);
    }

    /// A monitor ends, and says why.
    pub fn monitor_ends(&mut self, vm: &VmId, reason: &ExitReason) {
        if self.monitors.remove(vm).is_none() {
            return;
        }
        let exit = Some(ExitRecord { at: self.now, reason: reason.clone() });
        if let Some(row) = self.rows.get_mut(vm) {
            row.last_exit.clone_from(&exit);
            if *reason == ExitReason::GuestPoweroff {
                row.wanted = Wanted::Stopped;
                self.overruled.insert(vm.clone());
            }
        }
        // The rows themselves are read when it is heard.
        self.inbox.push_back(Input::RowsChanged(Vec::new()));
        self.inbox.push_back(Input::MonitorGone { vm: vm.clone(), exit });
    }

    /// A monitor is killed.
    pub fn monitor_dies(&mut self, vm: &VmId) {
        if self.monitors.remove(vm).is_some() {
            self.inbox.push_back(Input::MonitorGone { vm: vm.clone(), exit: None });
        }
    }

    pub fn hear(&mut self) -> bool {
        match self.inbox.pop_front() {
            None => return false,
            Some(Input::RowsChanged(_)) => {
                self.give(Input::RowsChanged(self.rows.values().cloned().collect()));
            }
            // The driver looks at the lock before it says so: somebody was quick.
            Some(Input::MonitorGone { vm, .. }) if self.monitors.contains_key(&vm) => {}
            Some(input) => self.give(input),
        }
        true
    }

    /// The next timer goes off.
    pub fn ring(&mut self) -> bool {
        self.timers.sort();
        if self.timers.is_empty() {
            return false;
        }
        let (at, vm, epoch) = self.timers.remove(0);
        self.now = self.now.max(at);
        self.give(Input::Timer { vm, epoch });
        true
    }

    /// Lets everything come to its end: effects succeed, monitors go on, time passes.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.now.0 += 1;
            if self.hear() {
                continue;
            }
            if !self.pending.is_empty() {
                self.run(0, true);
                continue;
            }
            for vm in self.monitors.keys().cloned().collect::<Vec<_>>() {
                self.monitor_goes_on(&vm);
            }
            if self.inbox.is_empty() && !self.ring() && !self.last_rungs() {
                return;
            }
        }
        panic!("the world does not come to rest: {:?}", self.core);
    }

    /// Every ladder ends in a kill, which a monitor that does not hang gets done.
    fn last_rungs(&mut self) -> bool {
        let mut any = false;
        for monitor in self.monitors.values_mut() {
            if monitor.stubborn && matches!(monitor.phase, MonitorPhase::Stopping { .. }) {
                monitor.stubborn = false;
                any |= !monitor.hung;
            }
        }
        any
    }

    pub fn phase(&mut self, vm: &VmId) -> Option<Phase> {
        let fleet = self.core.fleet();
        fleet.vms.iter().find(|view| view.id == *vm).map(|view| view.phase)
    }
}
