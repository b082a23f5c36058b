//! What lies in our directories.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::Thing;
use crate::{
    domain::{Layout, VmId},
    host::lock,
};

/// What may lie in the directory of sockets beside what is of VMs: locks that all share, and what
/// the name server says of itself. They are empty or a line long, and used again.
const SHARED: [&str; 5] = ["host.lock", "bases.lock", "names.lock", "names.port", "names.turn"];

/// Adds what lies there.
pub fn files(layout: &Layout, things: &mut BTreeSet<Thing>) {
    for path in entries(&layout.run) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (stem.parse::<VmId>(), extension) {
            (Ok(vm), None) => drop(things.insert(Thing::RunDir(vm))),
            (Ok(vm), Some("lock" | "change")) => {
                let paths = layout.vm(&vm);
                // What cannot be looked at is no proof that nobody has it.
                let held = |path: PathBuf| lock::is_held(path).unwrap_or(true);
                let held = held(paths.run_lock()) || held(paths.change_lock());
                things.insert(Thing::Lock { vm, held });
            }
            _ if SHARED.contains(&name) => {}
            _ => drop(things.insert(Thing::Stray(path))),
        }
    }
    for path in entries(&layout.state.join("vms")) {
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        things.insert(id.map_or_else(|| Thing::Stray(path), Thing::VmDir));
    }
    things.extend(entries(&bases(layout)).into_iter().map(Thing::Base));
}

/// Adds the control groups of machines.
pub fn cgroups(root: &Path, things: &mut BTreeSet<Thing>) {
    for path in entries(&root.join("banger")) {
        let vm = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(vm) = vm.filter(|_| path.is_dir()) {
            things.insert(Thing::Cgroup(vm, path));
        }
    }
}

/// Where bases are.
fn bases(layout: &Layout) -> PathBuf {
    layout.base("x").parent().map(Path::to_owned).unwrap_or_default()
}

/// Held by whoever makes or removes a base.
pub fn bases_busy(layout: &Layout) -> bool {
    lock::is_held(layout.bases_lock()).unwrap_or(true)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    // No such directory: nothing in it.
    let found = fs::read_dir(dir).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}
