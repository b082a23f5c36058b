//! The database's thread: one request after the other, so that the rows the core is shown are
//! never older than the changes it asked for.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{files, leftovers, monitors::is_up};
use crate::{
    domain::{ExitRecord, Layout, Notice, Problem, UnixMs, VmId},
    host::fault,
    image,
    store::{Change, Store, StoreError, VmRow, VmState},
    supervisor::core::{Found, Input, Token},
};

/// How often changes of other processes are looked for. `PRAGMA data_version` costs microseconds.
const POLL: Duration = Duration::from_millis(250);

/// What the thread is asked.
pub enum Request {
    /// Commit, then report.
    Apply(Token, Change),
    /// Write to the event log.
    Log(Notice),
    /// How the last run of a VM ended.
    LastExit(VmId, oneshot::Sender<Option<ExitRecord>>),
    /// The VM's row.
    Row(VmId, oneshot::Sender<Result<Option<VmRow>, Problem>>),
    /// A backup if one is due; room set aside for a full disk.
    Maintain(UnixMs),
}

/// The thread, as others see it. It ends when the last of these is dropped.
#[derive(Clone)]
pub struct Database {
    requests: Sender<Request>,
}

impl Database {
    /// Starts the thread. It reads everything, tells it as [`Input::Loaded`], and goes on.
    pub fn start(
        store: Store,
        layout: Layout,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> (Self, JoinHandle<()>) {
        let (requests, queue) = channel();
        let run = move || {
            match load(&store, &layout) {
                Ok(found) => drop(inputs.send(Input::Loaded(found))),
                Err(problem) => {
                    tracing::error!(%problem, "the database cannot be read");
                    drop(inputs.send(Input::Loaded(Vec::new())));
                }
            }
            serve(&store, &layout, &queue, &inputs);
        };
        let thread = thread::Builder::new().name("database".into()).spawn(run);
        (Self { requests }, thread.expect("a thread can be started"))
    }

    /// Asks; the thread does it when it is its turn.
    pub fn ask(&self, request: Request) {
        // Without the thread there is nobody to tell either: it ends only after all of these.
        let _ = self.requests.send(request);
    }

    /// How the last run of a VM ended, as it is written down now.
    pub async fn last_exit(&self, vm: &VmId) -> Option<ExitRecord> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::LastExit(vm.clone(), reply));
        answer.await.ok().flatten()
    }

    /// The VM's row as it is now.
    ///
    /// # Errors
    /// The file.
    pub async fn row(&self, vm: &VmId) -> Result<Option<VmRow>, Problem> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Row(vm.clone(), reply));
        answer.await.unwrap_or(Ok(None))
    }
}

fn load(store: &Store, layout: &Layout) -> Result<Vec<Found>, Problem> {
    let rows = store.vms()?;
    let mut ledger = std::collections::HashMap::<VmId, usize>::new();
    for entry in store.all_entries()? {
        if let Some(vm) = entry.vm {
            *ledger.entry(vm).or_default() += 1;
        }
    }
    let found = |row: VmRow| {
        // A run that is closed, with nothing in the ledger, has no monitor to look for.
        let ledger = ledger.get(&row.id).copied().unwrap_or(0);
        let suspect = row.run_is_open() || ledger > 0;
        let up = suspect && is_up(layout, &row.id);
        // Its monitor may have ended, and said how, since the row was read.
        let row = if suspect && !up { store.vm(&row.id)?.unwrap_or(row) } else { row };
        let abandoned = row.state != VmState::Ready
            && !files::is_being_changed(layout, &row.id)
            // As it is now that nobody is at it.
            && store.vm(&row.id)?.is_some_and(|row| row.state != VmState::Ready);
        let orphan = row.helper_of.as_deref().is_some_and(|of| !image::is_worked_on(layout, of));
        Ok(Found { row, up, ledger, abandoned, orphan })
    };
    rows.into_iter().map(found).collect()
}

fn serve(
    store: &Store,
    layout: &Layout,
    queue: &Receiver<Request>,
    inputs: &mpsc::UnboundedSender<Input>,
) {
    let mut version = store.data_version().unwrap_or_default();
    let mut next_poll = Instant::now() + POLL;
    loop {
        match queue.recv_timeout(next_poll.saturating_duration_since(Instant::now())) {
            Ok(request) => answer(store, layout, request, inputs),
            Err(RecvTimeoutError::Timeout) => {
                next_poll = Instant::now() + POLL;
                let now = store.data_version().unwrap_or(version);
                if now == version {
                    continue;
                }
                version = now;
                match store.vms() {
                    Ok(rows) => drop(inputs.send(Input::RowsChanged(rows))),
                    Err(problem) => tracing::warn!(%problem, "cannot read what changed"),
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn answer(store: &Store, layout: &Layout, request: Request, inputs: &mpsc::UnboundedSender<Input>) {
    match request {
        Request::Apply(token, change) => {
            let result = match (store.apply(&change), &change) {
                // Another banger has removed it meanwhile.
                (Err(StoreError::NoSuchVm(_)), Change::Remove(_)) => Ok(()),
                (result, _) => result.map_err(Problem::from),
            };
            fault::point("a change of a VM was committed");
            let _ = inputs.send(Input::EffectDone { token, result });
        }
        Request::Log(notice) => {
            if let Err(error) = store.push_event(&notice) {
                tracing::warn!(%error, text = notice.text, "not in the event log");
            }
        }
        Request::LastExit(vm, reply) => {
            let row = store.vm(&vm).ok().flatten();
            let _ = reply.send(row.and_then(|row| row.last_exit));
        }
        Request::Row(vm, reply) => drop(reply.send(store.vm(&vm))),
        Request::Maintain(now) => {
            if let Err(problem) = store.maintain(now) {
                tracing::warn!(%problem, "no backup of the database");
            }
            leftovers::set_aside(layout);
        }
    }
}
