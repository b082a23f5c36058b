//! A VM's files: made when it is created, removed when it is deleted. All of it blocks.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    thread,
    time::Duration,
};

use crate::{
    domain::{ExitRecord, Layout, Problem, VmId, VmSpec},
    host::{
        Host, fault,
        lock::{self, FileLock},
    },
    image::{BaseImage, Catalog, content},
    monitor::{Ground, clear, elsewhere},
    store::{Store, VmState},
    supervisor::{driver::snapshot, extras::Given, ssh_key},
};

/// How long another banger that changes the same VM is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often, and at which distance, a change lock is looked at that seems to be held.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Takes the lock of whoever changes a VM.
///
/// # Errors
/// Who has it, if it is not given back in time.
pub fn lock_for_change(layout: &Layout, vm: &VmId) -> Result<FileLock, Problem> {
    let path = layout.vm(vm).change_lock();
    let what = "cannot change the VM";
    let locked = FileLock::exclusive_within(&path, PATIENCE)
        .map_err(|e| Problem::new(what, format!("{}: {e}", path.display()), ""))?;
    locked.map(FileLock::remove_on_drop).ok_or_else(|| {
        let who = lock::holder(&path).ok().flatten();
        let who = who.map_or_else(String::new, |pid| format!(" (process {pid})"));
        Problem::new(what, format!("another banger{who} is changing it"), "try again in a moment")
    })
}

/// Whether somebody makes, starts, clears up or removes it at this moment.
pub fn is_being_changed(layout: &Layout, vm: &VmId) -> bool {
    let path = layout.vm(vm).change_lock();
    // Whoever sweeps away the files of locks has it for a moment; one that cannot be asked about is
    // left alone.
    (0..LOOKS).all(|look| {
        if look > 0 {
            thread::sleep(BETWEEN_LOOKS);
        }
        lock::is_held(&path).unwrap_or(true)
    })
}

/// Makes a VM's directory and disk. On an error nothing of either is left.
///
/// # Errors
/// The image, or the disk: full, read-only, …
pub fn create(
    host: &dyn Host,
    layout: &Layout,
    store: &Store,
    catalog: &Catalog,
    vm: &VmId,
    spec: &VmSpec,
) -> Result<(), Problem> {
    let given = given(spec)?;
    ssh_key::ensure(&layout.ssh_key())?;
    let paths = layout.vm(vm);
    let lock = content::lock(layout)
        .map_err(|error| not_made(host, layout, spec, &layout.bases_lock(), &error))?;
    let image = catalog.open_for(store, vm)?;
    let size = size_of(spec, &image)?;
    // From here on its content is not released: a VM is being made from it.
    store.record_made_from(vm, image.sha256())?;
    fault::point("it was written down what the disk is made from");
    drop(lock);
    let made = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(paths.dir())?;
        fault::point("the VM's directory was made");
        given.fit(image.view()).keep(&paths)?;
        host.copy_image(image.path(), &paths.disk())?;
        image.was_this()?;
        fault::point("the VM's disk was made");
        if size > image.size() {
            host.grow(&paths.disk(), size)?;
        }
        // The VM's row says in a moment that it is whole, and survives a power cut.
        for path in [paths.disk(), paths.dir().to_owned(), layout.state.join("vms")] {
            fs::File::open(path)?.sync_all()?;
        }
        Ok(())
    };
    made().map_err(|error| {
        let _ = fs::remove_dir_all(paths.dir());
        not_made(host, layout, spec, &paths.disk(), &error)
    })
}

/// What a VM is given beside its image.
///
/// # Errors
/// The first thing that is wrong with the user's files.
pub fn given(spec: &VmSpec) -> Result<Given, Problem> {
    Given::read(&spec.extras).map_err(|problems| {
        let why = problems.first().map_or_else(String::new, |p| p.message.clone());
        Problem::new(
            format!("cannot create {}", spec.name),
            why,
            "correct the path, or what is in the file",
        )
    })
}

/// The size of a VM's disk in bytes.
///
/// # Errors
/// If it is to be smaller than its image.
pub fn size_of(spec: &VmSpec, image: &BaseImage) -> Result<u64, Problem> {
    let size = spec.disk_mib.map_or(image.size(), |mib| mib << 20);
    if size >= image.size() {
        return Ok(size);
    }
    Err(Problem::new(
        format!("cannot make the disk of {}", spec.name),
        format!("a disk of {} MiB cannot hold the image {}", size >> 20, spec.image),
        format!("give it at least {} MiB, or none for the image's own size", image.size() >> 20),
    ))
}

/// Why there is no disk.
pub fn not_made(
    host: &dyn Host,
    layout: &Layout,
    spec: &VmSpec,
    disk: &Path,
    error: &io::Error,
) -> Problem {
    let free = host.free_space(&layout.state).unwrap_or(0) >> 20;
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => format!("{free} MiB are free; delete a VM or make room"),
        _ => "`banger doctor` checks the directories".to_owned(),
    };
    Problem::new(
        format!("cannot make the disk of {}", spec.name),
        format!("{}: {error}", disk.display()),
        hint,
    )
}

/// Clears up what a dead monitor left, after writing down how its run ended if that is still
/// open. Nothing to do if the lock is held: the VM is up.
///
/// # Errors
/// All that could not be removed.
pub fn clean_up(
    layout: &Layout,
    store: &Store,
    vm: &VmId,
    lost: &ExitRecord,
) -> Result<(), Problem> {
    let Some(lock) = run_lock(layout, store, vm)? else { return Ok(()) };
    store.record_lost(vm, lost)?;
    fault::point("the end of a lost run was written down");
    let left = clear(&Ground::find(store, layout)?, vm);
    let _ = lock.unlink();
    if left.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        "something of a VM is left on the host",
        left.join("; "),
        "`banger doctor` lists it; remove it by hand if it stays",
    ))
}

/// Removes a VM's directories.
///
/// # Errors
/// If it runs, if another banger has finished making it, or the file system's word.
pub fn delete(layout: &Layout, store: &Store, vm: &VmId) -> Result<(), Problem> {
    let fail = |why: String, hint: &str| Problem::new("cannot remove the VM's files", why, hint);
    let lock = run_lock(layout, store, vm)?
        .ok_or_else(|| fail("it is running".to_owned(), "stop it first"))?;
    if store.vm(vm)?.is_some_and(|row| row.state == VmState::Ready) {
        return Err(fail("another banger needs them".to_owned(), "look again"));
    }
    let paths = layout.vm(vm);
    for dir in [paths.run_dir(), paths.dir()] {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                let why = format!("{}: {e}", dir.display());
                return Err(fail(why, "`banger doctor` checks the directories"));
            }
            _ => fault::point(format_args!("{} is gone", dir.display())),
        }
    }
    let _ = lock.unlink();
    snapshot::release_base(layout, store, vm)
}

/// Held by whoever runs a VM, or must be sure that nobody does; `None` if it runs.
pub(super) fn run_lock(
    layout: &Layout,
    store: &Store,
    vm: &VmId,
) -> Result<Option<FileLock>, Problem> {
    if let Some(there) = elsewhere(store, layout, vm)? {
        let (there, here) = (there.run.display(), layout.run.display());
        return Err(Problem::new(
            "the VM cannot be reached",
            format!("it runs with its sockets in {there}, and they are looked for in {here}"),
            "start banger again: it looks where VMs run",
        ));
    }
    let path = layout.vm(vm).run_lock();
    let lock = FileLock::try_exclusive(&path).map_err(|e| {
        let hint = "`banger doctor` checks the directories";
        Problem::new("cannot lock the VM", format!("{}: {e}", path.display()), hint)
    })?;
    Ok(lock.map(FileLock::remove_on_drop))
}
