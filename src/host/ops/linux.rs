//! Operations done in this process, which must be root.

use std::os::fd::BorrowedFd;

use super::{Done, Inventory, Op, Operate};
use crate::{
    domain::{Problem, Tag},
    host::{dm, net, resolver},
};

/// Does operations itself.
#[derive(Clone, Debug)]
pub struct LinuxOps {
    tag: Tag,
    owner: u32,
}

impl LinuxOps {
    /// For everything that bears `tag`. What a user may have belongs to `owner`.
    #[must_use]
    pub const fn new(tag: Tag, owner: u32) -> Self {
        Self { tag, owner }
    }

    /// Nobody but root makes a TAP for somebody else.
    fn may_own(&self, owner: u32) -> Result<(), Problem> {
        if self.owner == 0 || self.owner == owner {
            return Ok(());
        }
        let why = format!("user {} asked for one of user {owner}", self.owner);
        Err(Problem::new("cannot make the TAP", why, "ask for one of your own"))
    }
}

impl Operate for LinuxOps {
    fn run(&self, op: &Op, files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
        let tag = &self.tag;
        let doing = op.commands(tag).join("; ");
        tracing::debug!(doing, owner = self.owner, "asked for");
        match op {
            Op::Bridge { subnet, mtu } => net::bridge(tag, *subnet, *mtu)?,
            Op::BridgeGone => net::bridge_gone(tag)?,
            Op::Tap { vm, mtu, owner } => {
                self.may_own(*owner)?;
                net::tap(tag, vm, *mtu, *owner)?;
            }
            Op::TapGone { vm } => net::tap_gone(tag, vm)?,
            Op::Rules { subnet, dns } => net::rules(tag, *subnet, *dns)?,
            Op::RulesGone => net::rules_gone(tag)?,
            Op::Forwarding => return Ok(Done::Forwarding { before: net::forwarding()? }),
            Op::ForwardingGone => net::forwarding_gone(tag)?,
            Op::Snapshot { vm, bytes } => {
                let [base, cow] = *files else {
                    let why = format!("it takes two open files, and {} came", files.len());
                    return Err(Problem::new(format!("cannot make the disk of VM {vm}"), why, ""));
                };
                return dm::snapshot(tag, vm, *bytes, base, cow, self.owner);
            }
            Op::SnapshotGone { vm } => dm::snapshot_gone(tag, vm)?,
            Op::SnapshotFill { vm } => return Ok(Done::Fill(dm::fill(tag, vm)?)),
            Op::SnapshotExtend { vm } => dm::extended(tag, vm)?,
            Op::Resolve { server, subnet } => resolver::route(tag, *server, *subnet)?,
            Op::ResolveGone => resolver::unroute(tag)?,
            Op::Hosts { names } => resolver::hosts(tag, names)?,
            Op::Inventory => {
                let mut inventory = Inventory::default();
                net::inventory(tag, &mut inventory)?;
                dm::inventory(tag, &mut inventory)?;
                // A damaged block is something of ours, too: that it is there must not hide the rest.
                inventory.hosts = resolver::hosts_lines(tag).unwrap_or(1);
                return Ok(Done::Inventory(inventory));
            }
        }
        Ok(Done::So)
    }
}
