//! Disks that are snapshots: a base that is kept for as long as a VM's disk needs it, and a file
//! for what the VM changes.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use super::files::{given, not_made, size_of};
use crate::{
    domain::{Layout, Problem, VmId, VmSpec},
    host::{Host, LinuxHost, dm, fault},
    image::{BaseImage, Catalog, content},
    store::Store,
    supervisor::ssh_key,
};

/// Makes a VM's directory and the file for what it changes, after seeing to its base. On an error
/// nothing of the VM's is left.
///
/// # Errors
/// The image, or the disk: full, read-only, …
pub fn create(
    layout: &Layout,
    store: &Store,
    catalog: &Catalog,
    vm: &VmId,
    spec: &VmSpec,
) -> Result<(), Problem> {
    let given = given(spec)?;
    ssh_key::ensure(&layout.ssh_key())?;
    let paths = layout.vm(vm);
    let fail = |at: &Path, error: &io::Error| not_made(&LinuxHost, layout, spec, at, error);
    let lock = content::lock(layout).map_err(|error| fail(&layout.bases_lock(), &error))?;
    let image = catalog.open_for(store, vm)?;
    let size = size_of(spec, &image)?;
    // From here on the base is not released: a VM needs it.
    store.record_base(vm, image.sha256())?;
    fault::point("the base was written down");
    let base = layout.base(image.sha256());
    keep(layout, &image, &base).map_err(|error| fail(&base, &error))?;
    drop(lock);
    let made = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(paths.dir())?;
        fault::point("the VM's directory was made");
        given.fit(image.view()).keep(&paths)?;
        dm::make_cow(&paths.cow(), size)
    };
    made().map_err(|error| {
        let _ = fs::remove_dir_all(paths.dir());
        fail(&paths.cow(), &error)
    })
}

/// Keeps an image's content under its sum. The runtime directory may get other images under the
/// same names, but a snapshot is of no use without the very base it was made of. The caller holds the
/// lock of the contents.
pub(super) fn keep(layout: &Layout, image: &BaseImage, base: &Path) -> io::Result<()> {
    if base.exists() {
        return Ok(());
    }
    let dir = base.parent().unwrap_or(&layout.state);
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let part = content::part(base);
    gone_is_fine(fs::remove_file(&part))?;
    LinuxHost.copy_image(image.path(), &part)?;
    image.was_this()?;
    fault::point("the base was copied");
    fs::File::open(&part)?.sync_all()?;
    fs::rename(&part, base)?;
    fs::File::open(dir)?.sync_all()
}

/// Removes the base of a VM that goes, unless something else needs it.
///
/// # Errors
/// The database, or the file system's word.
pub fn release_base(layout: &Layout, store: &Store, vm: &VmId) -> Result<(), Problem> {
    let Some(sha256) = store.vm(vm)?.and_then(|row| row.base) else { return Ok(()) };
    release(layout, store, &sha256, Some(vm))
}

/// Removes a base, unless something `but` this VM needs it.
///
/// # Errors
/// As [`release_base`].
pub(super) fn release(
    layout: &Layout,
    store: &Store,
    sha256: &str,
    but: Option<&VmId>,
) -> Result<(), Problem> {
    let _lock = content::lock(layout).map_err(|error| {
        let why = format!("{}: {error}", layout.bases_lock().display());
        Problem::new("cannot remove a base that no VM needs", why, "remove it by hand")
    })?;
    content::release(layout, store, sha256, but)
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
