//! What banger keeps: the runtime directory, the database, and whether what lies about is known.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::Subject;
use crate::{
    bundle::{self, Bundle, Configured},
    domain::{CheckView, HostReport, Layout, MadeState, MadeView, OrphanView, Problem, VmId},
    host::lock,
    store::{LedgerEntry, Store, VmRow},
};

/// A backup is made once a day while banger is used: one older than this is worth a word.
const BACKUP_OLD_DAYS: u64 = 7;

pub(super) fn bundle(subject: &Subject) -> CheckView {
    const ID: &str = "runtime";
    let configured = Configured { runtime_dir: subject.runtime_dir.clone(), repo_root: None };
    let located = match bundle::locate(&configured) {
        Ok(located) => located,
        Err(problem) => return CheckView::failed(ID, problem),
    };
    let bundle = match Bundle::open(&located.dir) {
        Ok(bundle) => bundle,
        Err(problem) => return CheckView::failed(ID, problem),
    };
    let images = bundle.images();
    if images.is_empty() {
        return CheckView::failed(
            ID,
            Problem::new(
                format!("{} has no base image", located.dir.display()),
                "a VM's disk begins as a copy of one",
                "run `banger runtime bootstrap`",
            ),
        );
    }
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    CheckView::ok(
        ID,
        format!("{}, with the images {}", located.dir.display(), names.join(", ")),
        format!("{}; `banger runtime verify` checks every file of it", located.origin),
    )
}

/// The database, and what can only be told with it: what was made, and what is left over.
pub(super) fn database(layout: &Layout, calls: u32, report: &mut HostReport) {
    const ID: &str = "database";
    let path = layout.database();
    if !path.exists() {
        report.checks.push(CheckView::ok(ID, "there is none yet", "it is made with the first VM"));
        return;
    }
    let known = Store::open(&path)
        .and_then(|store| Ok((store.vms()?, store.all_entries()?, store.recent_calls(calls)?)));
    let (vms, entries, calls) = match known {
        Ok(known) => known,
        Err(problem) => return report.checks.push(CheckView::failed(ID, problem)),
    };
    report.calls = calls;
    report.made = entries.iter().map(|entry| made(layout, &vms, entry)).collect();
    report.orphans = orphans(layout, &vms);
    report.checks.push(backup(&path, vms.len()));
    report.checks.push(ledger(&report.made));
    report.checks.push(left_over(&report.orphans));
}

fn made(layout: &Layout, vms: &[VmRow], entry: &LedgerEntry) -> MadeView {
    let up = |vm: &VmId| is_up(layout, vm);
    let lives = match &entry.vm {
        Some(vm) => up(vm),
        None => vms.iter().any(|vm| up(&vm.id)),
    };
    MadeView {
        vm: entry.vm.clone(),
        owner: entry.vm.as_ref().map_or_else(|| "shared".to_owned(), |vm| name_of(vms, vm)),
        kind: entry.kind.to_string(),
        key: entry.key.clone(),
        created: entry.created,
        state: if lives { MadeState::There } else { MadeState::OfDead },
    }
}

fn ledger(made: &[MadeView]) -> CheckView {
    let dead = made.iter().filter(|made| made.state == MadeState::OfDead);
    let left: Vec<String> =
        dead.map(|made| format!("{} {} of {}", made.kind, made.key, made.owner)).collect();
    if left.is_empty() {
        let what = format!("{} entries, all of VMs that run", made.len());
        return CheckView::ok("ledger", what, "");
    }
    CheckView::warning(
        "ledger",
        format!("{} things of VMs that are off are still noted", left.len()),
        format!("their monitors died: {}", left.join(", ")),
        "any start of banger clears up; `banger ls` is enough",
    )
}

fn backup(path: &Path, vms: usize) -> CheckView {
    const ID: &str = "database";
    let mut backup = path.as_os_str().to_owned();
    backup.push(".bak");
    let made = fs::metadata(backup).and_then(|meta| meta.modified()).ok();
    let age = made.and_then(|made| SystemTime::now().duration_since(made).ok());
    let what = format!("{} is sound, {vms} VMs", path.display());
    match age.map(|age| age.as_secs() / (24 * 60 * 60)) {
        None => {
            CheckView::ok(ID, what, "no backup yet: one is made once a day while banger is used")
        }
        Some(days) if days > BACKUP_OLD_DAYS => CheckView::warning(
            ID,
            format!("{what}; the newest backup is {days} days old"),
            "one is made once a day while the full-screen program runs",
            "open `banger` once",
        ),
        Some(0) => CheckView::ok(ID, what, "the newest backup is of today"),
        Some(days) => CheckView::ok(ID, what, format!("the newest backup is {days} days old")),
    }
}

/// What lies in the directories of VMs that nobody knows.
fn orphans(layout: &Layout, vms: &[VmRow]) -> Vec<OrphanView> {
    let known: HashSet<&str> = vms.iter().map(|vm| vm.id.as_str()).collect();
    let mut found = Vec::new();
    for dir in [layout.state.join("vms"), layout.run.clone()] {
        // No such directory: nothing in it.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let Some(vm) = name.to_str().and_then(|name| name.parse::<VmId>().ok()) else {
                continue;
            };
            if path.is_dir() && !known.contains(vm.as_str()) {
                found.push(OrphanView {
                    what: format!("{DIRECTORY}{}", path.display()),
                    whose: format!("VM {vm}, which this database does not know"),
                    command: format!("rm -r {}", path.display()),
                });
            }
        }
    }
    found.sort();
    found
}

const DIRECTORY: &str = "directory ";

/// Removes what [`orphans`] finds, holding the locks that whoever needs it would hold.
pub(super) fn remove(layout: &Layout, orphan: &OrphanView) -> Result<(), Problem> {
    let fail = |why: String| Problem::new(format!("cannot remove {}", orphan.what), why, "");
    let vms = Store::open(&layout.database())?.vms()?;
    let path = orphan.what.strip_prefix(DIRECTORY).map(Path::new);
    let id = path.and_then(|path| path.file_name()?.to_str()?.parse::<VmId>().ok());
    let (Some(path), Some(vm)) = (path, id) else {
        return Err(fail("nobody knows how".to_owned()));
    };
    let locked = |path: PathBuf| match lock::FileLock::try_exclusive(&path) {
        Ok(Some(lock)) => Ok(lock.remove_on_drop()),
        Ok(None) => Err(fail("somebody is at work on it".to_owned())),
        Err(error) => Err(fail(format!("{}: {error}", path.display()))),
    };
    let _change = locked(layout.vm(&vm).change_lock())?;
    let _run = locked(layout.vm(&vm).run_lock())?;
    if !orphans(layout, &vms).contains(orphan) {
        return Ok(());
    }
    fs::remove_dir_all(path).map_err(|error| fail(error.to_string()))
}

fn left_over(orphans: &[OrphanView]) -> CheckView {
    const ID: &str = "orphans";
    if orphans.is_empty() {
        return CheckView::ok(ID, "nothing lies about that belongs to no VM", "");
    }
    let list: Vec<_> = orphans.iter().map(|orphan| orphan.what.as_str()).collect();
    CheckView::warning(
        ID,
        format!("{} things belong to nobody", list.len()),
        format!("{}: from another database, or left by a crash", list.join(", ")),
        "`banger doctor --clean` shows them and removes them",
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
        domain::{CheckLevel, OverlayKind, UnixMs, VmDraft},
        store::LedgerKind,
    };

    fn layout(dir: &Path) -> Layout {
        Layout { state: dir.join("state"), run: dir.join("run") }
    }

    fn looked(layout: &Layout) -> HostReport {
        let mut report = HostReport {
            at: UnixMs(0),
            checks: Vec::new(),
            made: Vec::new(),
            orphans: Vec::new(),
            calls: Vec::new(),
        };
        database(layout, 10, &mut report);
        report
    }

    fn level(report: &HostReport, id: &str) -> (CheckLevel, String) {
        let check = report.checks.iter().find(|check| check.id == id).expect("the check");
        (check.level, check.why.clone())
    }

    #[test]
    fn a_ledger_entry_of_a_dead_monitor_is_found() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = layout(dir.path());
        let id = VmId::from_bytes([0, 0, 0, 7]);
        let (vcpus, memory) = ("1".into(), "128".into());
        let draft = VmDraft {
            name: "web".into(),
            image: "tiny".into(),
            vcpus,
            memory,
            ..VmDraft::default()
        };
        let spec = draft.validate().expect("valid");
        let store = Store::open(&layout.database()).expect("store");
        let row = VmRow::new(id.clone(), spec, OverlayKind::SparseCopy, UnixMs(1));
        store.insert_vm(&row).expect("inserted");
        assert_eq!(level(&looked(&layout), "ledger").0, CheckLevel::Ok);

        let detail = serde_json::Value::Null;
        store.note(&id, LedgerKind::Socket, "/run/x/vmm.sock", &detail).expect("noted");
        let report = looked(&layout);
        let (of_dead, why) = level(&report, "ledger");
        assert_eq!(of_dead, CheckLevel::Warning);
        assert!(why.contains("socket /run/x/vmm.sock of web"), "{why}");
        assert_eq!(report.made[0].state, MadeState::OfDead);

        let held = lock::FileLock::try_exclusive(layout.vm(&id).run_lock()).expect("lock");
        let report = looked(&layout);
        assert_eq!(level(&report, "ledger").0, CheckLevel::Ok);
        assert_eq!(report.made[0].state, MadeState::There);
        drop(held);
    }

    #[test]
    fn what_belongs_to_no_vm_is_found_and_removed() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = layout(dir.path());
        drop(Store::open(&layout.database()).expect("store"));
        let left = layout.state.join("vms/0badcafe");
        fs::create_dir_all(&left).expect("dir");
        fs::create_dir_all(layout.run.join("not-an-id")).expect("dir");
        fs::write(layout.run.join("0badcafe.lock"), "").expect("file");
        let report = looked(&layout);
        let (found, why) = level(&report, "orphans");
        assert_eq!(found, CheckLevel::Warning);
        assert!(why.contains("vms/0badcafe:"), "{why}");
        assert!(!why.contains("lock"), "{why}");

        let orphan = &report.orphans[0];
        let held = lock::FileLock::try_exclusive(layout.run.join("0badcafe.lock")).expect("lock");
        assert!(remove(&layout, orphan).is_err(), "it is in use");
        drop(held);
        remove(&layout, orphan).expect("removed");
        assert!(!left.exists());
        assert!(looked(&layout).orphans.is_empty());
        assert!(layout.run.join("not-an-id").exists());
    }

    #[test]
    fn a_broken_database_is_told_and_not_touched() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = layout(dir.path());
        fs::create_dir_all(&layout.state).expect("dir");
        fs::write(layout.database(), "no database at all").expect("file");
        assert_eq!(level(&looked(&layout), "database").0, CheckLevel::Failed);
        assert_eq!(fs::read(layout.database()).expect("file"), b"no database at all");
        assert_eq!(fs::read_dir(&layout.state).expect("dir").count(), 1);
    }
}
