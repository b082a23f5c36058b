//! The ledger against the host, as checks.

use crate::{
    domain::{CheckView, HostReport, MadeState, MadeView},
    monitor::Ground,
    supervisor::audit::{self, Audit, Orphan},
};

/// How many things are named in one check; the lists beside have them all.
const NAMED: usize = 8;

/// Looks, and adds what was found.
pub(super) fn look(ground: &Ground<'_>, report: &mut HostReport) {
    match audit::look(ground) {
        Ok(audit) => add(audit, report),
        Err(problem) => report.checks.push(CheckView::failed("ledger", problem)),
    }
}

fn add(audit: Audit, report: &mut HostReport) {
    let Audit { findings, blind, strangers } = audit;
    report.made = findings.made;
    // What is in the ledger is told of as such, and only once.
    let of_nobody =
        findings.orphans.iter().filter(|(_, orphan)| matches!(orphan, Orphan::Thing(_)));
    let of_nobody: Vec<String> = of_nobody.map(|(view, _)| view.what.clone()).collect();
    report.checks.push(ledger(&report.made, blind.as_deref()));
    report.checks.push(left_over(&of_nobody, blind.as_deref()));
    report.orphans = findings.orphans.into_iter().map(|(view, _)| view).collect();
    if !strangers.is_empty() {
        let what = format!("{} interfaces are of other bangers", strangers.len());
        let why = format!("{}: they bear other tags, and are left alone", named(&strangers));
        report.checks.push(CheckView::ok("strangers", what, why));
    }
}

fn ledger(made: &[MadeView], blind: Option<&str>) -> CheckView {
    const ID: &str = "ledger";
    let of = |state| {
        let of = made.iter().filter(move |made| made.state == state);
        of.map(|made| format!("{} {} of {}", made.kind, made.key, made.owner)).collect::<Vec<_>>()
    };
    let (missing, dead) = (of(MadeState::Missing), of(MadeState::OfDead));
    let unknown = of(MadeState::Unknown);
    if !missing.is_empty() {
        return CheckView::warning(
            ID,
            format!("{} things of VMs that run are not there any more", missing.len()),
            format!("somebody else removed them: {}", named(&missing)),
            "restart these VMs: what is missing is made again",
        );
    }
    if !dead.is_empty() {
        return CheckView::warning(
            ID,
            format!("{} things of VMs that are off are still noted", dead.len()),
            format!("their monitors died: {}", named(&dead)),
            "any start of banger clears up; `banger ls` is enough",
        );
    }
    let why = match (unknown.is_empty(), blind) {
        (false, Some(blind)) => format!("{} could not be looked at: {blind}", named(&unknown)),
        _ => String::new(),
    };
    CheckView::ok(ID, format!("{} entries, all of VMs that run", made.len()), why)
}

fn left_over(orphans: &[String], blind: Option<&str>) -> CheckView {
    const ID: &str = "orphans";
    if orphans.is_empty() {
        let why = blind.map_or_else(String::new, |why| {
            format!("rules, snapshots and loop devices could not be looked at: {why}")
        });
        return CheckView::ok(ID, "nothing lies about that belongs to no VM", why);
    }
    CheckView::warning(
        ID,
        match orphans.len() {
            1 => "a thing belongs to nobody".to_owned(),
            many => format!("{many} things belong to nobody"),
        },
        format!("{}: from another database, or left by a crash", named(orphans)),
        "`banger doctor --clean` shows them and removes them",
    )
}

fn named(list: &[String]) -> String {
    let more = list.len().saturating_sub(NAMED);
    let mut text = list.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        domain::{
            CheckLevel, Layout, OrphanView, OverlayKind, Problem, Tag, UnixMs, VmDraft, VmId,
        },
        host::lock::FileLock,
        store::{LedgerKind, Store, VmRow},
    };

    struct Home {
        layout: Layout,
        store: Store,
    }

    impl Home {
        fn new(dir: &Path) -> Self {
            let layout = Layout { state: dir.join("state"), run: dir.join("run") };
            let store = Store::open(&layout.database()).expect("store");
            Self { layout, store }
        }

        /// By somebody who has no privileges.
        fn ground(&self) -> Ground<'_> {
            let nobody = Problem::new("there is no root helper", "nothing listens", "install it");
            let tag = Tag::from_bytes([9, 9, 9]);
            Ground { store: &self.store, layout: &self.layout, tag, ops: Err(nobody) }
        }

        fn report(&self) -> HostReport {
            let mut report = HostReport {
                at: UnixMs(0),
                checks: Vec::new(),
                made: Vec::new(),
                orphans: Vec::new(),
                calls: Vec::new(),
            };
            look(&self.ground(), &mut report);
            report
        }

        fn remove(&self, orphans: &[OrphanView]) -> Vec<Result<(), Problem>> {
            let mut results = vec![Ok(()); orphans.len()];
            let mut tell = |index: usize, result: &Result<(), Problem>| {
                results[index] = result.clone();
            };
            audit::remove(&self.ground(), orphans, UnixMs(5), &mut tell).expect("looked");
            results
        }
    }

    fn check<'a>(report: &'a HostReport, id: &str) -> &'a CheckView {
        report.checks.iter().find(|check| check.id == id).expect("the check")
    }

    fn row(id: &VmId) -> VmRow {
        let draft = VmDraft {
            name: "web".into(),
            image: "tiny".into(),
            vcpus: "1".into(),
            memory: "128".into(),
            ..VmDraft::default()
        };
        let spec = draft.validate().expect("valid");
        VmRow::new(id.clone(), spec, OverlayKind::SparseCopy, UnixMs(1))
    }

    #[test]
    fn what_a_dead_monitor_left_is_found_and_cleared() {
        let dir = tempfile::tempdir().expect("temp");
        let home = Home::new(dir.path());
        let id = VmId::from_bytes([0, 0, 0, 7]);
        home.store.insert_vm(&row(&id)).expect("inserted");
        assert_eq!(check(&home.report(), "ledger").level, CheckLevel::Ok);

        let run = home.layout.vm(&id).run_dir().to_owned();
        let detail = serde_json::Value::Null;
        let key = run.to_str().expect("text");
        home.store.note(&id, LedgerKind::Directory, key, &detail).expect("noted");
        fs::create_dir_all(&run).expect("made");
        let held = FileLock::try_exclusive(home.layout.vm(&id).run_lock()).expect("lock");
        let report = home.report();
        assert_eq!(check(&report, "ledger").level, CheckLevel::Ok, "{report:?}");
        assert_eq!(report.made[0].state, MadeState::There);
        fs::remove_dir(&run).expect("gone");
        assert_eq!(home.report().made[0].state, MadeState::Missing);
        fs::create_dir_all(&run).expect("made");
        drop(held);

        let report = home.report();
        assert_eq!(check(&report, "ledger").level, CheckLevel::Warning);
        assert_eq!(check(&report, "orphans").level, CheckLevel::Ok, "it is told once");
        let [orphan] = &report.orphans[..] else { panic!("{report:?}") };
        assert_eq!(orphan.what, format!("directory {key} of web"));
        assert_eq!(orphan.whose, "its monitor died");
        assert_eq!(orphan.command, format!("rm -r {key}"));
        assert_eq!(home.remove(&report.orphans), [Ok(())]);
        assert!(!run.exists());
        let report = home.report();
        assert!(report.made.is_empty() && report.orphans.is_empty(), "{report:?}");
    }

    #[test]
    fn what_belongs_to_no_vm_is_found_and_removed_unless_somebody_is_at_it() {
        let dir = tempfile::tempdir().expect("temp");
        let home = Home::new(dir.path());
        let left = [
            home.layout.state.join("vms/0badcafe"),
            home.layout.run.join("0badcafe"),
            home.layout.run.join("what is this"),
            home.layout.base("dead"),
        ];
        for path in &left {
            fs::create_dir_all(path).expect("dir");
        }
        let lock = home.layout.run.join("0badcafe.lock");
        fs::write(&lock, "").expect("file");
        let report = home.report();
        assert_eq!(check(&report, "orphans").level, CheckLevel::Warning);
        assert_eq!(report.orphans.len(), left.len() + 1, "{report:?}");
        let quoted = format!("rm -r '{}'", left[2].display());
        assert!(report.orphans.iter().any(|orphan| orphan.command == quoted), "{report:?}");

        let held = FileLock::try_exclusive(&lock).expect("lock");
        let results = home.remove(&report.orphans);
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(failed, 2, "what the holder of the lock may need: {results:?}");
        drop(held);
        fs::write(&lock, "").expect("file");
        let report = home.report();
        assert!(home.remove(&report.orphans).iter().all(Result::is_ok));
        assert!(left.iter().all(|path| !path.exists()) && !lock.exists());
        let report = home.report();
        assert!(report.orphans.is_empty(), "{report:?}");
        assert!(check(&report, "orphans").why.contains("could not be looked at: nothing listens"));
    }
}
