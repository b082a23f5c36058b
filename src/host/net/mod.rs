//! The network on the host's side: a bridge, TAPs on it, rules, and what else is there.
//!
//! Links, addresses and routes are read and changed by rtnetlink, TAPs are made by ioctl, rules
//! by one `nft -j -f -` each, without a shell. Everything is done in the network namespace of
//! the thread that calls, and blocks that thread for as long as the kernel takes.

mod bridge;
mod firewalls;
mod forwarding;
mod inventory;
mod links;
mod netlink;
mod nft;
mod rules;
mod subnet;
mod tap;
mod uplink;

use std::{fs, io};

use crate::domain::Problem;

pub use bridge::{bridge, bridge_gone};
pub use firewalls::{Firewall, firewalls};
pub use forwarding::{forwarding, forwarding_gone, is_forwarding, is_left_forwarding};
pub use inventory::{Stranger, inventory, strangers};
pub use rules::{rules, rules_gone};
pub use subnet::{choose_subnet, collision};
pub use tap::{tap, tap_access, tap_attachable, tap_gone};
pub use uplink::uplink_mtu;

/// Bytes of a packet that a link can be told: the least that IPv6 works with (RFC 8200), and the
/// most that IPv4 has a length for.
const MTU: std::ops::RangeInclusive<u32> = 1280..=65_535;

/// A failure of the kernel's, with the hint that goes with its errno.
fn refused(what: impl Into<String>, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "run banger as root, or install its root helper",
        _ if error.raw_os_error() == Some(nix::libc::EPERM) => {
            "run banger as root, or install its root helper"
        }
        _ if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {
            "the kernel lacks a module: modprobe bridge tun nf_tables"
        }
        _ => "banger doctor",
    };
    Problem::new(what, error.to_string(), hint)
}

/// Refuses an MTU that no link takes.
fn check_mtu(what: &str, mtu: u32) -> Result<(), Problem> {
    if MTU.contains(&mtu) {
        return Ok(());
    }
    let why = format!("an MTU of {mtu} bytes is not {} to {}", MTU.start(), MTU.end());
    Err(Problem::new(what, why, "leave the MTU to banger"))
}

/// A file of `/proc/net`, of the thread's network namespace: `/proc/net` is the process's.
fn proc_net(name: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/thread-self/net/{name}"))
}

#[cfg(test)]
mod tests;
