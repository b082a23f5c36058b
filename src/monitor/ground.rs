//! What a monitor has of the host: who does what needs privileges, and under which tag.

use std::{
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::geteuid;

use super::clock::Clock;
use crate::{
    domain::{HostCall, Layout, Problem, Tag, VmId},
    host::{
        fault, helper,
        lock::FileLock,
        ops::{Done, LinuxOps, Op, Operate},
    },
    store::{LedgerEntry, LedgerKind, Store},
};

/// How long others that make or remove what all VMs share are waited for: each needs some
/// milliseconds, and on a loaded host with hundreds of VMs they queue.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps a call for "What I ran". Without, all is as good otherwise.
pub fn write_down(store: &Store, call: &HostCall) {
    if let Err(error) = store.push_calls(std::slice::from_ref(call)) {
        tracing::warn!(%error, "what was done is not written down");
    }
}

/// The host as one database's banger may change it.
#[derive(Clone)]
pub struct Ground<'a> {
    /// The record of everything.
    pub store: &'a Store,
    /// Where the user's files lie.
    pub layout: &'a Layout,
    /// Marks what is made.
    pub tag: Tag,
    /// Who makes it; or why there is nobody.
    pub ops: Result<Arc<dyn Operate>, Problem>,
}

impl<'a> Ground<'a> {
    /// As root we do it ourselves; else the root helper does, if there is one.
    ///
    /// # Errors
    /// The database.
    pub fn find(store: &'a Store, layout: &'a Layout) -> Result<Self, Problem> {
        let mut fresh = [0; 3];
        getrandom::fill(&mut fresh).map_err(|e| {
            Problem::new("cannot choose a tag", e.to_string(), "try again in a moment")
        })?;
        let tag = store.tag(|| Tag::from_bytes(fresh))?;
        let ops: Result<Arc<dyn Operate>, Problem> = if geteuid().is_root() {
            Ok(Arc::new(LinuxOps::new(tag.clone(), geteuid().as_raw())))
        } else {
            helper::available()
                .map(|()| -> Arc<dyn Operate> { Arc::new(helper::HelperOps::new(tag.clone())) })
        };
        Ok(Self { store, layout, tag, ops })
    }

    /// Does an operation for a VM, or for what all share, and writes down that it was done.
    /// Blocks; not for a thread that drives a tokio runtime.
    ///
    /// # Errors
    /// That there is nobody to do it, or as [`Operate::run`].
    pub fn run(
        &self,
        vm: Option<&VmId>,
        op: &Op,
        files: &[BorrowedFd<'_>],
    ) -> Result<Done, Problem> {
        let ops = self.ops.as_ref().map_err(Problem::clone)?;
        let (at, begun) = (Clock::start().now(), Instant::now());
        let result = ops.run(op, files);
        let call = HostCall {
            at,
            vm: vm.cloned(),
            command: op.commands(&self.tag).join("\n"),
            took_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            error: result.as_ref().err().map(|problem| problem.why.clone()),
        };
        write_down(self.store, &call);
        fault::point(&call.command);
        result
    }

    /// Writes down what is about to be made of a VM.
    ///
    /// # Errors
    /// As [`Store::note`]: then nothing must be made.
    pub fn note(
        &self,
        vm: &VmId,
        kind: LedgerKind,
        key: &str,
        detail: &serde_json::Value,
    ) -> Result<(), Problem> {
        self.store.note(vm, kind, key, detail)?;
        fault::point(format_args!("{kind} {key} was noted"));
        Ok(())
    }

    /// Writes down what is about to be made for all VMs. The caller holds [`Ground::lock`].
    ///
    /// # Errors
    /// As [`Store::note_shared`]: then nothing must be made.
    pub fn note_shared(
        &self,
        kind: LedgerKind,
        key: &str,
        detail: &serde_json::Value,
    ) -> Result<(), Problem> {
        self.store.note_shared(kind, key, detail)?;
        fault::point(format_args!("shared {kind} {key} was noted"));
        Ok(())
    }

    /// Strikes out what is gone from the host.
    ///
    /// # Errors
    /// As [`Store::clear`].
    pub fn strike_out(&self, entry: &LedgerEntry) -> Result<(), Problem> {
        fault::point(format_args!("{} {} is gone", entry.kind, entry.key));
        self.store.clear(entry.id)?;
        fault::point(format_args!("{} {} was struck out", entry.kind, entry.key));
        Ok(())
    }

    /// Keeps others from making or removing what all VMs share.
    ///
    /// # Errors
    /// If they take too long.
    pub fn lock(&self) -> Result<FileLock, Problem> {
        let path = self.layout.host_lock();
        let fail = |why: String| {
            Problem::new("cannot change the host", why, "try again; `banger doctor` looks at it")
        };
        FileLock::exclusive_within(&path, PATIENCE)
            .map_err(|e| fail(format!("{}: {e}", path.display())))?
            .map(FileLock::remove_on_drop)
            .ok_or_else(|| fail("other bangers have been at it for a minute".to_owned()))
    }
}
