//! Doing what the core asks for. Every effect runs by itself and reports back.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    bootstrap,
    database::{Database, Request},
    files, look,
    monitors::{self, Starter},
    recreate, snapshot,
};
use crate::{
    domain::{ExitRecord, JobId, OverlayKind, Problem, VmId, VmSpec, Wishes},
    host::{LinuxHost, fault, lock::FileLock},
    image::Catalog,
    monitor::client,
    store::{Change, Store, VmState},
    supervisor::{
        Options,
        core::{ImageChange, Input, Token},
    },
};

/// A bootstrap under way, and what cancels it.
pub type Running = (JobId, Arc<AtomicBool>);

/// What effects need. Cheap to clone.
#[derive(Clone)]
pub struct Effects {
    pub options: Arc<Options>,
    pub database: Database,
    pub inputs: mpsc::UnboundedSender<Input>,
    /// The change locks of VMs that are being made: held from before the row is there until the
    /// VM is whole or gone, so that no other banger takes an unfinished one for an abandoned one.
    pub making: Arc<Mutex<HashMap<VmId, FileLock>>>,
    /// VMs whose monitors are followed.
    pub following: Arc<Mutex<HashSet<VmId>>>,
    /// The bootstrap that is under way.
    pub bootstrap: Arc<Mutex<Option<Running>>>,
}

impl Effects {
    /// Reports the end of an effect.
    pub fn done(&self, token: Token, result: Result<(), Problem>) {
        let _ = self.inputs.send(Input::EffectDone { token, result });
    }

    /// Commits a change; takes and gives back the change lock of a VM that is being made.
    pub fn persist(&self, token: Token, change: Change) {
        if let Change::Insert(row) = &change {
            match files::lock_for_change(&self.options.layout, &row.id) {
                Ok(lock) => drop(self.making().insert(row.id.clone(), lock)),
                Err(problem) => return self.done(token, Err(problem)),
            }
            fault::point("the VM's change lock was taken");
        }
        let finished = match &change {
            Change::State(vm, VmState::Ready) | Change::Remove(vm) => Some(vm.clone()),
            _ => None,
        };
        self.database.ask(Request::Apply(token, change));
        if let Some(vm) = finished {
            let (effects, database) = (self.clone(), self.database.clone());
            // After the commit: a request that is answered after it.
            tokio::spawn(async move {
                let _ = database.row(&vm).await;
                effects.making().remove(&vm);
            });
        }
    }

    /// Makes the files of a VM.
    pub fn create(&self, token: Token, vm: VmId, spec: VmSpec, overlay: OverlayKind) {
        self.block(token, move |this| {
            let layout = &this.options.layout;
            // What will run it must be there, too.
            let bundle = look::bundle(&this.options)?;
            let catalog = Catalog::new(layout, Some(&bundle), &this.options.packages);
            let store = Store::open(&layout.database())?;
            match overlay {
                OverlayKind::DmSnapshot => {
                    snapshot::create(layout, &store, &catalog, &vm, &spec)?;
                }
                OverlayKind::Reflink | OverlayKind::SparseCopy => {
                    files::create(&LinuxHost, layout, &store, &catalog, &vm, &spec)?;
                }
            }
            let used = look::disk_used(&layout.vm(&vm)).unwrap_or(0);
            let _ = this.inputs.send(Input::DiskUsed(vec![(vm, used)]));
            Ok(())
        });
    }

    /// Makes the disk of a VM anew.
    pub fn recreate(&self, token: Token, vm: VmId) {
        self.block(token, move |this| {
            let _lock = this.lock(&vm)?;
            let layout = &this.options.layout;
            let catalog = look::catalog(&this.options);
            let store = Store::open(&layout.database())?;
            recreate::recreate(&LinuxHost, layout, &store, &catalog, &vm)?;
            let used = look::disk_used(&layout.vm(&vm)).unwrap_or(0);
            let _ = this.inputs.send(Input::DiskUsed(vec![(vm, used)]));
            Ok(())
        });
    }

    /// Changes an image of the user's.
    pub fn change_image(&self, token: Token, change: ImageChange) {
        self.block(token, move |this| {
            let catalog = look::catalog(&this.options);
            let result = match &change {
                ImageChange::Rename(old, new) => catalog.rename(old, new),
                ImageChange::Delete(name) => catalog.remove(name),
            };
            look::tell_images(&this.options, &this.inputs);
            result
        });
    }

    /// Removes them.
    pub fn delete(&self, token: Token, vm: VmId) {
        self.block(token, move |this| {
            let _lock = this.lock(&vm)?;
            let layout = &this.options.layout;
            files::delete(layout, &Store::open(&layout.database())?, &vm)
        });
    }

    /// Clears up after a dead monitor.
    pub fn clean_up(&self, token: Token, vm: VmId, lost: ExitRecord) {
        self.block(token, move |this| {
            let _lock = this.lock(&vm)?;
            let layout = &this.options.layout;
            files::clean_up(layout, &Store::open(&layout.database())?, &vm, &lost)
        });
    }

    /// Starts a monitor, and follows it.
    pub fn start(&self, token: Token, vm: VmId) {
        let this = self.clone();
        tokio::spawn(async move {
            let worker = this.clone();
            let id = vm.clone();
            let wishes = match this.database.row(&vm).await {
                Ok(row) => row.map_or_else(Wishes::default, |row| row.spec.wishes),
                Err(problem) => return this.done(token, Err(problem)),
            };
            let started = spawn_blocking(move || {
                let _lock = worker.lock(&id)?;
                let options = &worker.options;
                let choice = look::choice(options, wishes)?;
                let bundle = look::bundle(options)?;
                let starter = Starter {
                    program: options.program.clone(),
                    layout: options.layout.clone(),
                    jailer: options.jailer,
                    names: options.names.clone(),
                    extra_keys: options.extra_keys.clone(),
                    stop_timeout_ms: options.stop_timeout_ms,
                };
                starter.start(&id, bundle.dir(), &choice)
            });
            let result = joined(started.await);
            if result.is_ok() {
                this.follow(vm);
            }
            this.done(token, result);
        });
    }

    /// Follows the monitor of a VM until it is gone, if it is not followed already.
    pub fn follow(&self, vm: VmId) {
        if !self.following().insert(vm.clone()) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let exit = loop {
                monitors::follow(&vm, &this.options.layout, &this.inputs).await;
                let exit = this.database.last_exit(&vm).await;
                // Another banger may have started it again meanwhile: then that exit is no news.
                if !monitors::is_up(&this.options.layout, &vm) {
                    break exit;
                }
            };
            this.following().remove(&vm);
            let _ = this.inputs.send(Input::MonitorGone { vm, exit });
        });
    }

    /// Asks a monitor to climb a ladder.
    pub fn stop(&self, token: Token, vm: VmId, ladder: crate::domain::StopLadder) {
        let this = self.clone();
        tokio::spawn(async move {
            let result = monitors::stop(&this.options.layout, &vm, ladder).await;
            this.done(token, result);
        });
    }

    /// Asks a monitor to pause its guest, or to let it go on.
    pub fn stand_still(&self, token: Token, vm: VmId, still: bool) {
        let this = self.clone();
        tokio::spawn(async move {
            let socket = this.options.layout.vm(&vm).monitor_socket();
            this.done(token, client::stand_still(&socket, still).await);
        });
    }

    /// Kills a monitor.
    pub fn kill_monitor(&self, token: Token, vm: VmId) {
        self.block(token, move |this| monitors::kill(&this.options.layout, &vm));
    }

    /// Makes or completes the runtime directory.
    pub fn run_bootstrap(&self, token: Token, job: JobId) {
        let cancel = Arc::new(AtomicBool::new(false));
        *self.bootstrap.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((job, Arc::clone(&cancel)));
        self.block(token, move |this| {
            let result = bootstrap::run(&this.options, job, &this.inputs, &cancel);
            look::tell_bundle(&this.options, &this.inputs);
            result
        });
    }

    /// Ends it, if it is of this job or whosever it is.
    pub fn cancel_bootstrap(&self, job: Option<JobId>) {
        let current = self.bootstrap.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((running, cancel)) = current.as_ref()
            && job.is_none_or(|job| job == *running)
        {
            cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Gives a timer's input when its time is over.
    pub fn arm(&self, vm: VmId, epoch: u64, after_ms: u64) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let _ = inputs.send(Input::Timer { vm, epoch });
        });
    }

    fn making(&self) -> std::sync::MutexGuard<'_, HashMap<VmId, FileLock>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn following(&self) -> std::sync::MutexGuard<'_, HashSet<VmId>> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The change lock, unless it is ours already.
    fn lock(&self, vm: &VmId) -> Result<Option<FileLock>, Problem> {
        if self.making().contains_key(vm) {
            return Ok(None);
        }
        files::lock_for_change(&self.options.layout, vm).map(Some)
    }

    pub(super) fn block(
        &self,
        token: Token,
        work: impl FnOnce(&Self) -> Result<(), Problem> + Send + 'static,
    ) {
        let this = self.clone();
        tokio::spawn(async move {
            let worker = this.clone();
            let result = joined(spawn_blocking(move || work(&worker)).await);
            this.done(token, result);
        });
    }
}

fn joined(result: Result<Result<(), Problem>, tokio::task::JoinError>) -> Result<(), Problem> {
    result.unwrap_or_else(|e| {
        let hint = "this is a bug of banger's: please report it with the log";
        Err(Problem::new("a part of banger failed", e.to_string(), hint))
    })
}
