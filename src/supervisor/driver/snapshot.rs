//! Disks that are snapshots: a base that is kept for as long as a VM's disk needs it, and a file
//! for what the VM changes.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::files::{not_made, size_of};
use crate::{
    bundle::Bundle,
    domain::{Layout, Problem, VmId, VmSpec},
    host::{Host, LinuxHost, dm, fault, lock::FileLock},
    image::BaseImage,
    store::Store,
    supervisor::ssh_key,
};

/// How long others that make or remove a base are waited for; a copy of a large one takes long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes a VM's directory and the file for what it changes, after seeing to its base. On an error
/// nothing of the VM's is left.
///
/// # Errors
/// The image, or the disk: full, read-only, …
pub fn create(
    layout: &Layout,
    store: &Store,
    bundle: &Bundle,
    vm: &VmId,
    spec: &VmSpec,
) -> Result<(), Problem> {
    let image = BaseImage::open(bundle, &spec.image)?;
    let size = size_of(spec, &image)?;
    ssh_key::ensure(&layout.ssh_key())?;
    // From here on the base is not released: a VM needs it.
    store.record_base(vm, image.sha256())?;
    fault::point("the base was written down");
    let paths = layout.vm(vm);
    let base = layout.base(image.sha256());
    let fail = |at: &Path, error: &io::Error| not_made(&LinuxHost, layout, spec, at, error);
    keep(layout, &image, &base).map_err(|error| fail(&base, &error))?;
    let made = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(paths.dir())?;
        fault::point("the VM's directory was made");
        dm::make_cow(&paths.cow(), size)
    };
    made().map_err(|error| {
        let _ = fs::remove_dir_all(paths.dir());
        fail(&paths.cow(), &error)
    })
}

/// Keeps an image's content under its sum. The runtime directory may get other images under the
/// same names, but a snapshot is of no use without the very base it was made of.
fn keep(layout: &Layout, image: &BaseImage, base: &Path) -> io::Result<()> {
    let _lock = bases_lock(layout)?;
    if base.exists() {
        return Ok(());
    }
    let dir = base.parent().unwrap_or(&layout.state);
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let part = part(base);
    gone_is_fine(fs::remove_file(&part))?;
    LinuxHost.copy_image(image.path(), &part)?;
    fault::point("the base was copied");
    fs::File::open(&part)?.sync_all()?;
    fs::rename(&part, base)?;
    fs::File::open(dir)?.sync_all()
}

/// Removes the base of a VM that goes, unless another needs it.
///
/// # Errors
/// The database, or the file system's word.
pub fn release_base(layout: &Layout, store: &Store, vm: &VmId) -> Result<(), Problem> {
    let Some(sha256) = store.vm(vm)?.and_then(|row| row.base) else { return Ok(()) };
    let base = layout.base(&sha256);
    let fail = |error: io::Error| {
        let why = format!("{}: {error}", base.display());
        Problem::new("cannot remove a base that no VM needs", why, "remove it by hand")
    };
    let _lock = bases_lock(layout).map_err(fail)?;
    let others = store.vms()?;
    if others.iter().any(|row| row.id != *vm && row.base.as_deref() == Some(&sha256)) {
        return Ok(());
    }
    // Its copy may not have come to its end.
    for path in [part(&base), base.clone()] {
        gone_is_fine(fs::remove_file(path)).map_err(fail)?;
    }
    fault::point("the base is gone");
    Ok(())
}

/// Where a base is while it is copied.
fn part(base: &Path) -> PathBuf {
    base.with_extension("part")
}

fn bases_lock(layout: &Layout) -> io::Result<FileLock> {
    FileLock::exclusive_within(layout.bases_lock(), PATIENCE)?
        .map(FileLock::remove_on_drop)
        .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "another banger is at the bases"))
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
