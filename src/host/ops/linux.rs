//! Operations done in this process, which must be root.

use std::os::fd::BorrowedFd;

use super::{Done, Op, Operate};
use crate::domain::{Problem, Tag};

/// Does operations itself.
#[derive(Clone, Debug)]
pub struct LinuxOps {
    tag: Tag,
    owner: u32,
}

impl LinuxOps {
    /// For everything that bears `tag`. Device nodes belong to the user `owner`.
    #[must_use]
    pub const fn new(tag: Tag, owner: u32) -> Self {
        Self { tag, owner }
    }
}

impl Operate for LinuxOps {
    fn run(&self, op: &Op, _files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
        let doing = op.commands(&self.tag).join("; ");
        tracing::info!(doing, owner = self.owner, "asked for");
        Err(Problem::new("cannot do that to the host", "this banger has not learned it", ""))
    }
}
