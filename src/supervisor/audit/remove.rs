//! Removing what nobody needs: each thing after another look at it, while the locks are held of
//! whoever might begin to need it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Orphan, Role, Thing,
    look::{Ours, once},
};
use crate::{
    domain::{ExitReason, ExitRecord, OrphanView, Problem, UnixMs, VmId},
    host::{
        lock::FileLock,
        ops::Op,
        process::{self, ProcessRef, Signal},
    },
    monitor::Ground,
    store::{LedgerEntry, LedgerKind},
    supervisor::driver::files,
    vmm::Piece,
};

/// How long a process may take to be gone after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long somebody who makes or removes a base is waited for.
const BASES_PATIENCE: Duration = Duration::from_secs(10);

/// Removes these, `now` being the time. All are tried, in the order in which they hold each other;
/// `tell` hears of each, by its place in `orphans`, what came of it. What is gone, or needed again,
/// counts as removed.
///
/// # Errors
/// The database.
pub fn remove(
    ground: &Ground<'_>,
    orphans: &[OrphanView],
    now: UnixMs,
    tell: &mut dyn FnMut(usize, &Result<(), Problem>),
) -> Result<(), Problem> {
    let found = once(ground, &Ours::default())?.findings.orphans;
    let find = |view: &OrphanView| found.iter().find(|(v, _)| v == view).map(|(_, orphan)| orphan);
    let mut order: Vec<usize> = (0..orphans.len()).collect();
    order.sort_by_key(|index| orphans.get(*index).and_then(find).map(rank));
    for index in order {
        let Some(view) = orphans.get(index) else { continue };
        let removed = find(view).map_or(Ok(()), |orphan| one(ground, view, orphan, now));
        tell(index, &removed);
    }
    Ok(())
}

/// What has others open, or is made of them, goes before them.
const fn rank(orphan: &Orphan) -> u8 {
    match orphan {
        Orphan::Entry(LedgerEntry { vm: Some(_), .. }) => 0,
        Orphan::Thing(Thing::Process { .. }) => 1,
        Orphan::Thing(Thing::Mount(_)) => 2,
        Orphan::Thing(Thing::Tap(_) | Thing::Snapshot(_)) => 3,
        Orphan::Thing(_) => 4,
        Orphan::Entry(LedgerEntry { vm: None, .. }) => 5,
    }
}

fn one(
    ground: &Ground<'_>,
    view: &OrphanView,
    orphan: &Orphan,
    now: UnixMs,
) -> Result<(), Problem> {
    let still = |ours: &Ours| -> Result<bool, Problem> {
        let found = once(ground, ours)?.findings.orphans;
        Ok(found.iter().any(|(_, other)| other == orphan))
    };
    let fail = |why: String| {
        Problem::new(
            format!("cannot remove {}", view.what),
            why,
            format!("by hand: {}", view.command),
        )
    };
    let io_fail = |error: io::Error| fail(error.to_string());
    match orphan {
        Orphan::Entry(entry) => match &entry.vm {
            Some(vm) => {
                let _change = files::lock_for_change(ground.layout, vm)?;
                let lost = ExitRecord { at: now, reason: ExitReason::MonitorLost };
                files::clean_up(ground.layout, ground.store, vm, &lost)
            }
            None => {
                let _host = ground.lock()?;
                if !still(&Ours::default())? {
                    return Ok(());
                }
                if let Some(op) = undoing(entry) {
                    ground.run(None, &op, &[])?;
                }
                Ok(ground.store.clear(entry.id)?)
            }
        },
        Orphan::Thing(thing @ (Thing::Base(path) | Thing::Stray(path))) => {
            let path_of_lock = ground.layout.bases_lock();
            let lock = FileLock::exclusive_within(path_of_lock, BASES_PATIENCE).map_err(io_fail)?;
            let _lock = lock.ok_or_else(|| fail("another banger is at the bases".to_owned()))?;
            let bases = matches!(thing, Thing::Base(_));
            if still(&Ours { bases, vm: None })? { rm(path).map_err(io_fail) } else { Ok(()) }
        }
        Orphan::Thing(thing) => {
            let vm = thing.vm().cloned().or_else(|| vm_of_path(ground, thing));
            let _locks = match &vm {
                Some(vm) => Some(Locks::take(ground, vm).map_err(fail)?),
                None => None,
            };
            let _host = match thing.removal(&ground.tag) {
                Some(_) => Some(ground.lock()?),
                None => None,
            };
            let process = match thing {
                // Now: whoever has this id after the look is another.
                Thing::Process { pid, .. } => ProcessRef::of(*pid).ok(),
                _ => None,
            };
            if !still(&Ours { vm: vm.clone(), bases: false })? {
                return Ok(());
            }
            if let Some(op) = thing.removal(&ground.tag) {
                return ground.run(vm.as_ref(), &op, &[]).map(drop);
            }
            match (thing, process) {
                (Thing::Process { .. }, None) => Ok(()),
                (Thing::Process { role, .. }, Some(process)) => end(process, *role).map_err(fail),
                (Thing::Mount(path), _) => nix::mount::umount(path).map_err(|e| io_fail(e.into())),
                (Thing::Cgroup(_, path), _) => {
                    Piece::Cgroup(path.clone()).remove().map_err(io_fail)
                }
                // They go with the locks that we hold of them.
                (Thing::Lock { .. }, _) => Ok(()),
                (Thing::Loop { .. }, _) => {
                    Err(fail("somebody has it open; it goes with the last who has".to_owned()))
                }
                _ => thing.path(ground.layout).map_or(Ok(()), |path| rm(&path).map_err(io_fail)),
            }
        }
    }
}

/// A mount's VM, by where it is.
fn vm_of_path(ground: &Ground<'_>, thing: &Thing) -> Option<VmId> {
    let Thing::Mount(path) = thing else { return None };
    let dirs = [ground.layout.state.join("vms"), ground.layout.run.clone()];
    let below = dirs.iter().find_map(|dir| path.strip_prefix(dir).ok())?;
    below.iter().next()?.to_str()?.parse().ok()
}

/// What undoes an entry of what all share; `None` if it goes by itself.
const fn undoing(entry: &LedgerEntry) -> Option<Op> {
    match entry.kind {
        LedgerKind::Bridge => Some(Op::BridgeGone),
        LedgerKind::Rules => Some(Op::RulesGone),
        LedgerKind::Forwarding => Some(Op::ForwardingGone),
        _ => None,
    }
}

/// The locks of whoever changes or runs a VM. Nobody has the files when they are given back.
struct Locks {
    _change: FileLock,
    _run: FileLock,
}

impl Locks {
    fn take(ground: &Ground<'_>, vm: &VmId) -> Result<Self, String> {
        let paths = ground.layout.vm(vm);
        let lock = |path: PathBuf| match FileLock::try_exclusive(&path) {
            Ok(Some(lock)) => Ok(lock.remove_on_drop()),
            Ok(None) => Err("somebody is at work on it".to_owned()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        };
        Ok(Self { _change: lock(paths.change_lock())?, _run: lock(paths.run_lock())? })
    }
}

fn end(process: ProcessRef, role: Role) -> Result<(), String> {
    tracing::warn!(pid = process.pid, ?role, "a process that nobody knows of is ended");
    process.signal(Signal::SIGKILL).map_err(|error| error.to_string())?;
    match process::wait_gone(process, KILL_PATIENCE) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it does not end after SIGKILL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn rm(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
