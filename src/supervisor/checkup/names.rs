//! Whether running VMs are found by their names, and where it breaks if not.

use std::path::Path;

use crate::{
    domain::{CheckView, Problem},
    host::{lock, resolver},
    monitor::Ground,
    names::{Check, Record, Way, getaddrinfo},
    store::{LedgerEntry, LedgerKind},
};

const ID: &str = "names";
/// How many VMs are asked for: a name that does not work takes seconds, and mostly none does then.
const VMS: usize = 3;

/// Looks.
pub(super) fn names(ground: &Ground<'_>) -> CheckView {
    match named(ground) {
        Ok(found) if found.is_empty() => {
            CheckView::ok(ID, "no VM runs that has a name", "VMs on the bridge have one each")
        }
        Ok(found) => judge(ground, &found),
        Err(problem) => CheckView::failed(ID, problem),
    }
}

/// Running VMs whose names were made known, and the way that was done.
fn named(ground: &Ground<'_>) -> Result<Vec<(Record, Way)>, Problem> {
    let Some(subnet) = ground.store.subnet().map_err(Problem::from)? else { return Ok(Vec::new()) };
    let entries = ground.store.all_entries()?;
    let rows = ground.store.vms()?.into_iter().filter_map(|row| {
        let up = lock::is_held(ground.layout.vm(&row.id).run_lock()).unwrap_or(false);
        let own = || entries.iter().filter(|entry| entry.vm.as_ref() == Some(&row.id));
        let way = own().find_map(way_of).filter(|_| up)?;
        let address = subnet.guest(row.place?)?;
        Some((Record { name: row.spec.name, address }, way))
    });
    Ok(rows.collect())
}

fn way_of(entry: &LedgerEntry) -> Option<Way> {
    match (entry.kind, entry.key.split(' ').next()) {
        (LedgerKind::DnsRecord, Some("resolver")) => Some(Way::Resolved),
        (LedgerKind::DnsRecord, Some("hosts")) => Some(Way::Hosts),
        _ => None,
    }
}

fn judge(ground: &Ground<'_>, found: &[(Record, Way)]) -> CheckView {
    let facts = resolver::facts(Path::new("/"));
    let lookup = getaddrinfo();
    for (vm, way) in found.iter().take(VMS) {
        let run = &ground.layout.run;
        let check = Check { vm, tag: &ground.tag, run, way, facts: &facts };
        let mut problems = check.run(&lookup).into_iter();
        if let Some(first) = problems.next() {
            let more = problems.map(|other| format!("; {}: {}", other.what, other.why));
            let why = std::iter::once(first.why.clone()).chain(more).collect::<String>();
            return CheckView::warning(ID, first.what, why, first.hint);
        }
    }
    let way = match found.first().map(|(_, way)| way) {
        Some(Way::Hosts) => "through /etc/hosts",
        _ => "through systemd-resolved",
    };
    let names: Vec<String> =
        found.iter().take(VMS).map(|(vm, _)| format!("{}.vm", vm.name)).collect();
    CheckView::ok(ID, format!("this host finds {} by name", names.join(", ")), way)
}
