//! What processes that were killed left behind, and that no VM's own clearing up comes by: what all
//! VMs shared, and the files of locks.

use std::fs;

use super::{look, recreate};
use crate::{
    domain::{Layout, VmId},
    host::lock::{self, FileLock},
    monitor::{self, Ground},
    names,
    store::{self, Store},
    supervisor::Options,
};

/// Removes it. What somebody uses, and what does not go, stays for the next banger. Blocks.
pub fn sweep(options: &Options) {
    let layout = &options.layout;
    let shared = Store::open(&layout.database()).and_then(|store| {
        if !monitor::has_unused(&store)? {
            return Ok(Vec::new());
        }
        Ok(monitor::release(&Ground::find(&store, layout)?))
    });
    for left in shared.unwrap_or_else(|problem| vec![problem.to_string()]) {
        tracing::warn!(left, "still on the host");
    }
    if let Err(error) = names::sweep(&layout.run) {
        tracing::warn!(%error, "the name server's files stay");
    }
    let images = look::catalog(options).sweep();
    let disks = Store::open(&layout.database()).and_then(|store| recreate::sweep(layout, &store));
    for problem in [images, disks].into_iter().filter_map(Result::err) {
        tracing::warn!(%problem, "what was interrupted stays for the next banger");
    }
    locks(layout);
    // Last: what was removed is room.
    set_aside(layout);
}

/// Sets room aside for the database, if there is one and the disk is roomy. It costs eight looks
/// at files where that was done before.
pub fn set_aside(layout: &Layout) {
    let database = layout.database();
    if database.exists()
        && let Err(error) = store::set_aside(&database)
    {
        tracing::warn!(%error, "no room is set aside for a disk that is full");
    }
}

/// Removes the files of locks that nobody holds.
fn locks(layout: &Layout) {
    // Without the directory there are none.
    for entry in fs::read_dir(&layout.run).into_iter().flatten().flatten() {
        let path = entry.path();
        let words = path.file_stem().zip(path.extension());
        let words = words.and_then(|(stem, kind)| Some((stem.to_str()?, kind.to_str()?)));
        match words.map(|(stem, kind)| (stem.parse::<VmId>().ok(), kind)) {
            Some((Some(vm), "lock")) => run_lock(layout, &vm),
            Some((Some(_), "change")) => drop(free(&path)),
            _ if path == layout.host_lock() || path == layout.bases_lock() => drop(free(&path)),
            _ => {}
        }
    }
}

/// A VM is up while its run lock is held, however shortly: only whoever has its change lock may take
/// it.
fn run_lock(layout: &Layout, vm: &VmId) {
    let paths = layout.vm(vm);
    if lock::is_held(paths.run_lock()).unwrap_or(true) {
        return;
    }
    if let Some(_change) = free(&paths.change_lock()) {
        drop(free(&paths.run_lock()));
    }
}

/// The lock, if nobody has it; its file goes with it.
fn free(path: &std::path::Path) -> Option<FileLock> {
    FileLock::try_exclusive(path).ok().flatten().map(FileLock::remove_on_drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_locks_that_nobody_holds_go_and_others_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout { state: dir.path().join("s"), run: dir.path().join("r") };
        let (up, down) = (VmId::from_bytes([0, 0, 0, 1]), VmId::from_bytes([0, 0, 0, 2]));
        let held: Vec<_> = [layout.vm(&up).run_lock(), layout.vm(&down).change_lock()]
            .map(|path| FileLock::try_exclusive(path).expect("io").expect("free"))
            .into();
        let foreign = layout.run.join("notes.lock");
        for path in [layout.host_lock(), layout.bases_lock(), foreign.clone()] {
            fs::write(path, "1\n").expect("written");
        }
        fs::write(layout.vm(&up).change_lock(), "1\n").expect("written");
        fs::write(layout.vm(&down).run_lock(), "1\n").expect("written");
        let names = || {
            let entries = fs::read_dir(&layout.run).expect("there");
            let mut paths: Vec<_> = entries.map(|e| e.expect("entry").path()).collect();
            paths.sort();
            paths
        };
        locks(&layout);
        // Whoever changes the one that is down may be about to start it.
        let mut left = vec![
            layout.vm(&up).run_lock(),
            layout.vm(&down).change_lock(),
            layout.vm(&down).run_lock(),
            foreign.clone(),
        ];
        left.sort();
        assert_eq!(names(), left);
        drop(held);
        locks(&layout);
        assert_eq!(names(), [foreign]);
    }
}
