//! A supervisor, used by a verb: ask, wait, tell.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    runtime::{self, Runtime},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::out;
use crate::{
    domain::{
        Admission, CommandBody, Denied, Fleet, JobId, JobState, JobView, Phase, Problem, StepState,
        VmView,
    },
    supervisor::{OpenSession, SupervisorHandle},
};

/// Checks that a VM's SSH really answers, within the time it is given. Blocks.
pub type Probe = Arc<dyn Fn(&VmView, Duration) -> Result<(), Problem> + Send + Sync>;

/// How to wait for a guest.
#[derive(Clone)]
pub struct Wait {
    /// How long, from the moment it is asked for.
    pub within: Duration,
    /// What then shows that its SSH answers.
    pub probe: Probe,
}

/// A supervisor and the means to wait for it.
pub struct Client {
    runtime: Runtime,
    handle: SupervisorHandle,
    finish: Option<Box<dyn FnOnce()>>,
}

/// Something to be done for one VM.
pub struct Task {
    /// The VM's name, for the user.
    pub name: String,
    /// What is asked.
    pub body: CommandBody,
    /// What is so when it is done: `started`.
    pub done: &'static str,
    /// When it is done.
    pub until: Until,
    /// How to wait until the guest is ready after that.
    pub wait: Option<Wait>,
}

/// When something is done as far as the user is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When its job is over. The job of a start is over when the guest is ready.
    Over,
    /// When the VMM runs: what comes after that is the guest's affair, and shown by `ls`.
    Launched,
}

/// How long what dead monitors left is waited for.
const CLEARED: Duration = Duration::from_secs(6);

/// The step of a start's job that is over when the VMM runs.
const LAUNCHED: &str = "vmm";

impl Client {
    /// Uses a supervisor; `finish` is called when this client is dropped.
    ///
    /// # Errors
    /// When the system refuses what waiting needs.
    pub fn new(handle: SupervisorHandle, finish: impl FnOnce() + 'static) -> Result<Self, Problem> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| {
            Problem::new("cannot start", e.to_string(), "are there too many open files?")
        })?;
        Ok(Self { runtime, handle, finish: Some(Box::new(finish)) })
    }

    /// The first picture that `enough` is content with.
    ///
    /// # Errors
    /// When the supervisor ends before that.
    pub fn wait(&mut self, enough: impl Fn(&Fleet) -> bool) -> Result<Arc<Fleet>, Problem> {
        let mut fleet = self.handle.fleet.clone();
        let found = self.runtime.block_on(fleet.wait_for(|fleet| enough(fleet)));
        found.map(|fleet| Arc::clone(&fleet)).map_err(|_| gone())
    }

    /// As [`Client::wait`], for at most so long: the last picture, and whether it is enough.
    ///
    /// # Errors
    /// When the supervisor ends before that.
    pub fn wait_within(
        &mut self,
        patience: Duration,
        enough: impl Fn(&Fleet) -> bool,
    ) -> Result<(Arc<Fleet>, bool), Problem> {
        let mut fleet = self.handle.fleet.clone();
        self.runtime.block_on(async {
            let wait = fleet.wait_for(|fleet| enough(fleet));
            if let Ok(found) = tokio::time::timeout(patience, wait).await {
                return found.map(|fleet| (Arc::clone(&fleet), true)).map_err(|_| gone());
            }
            Ok((Arc::clone(&fleet.borrow()), false))
        })
    }

    /// Waits until a guest has said that it is ready.
    ///
    /// # Errors
    /// When it is not in time, or cannot become ready any more.
    pub fn ready(&mut self, name: &str, patience: Duration) -> Result<Arc<VmView>, Problem> {
        let mut fleet = self.handle.fleet.clone();
        self.runtime.block_on(async { ready(&mut fleet, name, Instant::now() + patience).await })
    }

    /// The first picture after the store was read and what dead monitors left was cleared up:
    /// before that, a VM that crashed meanwhile would seem to be stopping. What cannot be
    /// cleared up is not waited for longer than a VMM may take to die.
    ///
    /// # Errors
    /// When the supervisor ends before that.
    pub fn loaded(&mut self) -> Result<Arc<Fleet>, Problem> {
        self.wait(|fleet| fleet.loaded)?;
        let cleared = |fleet: &Fleet| !fleet.vms.iter().any(|vm| vm.is_being_cleared());
        Ok(self.wait_within(CLEARED, cleared)?.0)
    }

    /// Opens consoles.
    #[must_use]
    pub fn sessions(&self) -> Arc<dyn OpenSession> {
        Arc::clone(&self.handle.sessions)
    }

    /// Asks for something and waits until it is done.
    ///
    /// # Errors
    /// When it is denied or fails.
    pub fn ask(&mut self, name: &str, body: CommandBody) -> Result<(), Problem> {
        self.ask_and_see(name, body, |_| Ok(()))
    }

    /// As [`Client::ask`]; `see` gets each picture of the job.
    ///
    /// # Errors
    /// When it is denied or fails, or what `see` says.
    pub fn ask_and_see<E: From<Problem>>(
        &mut self,
        name: &str,
        body: CommandBody,
        see: impl FnMut(&JobView) -> Result<(), E>,
    ) -> Result<(), E> {
        let fleet = self.handle.fleet.clone();
        match self.runtime.block_on(admit(&self.handle, body))? {
            Admission::Queued(job) => {
                self.runtime.block_on(follow(fleet, job, name, Until::Over, see))
            }
            Admission::Ignored(_) => Ok(()),
            Admission::Denied(Denied(problem)) => Err(problem.into()),
        }
    }

    /// Does all tasks side by side. `tell` hears of each as it ends: what is so now and for which
    /// VM, or why not.
    ///
    /// # Errors
    /// What `tell` gives; the supervisor's work goes on all the same.
    pub fn all<E>(
        &mut self,
        tasks: Vec<Task>,
        mut tell: impl FnMut(&str, Result<String, Problem>) -> Result<(), E>,
    ) -> Result<(), E> {
        let handle = &self.handle;
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            let mut names = HashMap::new();
            for task in tasks {
                let wait = task.wait.map(|wait| (Instant::now() + wait.within, wait.probe));
                let admission = admit(handle, task.body).await;
                let fleet = handle.fleet.clone();
                let (name, done, until) = (task.name.clone(), task.done, task.until);
                let id = running
                    .spawn(
                        async move { carry(admission?, fleet, &name, (done, until), wait).await },
                    )
                    .id();
                names.insert(id, task.name);
            }
            while let Some(ended) = running.join_next_with_id().await {
                let (id, result) = match ended {
                    Ok(ended) => ended,
                    Err(e) => (e.id(), Err(Problem::new("banger failed", e.to_string(), ""))),
                };
                let name = names.remove(&id).unwrap_or_default();
                tell(&name, result)?;
            }
            Ok(())
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(finish) = self.finish.take() {
            finish();
        }
    }
}

/// Does one task; gives what is so now, as a sentence without its subject.
async fn carry(
    admission: Admission,
    mut fleet: watch::Receiver<Arc<Fleet>>,
    name: &str,
    (done, until): (&str, Until),
    wait: Option<(Instant, Probe)>,
) -> Result<String, Problem> {
    let text = match admission {
        Admission::Queued(job) => {
            let mut shown = String::new();
            let show = |job: &JobView| -> Result<(), Problem> {
                show_step(name, job, &mut shown);
                Ok(())
            };
            let followed = follow(fleet.clone(), job, name, until, show).await;
            // The supervisor's patience with a boot may end before that of the user.
            let is_up = |vm: &Arc<VmView>| vm.spec.name.as_str() == name && vm.phase.is_up();
            match followed {
                Err(_) if wait.is_some() && fleet.borrow().vms.iter().any(is_up) => {}
                followed => followed?,
            }
            done.to_owned()
        }
        Admission::Ignored(sentence) => sentence,
        Admission::Denied(Denied(problem)) => return Err(problem),
    };
    let Some((deadline, probe)) = wait else { return Ok(text) };
    let vm = ready(&mut fleet, name, deadline).await?;
    let left = deadline.saturating_duration_since(Instant::now());
    let probed = tokio::task::spawn_blocking(move || probe(&vm, left)).await;
    probed.map_err(|e| Problem::new("banger failed", e.to_string(), ""))??;
    Ok(format!("{text}; SSH answers"))
}

async fn admit(handle: &SupervisorHandle, body: CommandBody) -> Result<Admission, Problem> {
    // The queue is bounded and the supervisor takes from it all the time: waiting for a place is
    // right here, where no user interface stands still.
    let (reply, answer) = tokio::sync::oneshot::channel();
    let command = crate::supervisor::Command { body, reply };
    handle.commands.send(command).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

/// Waits until a job is done; `see` gets each picture of it.
async fn follow<E: From<Problem>>(
    mut fleet: watch::Receiver<Arc<Fleet>>,
    id: JobId,
    name: &str,
    until: Until,
    mut see: impl FnMut(&JobView) -> Result<(), E>,
) -> Result<(), E> {
    let mut seen = false;
    loop {
        let picture = Arc::clone(&fleet.borrow_and_update());
        match picture.jobs.iter().find(|job| job.id == id) {
            Some(job) => {
                seen = true;
                see(job)?;
                match &job.state {
                    JobState::Done => return Ok(()),
                    JobState::Failed { problem } => return Err(problem.clone().into()),
                    JobState::Cancelled => {
                        let what = format!("{name}: {} was not finished", job.title);
                        return Err(Problem::new(what, "it was cancelled", "").into());
                    }
                    JobState::Running if until == Until::Launched && is_launched(job) => {
                        return Ok(());
                    }
                    JobState::Queued | JobState::Running => {}
                }
            }
            // An ended job may be taken off the list before we look again.
            None if seen => return Ok(()),
            None => {}
        }
        fleet.changed().await.map_err(|_| gone())?;
    }
}

fn is_launched(job: &JobView) -> bool {
    job.steps.iter().any(|step| step.name == LAUNCHED && step.state == StepState::Done)
}

fn show_step(name: &str, job: &JobView, shown: &mut String) {
    let Some(step) = job.steps.iter().rev().find(|step| step.state == StepState::Running) else {
        return;
    };
    if *shown != step.name {
        shown.clone_from(&step.name);
        out::progress(&format!("{name}: {shown} …"));
    }
}

/// Waits until a guest has said that it is ready.
async fn ready(
    fleet: &mut watch::Receiver<Arc<Fleet>>,
    name: &str,
    deadline: Instant,
) -> Result<Arc<VmView>, Problem> {
    let mut phase = None;
    let mut known = None;
    let wait = async {
        loop {
            let picture = Arc::clone(&fleet.borrow_and_update());
            let vm = picture.vms.iter().find(|vm| vm.spec.name.as_str() == name);
            match vm {
                Some(vm) => {
                    if let Some(result) = judge(vm) {
                        return result;
                    }
                    known.clone_from(&vm.problem);
                    if phase.replace(vm.phase) != Some(vm.phase) {
                        out::progress(&format!("{name}: {} …", vm.phase.word()));
                    }
                }
                None => {
                    let what = format!("cannot wait for {name}");
                    return Err(Problem::new(what, "it was removed meanwhile", ""));
                }
            }
            fleet.changed().await.map_err(|_| gone())?;
        }
    };
    let waited = timeout_at(deadline, wait).await;
    waited.unwrap_or_else(|_| Err(known.unwrap_or_else(|| late(name))))
}

/// What a user is told when a guest is not ready in time.
pub fn late(name: &str) -> Problem {
    Problem::new(
        format!("{name} is not ready in time"),
        "its SSH did not answer; it goes on running",
        format!("see `banger logs {name}`, or wait longer with --wait=SECONDS"),
    )
}

/// What a user is told of a VM that runs and that SSH does not reach.
pub fn unreachable(vm: &VmView) -> Problem {
    let name = &vm.spec.name;
    let what = format!("{name} runs, and SSH does not reach it");
    match &vm.problem {
        Some(problem) => {
            Problem::new(what, format!("{}: {}", problem.what, problem.why), problem.hint.clone())
        }
        None => Problem::new(
            what,
            "it has no address",
            format!("`banger console {name}` opens its serial console"),
        ),
    }
}

/// Whether a VM is ready, will not be, or (`None`) may yet be.
fn judge(vm: &Arc<VmView>) -> Option<Result<Arc<VmView>, Problem>> {
    let name = &vm.spec.name;
    match vm.phase {
        Phase::Running if vm.ssh.is_none() => Some(Err(unreachable(vm))),
        Phase::Running => Some(Ok(Arc::clone(vm))),
        Phase::Creating | Phase::Starting | Phase::Booting => None,
        Phase::Paused => Some(Err(vm.problem.clone().unwrap_or_else(|| {
            let hint = format!("`banger resume {name}` lets it go on");
            Problem::new(format!("cannot wait for {name}"), "it is paused", hint)
        }))),
        Phase::Stopped | Phase::Stopping | Phase::Crashed | Phase::Deleting => {
            Some(Err(vm.problem.clone().unwrap_or_else(|| {
                let why = match &vm.last_exit {
                    Some(exit) if vm.phase != Phase::Stopping => exit.reason.sentence(),
                    _ => format!("it is {}", vm.phase.word()),
                };
                let hint = format!("`banger logs {name}` shows what it wrote to its console");
                Problem::new(format!("{name} did not come up"), why, hint)
            })))
        }
    }
}

fn gone() -> Problem {
    Problem::new(
        "banger failed",
        "its supervisor ended unexpectedly",
        "see banger.log in the state directory",
    )
}

#[cfg(test)]
mod tests;
