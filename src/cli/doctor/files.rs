//! What banger keeps: the runtime directory, the database, and whether what lies about is known.

use std::{collections::HashSet, fs, path::Path, time::SystemTime};

use super::Check;
use crate::{
    bundle::{self, Bundle, Configured},
    config::Config,
    domain::{Layout, Problem, VmId},
    host::lock,
    store::{Store, VmRow},
};

/// A backup is made once a day while banger is used: one older than this is worth a word.
const BACKUP_OLD_DAYS: u64 = 7;

pub(super) fn bundle(config: &Config) -> Check {
    const ID: &str = "runtime";
    let configured = Configured { runtime_dir: config.runtime_dir.clone(), repo_root: None };
    let located = match bundle::locate(&configured) {
        Ok(located) => located,
        Err(problem) => return Check::failed(ID, problem),
    };
    let bundle = match Bundle::open(&located.dir) {
        Ok(bundle) => bundle,
        Err(problem) => return Check::failed(ID, problem),
    };
    let images = bundle.images();
    if images.is_empty() {
        return Check::failed(
            ID,
            Problem::new(
                format!("{} has no base image", located.dir.display()),
                "a VM's disk begins as a copy of one",
                "run `banger runtime bootstrap`",
            ),
        );
    }
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    Check::ok(
        ID,
        format!("{}, with the images {}", located.dir.display(), names.join(", ")),
        format!("{}; `banger runtime verify` checks every file of it", located.origin),
    )
}

/// The database, and what can only be checked with it.
pub(super) fn database(layout: &Layout) -> Vec<Check> {
    const ID: &str = "database";
    let path = layout.database();
    if !path.exists() {
        return vec![Check::ok(ID, "there is none yet", "it is made with the first VM")];
    }
    let known = Store::open(&path).and_then(|store| Ok((store.vms()?, store.all_entries()?)));
    let (vms, entries) = match known {
        Ok(known) => known,
        Err(problem) => return vec![Check::failed(ID, problem)],
    };
    let of_dead = entries.iter().filter_map(|entry| {
        let vm = entry.vm.as_ref()?;
        (!is_up(layout, vm)).then_some((entry, vm))
    });
    let left: Vec<String> = of_dead
        .map(|(entry, vm)| format!("{} {} of {}", entry.kind, entry.key, name_of(&vms, vm)))
        .collect();
    let ledger = if left.is_empty() {
        Check::ok("ledger", format!("{} entries, all of VMs that run", entries.len()), "")
    } else {
        Check::warning(
            "ledger",
            format!("{} things of VMs that are off are still noted", left.len()),
            format!("their monitors died: {}", left.join(", ")),
            "any start of banger clears up; `banger ls` is enough",
        )
    };
    vec![backup(&path, vms.len()), ledger, orphans(layout, &vms)]
}

fn backup(path: &Path, vms: usize) -> Check {
    const ID: &str = "database";
    let mut backup = path.as_os_str().to_owned();
    backup.push(".bak");
    let made = fs::metadata(backup).and_then(|meta| meta.modified()).ok();
    let age = made.and_then(|made| SystemTime::now().duration_since(made).ok());
    let what = format!("{} is sound, {vms} VMs", path.display());
    match age.map(|age| age.as_secs() / (24 * 60 * 60)) {
        None => Check::ok(ID, what, "no backup yet: one is made once a day while banger is used"),
        Some(days) if days > BACKUP_OLD_DAYS => Check::warning(
            ID,
            format!("{what}; the newest backup is {days} days old"),
            "one is made once a day while the full-screen program runs",
            "open `banger` once",
        ),
        Some(0) => Check::ok(ID, what, "the newest backup is of today"),
        Some(days) => Check::ok(ID, what, format!("the newest backup is {days} days old")),
    }
}

/// What lies in the directories of VMs that nobody knows.
fn orphans(layout: &Layout, vms: &[VmRow]) -> Check {
    const ID: &str = "orphans";
    let known: HashSet<&str> = vms.iter().map(|vm| vm.id.as_str()).collect();
    let mut found = Vec::new();
    for dir in [layout.state.join("vms"), layout.run.clone()] {
        // No such directory: nothing in it.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if id.parse::<VmId>().is_ok() && !known.contains(id) {
                found.push(path);
            }
        }
    }
    // A lock file without a VM is nothing by itself: it is made anew at will.
    let running = |path: &Path| lock::is_held(path).unwrap_or(false);
    found.retain(|path| path.is_dir() || running(path));
    if found.is_empty() {
        return Check::ok(ID, "nothing lies about that belongs to no VM", "");
    }
    found.sort();
    let list: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
    Check::warning(
        ID,
        format!("{} things belong to no VM", list.len()),
        format!("{}: from another database, or left by a crash", list.join(", ")),
        "look at them, and remove them if you need none of it",
    )
}

fn is_up(layout: &Layout, vm: &VmId) -> bool {
    // A lock that cannot be looked at is no proof that the VM is off.
    lock::is_held(layout.vm(vm).run_lock()).unwrap_or(true)
}

fn name_of(vms: &[VmRow], id: &VmId) -> String {
    let vm = vms.iter().find(|vm| vm.id == *id);
    vm.map_or_else(|| id.to_string(), |vm| vm.spec.name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{doctor::State, testing::vm},
        domain::{OverlayKind, UnixMs},
        store::LedgerKind,
    };

    fn layout(dir: &Path) -> Layout {
        Layout { state: dir.join("state"), run: dir.join("run") }
    }

    fn state(checks: &[Check], id: &str) -> (State, String) {
        let check = checks.iter().find(|check| check.id == id).unwrap();
        (check.state, check.why.clone())
    }

    #[test]
    fn a_ledger_entry_of_a_dead_monitor_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let view = vm("web");
        let store = Store::open(&layout.database()).unwrap();
        let row = VmRow::new(view.id.clone(), view.spec, OverlayKind::SparseCopy, UnixMs(1));
        store.insert_vm(&row).unwrap();
        assert_eq!(state(&database(&layout), "ledger").0, State::Ok);

        let detail = serde_json::Value::Null;
        store.note(&view.id, LedgerKind::Socket, "/run/x/vmm.sock", &detail).unwrap();
        let (state_of_dead, why) = state(&database(&layout), "ledger");
        assert_eq!(state_of_dead, State::Warning);
        assert!(why.contains("socket /run/x/vmm.sock of web"), "{why}");

        let held = lock::FileLock::try_exclusive(layout.vm(&view.id).run_lock()).unwrap();
        assert_eq!(state(&database(&layout), "ledger").0, State::Ok);
        drop(held);
    }

    #[test]
    fn what_belongs_to_no_vm_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        drop(Store::open(&layout.database()).unwrap());
        fs::create_dir_all(layout.state.join("vms/0badcafe")).unwrap();
        fs::create_dir_all(layout.run.join("not-an-id")).unwrap();
        fs::write(layout.run.join("0badcafe.lock"), "").unwrap();
        let (found, why) = state(&database(&layout), "orphans");
        assert_eq!(found, State::Warning);
        assert!(why.contains("vms/0badcafe:"), "{why}");
        assert!(!why.contains("lock"), "{why}");
    }

    #[test]
    fn a_broken_database_is_told_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        fs::create_dir_all(&layout.state).unwrap();
        fs::write(layout.database(), "no database at all").unwrap();
        assert_eq!(state(&database(&layout), "database").0, State::Failed);
        assert_eq!(fs::read(layout.database()).unwrap(), b"no database at all");
        assert_eq!(fs::read_dir(&layout.state).unwrap().count(), 1);
    }
}
