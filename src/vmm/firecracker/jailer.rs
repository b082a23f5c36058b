//! Firecracker's jailer: a root directory, a user and a cgroup of its own for each machine.
//!
//! ```text
//!  <base>/firecracker/banger-<vm>/root/     what Firecracker sees as /
//!      firecracker                          copied here by the jailer, which also makes
//!      dev/{kvm,net/tun,urandom}            these
//!      vmlinux, initrd                      links to the runtime directory's, or copies
//!      disk0, …                             nodes of the same block devices, of the jail's user;
//!                                           files that are only read: links, or copies
//!      run/banger/<vm>/…                    socket and pipes, at the same path as without a jail
//! ```
//!
//! - **The user's files keep their owner and mode.** The jail's user may not open a file of the
//!   user's, and neither a hard link nor a bind mount changes that; a device node does, as it has
//!   an owner of its own. So disks that are written must be block devices: dm-snapshots are, and
//!   a file becomes one with a loop device.
//! - **Kernel, initrd and files that are only read** are anyone's to read: linked, or copied
//!   where they cannot be.
//! - **Nothing is mounted** on the host; the jailer's own mounts are in a namespace that goes
//!   with it. So removing the directory is removing all of it.
//! - **No network namespace**: the TAP is a port of the host's bridge, and a device can be
//!   opened by its name only in the namespace that it is in.
//! - **No limits in the cgroup**: to have any, controllers would have to be turned on for the
//!   whole host. It is there so that the machine is out of the session it was started from, and
//!   can be ended as one.
//! - The jailer drops its privileges before it executes Firecracker, and with them our
//!   parent-death signal (prctl(2)). A machine whose monitor is killed goes on; its socket's
//!   path is among its arguments, which is how the ledger finds it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Component, Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, SFlag, mknod},
    unistd::{AccessFlags, access},
};

use super::{
    room::{Beside, Room, arguments, instance},
    steps::Places,
    version::Version,
};
use crate::{
    domain::VmId,
    vmm::{Disk, MachineSpec, Piece, VmmError, piece::CGROUP},
};

/// The lowest user id of a jail. 1879048192 to 2147352575 is used by nobody
/// (systemd's table of them, systemd.io/UIDS-GIDS); of it the first 2^27.
const UID_LOW: u32 = 0x7000_0000;
/// How many there are: with a hundred VMs two share one with a chance of 1 in 27000.
const UIDS: u32 = 1 << 27;

/// The user and group that a VM's jail runs as. The same at each start, so that a TAP can be
/// made its own before.
#[must_use]
pub fn uid(vm: &VmId) -> u32 {
    // An id is eight hex digits by construction.
    UID_LOW + u32::from_str_radix(vm.as_str(), 16).unwrap_or(0) % UIDS
}

/// How machines are jailed.
#[derive(Clone, Debug)]
pub struct Jailer {
    program: PathBuf,
    base: PathBuf,
    cgroups: Option<PathBuf>,
}

impl Jailer {
    /// `program` is the jailer; `base` a directory of this one VM, which is made for a launch
    /// and goes with it. Not on a file system that knows no device nodes, as `/run` usually is.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, base: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), base: base.into(), cgroups: None }
    }

    /// Gives each machine a cgroup, below `banger` of this hierarchy ([`cgroup_root`] finds it).
    #[must_use]
    pub fn in_cgroups_of(mut self, root: impl Into<PathBuf>) -> Self {
        self.cgroups = Some(root.into());
        self
    }

    /// What it makes for a machine, oldest first.
    pub(super) fn pieces(&self, vm: &VmId) -> Vec<Piece> {
        let cgroup = self.cgroups.iter().map(|root| root.join(CGROUP).join(vm.as_str()));
        let directory = Piece::Directory(self.base.clone());
        cgroup.map(Piece::Cgroup).chain([directory]).collect()
    }

    /// Refuses a pair that does not belong together. Blocks for some milliseconds.
    pub(super) fn check(&self, firecracker: &Path) -> Result<(), VmmError> {
        let pair =
            Version::of(&self.program).and_then(|ours| Ok((ours, Version::of(firecracker)?)));
        let (ours, theirs) = pair.map_err(VmmError::Control)?;
        if ours == theirs {
            return Ok(());
        }
        Err(refused(format!(
            "it is of version {ours}, and Firecracker of {theirs}; they must be of one: `banger \
             runtime bootstrap` fetches both"
        )))
    }

    /// Makes the jail, without what an earlier one left.
    pub(super) fn room(&self, firecracker: &Path, spec: &MachineSpec) -> Result<Room, VmmError> {
        let made = self.make(firecracker, spec);
        if made.is_err() {
            for piece in self.pieces(&spec.vm).iter().rev() {
                // The ledger has it, and tries again.
                let _ = piece.remove();
            }
        }
        made
    }

    fn make(&self, firecracker: &Path, spec: &MachineSpec) -> Result<Room, VmmError> {
        for piece in self.pieces(&spec.vm).iter().rev() {
            piece.remove().map_err(|e| failed(piece.path(), &e))?;
        }
        let uid = uid(&spec.vm);
        // The jailer does the same to find the name of the directory.
        let exec = fs::canonicalize(firecracker).map_err(|e| failed(firecracker, &e))?;
        let inside = self.inside(&exec, spec);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&inside)
            .map_err(|e| failed(&inside, &e))?;

        let run = spec.socket.parent().unwrap_or_else(|| Path::new("/"));
        own_directories(&inside, run, uid).map_err(|e| failed(&inside.join(run), &e))?;
        provide(&spec.kernel, &inside.join("vmlinux")).map_err(|e| failed(&spec.kernel, &e))?;
        provide(&spec.initrd, &inside.join("initrd")).map_err(|e| failed(&spec.initrd, &e))?;
        let (command, socket, places) = self.plan(&exec, spec);
        let within = |path: &Path| inside.join(path.strip_prefix("/").unwrap_or(path));
        for (disk, place) in spec.disks.iter().zip(&places.disks) {
            put_disk(disk, &within(place), uid)?;
        }
        if let Some(root) = &self.cgroups {
            make_cgroup(root, &spec.vm).map_err(|e| failed(root, &e))?;
        }

        let beside = Beside::new(&spec.socket);
        Ok(Room {
            command,
            program: self.program.display().to_string(),
            socket,
            log: within(&beside.log),
            metrics: within(&beside.metrics),
            places,
            owner: Some(uid),
            pieces: self.pieces(&spec.vm),
        })
    }

    /// The host's path of what Firecracker sees as `/`. `exec` is a file's path, without links.
    fn inside(&self, exec: &Path, spec: &MachineSpec) -> PathBuf {
        self.base.join(exec.file_name().unwrap_or_default()).join(instance(spec)).join("root")
    }

    /// How a machine is started, where on the host its API will be, and what it sees.
    pub(super) fn plan(&self, exec: &Path, spec: &MachineSpec) -> (Command, PathBuf, Places) {
        let socket = spec.socket.strip_prefix("/").unwrap_or(&spec.socket);
        let Beside { vsock, metrics, .. } = Beside::new(&spec.socket);
        let places = Places {
            kernel: "/vmlinux".into(),
            initrd: "/initrd".into(),
            disks: (0..spec.disks.len()).map(|n| format!("/disk{n}").into()).collect(),
            metrics,
            vsock,
        };
        (self.command(exec, spec), self.inside(exec, spec).join(socket), places)
    }

    fn command(&self, exec: &Path, spec: &MachineSpec) -> Command {
        let mut command = Command::new(&self.program);
        let uid = uid(&spec.vm).to_string();
        command.args(["--id", &instance(spec), "--uid", &uid, "--gid", &uid]);
        command.arg("--exec-file").arg(exec).arg("--chroot-base-dir").arg(&self.base);
        match &self.cgroups {
            // With a parent and no properties it moves into the parent, and makes nothing.
            Some(_) => {
                command.args(["--cgroup-version", "2", "--parent-cgroup"]);
                command.arg(Path::new(CGROUP).join(spec.vm.as_str()))
            }
            // With version 1 and no properties it looks for no cgroup at all.
            None => command.args(["--cgroup-version", "1"]),
        };
        command.arg("--");
        arguments(&mut command, spec);
        command
    }
}

/// Where the host's cgroups of version 2 are, if we can make some.
///
/// # Errors
/// Why there are none for us: a clause for `doctor`.
pub fn cgroup_root() -> Result<PathBuf, String> {
    let table = fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
    let root = unified(&table).ok_or("no cgroup hierarchy of version 2 is mounted")?;
    access(&root, AccessFlags::W_OK)
        .map_err(|errno| format!("{} cannot be written: {}", root.display(), errno.desc()))?;
    Ok(root)
}

/// From `cgroup2 /sys/fs/cgroup cgroup2 rw,… 0 0` (proc(5)).
fn unified(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

fn refused(message: String) -> VmmError {
    VmmError::Refused { command: "the jailer".to_owned(), message }
}

fn failed(path: &Path, error: &io::Error) -> VmmError {
    refused(format!("{}: {error}", path.display()))
}

/// Makes a path below `root`, each part of it the jail's.
fn own_directories(root: &Path, path: &Path, uid: u32) -> io::Result<()> {
    let mut dir = root.to_owned();
    for part in path.components() {
        if let Component::Normal(name) = part {
            dir.push(name);
            DirBuilder::new().mode(0o700).create(&dir)?;
            chown(&dir, Some(uid), Some(uid))?;
        }
    }
    Ok(())
}

/// Puts a file that all may read into the jail: the same one if that is possible, so that fifty
/// machines have one kernel in the page cache.
fn provide(from: &Path, to: &Path) -> io::Result<()> {
    let readable = fs::metadata(from)?.mode() & 0o004 != 0;
    if readable && fs::canonicalize(from).and_then(|real| fs::hard_link(real, to)).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(0o444))
}

/// Gives the jail a disk: a node of the same device for the jail's user, or the file that is only
/// read.
fn put_disk(disk: &Disk, to: &Path, uid: u32) -> Result<(), VmmError> {
    let meta = fs::metadata(&disk.path).map_err(|e| failed(&disk.path, &e))?;
    if disk.read_only && meta.is_file() {
        return provide(&disk.path, to).map_err(|e| failed(&disk.path, &e));
    }
    if !meta.file_type().is_block_device() {
        let path = disk.path.display();
        return Err(refused(format!(
            "{path} is no block device, and only one can be handed to the jail's user without \
             giving it the file; attach it to a loop device, or turn the jailer off"
        )));
    }
    let mode = if disk.read_only { Mode::S_IRUSR } else { Mode::S_IRUSR | Mode::S_IWUSR };
    mknod(to, SFlag::S_IFBLK, mode, meta.rdev())
        .map_err(io::Error::from)
        .and_then(|()| chown(to, Some(uid), Some(uid)))
        .map_err(|e| failed(to, &e))
}

/// Makes the cgroup; the one above it is shared, and may just be going with the last of others.
fn make_cgroup(root: &Path, vm: &VmId) -> io::Result<()> {
    let parent = root.join(CGROUP);
    loop {
        exists_is_fine(fs::create_dir(&parent))?;
        match exists_is_fine(fs::create_dir(parent.join(vm.as_str()))) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            other => return other,
        }
    }
}

fn exists_is_fine(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
