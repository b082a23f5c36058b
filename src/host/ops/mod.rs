//! What banger has done to a host that needs privileges: a fixed list of typed operations.
//!
//! As root they are done in this process ([`LinuxOps`]); as a normal user the root helper does
//! them. Both take the same [`Op`]s, so that there is one list of what banger can do to a host.
//! An operation names nothing that it does not own: names of interfaces, tables and devices
//! follow from the [`Tag`] and the VM's id, and files come as open descriptors, never as paths.
//!
//! Every operation that makes something also takes it as it finds it: done twice it is as done
//! once. Every one that removes something is content if that is gone.

mod fake;
mod linux;

use std::{net::SocketAddrV4, os::fd::BorrowedFd, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::{Problem, Subnet, Tag, VmId, VmName};

pub use crate::domain::Fill;

pub use fake::FakeOps;
pub use linux::LinuxOps;

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "op", deny_unknown_fields)]
pub enum Op {
    /// The bridge, up, with the host's address on it.
    Bridge {
        /// Its addresses.
        subnet: Subnet,
        /// Bytes of a packet: 1,280 (the least of IPv6) to 65,535.
        mtu: u32,
    },
    /// The bridge is to go.
    BridgeGone,
    /// A VM's TAP, up, on the bridge.
    Tap {
        /// The VM.
        vm: VmId,
        /// As the bridge's.
        mtu: u32,
        /// The user who may attach to it: the one who asks, or as root any.
        owner: u32,
    },
    /// A VM's TAP is to go.
    TapGone {
        /// The VM.
        vm: VmId,
    },
    /// The nftables table: NAT to the outside, forwarding to and from the bridge, also where
    /// Docker drops what it does not know.
    Rules {
        /// The VMs' addresses.
        subnet: Subnet,
        /// The port of the gateway's address where banger's name server answers: what guests send to
        /// port 53 goes there.
        dns: Option<u16>,
    },
    /// The table, and what was said to Docker, are to go.
    RulesGone,
    /// The kernel is to forward IPv4, for the bridge, which must be there. Answered with
    /// [`Done::Forwarding`].
    Forwarding,
    /// The kernel need not forward any more, as far as this tag is concerned. Turned off if a
    /// banger turned it on, of whatever tag, and nobody else on the host needs it.
    ForwardingGone,
    /// A VM's disk: a snapshot of a base. Takes two descriptors: the base, open for reading, and the
    /// file for what changes, open for reading and writing. Answered with [`Done::Device`].
    Snapshot {
        /// The VM.
        vm: VmId,
        /// Size of the disk in bytes, a multiple of 512; at least the base's. What the base does
        /// not have reads as zeros.
        bytes: u64,
    },
    /// A VM's snapshot is to go.
    SnapshotGone {
        /// The VM.
        vm: VmId,
    },
    /// How full a VM's snapshot is. Answered with [`Done::Fill`].
    SnapshotFill {
        /// The VM.
        vm: VmId,
    },
    /// The file for what changes has been made longer; the snapshot is to take notice.
    SnapshotExtend {
        /// The VM.
        vm: VmId,
    },
    /// The host's resolver is to ask this server for `.vm` and for the subnet's addresses.
    Resolve {
        /// Where banger's name server answers: an address of loopback.
        server: SocketAddrV4,
        /// The VMs' addresses.
        subnet: Subnet,
    },
    /// The host's resolver is to forget about it.
    ResolveGone,
    /// A block of `/etc/hosts` with just these; without any, the block is to go.
    Hosts {
        /// Names and the places of their addresses in the subnet.
        names: Vec<HostsName>,
    },
    /// What is there that bears the tag. Answered with [`Done::Inventory`].
    Inventory,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostsName {
    /// The VM's name, to which `.vm` is added.
    pub name: VmName,
    /// Its address.
    pub address: std::net::Ipv4Addr,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "done")]
pub enum Done {
    /// It is so now.
    So,
    /// The kernel forwards IPv4.
    Forwarding {
        /// Whether it did before.
        before: bool,
    },
    /// A block device.
    Device {
        /// Its node.
        path: PathBuf,
        /// Its number.
        major: u32,
        /// Its number.
        minor: u32,
    },
    /// How full a snapshot is.
    Fill(Fill),
    /// What is there.
    Inventory(Inventory),
}

/// What is on the host that bears a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The bridge.
    pub bridge: bool,
    /// TAPs, by VM.
    pub taps: Vec<VmId>,
    /// The nftables table.
    pub rules: bool,
    /// Snapshots, by VM.
    pub snapshots: Vec<VmId>,
    /// Loop devices whose file bears the tag: `/dev/loop3`, and what the loop says of its file.
    pub loops: Vec<(String, String)>,
    /// Nodes in `/dev/banger`.
    pub nodes: Vec<PathBuf>,
    /// Lines in the block of `/etc/hosts`.
    pub hosts: usize,
}

/// Somebody who can do [`Op`]s. All of it blocks, and must not be called on a thread that
/// drives a tokio runtime.
pub trait Operate: Send + Sync {
    /// Does it.
    ///
    /// # Errors
    /// What failed, why, and what to do.
    fn run(&self, op: &Op, files: &[BorrowedFd<'_>]) -> Result<Done, Problem>;
}

impl Op {
    /// What a user would type for it: one line or more, each a command of a shell. For the eye
    /// ("What I ran"); nothing executes it.
    #[must_use]
    pub fn commands(&self, tag: &Tag) -> Vec<String> {
        let bridge = tag.bridge();
        let table = tag.table();
        match self {
            Self::Bridge { subnet, mtu } => vec![
                format!("ip link add {bridge} mtu {mtu} type bridge stp_state 0"),
                format!("ip link set {bridge} alias '{}' up", tag.alias(None)),
                format!("ip address add {}/{} dev {bridge}", subnet.gateway(), Subnet::PREFIX),
            ],
            Self::BridgeGone => vec![format!("ip link delete {bridge}")],
            Self::Tap { vm, mtu, owner } => {
                let tap = crate::domain::tap_name(vm);
                vec![
                    format!("ip tuntap add {tap} mode tap user {owner} vnet_hdr"),
                    format!("ip link set {tap} mtu {mtu} alias '{}'", tag.alias(Some(vm))),
                    format!("ip link set {tap} master {bridge} up"),
                ]
            }
            Self::TapGone { vm } => vec![format!("ip link delete {}", crate::domain::tap_name(vm))],
            Self::Rules { subnet, .. } => {
                vec![format!("nft -j -f -  # table inet {table}: NAT for {subnet}")]
            }
            Self::RulesGone => vec![format!("nft delete table inet {table}")],
            Self::Forwarding => {
                // See `net::forwarding`: its value says who turned it on.
                let mark = "$((1000000000 + $(stat -Lc %i /proc/self/ns/net) % 1000000000))";
                vec![format!("sysctl net.ipv4.ip_forward={mark}  # unless it is on")]
            }
            Self::ForwardingGone => {
                let unless = "if a banger turned it on, and nobody else on this host needs it";
                vec![format!("sysctl net.ipv4.ip_forward=0  # {unless}")]
            }
            Self::Snapshot { vm, bytes } => {
                let device = tag.device(vm);
                vec![format!(
                    "dmsetup create {device} --table '0 {} snapshot BASE-LOOP COW-LOOP PO 8'",
                    bytes / 512
                )]
            }
            Self::SnapshotGone { vm } => vec![format!("dmsetup remove {}", tag.device(vm))],
            Self::SnapshotFill { vm } => vec![format!("dmsetup status {}", tag.device(vm))],
            Self::SnapshotExtend { vm } => {
                vec![format!("losetup --set-capacity COW-LOOP  # of {}", tag.device(vm))]
            }
            Self::Resolve { server, subnet } => vec![
                format!("resolvectl domain {bridge} ~vm ~{}", subnet.reverse_zones().join(" ~")),
                format!("resolvectl default-route {bridge} no"),
                format!("resolvectl dns {bridge} {server}"),
            ],
            Self::ResolveGone => vec![format!("resolvectl revert {bridge}")],
            Self::Hosts { names } => {
                vec![format!("# /etc/hosts: {} names of banger {tag}", names.len())]
            }
            Self::Inventory => vec!["ip -d link; nft list ruleset; dmsetup ls; losetup -a".into()],
        }
    }
}
