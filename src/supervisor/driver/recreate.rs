//! A new disk for a VM, of its image as that is now. The old one stays until the new one is whole;
//! from then on the new one counts, whatever happens. Blocks.

use std::{
    fs::{self, File},
    io,
};

use super::{
    files::{not_made, run_lock, size_of},
    snapshot,
};
use crate::{
    domain::{Layout, OverlayKind, Problem, VmId, VmPaths},
    host::{Host, dm, fault, lock::FileLock},
    image::{Catalog, content},
    store::{Store, VmRow, VmState},
};

/// Makes it, or ends what was interrupted when the new disk was whole. The caller holds the VM's
/// change lock.
///
/// # Errors
/// If the VM runs, or is being made or removed; the image; the disk: full, read-only, …. The old
/// disk is as it was then, unless the new one was whole.
pub fn recreate(
    host: &dyn Host,
    layout: &Layout,
    store: &Store,
    catalog: &Catalog,
    vm: &VmId,
) -> Result<(), Problem> {
    let fail =
        |why: &str, hint: &str| Problem::new("cannot make the disk of the VM anew", why, hint);
    let lock =
        run_lock(layout, store, vm)?.ok_or_else(|| fail("it is running", "stop it first"))?;
    let row = store.vm(vm)?.ok_or_else(|| fail("another banger deleted it", ""))?;
    match row.state {
        VmState::Ready => make(host, layout, store, catalog, &row)?,
        VmState::Recreating => {}
        VmState::Creating | VmState::Deleting => {
            return Err(fail("it is being made or removed", "try again"));
        }
    }
    let paths = layout.vm(vm);
    swap(&paths).map_err(|error| not_made(host, layout, &row.spec, &paths.disk(), &error))?;
    store.end_recreate(vm)?;
    fault::point("a VM has its new disk");
    let _ = lock.unlink();
    // That of one that was interrupted is swept by the next banger.
    match row.base.filter(|_| row.state == VmState::Ready) {
        Some(old) => snapshot::release(layout, store, &old, None),
        None => Ok(()),
    }
}

/// Makes the new disk beside the old one, on the disk when it is written down that it counts.
fn make(
    host: &dyn Host,
    layout: &Layout,
    store: &Store,
    catalog: &Catalog,
    row: &VmRow,
) -> Result<(), Problem> {
    let paths = layout.vm(&row.id);
    let snapshot = row.overlay == OverlayKind::DmSnapshot;
    let new = if snapshot { paths.new_cow() } else { paths.new_disk() };
    let fail = |error: io::Error| not_made(host, layout, &row.spec, &new, &error);
    remove_new(&paths).map_err(fail)?;
    // The VM's row does not hold the image yet.
    let _lock = content::lock(layout).map_err(fail)?;
    let image = catalog.open_for(store, &row.id)?;
    let size = size_of(&row.spec, &image)?;
    let made = || -> io::Result<()> {
        if snapshot {
            snapshot::keep(layout, &image, &layout.base(image.sha256()))?;
            fault::point("the new base is kept");
            dm::make_cow(&new, size)?;
        } else {
            host.copy_image(image.path(), &new)?;
            image.was_this()?;
            fault::point("the new disk was made");
            if size > image.size() {
                host.grow(&new, size)?;
            }
        }
        File::open(&new)?.sync_all()?;
        File::open(paths.dir())?.sync_all()
    };
    made().map_err(|error| {
        let _ = remove_new(&paths);
        fail(error)
    })?;
    fault::point("the new disk is whole");
    store.begin_recreate(&row.id, image.sha256(), snapshot.then(|| image.sha256()))?;
    fault::point("the new disk counts");
    Ok(())
}

/// Puts the new disk in the place of the old one, if that was not done already. Another disk has
/// other host keys.
fn swap(paths: &VmPaths) -> io::Result<()> {
    for (new, old) in [(paths.new_disk(), paths.disk()), (paths.new_cow(), paths.cow())] {
        gone_is_fine(fs::rename(new, old))?;
    }
    fault::point("the new disk has its place");
    gone_is_fine(fs::remove_file(paths.known_hosts()))?;
    File::open(paths.dir())?.sync_all()
}

fn remove_new(paths: &VmPaths) -> io::Result<()> {
    gone_is_fine(fs::remove_file(paths.new_disk()))?;
    gone_is_fine(fs::remove_file(paths.new_cow()))
}

/// Removes new disks that were not whole when whoever made them died.
///
/// # Errors
/// The database.
pub fn sweep(layout: &Layout, store: &Store) -> Result<(), Problem> {
    for row in store.vms()? {
        let paths = layout.vm(&row.id);
        if !(paths.new_disk().exists() || paths.new_cow().exists()) {
            continue;
        }
        let Ok(Some(lock)) = FileLock::try_exclusive(paths.change_lock()) else { continue };
        let _lock = lock.remove_on_drop();
        // As it is now that nobody is at it.
        if store.vm(&row.id)?.is_some_and(|row| row.state == VmState::Ready)
            && let Err(error) = remove_new(&paths)
        {
            tracing::warn!(%error, vm = %row.id, "a disk that was not finished stays");
        }
    }
    Ok(())
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
