//! Commands: judged by [`admit`], then begun, queued or joined to what is under way.

use super::{
    CommandId, Core, Effect, Owner,
    vm::{Doing, Stage, Task, Vm, Waiting, Wish},
};
use crate::{
    domain::{
        Admission, ByteSize, CommandBody, Denied, JobId, JobState, OverlayKind, Problem, StepState,
        VmId, VmName, VmSpec, Wanted,
    },
    store::{Change, VmRow},
    supervisor::admit::{self, Standing, Verb, Verdict},
};

/// The steps of a start; their names are also those of the boot marks.
pub(super) const START_STEPS: [&str; 5] = ["monitor", "vmm", "kernel", "init", "ssh"];
const STOP_STEPS: [&str; 2] = ["stop", "clean up"];
const DELETE_STEPS: [&str; 3] = ["clean up", "files", "record"];

pub(super) fn denied(problem: Problem) -> Admission {
    Admission::Denied(Denied(problem))
}

impl Core {
    /// Takes a command; answers it once.
    pub(super) fn command(&mut self, id: CommandId, body: CommandBody, fresh: VmId) {
        let admission = self.admit(body, fresh);
        self.out.push(Effect::Reply { command: id, admission });
    }

    fn admit(&mut self, body: CommandBody, fresh: VmId) -> Admission {
        match body.clone() {
            CommandBody::Create { spec, start } => self.create(spec, None, start, fresh, body),
            CommandBody::CreateHelper { spec, of, start } => {
                self.create(spec, Some(of), start, fresh, body)
            }
            CommandBody::Start(vm) => self.verb(Verb::Start, &vm, body),
            CommandBody::Stop(vm) => self.verb(Verb::Stop, &vm, body),
            CommandBody::Kill(vm) => self.verb(Verb::Kill, &vm, body),
            CommandBody::Restart(vm) => self.verb(Verb::Restart, &vm, body),
            CommandBody::Delete(vm) => self.verb(Verb::Delete, &vm, body),
            CommandBody::Recreate(vm) => self.verb(Verb::Recreate, &vm, body),
            CommandBody::RenameImage(old, new) => self.rename_image(&old, &new, body),
            CommandBody::DeleteImage(name) => self.delete_image(&name, body),
            CommandBody::Pause(vm) => self.stand_still(&vm, true, body),
            CommandBody::Resume(vm) => self.stand_still(&vm, false, body),
            CommandBody::Rename(vm, name) => self.rename(&vm, name, body),
            CommandBody::Resize(vm, mib) => self.resize(&vm, mib, body),
            CommandBody::Bootstrap => self.start_bootstrap(body),
            CommandBody::LookAtHost => self.look_at_host(body),
            CommandBody::CleanHost => self.clean_host(body),
            CommandBody::Restore => self.start_restore(body),
            CommandBody::CancelJob(job) => self.cancel(job),
            CommandBody::RetryJob(job) => self.retry(job, fresh),
            CommandBody::DismissJob(job) => self.dismiss(job),
        }
    }

    /// All names that are in use or about to be.
    fn names<'a>(&'a self, but: Option<&'a VmId>) -> impl Iterator<Item = &'a VmName> {
        self.vms
            .values()
            .filter(move |vm| Some(&vm.row.id) != but)
            .flat_map(|vm| std::iter::once(&vm.row.spec.name).chain(vm.renaming.as_ref()))
    }

    fn create(
        &mut self,
        spec: VmSpec,
        helper_of: Option<String>,
        start: bool,
        fresh: VmId,
        body: CommandBody,
    ) -> Admission {
        let images = self.images.as_deref();
        if let Err(problem) = admit::create(&spec, &self.host, images, self.names(None)) {
            return denied(problem);
        }
        let id = self.unused(fresh);
        let title = format!("create {}", spec.name);
        let mut steps = vec!["record", "disk"];
        if start {
            steps.extend(START_STEPS);
        }
        let job = self.jobs.add(title, Some(id.clone()), body, &steps, self.now);
        // A copy is the kind that every host can make.
        let overlay = spec.wishes.overlay.or(self.host.overlay).unwrap_or(OverlayKind::SparseCopy);
        let row = VmRow { helper_of, ..VmRow::new(id.clone(), spec, overlay, self.now) };
        self.vms.insert(id.clone(), Vm::new(row.clone(), false));
        self.begin(&id, Doing::Create { start }, Stage::Insert, vec![job]);
        self.ask(&id, Stage::Insert, |token| Effect::Persist {
            token,
            change: Change::Insert(Box::new(row)),
        });
        Admission::Queued(job)
    }

    /// The id itself, or the next that no VM has.
    fn unused(&self, mut id: VmId) -> VmId {
        while self.vms.contains_key(&id) {
            let number = u32::from_str_radix(id.as_str(), 16).unwrap_or(0);
            id = VmId::from_bytes(number.wrapping_add(1).to_be_bytes());
        }
        id
    }

    pub(super) fn verb(&mut self, verb: Verb, id: &VmId, body: CommandBody) -> Admission {
        let Some(vm) = self.vms.get(id) else { return denied(no_such(id)) };
        match admit::verb(verb, &standing(vm)) {
            Verdict::Ignore(text) => return Admission::Ignored(text),
            Verdict::Deny(problem) => return denied(problem),
            Verdict::Queue => {}
        }
        if matches!(verb, Verb::Start | Verb::Restart)
            && let Err(problem) = admit::host(&vm.row.spec, &self.host)
        {
            return denied(problem);
        }
        let name = vm.row.spec.name.clone();
        let up = vm.up;
        let coming_down = vm.going_down() || !vm.will_be_up();
        let (title, steps) = match verb {
            Verb::Start => (format!("start {name}"), START_STEPS.to_vec()),
            Verb::Stop => (format!("stop {name}"), STOP_STEPS.to_vec()),
            Verb::Kill => (format!("kill {name}"), STOP_STEPS.to_vec()),
            Verb::Restart => (format!("restart {name}"), [&STOP_STEPS[..], &START_STEPS].concat()),
            Verb::Delete => (format!("delete {name}"), DELETE_STEPS.to_vec()),
            Verb::Recreate => (format!("recreate {name}"), vec!["disk"]),
            // These have ways of their own: they go beside everything else.
            Verb::Rename | Verb::Resize | Verb::Pause | Verb::Resume => (String::new(), Vec::new()),
        };
        let job = self.jobs.add(title, Some(id.clone()), body, &steps, self.now);
        match verb {
            Verb::Start => self.begin_or_wait_start(id, job),
            // What is off or on its way there needs no stop.
            Verb::Restart if !up || coming_down => self.begin_or_wait_start(id, job),
            Verb::Stop => self.begin_or_join_stop(id, job, false, false),
            Verb::Kill => self.begin_or_join_stop(id, job, true, false),
            Verb::Restart => self.begin_or_join_stop(id, job, false, true),
            Verb::Delete => self.begin_delete(id, vec![job]),
            Verb::Recreate => self.begin_recreate(id, vec![job]),
            Verb::Rename | Verb::Resize | Verb::Pause | Verb::Resume => {}
        }
        Admission::Queued(job)
    }

    fn begin_or_wait_start(&mut self, id: &VmId, job: JobId) {
        if let Some(vm) = self.touch(id) {
            vm.queue.push_back(Waiting { wish: Wish::Start, jobs: vec![job] });
        }
        self.settle(id);
    }

    fn begin_or_join_stop(&mut self, id: &VmId, job: JobId, kill: bool, restart: bool) {
        if !restart {
            self.leave_out(id);
        }
        let Some(vm) = self.touch(id) else { return };
        // Starts that wait are not wanted any more; stops that wait become this one.
        let mut jobs = vec![job];
        let mut dropped = Vec::new();
        let mut kill = kill;
        for waiting in std::mem::take(&mut vm.queue) {
            match waiting.wish {
                Wish::Stop { kill: wait_kill, restart: false } => {
                    kill |= wait_kill;
                    jobs.extend(waiting.jobs);
                }
                Wish::Stop { restart: true, .. } | Wish::Start => dropped.extend(waiting.jobs),
            }
        }
        let Some(task) = &mut vm.task else {
            vm.queue.push_back(Waiting { wish: Wish::Stop { kill, restart }, jobs });
            self.jobs_cancelled(&dropped);
            return self.settle(id);
        };
        match task.doing {
            Doing::Start if task.stage == Stage::AwaitReady => {
                dropped.append(&mut task.jobs);
                vm.task = None;
                vm.queue.push_back(Waiting { wish: Wish::Stop { kill, restart }, jobs });
                self.jobs_cancelled(&dropped);
                self.settle(id);
            }
            Doing::Stop { kill: was_kill, restart: was_restart } if !restart => {
                // A restart that is overruled does not come to its end.
                if was_restart {
                    dropped.append(&mut task.jobs);
                }
                let escalate = kill && !was_kill;
                task.doing = Doing::Stop { kill: kill || was_kill, restart: false };
                task.jobs.extend(&jobs);
                let again = matches!(task.stage, Stage::Ask | Stage::AwaitGone);
                for job in jobs {
                    self.jobs.begin(job, false);
                }
                self.jobs_cancelled(&dropped);
                if escalate && again {
                    self.go_down(id);
                }
            }
            Doing::Start
            | Doing::Stop { .. }
            | Doing::Create { .. }
            | Doing::Tidy
            | Doing::Recreate
            | Doing::Delete => {
                vm.queue.push_back(Waiting { wish: Wish::Stop { kill, restart }, jobs });
                self.jobs_cancelled(&dropped);
            }
        }
    }

    pub(super) fn begin_recreate(&mut self, id: &VmId, jobs: Vec<JobId>) {
        self.begin(id, Doing::Recreate, Stage::Recreate, jobs);
        self.task_step(id, "disk", StepState::Running);
        let vm = id.clone();
        self.ask(id, Stage::Recreate, |token| Effect::RecreateDisk { token, vm });
    }

    pub(super) fn begin_delete(&mut self, id: &VmId, jobs: Vec<JobId>) {
        self.begin(id, Doing::Delete, Stage::Mark, jobs);
        let change = Change::State(id.clone(), crate::store::VmState::Deleting);
        self.ask(id, Stage::Mark, |token| Effect::Persist { token, change });
    }

    fn stand_still(&mut self, id: &VmId, still: bool, body: CommandBody) -> Admission {
        let Some(vm) = self.vms.get(id) else { return denied(no_such(id)) };
        let verb = if still { Verb::Pause } else { Verb::Resume };
        match admit::verb(verb, &standing(vm)) {
            Verdict::Ignore(text) => return Admission::Ignored(text),
            Verdict::Deny(problem) => return denied(problem),
            Verdict::Queue => {}
        }
        let title = format!("{} {}", if still { "pause" } else { "resume" }, vm.row.spec.name);
        let job = self.jobs.add(title, Some(id.clone()), body, &[], self.now);
        self.jobs.begin(job, false);
        let token = self.token(Owner::Still(id.clone(), job, still));
        self.out.push(Effect::StandStill { token, vm: id.clone(), still });
        Admission::Queued(job)
    }

    fn rename(&mut self, id: &VmId, name: VmName, body: CommandBody) -> Admission {
        let Some(vm) = self.vms.get(id) else { return denied(no_such(id)) };
        let old = vm.row.spec.name.clone();
        match admit::verb(Verb::Rename, &standing(vm)) {
            Verdict::Ignore(text) => return Admission::Ignored(text),
            Verdict::Deny(problem) => return denied(problem),
            Verdict::Queue => {}
        }
        if old == name && vm.renaming.is_none() {
            return Admission::Ignored(format!("{name} has that name"));
        }
        let what = format!("cannot rename {old}");
        if let Some(other) = &vm.renaming {
            let why = format!("it is being renamed to {other}");
            return denied(Problem::new(what, why, "try again"));
        }
        if let Err(problem) = admit::name(what, &name, self.names(Some(id))) {
            return denied(problem);
        }
        let title = format!("rename {old} to {name}");
        let job = self.jobs.add(title, Some(id.clone()), body, &[], self.now);
        self.jobs.begin(job, false);
        if let Some(vm) = self.touch(id) {
            vm.renaming = Some(name.clone());
        }
        let token = self.token(Owner::Rename(id.clone(), job));
        let change = Change::Rename(id.clone(), name);
        self.out.push(Effect::Persist { token, change });
        Admission::Queued(job)
    }

    fn resize(&mut self, id: &VmId, mib: u64, body: CommandBody) -> Admission {
        let Some(vm) = self.vms.get(id) else { return denied(no_such(id)) };
        let spec = &vm.row.spec;
        match admit::verb(Verb::Resize, &standing(vm)) {
            Verdict::Ignore(text) => return Admission::Ignored(text),
            Verdict::Deny(problem) => return denied(problem),
            Verdict::Queue => {}
        }
        let mut images = self.images.iter().flatten();
        let of_image = || images.find(|image| image.name == spec.image).map(|i| i.size >> 20);
        let now = spec.disk_mib.or_else(of_image);
        if let Err(problem) = admit::size(&spec.name, now, mib) {
            return denied(problem);
        }
        let size = ByteSize(mib << 20);
        if now == Some(mib) {
            return Admission::Ignored(format!("the disk of {} has {size}", spec.name));
        }
        let title = format!("resize {} to {size}", spec.name);
        let job = self.jobs.add(title, Some(id.clone()), body, &[], self.now);
        self.jobs.begin(job, false);
        let token = self.token(Owner::Resize(id.clone(), job, mib));
        self.out.push(Effect::Persist { token, change: Change::Resize(id.clone(), mib) });
        Admission::Queued(job)
    }

    fn start_bootstrap(&mut self, body: CommandBody) -> Admission {
        if self.bootstrap.is_some() {
            return Admission::Ignored("the runtime directory is being made already".to_owned());
        }
        let job = self.jobs.add("make the runtime directory".into(), None, body, &[], self.now);
        self.jobs.begin(job, true);
        self.bootstrap = Some(job);
        let token = self.token(Owner::Bootstrap(job));
        self.out.push(Effect::RunBootstrap { token, job });
        Admission::Queued(job)
    }

    fn cancel(&mut self, id: JobId) -> Admission {
        let Some(job) = self.jobs.get(id) else { return denied(no_such_job(id)) };
        if job.view.state.is_over() {
            return Admission::Ignored("the job is over".to_owned());
        }
        let waits = job.view.state == JobState::Queued;
        let (title, vm) = (job.view.title.clone(), job.view.vm.clone());
        if self.bootstrap == Some(id) {
            self.out.push(Effect::CancelBootstrap { job: id });
            return Admission::Queued(id);
        }
        if self.cancel_restore(id) {
            return Admission::Queued(id);
        }
        if let Some(vm) = vm.filter(|_| waits).and_then(|vm| self.touch(&vm)) {
            for waiting in &mut vm.queue {
                waiting.jobs.retain(|job| *job != id);
            }
            vm.queue.retain(|waiting| !waiting.jobs.is_empty());
            self.jobs_cancelled(&[id]);
            return Admission::Queued(id);
        }
        denied(Problem::new(
            format!("cannot cancel “{title}”"),
            "it is under way and must come to its end",
            "stop or kill the VM instead",
        ))
    }

    fn retry(&mut self, id: JobId, fresh: VmId) -> Admission {
        let Some(job) = self.jobs.get(id) else { return denied(no_such_job(id)) };
        if !matches!(job.view.state, JobState::Failed { .. } | JobState::Cancelled) {
            return Admission::Ignored("only a job that failed can be done again".to_owned());
        }
        let answer = self.admit(job.body.clone(), fresh);
        if matches!(answer, Admission::Queued(_)) {
            self.jobs.remove(id);
        }
        answer
    }

    fn dismiss(&mut self, id: JobId) -> Admission {
        let Some(job) = self.jobs.get(id) else {
            return Admission::Ignored("the job is off the list".to_owned());
        };
        if !job.view.state.is_over() {
            return denied(Problem::new(
                format!("cannot dismiss “{}”", job.view.title),
                "it is not over",
                "wait for its end, or cancel it",
            ));
        }
        self.jobs.remove(id);
        Admission::Queued(id)
    }

    /// Puts a task in place; its first effect follows.
    pub(super) fn begin(&mut self, id: &VmId, doing: Doing, stage: Stage, jobs: Vec<JobId>) {
        for job in &jobs {
            self.jobs.begin(*job, false);
        }
        let Some(vm) = self.touch(id) else { return };
        vm.next_epoch();
        if doing != Doing::Tidy {
            vm.problem = None;
        }
        vm.task = Some(Task { doing, stage, token: None, jobs, failure: None, lost: None });
    }
}

fn standing(vm: &Vm) -> Standing<'_> {
    Standing {
        name: &vm.row.spec.name,
        phase: vm.phase(),
        will_be_up: vm.will_be_up(),
        wanted: vm.row.wanted == Wanted::Running,
        busy: vm.task.is_some(),
        killing: vm.killing(),
    }
}

fn no_such(id: &VmId) -> Problem {
    Problem::new(
        format!("there is no VM {id}"),
        "it was deleted, perhaps by another banger",
        "`banger ls` lists the VMs",
    )
}

fn no_such_job(id: JobId) -> Problem {
    Problem::new(format!("there is no job {}", id.0), "it is off the list", "")
}
