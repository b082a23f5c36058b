//! What banger keeps: the runtime directory and the database.

use std::{fs, path::Path, time::SystemTime};

use super::{Subject, host::SPACE_LEAST, ledger, names, network};
use crate::{
    bundle::{self, Bundle, KernelNews},
    domain::{ByteSize, CheckView, HostReport, Layout, Problem},
    host::disk,
    image::Catalog,
    monitor::{self, Ground},
    store::{self, Store},
};

/// A backup is made once a day while banger is used: one older than this is worth a word.
const BACKUP_OLD_DAYS: u64 = 7;

pub(super) fn bundle(subject: &Subject) -> CheckView {
    const ID: &str = "runtime";
    let located = match bundle::locate(&subject.runtime_dir) {
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
    if let KernelNews::Newer { package, version } = bundle::kernel_news(bundle.record()) {
        return CheckView::warning(
            ID,
            format!("{}; apt has a newer kernel: {package} {version}", located.dir.display()),
            "VMs use it from their next start, once it is fetched",
            "run `banger runtime update`",
        );
    }
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    CheckView::ok(
        ID,
        format!("{}, with the images {}", located.dir.display(), names.join(", ")),
        format!("{}; `banger runtime verify` checks every file of it", located.origin),
    )
}

/// The user's images, if something is wrong with one.
pub(super) fn images(layout: &Layout) -> Option<CheckView> {
    let broken = Catalog::new(layout, None, Path::new("")).broken();
    let (_, first) = broken.first()?;
    let names: Vec<&str> = broken.iter().map(|(name, _)| name.as_str()).collect();
    let what = format!("these images of yours cannot be used: {}", names.join(", "));
    Some(CheckView::warning("images", what, first.why.clone(), first.hint.clone()))
}

/// The database, and what can only be told with it: what was made, and what is left over.
pub(super) fn database(layout: &Layout, calls: u32, report: &mut HostReport) {
    const ID: &str = "database";
    let path = layout.database();
    if !path.exists() {
        report.checks.push(CheckView::ok(ID, "there is none yet", "it is made with the first VM"));
        return;
    }
    let known = Store::open(&path).and_then(|store| {
        let (vms, calls) = (store.vms()?.len(), store.recent_calls(calls)?);
        Ok((store, vms, calls))
    });
    let (store, vms, calls) = match known {
        Ok(known) => known,
        Err(problem) => return report.checks.push(CheckView::failed(ID, problem)),
    };
    report.calls = calls;
    report.checks.push(backup(&path, vms));
    report.checks.extend(spare(&path));
    let layout = match monitor::in_force(&store, layout.clone()) {
        Ok(layout) => layout,
        Err(problem) => return report.checks.push(CheckView::failed("ledger", problem)),
    };
    match Ground::find(&store, &layout) {
        Ok(ground) => {
            ledger::look(&ground, report);
            report.checks.push(network::subnet(&ground));
            report.checks.extend(network::firewalls(&ground));
            report.checks.push(names::names(&ground));
        }
        Err(problem) => report.checks.push(CheckView::failed("ledger", problem)),
    }
}

/// What is set aside for a disk that is full, if some of it was needed.
fn spare(path: &Path) -> Option<CheckView> {
    let (left, all) = (store::spares(path), store::SPARES);
    // Without any, the disk may never have been roomy.
    (left < all && disk::free_space(path.parent()?).ok()? < SPACE_LEAST).then(|| {
        let mib = |n: u32| ByteSize(u64::from(n) * store::SPARE);
        CheckView::warning(
            "spare",
            format!("{} of {} set aside for the database are left", mib(left), mib(all)),
            "without it nothing can be seen or removed with banger on a disk that is full",
            "remove VMs (`banger rm`) or images (`banger images rm`): it is set aside again when there \
             is room",
        )
    })
}

fn backup(path: &Path, vms: usize) -> CheckView {
    const ID: &str = "database";
    let mut backup = path.as_os_str().to_owned();
    backup.push(".bak");
    let made = fs::metadata(backup).and_then(|meta| meta.modified()).ok();
    let age = made.and_then(|made| SystemTime::now().duration_since(made).ok());
    let vms = if vms == 1 { "1 VM".to_owned() } else { format!("{vms} VMs") };
    let what = format!("{} is sound, {vms}", path.display());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CheckLevel, UnixMs};

    #[test]
    fn a_broken_database_is_told_and_not_touched() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = Layout { state: dir.path().join("state"), run: dir.path().join("run") };
        fs::create_dir_all(&layout.state).expect("dir");
        fs::write(layout.database(), "no database at all").expect("file");
        let mut report = HostReport {
            at: UnixMs(0),
            checks: Vec::new(),
            made: Vec::new(),
            orphans: Vec::new(),
            calls: Vec::new(),
        };
        database(&layout, 10, &mut report);
        let [check] = &report.checks[..] else { panic!("{report:?}") };
        assert_eq!((check.id, check.level), ("database", CheckLevel::Failed));
        assert_eq!(fs::read(layout.database()).expect("file"), b"no database at all");
        assert_eq!(fs::read_dir(&layout.state).expect("dir").count(), 1);
    }
}
