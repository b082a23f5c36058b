//! Disks of VMs as device-mapper snapshots: one base for many VMs, and a sparse file for what
//! each of them changes.
//!
//! ```text
//!   base file ── loop (read-only, shared) ──┬─────────────────────────── snapshot ── /dev/banger/…
//!                                           └─ linear + zero (…-base) ──┘    │
//!   COW file ─── loop ───────────────────────────────────────────────────────┘
//! ```
//!
//! The second device, which lengthens the base with zeros, is there only for a disk that is
//! larger than its base. Everything goes by names that follow from tag and VM; nothing is kept in
//! this process, so that any process can take over or clear up.
//!
//! # What a full disk does (Linux 6.1 and ext4; `tests/host_dm.rs` shows it)
//!
//! * *The COW file is too short* (cannot be if it has [`cow_bytes`]): the snapshot is "Overflow".
//!   All of it can be read, every write fails, to what was written before too. Making the file
//!   longer, [`extended`], suspending and resuming do not help then; removing and making the
//!   snapshot again does, and nothing that was acknowledged is lost. Extended *before*, it goes
//!   on as if nothing were. Some lengths are ruined instead: see [`fits`].
//! * *The host's file system is full*: a write to the COW's file fails, and the kernel makes the
//!   snapshot "Invalid" and writes so into the file. It can neither be read nor written, also
//!   after a reboot. What was acknowledged is all in the file nevertheless: [`snapshot`] makes
//!   such a file valid again. The guest has met a power cut, and may have thrown away what it was
//!   told could not be written.
//! * So a VM must be paused *before* the host is full. Its writes do not stop with it: what the
//!   VMM has written to the device may still be in the device's page cache, up to
//!   `vm.dirty_ratio` of the host's memory, and comes later.
//! * Chunks are taken from the COW file's beginning in their order, so room can be had in
//!   advance: what [`reserve`] got for it ahead of [`Fill::used`] is written to without asking
//!   the file system for more, however full that is.

mod busy;
mod cow;
mod ioctl;
pub(in crate::host) mod loops;
mod node;
mod table;

use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileTypeExt,
    },
    thread,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    unistd::geteuid,
};

use self::{
    cow::Header,
    ioctl::Control,
    loops::{FileId, Label, Loop},
    table::{Dev, Health, SECTOR},
};
use super::ops::{Done, Fill, Inventory};
use crate::domain::{Problem, Tag, VmId};

pub use cow::{cow_bytes, fits, make_cow, reserve};

/// Added to a VM's device's name for the device that lengthens its base.
const BASE: &str = "-base";
const NOT_ROOT: &str = "only root may use device-mapper";
/// The pauses while a device is busy: 1 ms, doubled each time; 8 s in all.
const PAUSES: u32 = 13;
/// The same while somebody looks at loop devices, as udev does: 0.5 s in all.
const LOOKERS: u32 = 9;

/// Makes a VM's disk: a snapshot of `base` (open for reading) whose changes go to `cow` (open for
/// reading and writing), with `bytes` bytes, and a node for it that `owner` may open. Answers with
/// [`Done::Device`]. A disk that is there already and is made of the same is taken as it is;
/// what an interrupted attempt left is replaced. A COW file that the kernel gave up because the
/// host was full is made valid again.
///
/// Loop writes that fail for want of space on the host make the snapshot invalid: see the
/// module's words. The caller has checked that the files may be used for this.
///
/// # Errors
/// If a file is not what it should be or is in use, or device-mapper refuses. Then nothing that
/// was made for it is left.
pub fn snapshot(
    tag: &Tag,
    vm: &VmId,
    bytes: u64,
    base: BorrowedFd<'_>,
    cow: BorrowedFd<'_>,
    owner: u32,
) -> Result<Done, Problem> {
    let what = format!("cannot make the disk of VM {vm}");
    let refuse = |why: String| Problem::new(what.clone(), why, "");
    let files = Files::checked(bytes, base, cow).map_err(&refuse)?;
    let control = control().map_err(&refuse)?;
    let names = Names::of(tag, vm);
    match taken(&control, &names, &files, bytes) {
        Ok(Some(dev)) => return with_node(&names, dev, owner).map_err(&refuse),
        Ok(None) => {}
        Err(why) => {
            let hint = "stop whatever uses it; then `banger doctor` clears it up";
            return Err(Problem::new(what, why, hint));
        }
    }
    let mut made = Made { control: &control, names: Vec::new() };
    let dev = files.make(&mut made, &names, tag, vm, bytes).map_err(&refuse)?;
    let done = with_node(&names, dev, owner).map_err(&refuse)?;
    made.names.clear();
    Ok(done)
}

/// Removes a VM's disk: node, snapshot, lengthened base. What is not there is no error. Waits
/// some seconds for those who still have it open. The COW file stays, the base's loop too if
/// others use it.
///
/// # Errors
/// All that could not be removed, and who holds it.
pub fn snapshot_gone(tag: &Tag, vm: &VmId) -> Result<(), Problem> {
    let what = format!("cannot remove the disk of VM {vm}");
    if !geteuid().is_root() {
        return Err(Problem::new(what, NOT_ROOT, ""));
    }
    let names = Names::of(tag, vm);
    let mut errors = Vec::new();
    if let Err(error) = node::remove(&names.snapshot) {
        errors.push(format!("{}: {error}", node::path(&names.snapshot).display()));
    }
    // Without device-mapper there are no devices of it; loops there may be.
    if let Ok(control) = Control::open() {
        for name in [&names.snapshot, &names.base] {
            if let Err(why) = remove(&control, name, PAUSES) {
                errors.push(why);
                // The other one is held by this one.
                break;
            }
        }
    }
    if errors.is_empty() {
        errors.extend(loops_gone(&Label::Cow(tag.clone(), vm.clone())).err());
    }
    if errors.is_empty() {
        return Ok(());
    }
    let hint = "end what uses it, then try again; `banger doctor` lists what is left";
    Err(Problem::new(what, errors.join("; "), hint))
}

/// How full a VM's disk is.
///
/// # Errors
/// If it is not there, or device-mapper does not say.
pub fn fill(tag: &Tag, vm: &VmId) -> Result<Fill, Problem> {
    let what = || format!("cannot see how full the disk of VM {vm} is");
    let found = (|| {
        let control = control()?;
        let name = tag.device(vm);
        let health = health(&control, &name)?;
        let total = match health {
            Health::Works { total, .. } => total,
            Health::Overflow | Health::Invalid => {
                let loop_device = cow_loop(&control, &name)?;
                loop_device.bytes().map_err(|error| error.to_string())? / SECTOR
            }
        };
        Ok(health.fill(total))
    })();
    found.map_err(|why: String| Problem::new(what(), why, ""))
}

/// Takes notice that a VM's COW file is longer than it was.
///
/// # Errors
/// If the disk is not there.
pub fn extended(tag: &Tag, vm: &VmId) -> Result<(), Problem> {
    let done = control()
        .and_then(|control| cow_loop(&control, &tag.device(vm)))
        .and_then(|found| found.take_size_of_file().map_err(|error| error.to_string()));
    done.map_err(|why| Problem::new(format!("cannot extend the disk of VM {vm}"), why, ""))
}

/// Notes the snapshots, loops and nodes that bear the tag.
///
/// # Errors
/// If the kernel does not say.
pub fn inventory(tag: &Tag, inventory: &mut Inventory) -> Result<(), Problem> {
    let listed = (|| -> io::Result<()> {
        if !geteuid().is_root() {
            return Err(io::Error::other(NOT_ROOT));
        }
        let prefix = format!("banger-{tag}-");
        if let Ok(control) = Control::open() {
            let vms = control.list()?.into_iter().filter_map(|(name, _)| {
                name.strip_prefix(&prefix)?.trim_end_matches(BASE).parse().ok()
            });
            inventory.snapshots = vms.collect();
            inventory.snapshots.sort();
            inventory.snapshots.dedup();
        }
        // Without loop devices there is no such directory either.
        for (found, info) in loops::all()? {
            if info.label().is_some_and(|label| label.tag() == tag) {
                inventory.loops.push((found.path().display().to_string(), info.name));
            }
        }
        inventory.loops.sort();
        inventory.nodes = node::list(&prefix)?;
        Ok(())
    })();
    listed
        .map_err(|error| Problem::new("cannot list disks and loop devices", error.to_string(), ""))
}

/// Whether disks can be made here: the reason if not.
///
/// # Errors
/// What is missing: a clause for the user.
pub fn usable() -> Result<(), String> {
    let control = control()?;
    match control.has_target("snapshot") {
        Ok(true) => {}
        Ok(false) => return Err("this kernel has no snapshots (its module is dm_snapshot)".into()),
        Err(error) => return Err(format!("device-mapper does not answer: {error}")),
    }
    loops::usable().map_err(|error| error.to_string())
}

/// Whether this kernel has device-mapper, as far as anyone may see: it is there, or its node is,
/// whose opening loads it.
///
/// # Errors
/// That it has not: a clause for `doctor`.
pub fn present() -> Result<(), String> {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    let is_there = misc.lines().any(|line| line.split_whitespace().nth(1) == Some("device-mapper"));
    if is_there || std::path::Path::new("/dev/mapper/control").exists() {
        return Ok(());
    }
    Err("this kernel has no device-mapper (its module is dm_mod)".to_owned())
}

/// What a VM's devices are called.
struct Names {
    snapshot: String,
    base: String,
    uuid: String,
}

impl Names {
    fn of(tag: &Tag, vm: &VmId) -> Self {
        let snapshot = tag.device(vm);
        let base = format!("{snapshot}{BASE}");
        Self { snapshot, base, uuid: format!("BANGER-{tag}-{vm}") }
    }
}

/// The two files, checked.
struct Files {
    base: File,
    base_meta: Metadata,
    cow: File,
    cow_meta: Metadata,
}

impl Files {
    fn checked(bytes: u64, base: BorrowedFd<'_>, cow: BorrowedFd<'_>) -> Result<Self, String> {
        let own = |fd: BorrowedFd<'_>, which: &str, write: bool| {
            let own = || -> io::Result<_> {
                let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
                let file = File::from(fd.try_clone_to_owned()?);
                let meta = file.metadata()?;
                Ok((flags, file, meta))
            };
            let (flags, file, meta) = own().map_err(|error| format!("the {which}: {error}"))?;
            let mode = flags & OFlag::O_ACCMODE;
            if !meta.is_file() {
                let is = if meta.file_type().is_block_device() { "a device" } else { "no file" };
                return Err(format!("the {which} is not a regular file but {is}"));
            }
            if flags.contains(OFlag::O_PATH) || mode == OFlag::O_WRONLY {
                return Err(format!("the {which} is not open for reading"));
            }
            if write && (mode != OFlag::O_RDWR || flags.contains(OFlag::O_APPEND)) {
                return Err(format!("the {which} is not open for reading and writing"));
            }
            Ok((file, meta))
        };
        let (base, base_meta) = own(base, "base", false)?;
        let (cow, cow_meta) = own(cow, "file for changes", true)?;
        let size = base_meta.len();
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(format!("the base has {size} bytes, not a multiple of {SECTOR}"));
        }
        if bytes < size || !bytes.is_multiple_of(SECTOR) || i64::try_from(bytes).is_err() {
            return Err(format!(
                "a disk of {bytes} bytes cannot be: a multiple of {SECTOR}, and no less than the \
                 {size} bytes of the base are expected"
            ));
        }
        if !fits(cow_meta.len()) {
            let length = cow_meta.len();
            return Err(format!(
                "the file for changes has a length ({length}) that cannot be used"
            ));
        }
        if FileId::of(&base_meta) == FileId::of(&cow_meta) {
            return Err("base and file for changes are the same file".to_owned());
        }
        Ok(Self { base, base_meta, cow, cow_meta })
    }

    /// Makes all of it anew.
    fn make(
        &self,
        made: &mut Made<'_>,
        names: &Names,
        tag: &Tag,
        vm: &VmId,
        bytes: u64,
    ) -> Result<Dev, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        self.cow_is_ours_alone(vm)?;
        let base = Loop::shared(&self.base, tag).map_err(failed("the base's loop device"))?;
        let label = Label::Cow(tag.clone(), vm.clone());
        let cow = Loop::attach(self.cow.as_fd(), &label).map_err(failed("the loop device"))?;
        let sectors = bytes / SECTOR;
        let base_sectors = self.base_meta.len() / SECTOR;
        let origin = if sectors > base_sectors {
            let table = table::lengthened(sectors, base.dev(), base_sectors);
            let uuid = format!("{}{BASE}", names.uuid);
            made.device(&names.base, &uuid, true, &table)?
        } else {
            base.dev()
        };
        let table = table::snapshot(sectors, origin, cow.dev());
        let dev = made.device(&names.snapshot, &names.uuid, false, &table)?;
        // The kernel takes the table of a snapshot whose file it cannot use, and says so later.
        match health(made.control, &names.snapshot)? {
            Health::Works { .. } => Ok(dev),
            Health::Overflow | Health::Invalid => {
                Err("the file for changes cannot be used; the kernel's log (dmesg) says why".into())
            }
        }
    }

    /// That nobody else writes to the COW file, and that it is one.
    fn cow_is_ours_alone(&self, vm: &VmId) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let file = FileId::of(&self.cow_meta);
        let user = || Ok(loops::all()?.into_iter().find(|(_, info)| info.file == file));
        // What a process that was killed had made goes with the last who looks at it.
        patiently(LOOKERS, || Ok(user()?.is_none().then_some(()))).map_err(text)?;
        if let Some((found, info)) = user().map_err(text)? {
            return Err(format!(
                "the file for changes is in use already: {} (“{}”) is held by {}",
                found.path().display(),
                info.name,
                busy::explain(found.dev())
            ));
        }
        match cow::header(&self.cow).map_err(text)? {
            Header::Unused | Header::Used => Ok(()),
            Header::Invalid => {
                tracing::warn!(%vm, "the kernel gave up this disk when a write failed: revived");
                cow::revive(&self.cow).map_err(|error| format!("the file for changes: {error}"))
            }
            Header::Foreign => Err("the file for changes is something else".to_owned()),
        }
    }

    /// Why a snapshot is not made of these files.
    fn other_than(&self, control: &Control, names: &Names) -> Result<(), String> {
        let other = |error: io::Error| error.to_string();
        let table = control.table(&names.snapshot).map_err(other)?;
        let (mut origin, cow) = table::snapshot_devs(&table).ok_or("it is no snapshot")?;
        if origin.major != loops::MAJOR {
            let table = control.table(&names.base).map_err(other)?;
            origin = table::lengthened_dev(&table).ok_or("its base is something else")?;
        }
        for (dev, meta) in [(origin, &self.base_meta), (cow, &self.cow_meta)] {
            let info = Loop::open(dev).and_then(|found| found.info()).map_err(other)?;
            if info.is_none_or(|info| info.file != FileId::of(meta)) {
                return Err("it is made of other files".to_owned());
            }
        }
        Ok(())
    }
}

/// The disk that is there already, if it works and is made of just this. One that was never
/// finished, or has failed, is removed.
fn taken(
    control: &Control,
    names: &Names,
    files: &Files,
    bytes: u64,
) -> Result<Option<Dev>, String> {
    let name = &names.snapshot;
    let state = |name: &str| control.state(name).map_err(|error| error.to_string());
    if let Some(found) = state(name)? {
        let works = found.live && matches!(health(control, name), Ok(Health::Works { .. }));
        if works {
            let table = control.table(name).map_err(|error| error.to_string())?;
            let is: u64 = table.iter().map(|target| target.length * SECTOR).sum();
            let other = files.other_than(control, names).err();
            let other = other.or((is != bytes).then(|| format!("it has {is} bytes")));
            return match other {
                None => Ok(Some(found.dev)),
                Some(why) => Err(format!("there is a device {name}, but {why}")),
            };
        }
        tracing::info!(name, "removing what was left of it");
        remove(control, name, PAUSES)?;
    }
    if state(&names.base)?.is_some() {
        remove(control, &names.base, PAUSES)?;
    }
    Ok(None)
}

fn with_node(names: &Names, dev: Dev, owner: u32) -> Result<Done, String> {
    let path = node::place(&names.snapshot, dev, owner);
    let path = path.map_err(|error| format!("its node in /dev/banger: {error}"))?;
    Ok(Done::Device { path, major: dev.major, minor: dev.minor })
}

/// Devices that were made, and are removed again unless they are taken off the list.
struct Made<'a> {
    control: &'a Control,
    names: Vec<String>,
}

impl Made<'_> {
    /// Makes a device that works by this table.
    fn device(
        &mut self,
        name: &str,
        uuid: &str,
        read_only: bool,
        table: &[table::Target],
    ) -> Result<Dev, String> {
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::EBUSY) => format!("{name}: somebody else is making it"),
            _ => format!("{name}: {error}; the kernel's log (dmesg) may say more"),
        };
        let dev = self.control.create(name, uuid).map_err(failed)?;
        self.names.push(name.to_owned());
        self.control.load(name, read_only, table).map_err(failed)?;
        self.control.resume(name).map_err(failed)?;
        Ok(dev)
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for name in self.names.iter().rev() {
            if let Err(why) = remove(self.control, name, PAUSES) {
                tracing::warn!("left behind: {why}");
            }
        }
    }
}

fn control() -> Result<Control, String> {
    if !geteuid().is_root() {
        return Err(NOT_ROOT.to_owned());
    }
    Control::open().map_err(|error| error.to_string())
}

fn health(control: &Control, name: &str) -> Result<Health, String> {
    let status = control.status(name).map_err(|error| not_there(name, &error))?;
    Health::of(&status).ok_or_else(|| {
        let said = status.first().map_or("nothing", |target| target.params.as_str());
        format!("{name} says “{said}” of itself")
    })
}

fn not_there(name: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENXIO) => format!("there is no device {name}: the VM does not run"),
        _ => format!("{name}: {error}"),
    }
}

fn cow_loop(control: &Control, name: &str) -> Result<Loop, String> {
    let table = control.table(name).map_err(|error| not_there(name, &error))?;
    let (_, cow) = table::snapshot_devs(&table).ok_or(format!("{name} is no snapshot"))?;
    Loop::open(cow).map_err(|error| error.to_string())
}

/// Removes a device, waiting while it is busy. That it is not there is no error.
fn remove(control: &Control, name: &str, pauses: u32) -> Result<(), String> {
    let removed = patiently(pauses, || match control.remove(name) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(Some(())),
        other => other.map(Some),
    });
    match removed {
        Ok(Some(())) => Ok(()),
        Ok(None) => {
            let state = control.state(name).ok().flatten();
            let who = state.map_or_else(|| "somebody".to_owned(), |s| busy::explain(s.dev));
            Err(format!("{name} is held by {who}"))
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// Waits until there is no loop with this label: it goes with its last user, who may be somebody
/// that only looks.
fn loops_gone(label: &Label) -> Result<(), String> {
    let left = || -> io::Result<Vec<Loop>> {
        let ours = |info: &loops::Info| info.label().as_ref() == Some(label);
        Ok(loops::all()?.into_iter().filter(|(_, info)| ours(info)).map(|(l, _)| l).collect())
    };
    let failed = |error: io::Error| format!("the loop devices: {error}");
    let gone = patiently(PAUSES, || Ok(left()?.is_empty().then_some(())));
    if gone.map_err(failed)?.is_some() {
        return Ok(());
    }
    let held = |l: &Loop| format!("{} is held by {}", l.path().display(), busy::explain(l.dev()));
    let left: Vec<_> = left().map_err(failed)?.iter().map(held).collect();
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

/// Tries until there is something, with pauses that grow; nothing if it does not come.
fn patiently<T>(
    pauses: u32,
    mut attempt: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    for pause in 0..pauses {
        if let Some(done) = attempt()? {
            return Ok(Some(done));
        }
        thread::sleep(Duration::from_millis(1 << pause));
    }
    attempt()
}
