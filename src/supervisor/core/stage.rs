//! The stages of a task: what follows when an effect is done, or time is up.

use super::{
    Core, Effect, Owner, Token,
    vm::{Doing, Stage, Waiting, Wish},
};
use crate::{
    domain::{
        ByteSize, JobId, JobState, MonitorPhase, NoticeLevel, Phase, Problem, StepState,
        StopLadder, VmId, Wanted,
    },
    store::{Change, VmState},
};

impl Core {
    /// Asks for an effect of a VM's task, and waits for it.
    pub(super) fn ask(&mut self, id: &VmId, stage: Stage, effect: impl FnOnce(Token) -> Effect) {
        let token = self.token(Owner::Task(id.clone()));
        if let Some(task) = self.touch(id).and_then(|vm| vm.task.as_mut()) {
            task.stage = stage;
            task.token = Some(token);
            self.out.push(effect(token));
        }
    }

    fn persist(&mut self, id: &VmId, stage: Stage, change: Change) {
        self.ask(id, stage, |token| Effect::Persist { token, change });
    }

    /// Waits for the monitor, but not for ever.
    fn wait(&mut self, id: &VmId, stage: Stage, after_ms: u64) {
        let Some(vm) = self.touch(id) else { return };
        let epoch = vm.next_epoch();
        if let Some(task) = &mut vm.task {
            task.stage = stage;
            task.token = None;
            self.out.push(Effect::ArmTimer { vm: id.clone(), epoch, after_ms });
        }
    }

    /// An effect ended. What nobody waits for any more is ignored.
    pub(super) fn effect_done(&mut self, token: Token, result: Result<(), Problem>) {
        match self.tokens.remove(&token) {
            None => {}
            Some(Owner::Task(id)) => {
                let task = self.touch(&id).and_then(|vm| vm.task.as_mut());
                let Some(task) = task.filter(|task| task.token == Some(token)) else { return };
                task.token = None;
                let stage = task.stage;
                self.stage_done(&id, stage, result);
            }
            Some(Owner::Rename(id, job)) => self.renamed(&id, job, result),
            Some(Owner::Resize(id, job, mib)) => match result {
                Ok(()) => {
                    let vm = self.touch(&id).map(|vm| {
                        vm.row.spec.disk_mib = Some(mib);
                        (vm.row.spec.name.clone(), vm.up)
                    });
                    if let Some((name, up)) = vm {
                        let when = if up { "; its guest has it at the next start" } else { "" };
                        let text =
                            format!("the disk of {name} has {} now{when}", ByteSize(mib << 20));
                        self.jobs_done(&id, &[job], text);
                    }
                }
                Err(problem) => self.jobs_failed(&id, &[job], &problem),
            },
            Some(Owner::Still(id, job, still)) => match result {
                Ok(()) => {
                    let name = self.vms.get(&id).map(|vm| vm.row.spec.name.to_string());
                    let word = if still { "is paused" } else { "goes on" };
                    let text = format!("{} {word}", name.unwrap_or_default());
                    self.jobs_done(&id, &[job], text);
                }
                Err(problem) => self.jobs_failed(&id, &[job], &problem),
            },
            Some(Owner::Image(job, text)) => self.image_changed(job, text, result),
            Some(Owner::Look(job)) => self.looked_at_host(job, result),
            Some(Owner::Clean(job)) => self.cleaned_host(job, result),
            Some(Owner::Bootstrap(job)) => {
                self.bootstrap = None;
                match result {
                    Ok(()) => self.jobs.end(job, JobState::Done, self.now),
                    Err(problem) => self.jobs.fail(job, &problem, self.now),
                }
            }
        }
    }

    fn renamed(&mut self, id: &VmId, job: JobId, result: Result<(), Problem>) {
        let wish = self.touch(id).and_then(|vm| vm.renaming.take());
        match (result, wish) {
            (Ok(()), Some(name)) => {
                let text = format!("{name} has its new name; its guest takes it at the next start");
                if let Some(vm) = self.touch(id) {
                    vm.row.spec.name = name;
                }
                self.jobs_done(id, &[job], text);
            }
            (Ok(()), None) => self.jobs.end(job, JobState::Done, self.now),
            (Err(problem), _) => self.jobs_failed(id, &[job], &problem),
        }
    }

    fn stage_done(&mut self, id: &VmId, stage: Stage, result: Result<(), Problem>) {
        match (stage, result) {
            (Stage::Insert, Ok(())) => self.make_disk(id),
            (Stage::Insert, Err(problem)) => self.never_was(id, &problem),
            (Stage::Disk, Ok(())) => {
                self.persist(id, Stage::MakeReady, Change::State(id.clone(), VmState::Ready));
            }
            (Stage::Disk | Stage::MakeReady, Err(problem)) => self.undo(id, problem),
            (Stage::MakeReady, Ok(())) => self.is_made(id),
            (Stage::UndoFiles, Ok(())) => {
                self.persist(id, Stage::UndoRow, Change::Remove(id.clone()));
            }
            (Stage::UndoRow, Ok(())) => {
                let task = self.vms.get_mut(id).and_then(|vm| vm.task.as_mut());
                let why = task.and_then(|task| task.failure.take());
                self.never_was(id, &why.unwrap_or_else(unknown));
            }
            // The row stays, so that what is left can be deleted.
            (Stage::UndoFiles | Stage::UndoRow, Err(problem)) => self.give_up(id, &problem),

            (Stage::WantUp, Ok(())) => {
                self.set_wanted(id, Wanted::Running);
                self.spawn(id);
            }
            (Stage::WantUp, Err(problem)) => self.give_up(id, &problem),
            (Stage::Spawn, result) => self.spawned(id, result),

            (Stage::WantOff, Ok(())) => {
                self.set_wanted(id, Wanted::Stopped);
                self.go_down(id);
            }
            (Stage::WantOff, Err(problem)) => {
                if self.vms.get(id).is_some_and(|vm| vm.up) {
                    // A full disk must not keep a VM from being stopped. At worst the next
                    // restore starts it again.
                    let text = format!("{}: {}", problem.what, problem.why);
                    self.notice(NoticeLevel::Warning, Some(id.clone()), text, &problem.hint);
                    self.go_down(id);
                } else {
                    self.give_up(id, &problem);
                }
            }
            (Stage::Ask, result) => self.asked(id, result.is_ok()),
            (Stage::KillMonitor, Ok(())) => self.run_ended(id, None),
            (Stage::KillMonitor, Err(problem)) => self.give_up(id, &problem),
            (Stage::Clean, result) => self.cleaned(id, result),

            (Stage::Mark, Ok(())) => {
                if let Some(vm) = self.vms.get_mut(id) {
                    vm.row.state = VmState::Deleting;
                }
                self.clean_up(id);
            }
            (Stage::Files, Ok(())) => {
                self.task_step(id, "files", StepState::Done);
                self.persist(id, Stage::Remove, Change::Remove(id.clone()));
            }
            (Stage::Remove, Ok(())) => self.is_deleted(id),
            (Stage::Mark | Stage::Files | Stage::Remove, Err(problem)) => {
                self.give_up(id, &problem);
            }
            (Stage::Recreate, Ok(())) => self.is_recreated(id),
            (Stage::Recreate, Err(problem)) => self.give_up(id, &problem),
            // These wait for the monitor and have no token.
            (Stage::AwaitReady | Stage::AwaitGone, _) => {}
        }
    }

    fn set_wanted(&mut self, id: &VmId, wanted: Wanted) {
        if let Some(vm) = self.touch(id) {
            vm.row.wanted = wanted;
        }
    }

    /// Ends a task in failure; the VM shows why.
    fn give_up(&mut self, id: &VmId, problem: &Problem) {
        let Some(vm) = self.touch(id) else { return };
        vm.next_epoch();
        let task = vm.task.take();
        let why = task.as_ref().and_then(|task| task.failure.clone());
        let mut jobs = task.map(|task| task.jobs).unwrap_or_default();
        vm.problem = Some(problem.clone());
        if vm.up {
            // A start that waits for the VM to go off would wait for ever.
            jobs.extend(std::mem::take(&mut vm.queue).into_iter().flat_map(|w| w.jobs));
        }
        self.jobs_failed(id, &jobs, why.as_ref().unwrap_or(problem));
        self.settle(id);
    }

    // --- create ---

    fn make_disk(&mut self, id: &VmId) {
        self.task_step(id, "record", StepState::Done);
        self.task_step(id, "disk", StepState::Running);
        let Some(vm) = self.vms.get(id) else { return };
        let (spec, overlay, vm) = (vm.row.spec.clone(), vm.row.overlay, id.clone());
        self.ask(id, Stage::Disk, |token| Effect::CreateDisk { token, vm, spec, overlay });
    }

    fn undo(&mut self, id: &VmId, problem: Problem) {
        if let Some(task) = self.vms.get_mut(id).and_then(|vm| vm.task.as_mut()) {
            task.failure = Some(problem);
        }
        let vm = id.clone();
        self.ask(id, Stage::UndoFiles, |token| Effect::DeleteFiles { token, vm });
    }

    /// Nothing is left of a VM that could not be made.
    fn never_was(&mut self, id: &VmId, problem: &Problem) {
        let Some(vm) = self.vms.remove(id) else { return };
        self.touched.insert(id.clone());
        let jobs = vm.task.map(|task| task.jobs).unwrap_or_default();
        self.jobs_failed(id, &jobs, problem);
    }

    fn is_made(&mut self, id: &VmId) {
        self.task_step(id, "disk", StepState::Done);
        let Some(vm) = self.touch(id) else { return };
        vm.row.state = VmState::Ready;
        let Some(task) = vm.task.take() else { return };
        let name = vm.row.spec.name.clone();
        if task.doing == (Doing::Create { start: true }) {
            vm.queue.push_front(Waiting { wish: Wish::Start, jobs: task.jobs });
        } else {
            self.jobs_done(id, &task.jobs, format!("{name} was made"));
        }
        self.settle(id);
    }

    // --- start ---

    /// Begins what waits, if it can be begun.
    pub(super) fn settle(&mut self, id: &VmId) {
        let Some(vm) = self.touch(id) else { return };
        if vm.task.is_some() {
            return;
        }
        if let Some(exit) = vm.gone.take() {
            return self.run_ended(id, exit);
        }
        let going_down = vm.going_down();
        let wanted = vm.row.wanted;
        match vm.queue.pop_front() {
            None => self.be_rid_of(id),
            // It is on the way down by somebody else's hand: once it is off.
            Some(waiting) if waiting.wish == Wish::Start && going_down => {
                vm.queue.push_front(waiting);
            }
            // Its deletion was interrupted by a start from elsewhere, and that has ended.
            Some(Waiting { wish: Wish::Start, jobs }) if vm.row.state != VmState::Ready => {
                let what = format!("cannot start {}", vm.row.spec.name);
                let problem = Problem::new(what, "it is being deleted", "delete it again");
                self.jobs_failed(id, &jobs, &problem);
                self.settle(id);
            }
            Some(Waiting { wish: Wish::Start, jobs }) => {
                for job in &jobs {
                    self.jobs.extend(*job, &super::command::START_STEPS);
                }
                self.begin(id, Doing::Start, Stage::WantUp, jobs);
                if wanted == Wanted::Running {
                    self.spawn(id);
                } else {
                    let change = Change::Wanted(id.clone(), Wanted::Running);
                    self.persist(id, Stage::WantUp, change);
                }
            }
            Some(Waiting { wish: Wish::Stop { kill, restart }, jobs }) => {
                self.begin(id, Doing::Stop { kill, restart }, Stage::WantOff, jobs);
                self.task_step(id, "stop", StepState::Running);
                if restart || wanted == Wanted::Stopped {
                    self.go_down(id);
                } else {
                    let change = Change::Wanted(id.clone(), Wanted::Stopped);
                    self.persist(id, Stage::WantOff, change);
                }
            }
        }
    }

    /// Starts the monitor, unless a stop came in between, or there is a monitor.
    fn spawn(&mut self, id: &VmId) {
        let Some(vm) = self.vms.get(id) else { return };
        if !vm.queue.is_empty() {
            return self.give_way(id);
        }
        if vm.up {
            return self.await_ready(id);
        }
        self.task_step(id, "monitor", StepState::Running);
        let vm = id.clone();
        self.ask(id, Stage::Spawn, |token| Effect::StartMonitor { token, vm });
    }

    /// A start ends because a stop waits.
    fn give_way(&mut self, id: &VmId) {
        let jobs = self.touch(id).and_then(|vm| vm.task.take()).map(|task| task.jobs);
        self.jobs_cancelled(&jobs.unwrap_or_default());
        self.settle(id);
    }

    fn spawned(&mut self, id: &VmId, result: Result<(), Problem>) {
        let now = self.now;
        let Some(vm) = self.touch(id) else { return };
        match result {
            Err(problem) if !vm.up => {
                vm.gone = None;
                let jobs = vm.task.take().map(|task| task.jobs).unwrap_or_default();
                vm.problem = Some(problem.clone());
                self.jobs_failed(id, &jobs, &problem);
                // It may have died half-way.
                self.begin(id, Doing::Tidy, Stage::Clean, Vec::new());
                self.clean_up(id);
            }
            // Up although our monitor did not start: somebody else's did.
            Ok(()) | Err(_) => {
                if let Some(exit) = vm.gone.take() {
                    return self.start_failed(id, exit);
                }
                if !vm.up {
                    vm.up = true;
                    vm.row.started = Some(now);
                    vm.row.last_exit = None;
                }
                if vm.queue.is_empty() { self.await_ready(id) } else { self.give_way(id) }
            }
        }
    }

    fn await_ready(&mut self, id: &VmId) {
        self.wait(id, Stage::AwaitReady, self.policy.ready_ms);
        let Some(vm) = self.vms.get(id) else { return };
        let Some(status) = vm.status.clone() else { return };
        let jobs = vm.task.as_ref().map(|task| task.jobs.clone()).unwrap_or_default();
        for job in jobs {
            self.show_boot(job, &status.boot.0);
        }
        if status.phase == MonitorPhase::Ready {
            self.is_ready(id);
        }
    }

    pub(super) fn is_ready(&mut self, id: &VmId) {
        let Some(vm) = self.touch(id) else { return };
        vm.next_epoch();
        let name = vm.row.spec.name.clone();
        let jobs = vm.task.take().map(|task| task.jobs).unwrap_or_default();
        self.jobs_done(id, &jobs, format!("{name} is running"));
        self.settle(id);
    }

    // --- stop ---

    /// Asks the monitor to climb the ladder of the task; again, if it is to go faster.
    pub(super) fn go_down(&mut self, id: &VmId) {
        let Some(vm) = self.touch(id) else { return };
        if let Some(exit) = vm.gone.take() {
            return self.run_ended(id, exit);
        }
        if !vm.up {
            return self.is_off(id);
        }
        let ladder = self.ladder(id);
        let vm = id.clone();
        self.ask(id, Stage::Ask, |token| Effect::RequestStop { token, vm, ladder });
    }

    fn ladder(&self, id: &VmId) -> StopLadder {
        let task = self.vms.get(id).and_then(|vm| vm.task.as_ref());
        match task.map(|task| task.doing) {
            Some(Doing::Stop { kill: true, .. }) => StopLadder::kill(),
            _ => StopLadder::polite(self.policy.polite_ms),
        }
    }

    /// The monitor climbs - or could not be asked; then it gets no more time than the slack.
    fn asked(&mut self, id: &VmId, accepted: bool) {
        let climb: u64 = self.ladder(id).rungs().iter().map(|rung| rung.timeout_ms).sum();
        let after = self.policy.slack_ms + if accepted { climb } else { 0 };
        self.wait(id, Stage::AwaitGone, after);
    }

    /// Time is up.
    pub(super) fn timer(&mut self, id: &VmId, epoch: u64) {
        let vm = self.touch(id).filter(|vm| vm.epoch == epoch);
        let Some(stage) = vm.and_then(|vm| vm.task.as_ref()).map(|task| task.stage) else { return };
        match stage {
            Stage::AwaitGone => {
                let vm = id.clone();
                self.ask(id, Stage::KillMonitor, |token| Effect::KillMonitor { token, vm });
            }
            Stage::AwaitReady => self.not_ready(id),
            // Their timers are stale.
            Stage::Insert
            | Stage::Disk
            | Stage::MakeReady
            | Stage::UndoFiles
            | Stage::UndoRow
            | Stage::WantUp
            | Stage::Spawn
            | Stage::WantOff
            | Stage::Ask
            | Stage::KillMonitor
            | Stage::Clean
            | Stage::Mark
            | Stage::Files
            | Stage::Recreate
            | Stage::Remove => {}
        }
    }

    fn not_ready(&mut self, id: &VmId) {
        let Some(vm) = self.vms.get(id) else { return };
        let name = vm.row.spec.name.clone();
        let phase = vm.phase();
        let seconds = self.policy.ready_ms / 1000;
        let why = match phase {
            Phase::Starting => "its monitor is still preparing".to_owned(),
            _ => "its guest did not say that SSH listens".to_owned(),
        };
        let hint = format!("it is left running; its console (`banger console {name}`) tells more");
        let what = format!("{name} was not ready within {seconds} s");
        self.give_up(id, &Problem::new(what, why, hint));
    }

    fn cleaned(&mut self, id: &VmId, result: Result<(), Problem>) {
        let Some(vm) = self.touch(id) else { return };
        let up = vm.up;
        let Some(task) = &mut vm.task else { return };
        let (doing, lost) = (task.doing, task.lost.take());
        if vm.row.run_is_open() && !up {
            vm.row.last_exit = lost;
        }
        if let Err(problem) = result {
            return self.give_up(id, &problem);
        }
        self.task_step(id, "clean up", StepState::Done);
        match doing {
            Doing::Stop { .. } => self.is_off(id),
            Doing::Delete => {
                self.task_step(id, "files", StepState::Running);
                let vm = id.clone();
                self.ask(id, Stage::Files, |token| Effect::DeleteFiles { token, vm });
            }
            Doing::Tidy | Doing::Create { .. } | Doing::Recreate | Doing::Start => {
                if let Some(vm) = self.touch(id) {
                    vm.task = None;
                }
                self.settle(id);
            }
        }
    }

    /// A stop has come to its end.
    fn is_off(&mut self, id: &VmId) {
        let Some(vm) = self.touch(id) else { return };
        let Some(task) = vm.task.as_ref() else { return };
        let restart = matches!(task.doing, Doing::Stop { restart: true, .. });
        if !restart && vm.row.wanted == Wanted::Running {
            // A restart that was overruled, or the disk was full before.
            let change = Change::Wanted(id.clone(), Wanted::Stopped);
            return self.persist(id, Stage::WantOff, change);
        }
        let name = vm.row.spec.name.clone();
        let jobs = vm.task.take().map(|task| task.jobs).unwrap_or_default();
        vm.next_epoch();
        if restart {
            vm.queue.push_front(Waiting { wish: Wish::Start, jobs });
        } else {
            self.jobs_done(id, &jobs, format!("{name} is off"));
        }
        self.settle(id);
    }

    // --- recreate ---

    fn is_recreated(&mut self, id: &VmId) {
        let Some(vm) = self.touch(id) else { return };
        vm.row.state = VmState::Ready;
        let text = format!("{} has a new disk of {}", vm.row.spec.name, vm.row.spec.image);
        let jobs = vm.task.take().map(|task| task.jobs).unwrap_or_default();
        self.jobs_done(id, &jobs, text);
        self.settle(id);
    }

    // --- delete ---

    /// Takes the next step to remove a helper whose maker is gone.
    fn be_rid_of(&mut self, id: &VmId) {
        let Some(vm) = self.touch(id) else { return };
        let Some(left) = vm.doomed.checked_sub(1) else { return };
        vm.doomed = left;
        if vm.up {
            let kill = Wish::Stop { kill: true, restart: false };
            vm.queue.push_back(Waiting { wish: kill, jobs: Vec::new() });
            self.settle(id);
        } else {
            self.begin_delete(id, Vec::new());
        }
    }

    fn is_deleted(&mut self, id: &VmId) {
        let Some(vm) = self.vms.remove(id) else { return };
        self.touched.insert(id.clone());
        let jobs = vm.task.map(|task| task.jobs).unwrap_or_default();
        self.jobs_done(id, &jobs, format!("{} was deleted", vm.row.spec.name));
    }
}

/// For a failure whose reason got lost; there is no way to get here.
fn unknown() -> Problem {
    Problem::new("cannot make the VM", "it failed", "try again")
}
