//! Where VMs run: who has the same state does not always look for their sockets in the same place.
//!
//! `XDG_RUNTIME_DIR` is not set in a cron job, behind `su` or `sudo`. Who then looks for a VM's lock
//! in another place would take it for one whose monitor died, and clear it away. The ledger says
//! where its sockets are, and so where its lock is.

use std::path::Path;

use crate::{
    domain::{Layout, Problem, VmId},
    host::lock,
    store::{LedgerEntry, LedgerKind, Store},
};

/// Where a VM runs, if that is not where this layout looks for it.
///
/// # Errors
/// The database.
pub fn elsewhere(store: &Store, layout: &Layout, vm: &VmId) -> Result<Option<Layout>, Problem> {
    let entries = store.entries(vm)?;
    let mut places = entries.iter().filter_map(|entry| place(entry, layout));
    Ok(places.find(|there| there != layout))
}

/// The layout by which the VMs run that do; this one if none runs by another, or some by this one.
///
/// # Errors
/// The database.
pub fn in_force(store: &Store, layout: Layout) -> Result<Layout, Problem> {
    let mut other = None;
    for entry in store.all_entries()? {
        match place(&entry, &layout) {
            // Nearly always the first one.
            Some(there) if there == layout => return Ok(layout),
            Some(there) => other = Some(there),
            None => {}
        }
    }
    Ok(other.unwrap_or(layout))
}

/// Where the VM runs whose sockets an entry is of.
fn place(entry: &LedgerEntry, layout: &Layout) -> Option<Layout> {
    let (LedgerKind::Directory, Some(vm)) = (entry.kind, &entry.vm) else { return None };
    let dir = Path::new(&entry.key);
    let there = Layout { run: dir.parent()?.to_owned(), ..layout.clone() };
    let paths = there.vm(vm);
    // A lock that cannot be looked at is no proof that the VM is off.
    let runs = || lock::is_held(paths.run_lock()).unwrap_or(true);
    (paths.run_dir() == dir && runs()).then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{OverlayKind, UnixMs, VmDraft},
        host::lock::FileLock,
        store::VmRow,
    };

    #[test]
    fn a_vm_is_found_where_its_sockets_are_while_it_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = |run: &str| Layout { state: dir.path().join("s"), run: dir.path().join(run) };
        let (here, there) = (layout("here"), layout("there"));
        let store = Store::open(&here.database()).expect("a store");
        let vms = [1, 2].map(|n| VmId::from_bytes([0, 0, 0, n]));
        for (vm, name) in vms.iter().zip(["web", "db"]) {
            let draft = VmDraft {
                name: name.into(),
                image: "tiny".into(),
                vcpus: "1".into(),
                memory: "128".into(),
                ..VmDraft::default()
            };
            let spec = draft.validate().expect("valid");
            let row = VmRow::new(vm.clone(), spec, OverlayKind::SparseCopy, UnixMs(1));
            store.insert_vm(&row).expect("stored");
        }
        let [web, db] = &vms;
        let begin = |vm: &VmId, layout: &Layout| {
            let paths = layout.vm(vm);
            for path in [paths.run_dir().to_owned(), paths.jail()] {
                let (kind, key) = (LedgerKind::Directory, path.to_string_lossy());
                store.note(vm, kind, &key, &serde_json::json!(null)).expect("noted");
            }
            FileLock::try_exclusive(paths.run_lock()).expect("io").expect("free")
        };
        let seen = |vm: &VmId| elsewhere(&store, &here, vm).expect("read");
        let in_force = || in_force(&store, here.clone()).expect("read");
        assert_eq!((seen(web), in_force()), (None, here.clone()), "none runs");

        let webs = begin(web, &there);
        assert_eq!((seen(web), seen(db)), (Some(there.clone()), None));
        assert_eq!(in_force(), there);
        let dbs = begin(db, &here);
        assert_eq!((seen(web), seen(db)), (Some(there.clone()), None));
        assert_eq!(in_force(), here, "one runs by it");
        drop(dbs);
        assert_eq!(in_force(), there);
        // Its monitor is dead: what is left of it is for whoever comes.
        drop(webs);
        assert_eq!((seen(web), in_force()), (None, here.clone()));
    }
}
