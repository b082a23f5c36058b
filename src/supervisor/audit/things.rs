//! What can be found on a host, what it is called, and how it is removed by hand.

use std::path::PathBuf;

use crate::{
    domain::{Layout, Tag, VmId, shell_word, tap_name},
    host::ops::Op,
    monitor::VmmDetail,
    store::{LedgerEntry, LedgerKind},
};

/// The first word of an entry's key for a line of the block in `/etc/hosts`.
pub const HOSTS: &str = "hosts";
/// The same for what systemd-resolved is told.
pub const RESOLVER: &str = "resolver";

/// What a process of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `banger monitor`.
    Monitor,
    /// What runs the VM.
    Vmm,
}

/// Something that bears our mark, or lies where only ours lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// The bridge.
    Bridge,
    /// The nftables table.
    Rules,
    /// That the kernel forwards, although the banger that turned it on is gone.
    Forwarding,
    /// A TAP with the tag in its alias.
    Tap(VmId),
    /// A device-mapper device.
    Snapshot(VmId),
    /// A loop device with the tag in its label.
    Loop {
        /// Its node: `/dev/loop3`.
        device: PathBuf,
        /// The VM whose changes go there; `None` for a base.
        cow_of: Option<VmId>,
    },
    /// A node in `/dev/banger`.
    Node(PathBuf),
    /// The block in `/etc/hosts`.
    Hosts,
    /// A process that was started for a VM of this home.
    Process {
        /// Its id.
        pid: u32,
        /// The VM.
        vm: VmId,
        /// What it is.
        role: Role,
    },
    /// A VM's directory of sockets.
    RunDir(VmId),
    /// A VM's lock file.
    Lock {
        /// The VM.
        vm: VmId,
        /// Whether it is held.
        held: bool,
    },
    /// Something else in the directory of sockets and locks, or among the VMs' directories.
    Stray(PathBuf),
    /// A VM's directory of disk and logs.
    VmDir(VmId),
    /// A file among the bases.
    Base(PathBuf),
    /// A mount below a VM's directory.
    Mount(PathBuf),
    /// A control group of a VM's machine.
    Cgroup(VmId, PathBuf),
}

impl Thing {
    /// The VM it is of.
    #[must_use]
    pub const fn vm(&self) -> Option<&VmId> {
        match self {
            Self::Tap(vm)
            | Self::Snapshot(vm)
            | Self::Process { vm, .. }
            | Self::RunDir(vm)
            | Self::Lock { vm, .. }
            | Self::VmDir(vm)
            | Self::Cgroup(vm, _) => Some(vm),
            Self::Loop { cow_of, .. } => cow_of.as_ref(),
            Self::Bridge
            | Self::Rules
            | Self::Forwarding
            | Self::Node(_)
            | Self::Hosts
            | Self::Stray(_)
            | Self::Base(_)
            | Self::Mount(_) => None,
        }
    }

    /// What the helper, or root, does to remove it; `None` if that takes no operation.
    #[must_use]
    pub fn removal(&self, tag: &Tag) -> Option<Op> {
        Some(match self {
            Self::Bridge => Op::BridgeGone,
            Self::Rules => Op::RulesGone,
            Self::Forwarding => Op::ForwardingGone,
            Self::Tap(vm) => Op::TapGone { vm: vm.clone() },
            Self::Snapshot(vm) | Self::Loop { cow_of: Some(vm), .. } => {
                Op::SnapshotGone { vm: vm.clone() }
            }
            Self::Node(path) => {
                let prefix = format!("banger-{tag}-");
                let vm = path.file_name()?.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
                Op::SnapshotGone { vm }
            }
            Self::Hosts => Op::Hosts { names: Vec::new() },
            // A base's loop goes with its last user.
            Self::Loop { cow_of: None, .. }
            | Self::Process { .. }
            | Self::RunDir(_)
            | Self::Lock { .. }
            | Self::Stray(_)
            | Self::VmDir(_)
            | Self::Base(_)
            | Self::Mount(_)
            | Self::Cgroup(..) => return None,
        })
    }

    /// Where it is, if it is a file or directory of the user's.
    #[must_use]
    pub fn path(&self, layout: &Layout) -> Option<PathBuf> {
        Some(match self {
            Self::RunDir(vm) => layout.vm(vm).run_dir().to_owned(),
            Self::Lock { vm, .. } => layout.vm(vm).run_lock(),
            Self::VmDir(vm) => layout.vm(vm).dir().to_owned(),
            Self::Stray(path)
            | Self::Base(path)
            | Self::Node(path)
            | Self::Mount(path)
            | Self::Cgroup(_, path) => path.clone(),
            _ => return None,
        })
    }

    /// What it is, with its name; no two have the same.
    #[must_use]
    pub fn what(&self, tag: &Tag, layout: &Layout) -> String {
        let path = || self.path(layout).unwrap_or_default().display().to_string();
        match self {
            Self::Bridge => format!("bridge {}", tag.bridge()),
            Self::Rules => format!("nftables table {}", tag.table()),
            Self::Forwarding => "kernel setting net.ipv4.ip_forward".to_owned(),
            Self::Tap(vm) => format!("TAP {}", tap_name(vm)),
            Self::Snapshot(vm) => format!("snapshot {}", tag.device(vm)),
            Self::Loop { device, .. } => format!("loop device {}", device.display()),
            Self::Node(_) => format!("device node {}", path()),
            Self::Hosts => format!("block of banger {tag} in /etc/hosts"),
            Self::Process { pid, role: Role::Monitor, .. } => format!("monitor, process {pid}"),
            Self::Process { pid, role: Role::Vmm, .. } => format!("VMM, process {pid}"),
            Self::RunDir(_) | Self::VmDir(_) => format!("directory {}", path()),
            Self::Lock { .. } => format!("lock file {}", path()),
            Self::Stray(_) => format!("stray {}", path()),
            Self::Base(_) => format!("base image {}", path()),
            Self::Mount(_) => format!("mount {}", path()),
            Self::Cgroup(..) => format!("control group {}", path()),
        }
    }

    /// The command that would remove it.
    #[must_use]
    pub fn command(&self, tag: &Tag, layout: &Layout) -> String {
        let path = || shell_word(&self.path(layout).unwrap_or_default().to_string_lossy());
        match self {
            Self::Process { pid, .. } => format!("kill -KILL {pid}"),
            Self::RunDir(_) | Self::VmDir(_) | Self::Stray(_) => format!("rm -r {}", path()),
            Self::Lock { .. } | Self::Base(_) | Self::Node(_) => format!("rm {}", path()),
            Self::Mount(_) => format!("umount {}", path()),
            Self::Cgroup(..) => format!("rmdir {}", path()),
            Self::Loop { device, .. } => {
                format!("losetup --detach {}", shell_word(&device.to_string_lossy()))
            }
            Self::Hosts => without_block(tag),
            Self::Bridge | Self::Rules | Self::Forwarding | Self::Tap(_) | Self::Snapshot(_) => {
                self.removal(tag).map(|op| op.commands(tag).join("\n")).unwrap_or_default()
            }
        }
    }
}

/// The command that would undo an entry by hand.
#[must_use]
pub fn command_of(entry: &LedgerEntry, tag: &Tag) -> String {
    let vm = || entry.vm.clone();
    let op = match entry.kind {
        LedgerKind::Bridge => Some(Op::BridgeGone),
        LedgerKind::Rules => Some(Op::RulesGone),
        LedgerKind::Forwarding => Some(Op::ForwardingGone),
        LedgerKind::Tap => vm().map(|vm| Op::TapGone { vm }),
        LedgerKind::Snapshot => vm().map(|vm| Op::SnapshotGone { vm }),
        LedgerKind::DnsRecord => match entry.key.split(' ').next() {
            Some(HOSTS) => return without_block(tag),
            Some(RESOLVER) => Some(Op::ResolveGone),
            _ => None,
        },
        LedgerKind::Process
        | LedgerKind::Socket
        | LedgerKind::Directory
        | LedgerKind::File
        | LedgerKind::PortForward
        | LedgerKind::BaseLoop
        | LedgerKind::Mount
        | LedgerKind::Cgroup => None,
    };
    if let Some(op) = op {
        return op.commands(tag).join("\n");
    }
    let path = shell_word(&entry.key);
    match entry.kind {
        LedgerKind::Process => {
            let detail = serde_json::from_value::<VmmDetail>(entry.detail.clone()).ok();
            match detail.map(|detail| (detail.process, detail.socket)) {
                Some((Some(process), _)) => format!("kill -KILL {}", process.pid),
                Some((None, socket)) => {
                    format!("pkill -KILL -f {}", shell_word(&socket.to_string_lossy()))
                }
                None => "# nobody knows which process".to_owned(),
            }
        }
        LedgerKind::Socket | LedgerKind::File => format!("rm {path}"),
        LedgerKind::Directory => format!("rm -r {path}"),
        LedgerKind::Mount => format!("umount {path}"),
        LedgerKind::Cgroup => format!("rmdir {path}"),
        _ => format!("# {} {} goes with what uses it", entry.kind, entry.key),
    }
}

fn without_block(tag: &Tag) -> String {
    format!("sed -i '/^# banger {tag} begin/,/^# banger {tag} end/d' /etc/hosts")
}
