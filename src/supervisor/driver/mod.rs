//! The driver: the async task that feeds the core and does what it asks for.
//!
//! One task owns the core; effects run beside it and report back as inputs. The database has a
//! thread of its own. The runtime is the supervisor's own, so that nothing the UI does can hold
//! it up.

mod bootstrap;
mod database;
mod effects;
pub(super) mod files;
mod first;
mod hosts;
mod leftovers;
pub(super) mod look;
mod monitors;
mod recreate;
mod snapshot;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, interval, sleep_until},
};

use self::{
    database::{Database, Request},
    effects::Effects,
    first::FirstPicture,
};
use super::{
    Command, Options, Origin, SupervisorHandle,
    core::{CommandId, Core, Effect, Input, Policy, Token},
    desk::Desk,
    extras,
    sessions::Sessions,
};
use crate::{
    domain::{Admission, CommandBody, Denied, Extras, Fleet, Notice, Problem, UnixMs, VmId},
    host::fault,
    monitor,
    store::Store,
};

/// Commands that wait; a user does not have that many at once.
const COMMANDS: usize = 64;
/// Notices that wait for a UI. What does not fit is in the event log all the same.
const NOTICES: usize = 256;
/// How often the host's memory and disks are looked at.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// How long the TUI's first picture waits for its parts, which are there within milliseconds;
/// what is late is in the next one.
const FIRST_PICTURE: Duration = Duration::from_millis(500);
/// The same for a verb, which shows no other. On a host that starts many VMs at once monitors
/// were seen to need more than half a second for an answer.
const ONLY_PICTURE: Duration = Duration::from_secs(10);
/// How long effects under way are waited for at the end.
const LAST_EFFECTS: Duration = Duration::from_secs(20);

/// Keeps the supervisor running.
pub struct SupervisorGuard {
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SupervisorGuard {
    /// Ends the supervisor: nothing new is begun, what is under way comes to its end (20 s at
    /// most), a bootstrap is cancelled. VMs go on running. Blocks.
    pub fn finish(mut self) {
        self.end_and_join();
    }

    fn end_and_join(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for SupervisorGuard {
    fn drop(&mut self) {
        self.end_and_join();
    }
}

/// Starts a supervisor.
///
/// # Errors
/// If the database cannot be used, or the machine has no more threads to give.
pub fn start(options: Options) -> Result<(SupervisorHandle, SupervisorGuard), Problem> {
    fault::arm("ui");
    let store = Store::open(&options.layout.database())?;
    let layout = monitor::in_force(&store, options.layout.clone())?;
    if layout != options.layout {
        let run = layout.run.display();
        tracing::info!(%run, "VMs run with their sockets there: XDG_RUNTIME_DIR is another here");
    }
    let options = Options { layout, ..options };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("supervisor")
        .enable_all()
        .build()
        .map_err(|e| Problem::new("cannot start the supervisor", e.to_string(), ""))?;
    let (commands, queue) = mpsc::channel(COMMANDS);
    let (fleet, picture) = watch::channel(Arc::new(Fleet::default()));
    let (notices, news) = mpsc::channel(NOTICES);
    let (end, ended) = oneshot::channel();
    let sessions =
        Arc::new(Sessions::new(options.layout.clone(), options.program.clone(), picture.clone()));
    let (inputs, inbox) = mpsc::unbounded_channel();
    let options = Arc::new(options);
    let images = Arc::new(Desk::new(&options));
    let swept = Arc::clone(&options);
    let sweeper = thread::Builder::new().name("sweeper".into());
    let sweeper = sweeper
        .spawn(move || leftovers::sweep(&swept))
        .map_err(|e| Problem::new("cannot start the supervisor", e.to_string(), ""))?;
    let (database, database_thread) =
        Database::start(store, options.layout.clone(), inputs.clone());
    let effects = Effects {
        options,
        database,
        inputs,
        making: Arc::new(Mutex::new(HashMap::new())),
        following: Arc::new(Mutex::new(HashSet::new())),
        bootstrap: Arc::new(Mutex::new(None)),
    };
    let driver = Driver {
        core: Core::new(Policy { polite_ms: effects.options.stop_timeout_ms, ..Policy::default() }),
        effects,
        fleet,
        notices,
        replies: HashMap::new(),
        under_way: HashSet::new(),
        next_command: 0,
        first: FirstPicture::new(),
    };
    let run = move || {
        runtime.block_on(driver.run(inbox, queue, ended));
        runtime.shutdown_timeout(Duration::from_millis(100));
        let _ = database_thread.join();
        let _ = sweeper.join();
    };
    let thread = thread::Builder::new()
        .name("supervisor".into())
        .spawn(run)
        .map_err(|e| Problem::new("cannot start the supervisor", e.to_string(), ""))?;
    let handle = SupervisorHandle { commands, fleet: picture, notices: news, sessions, images };
    Ok((handle, SupervisorGuard { end: Some(end), thread: Some(thread) }))
}

struct Driver {
    core: Core,
    effects: Effects,
    fleet: watch::Sender<Arc<Fleet>>,
    notices: mpsc::Sender<Notice>,
    replies: HashMap<CommandId, oneshot::Sender<Admission>>,
    /// Tokens whose effects have not ended.
    under_way: HashSet<Token>,
    next_command: u64,
    first: FirstPicture,
}

impl Driver {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Input>,
        mut queue: mpsc::Receiver<Command>,
        mut ended: oneshot::Receiver<()>,
    ) {
        self.look_at_bundle();
        let mut look_around = interval(LOOK_AROUND);
        let mut deadline: Option<Instant> = None;
        let patience = match self.effects.options.origin {
            Origin::Tui => FIRST_PICTURE,
            Origin::Script | Origin::Restore => ONLY_PICTURE,
        };
        let first_picture = Instant::now() + patience;
        let (looked, mut looked_at) = mpsc::unbounded_channel();
        loop {
            if deadline.is_some() && self.under_way.is_empty() {
                return;
            }
            let last = deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = sleep_until(last), if deadline.is_some() => return,
                () = sleep_until(first_picture), if !self.first.is_whole() => {
                    self.first.give_up();
                    self.publish();
                }
                Some(input) = inbox.recv() => self.step(input),
                Some(command) = queue.recv(), if deadline.is_none() => {
                    self.look_at(command, &looked);
                }
                Some(command) = looked_at.recv(), if deadline.is_none() => self.command(command),
                _ = &mut ended, if deadline.is_none() => {
                    deadline = Some(Instant::now() + LAST_EFFECTS);
                    self.effects.cancel_bootstrap(None);
                }
                _ = look_around.tick(), if deadline.is_none() => self.look_around(),
            }
        }
    }

    /// Takes a command; one that names files of the user's once those have been found good, so that
    /// whoever named them is told while they can still be corrected.
    fn look_at(&mut self, command: Command, looked: &mpsc::UnboundedSender<Command>) {
        let CommandBody::Create { spec, .. } = &command.body else { return self.command(command) };
        let for_all = self.effects.options.extra_keys.clone();
        if *spec.extras == Extras::default() && for_all.is_empty() {
            return self.command(command);
        }
        let (spec, looked) = (spec.clone(), looked.clone());
        let look = move || files::given(&spec).and_then(|_| extras::for_all(&for_all));
        tokio::task::spawn_blocking(move || match look() {
            Ok(_) => drop(looked.send(command)),
            Err(problem) => drop(command.reply.send(Admission::Denied(Denied(problem)))),
        });
    }

    fn command(&mut self, Command { body, reply }: Command) {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        let mut bytes = [0; 4];
        if let Err(error) = getrandom::fill(&mut bytes) {
            let problem = Problem::new("cannot draw an id", error.to_string(), "try again");
            let _ = reply.send(Admission::Denied(Denied(problem)));
            return;
        }
        self.replies.insert(id, reply);
        self.step(Input::Command { id, body, fresh: VmId::from_bytes(bytes) });
    }

    fn step(&mut self, input: Input) {
        match &input {
            Input::EffectDone { token, .. } => drop(self.under_way.remove(token)),
            Input::Loaded(found) => {
                for found in found.iter().filter(|found| found.up) {
                    self.effects.follow(found.row.id.clone());
                }
                self.look_at_disks();
            }
            Input::RowsChanged(rows) => {
                // Another process may have changed images: they are written down there, too.
                self.look_at_images();
                // A run that another process began, or that we began and follow already.
                for row in rows.iter().filter(|row| row.run_is_open()) {
                    self.effects.follow(row.id.clone());
                }
            }
            _ => {}
        }
        let was_whole = self.first.is_whole();
        self.first.note(&input);
        for effect in self.core.step(input, now()) {
            self.run_effect(effect);
        }
        if !was_whole && self.first.is_whole() {
            self.publish();
        }
    }

    fn run_effect(&mut self, effect: Effect) {
        self.under_way.extend(effect.token());
        match effect {
            Effect::Persist { token, change } => self.effects.persist(token, change),
            Effect::CreateDisk { token, vm, spec, overlay } => {
                self.effects.create(token, vm, spec, overlay);
            }
            Effect::StartMonitor { token, vm } => self.effects.start(token, vm),
            Effect::RequestStop { token, vm, ladder } => self.effects.stop(token, vm, ladder),
            Effect::StandStill { token, vm, still } => self.effects.stand_still(token, vm, still),
            Effect::KillMonitor { token, vm } => self.effects.kill_monitor(token, vm),
            Effect::CleanUp { token, vm, lost } => self.effects.clean_up(token, vm, lost),
            Effect::RecreateDisk { token, vm } => self.effects.recreate(token, vm),
            Effect::ChangeImage { token, change } => self.effects.change_image(token, change),
            Effect::DeleteFiles { token, vm } => self.effects.delete(token, vm),
            Effect::RunBootstrap { token, job } => self.effects.run_bootstrap(token, job),
            Effect::LookAtHost { token } => self.effects.look_at_host(token),
            Effect::CleanHost { token, job, orphans } => {
                self.effects.clean_host(token, job, orphans);
            }
            Effect::CancelBootstrap { job } => self.effects.cancel_bootstrap(Some(job)),
            Effect::ArmTimer { vm, epoch, after_ms } => self.effects.arm(vm, epoch, after_ms),
            Effect::Reply { command, admission } => {
                if let Some(reply) = self.replies.remove(&command) {
                    // Whoever asked may have lost interest.
                    let _ = reply.send(admission);
                }
            }
            Effect::Notice(notice) => {
                self.effects.database.ask(Request::Log(notice.clone()));
                let _ = self.notices.try_send(notice);
            }
            Effect::Publish => self.publish(),
        }
    }

    fn publish(&mut self) {
        if self.first.is_whole() {
            self.fleet.send_replace(Arc::new(self.core.fleet()));
        }
    }

    fn look_at_bundle(&self) {
        let Effects { options, inputs, .. } = self.effects.clone();
        tokio::task::spawn_blocking(move || look::tell_bundle(&options, &inputs));
    }

    fn look_at_images(&self) {
        let Effects { options, inputs, .. } = self.effects.clone();
        tokio::task::spawn_blocking(move || look::tell_images(&options, &inputs));
    }

    fn look_at_disks(&self) {
        let Effects { options, inputs, .. } = self.effects.clone();
        tokio::task::spawn_blocking(move || {
            let _ = inputs.send(Input::DiskUsed(look::disks(&options)));
        });
    }

    fn look_around(&self) {
        let Effects { options, inputs, database, .. } = self.effects.clone();
        tokio::task::spawn_blocking(move || {
            let _ = inputs.send(Input::HostFacts(look::host(&options)));
        });
        if self.effects.options.origin == Origin::Tui {
            self.look_at_disks();
            self.look_at_images();
            database.ask(Request::Maintain(now()));
        }
    }
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
