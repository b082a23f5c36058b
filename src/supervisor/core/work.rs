//! What comes from outside about VMs: rows, and monitors that speak or fall silent.

use super::{
    Core, Effect, Found,
    command::START_STEPS,
    vm::{Doing, Stage, Vm},
};
use crate::{
    domain::{
        BootMark, ExitReason, ExitRecord, JobId, MonitorPhase, MonitorStatus, NoticeLevel, Problem,
        StepState, VmId, Wanted,
    },
    store::{VmRow, VmState},
};

/// A kill and a deletion, and each once more if another banger is at it as well.
const DOOMED: u8 = 4;

impl Core {
    /// Takes over what is stored, and clears up after runs that nobody ended.
    pub(super) fn load(&mut self, found: Vec<Found>) {
        self.loaded = true;
        self.dirty = true;
        for Found { row, up, ledger, abandoned, orphan } in found {
            let id = row.id.clone();
            let name = row.spec.name.clone();
            let lost = !up && row.run_is_open();
            let remade = abandoned && row.state == VmState::Recreating;
            let tidy = !up && row.state == VmState::Ready && (lost || ledger > 0);
            self.vms.insert(id.clone(), Vm::new(row, up));
            self.touched.insert(id.clone());
            if let Some(vm) = self.vms.get_mut(&id).filter(|_| orphan) {
                vm.doomed = DOOMED;
            }
            if tidy {
                self.begin(&id, Doing::Tidy, Stage::Clean, Vec::new());
                self.clean_up(&id);
            } else if remade && !up {
                self.begin_recreate(&id, Vec::new());
            } else if abandoned && !up {
                // Whoever was making it did not come to an end; it never was one. Whoever was
                // removing it wanted it gone.
                let text = format!("{name} was only half there and is removed");
                self.notice(NoticeLevel::Warning, Some(id.clone()), text, "");
                self.begin(&id, Doing::Delete, Stage::Clean, Vec::new());
                self.clean_up(&id);
            } else if orphan {
                let text = format!("{name} helped to make an image that nobody makes any more");
                self.notice(NoticeLevel::Info, Some(id.clone()), text, "");
                self.settle(&id);
            }
        }
        for (command, body, fresh) in std::mem::take(&mut self.early) {
            self.command(command, body, fresh);
        }
    }

    /// Another process changed the store.
    pub(super) fn rows_changed(&mut self, rows: Vec<VmRow>) {
        let mut missing: std::collections::BTreeSet<VmId> = self
            .vms
            .iter()
            .filter(|(_, vm)| vm.task.as_ref().is_none_or(|task| task.stage != Stage::Insert))
            .map(|(id, _)| id.clone())
            .collect();
        for row in rows {
            missing.remove(&row.id);
            let id = row.id.clone();
            match self.touch(&id) {
                Some(vm) => vm.row = row,
                None => {
                    self.vms.insert(id.clone(), Vm::new(row, false));
                    self.touched.insert(id);
                }
            }
        }
        for id in missing {
            self.removed_elsewhere(&id);
        }
    }

    fn removed_elsewhere(&mut self, id: &VmId) {
        let Some(vm) = self.vms.remove(id) else { return };
        self.touched.insert(id.clone());
        let name = vm.row.spec.name;
        let deleting = vm.task.as_ref().is_some_and(|task| task.doing == Doing::Delete);
        let mut jobs: Vec<JobId> = vm.task.map(|task| task.jobs).unwrap_or_default();
        jobs.extend(vm.queue.into_iter().flat_map(|waiting| waiting.jobs));
        if deleting {
            self.jobs_done(id, &jobs, format!("{name} was deleted"));
        } else if !jobs.is_empty() {
            let what = format!("cannot go on with {name}");
            self.jobs_failed(id, &jobs, &Problem::new(what, "another banger deleted it", ""));
        }
    }

    /// A monitor says how it is.
    pub(super) fn monitor_up(&mut self, status: MonitorStatus) {
        let id = status.vm.clone();
        let Some(vm) = self.touch(&id) else { return };
        vm.up = true;
        vm.gone = None;
        vm.row.vmm = Some(status.vmm);
        let ready = status.phase == MonitorPhase::Ready;
        if ready {
            vm.problem = None;
        }
        let (phase, boot) = (status.phase, status.boot.clone());
        // Nobody asked for that: the host's disk is full.
        let held = |status: &MonitorStatus| {
            status.problem.clone().filter(|_| status.phase == MonitorPhase::Paused)
        };
        let news = held(&status).filter(|_| vm.status.as_ref().and_then(held).is_none());
        let name = vm.row.spec.name.clone();
        vm.row.started.get_or_insert(status.since);
        vm.row.last_exit = None;
        vm.status = Some(status);
        if let Some(problem) = news {
            let text = format!("{name}: {}", problem.what);
            self.notice(NoticeLevel::Warning, Some(id.clone()), text, &problem.hint);
        }
        let Some(task) = self.vms.get(&id).and_then(|vm| vm.task.as_ref()) else {
            // Somebody started it while a start waited for the end of the run before.
            return self.settle(&id);
        };
        let (doing, stage, jobs) = (task.doing, task.stage, task.jobs.clone());
        match doing {
            Doing::Start => {
                for job in &jobs {
                    self.show_boot(*job, &boot.0);
                }
                if ready && stage == Stage::AwaitReady {
                    self.is_ready(&id);
                }
            }
            Doing::Stop { .. } => {
                if let MonitorPhase::Stopping { by } = phase {
                    for job in &jobs {
                        self.jobs.step(*job, "stop", StepState::Running, by.label());
                    }
                }
            }
            Doing::Create { .. } | Doing::Tidy | Doing::Recreate | Doing::Delete => {}
        }
    }

    /// Marks of a boot become steps of its job: those that came are done, the next is under way.
    pub(super) fn show_boot(&mut self, job: JobId, marks: &[(BootMark, u64)]) {
        self.jobs.step(job, START_STEPS[0], StepState::Done, "");
        let mut under_way = false;
        for name in &START_STEPS[1..] {
            match marks.iter().find(|(mark, _)| step_of(*mark) == *name) {
                Some((_, ms)) => self.jobs.step(job, name, StepState::Done, &format!("{ms} ms")),
                None if !under_way => {
                    under_way = true;
                    self.jobs.step(job, name, StepState::Running, "");
                }
                None => {}
            }
        }
    }

    /// A monitor that was up is gone.
    pub(super) fn monitor_gone(&mut self, id: &VmId, exit: Option<ExitRecord>) {
        let Some(vm) = self.touch(id) else { return };
        let stage = vm.task.as_ref().map(|task| (task.doing, task.stage));
        let starting = matches!(stage, Some((Doing::Start, Stage::Spawn)));
        if !vm.up && !starting {
            return;
        }
        vm.up = false;
        vm.status = None;
        match stage {
            None | Some((_, Stage::Ask | Stage::AwaitGone | Stage::KillMonitor)) => {
                self.run_ended(id, exit);
            }
            Some((_, Stage::AwaitReady)) => self.start_failed(id, exit),
            // Something has to come to its end first.
            Some((
                _,
                Stage::Insert
                | Stage::Disk
                | Stage::MakeReady
                | Stage::UndoFiles
                | Stage::UndoRow
                | Stage::WantUp
                | Stage::Spawn
                | Stage::WantOff
                | Stage::Clean
                | Stage::Mark
                | Stage::Files
                | Stage::Recreate
                | Stage::Remove,
            )) => vm.gone = Some(exit),
        }
    }

    /// A run is over: what is left of it is cleared up, in the task that ended it or a new one.
    pub(super) fn run_ended(&mut self, id: &VmId, exit: Option<ExitRecord>) {
        let at = self.now;
        let Some(vm) = self.touch(id) else { return };
        vm.up = false;
        vm.status = None;
        vm.next_epoch();
        let lost = exit.is_none();
        let exit = exit.unwrap_or(ExitRecord { at, reason: ExitReason::MonitorLost });
        let name = vm.row.spec.name.clone();
        let sentence = exit.reason.sentence();
        let clean = exit.reason.is_clean();
        if !lost {
            // As the monitor stored it: see `Store::record_exit`.
            if exit.reason == ExitReason::GuestPoweroff {
                vm.row.wanted = Wanted::Stopped;
            }
            vm.row.last_exit = Some(exit);
        }
        if vm.task.is_none() {
            self.begin(id, Doing::Tidy, Stage::Clean, Vec::new());
            if clean {
                let text = format!("{name} is off: {sentence}");
                self.notice(NoticeLevel::Info, Some(id.clone()), text, "");
            } else {
                let text = format!("{name} crashed: {sentence}");
                let hint = format!("`banger logs {name}` shows its console; `s` starts it again");
                self.notice(NoticeLevel::Error, Some(id.clone()), text, &hint);
            }
        }
        self.clean_up(id);
    }

    pub(super) fn start_failed(&mut self, id: &VmId, exit: Option<ExitRecord>) {
        let Some(vm) = self.touch(id) else { return };
        let name = vm.row.spec.name.clone();
        let why = match exit.as_ref().map(|exit| &exit.reason) {
            Some(ExitReason::StartFailed { why }) => why.clone(),
            Some(reason) => reason.sentence(),
            None => ExitReason::MonitorLost.sentence(),
        };
        let hint = format!("`banger logs {name}` shows what the guest said");
        let problem = Problem::new(format!("{name} did not come up"), why, hint);
        let jobs = vm.task.take().map(|task| task.jobs).unwrap_or_default();
        vm.problem = Some(problem.clone());
        self.jobs_failed(id, &jobs, &problem);
        self.run_ended(id, exit);
    }

    pub(super) fn clean_up(&mut self, id: &VmId) {
        let lost = ExitRecord { at: self.now, reason: ExitReason::MonitorLost };
        self.task_step(id, "stop", StepState::Done);
        self.task_step(id, "clean up", StepState::Running);
        if let Some(task) = self.vms.get_mut(id).and_then(|vm| vm.task.as_mut()) {
            task.lost = Some(lost.clone());
        }
        let vm = id.clone();
        self.ask(id, Stage::Clean, |token| Effect::CleanUp { token, vm, lost });
    }

    pub(super) fn task_step(&mut self, id: &VmId, step: &str, state: StepState) {
        let task = self.vms.get(id).and_then(|vm| vm.task.as_ref());
        for job in task.map(|task| task.jobs.clone()).unwrap_or_default() {
            self.jobs.step(job, step, state, "");
        }
    }
}

/// The step a mark of a boot ends.
const fn step_of(mark: BootMark) -> &'static str {
    match mark {
        BootMark::Vmm => "vmm",
        BootMark::Init => "kernel",
        BootMark::SwitchRoot => "init",
        BootMark::Ssh => "ssh",
    }
}
