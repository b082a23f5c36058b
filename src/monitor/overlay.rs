//! A VM's disk as the VMM gets it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ground::Ground;
use crate::{
    domain::{Layout, OverlayKind, Problem, VmPaths},
    host::{
        dm,
        ops::{Done, Op},
    },
    store::{LedgerKind, VmRow},
};

/// What the ledger knows of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDetail {
    /// The SHA-256 of its base.
    pub base: String,
}

/// Makes the disk ready, noting what that takes, and says where it is: a file, or a block device.
///
/// # Errors
/// What is missing, or could not be made.
pub fn open(ground: &Ground<'_>, row: &VmRow, paths: &VmPaths) -> Result<PathBuf, Problem> {
    match row.overlay {
        OverlayKind::DmSnapshot => snapshot(ground, row, paths),
        OverlayKind::Reflink | OverlayKind::SparseCopy => {
            let disk = paths.disk();
            let meta = disk.metadata().map_err(|e| unusable(&disk, &e))?;
            if !meta.is_file() {
                return Err(unusable(&disk, &io::Error::other("it is no file")));
            }
            let bytes = row.spec.disk_mib.map_or(0, |mib| mib << 20);
            lengthen(&disk, meta.len(), bytes).map_err(|e| unusable(&disk, &e))?;
            Ok(disk)
        }
    }
}

/// Where the base of a snapshot is.
#[must_use]
pub fn base(layout: &Layout, row: &VmRow) -> PathBuf {
    layout.base(row.base.as_deref().unwrap_or_default())
}

fn snapshot(ground: &Ground<'_>, row: &VmRow, paths: &VmPaths) -> Result<PathBuf, Problem> {
    let Some(sha256) = &row.base else {
        return Err(unusable(&paths.cow(), &io::Error::other("its base is not known")));
    };
    let (base_path, cow_path) = (base(ground.layout, row), paths.cow());
    let base = File::open(&base_path).map_err(|e| unusable(&base_path, &e))?;
    let cow = OpenOptions::new().read(true).write(true).open(&cow_path);
    let cow = cow.map_err(|e| unusable(&cow_path, &e))?;
    let base_bytes = base.metadata().map_err(|e| unusable(&base_path, &e))?.len();
    let bytes = row.spec.disk_mib.map_or(base_bytes, |mib| base_bytes.max(mib << 20));
    // Made for the disk as it was then.
    let cow_bytes = cow.metadata().map_err(|e| unusable(&cow_path, &e))?.len();
    lengthen(&cow_path, cow_bytes, dm::cow_bytes(bytes)).map_err(|e| unusable(&cow_path, &e))?;

    let vm = &row.id;
    let detail = SnapshotDetail { base: sha256.clone() };
    let _lock = ground.lock()?;
    ground.note_shared(LedgerKind::BaseLoop, sha256, &json!(null))?;
    ground.note(vm, LedgerKind::Snapshot, &ground.tag.device(vm), &json!(detail))?;
    let op = Op::Snapshot { vm: vm.clone(), bytes };
    match ground.run(Some(vm), &op, &[base.as_fd(), cow.as_fd()])? {
        Done::Device { path, .. } => Ok(path),
        other => {
            let why = format!("a device was expected, not {other:?}");
            Err(Problem::new("cannot make the VM's disk", why, "are all bangers of one version?"))
        }
    }
}

/// Gives a file the length that was asked for since it was made, if it is shorter. What is added
/// is a hole; the guest's init lets the file system have it. Interrupted, it is done at the next
/// start.
fn lengthen(path: &Path, has: u64, wanted: u64) -> io::Result<()> {
    if has >= wanted {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(wanted)?;
    file.sync_all()
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(
        "cannot use the VM's disk",
        format!("{}: {error}", path.display()),
        "`banger doctor` checks the directories",
    )
}
