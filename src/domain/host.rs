//! What is told of the host: how full a snapshot is, and what was done.

use serde::{Deserialize, Serialize};

use super::{UnixMs, VmId};

/// How full a snapshot is, as device-mapper tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Bytes used of the file for what changes, the snapshot's own records included.
    pub used: u64,
    /// Bytes it has room for.
    pub total: u64,
    /// Whether it can take no more: what was written last is lost, and the disk must not be
    /// written to again.
    pub overflowed: bool,
}

/// Something that was done to the host, or asked of a VMM, in a form that can be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCall {
    /// When it began.
    pub at: UnixMs,
    /// For which VM; `None` for what all share.
    pub vm: Option<VmId>,
    /// What a user would type for it.
    pub command: String,
    /// Microseconds it took.
    pub took_us: u64,
    /// Why it failed; `None` if it worked.
    pub error: Option<String>,
}
