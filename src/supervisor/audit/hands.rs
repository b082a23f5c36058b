//! Who looks and removes: as root this process, else the root helper, else nobody where it takes
//! privileges.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nix::unistd::geteuid;

use crate::{
    domain::{HostCall, Layout, Problem, Tag, UnixMs, VmId},
    host::{
        helper,
        lock::FileLock,
        ops::{Done, LinuxOps, Op, Operate},
    },
    store::Store,
};

/// How long others that make or remove what all VMs share are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A home, and who does for it what needs privileges.
pub struct Hands<'a> {
    /// Its database.
    pub store: &'a Store,
    /// Where its files lie.
    pub layout: &'a Layout,
    /// Marks what is its own.
    pub tag: Tag,
    /// Who does it; or why there is nobody.
    pub ops: Result<Arc<dyn Operate>, Problem>,
}

impl<'a> Hands<'a> {
    /// Those of this process.
    ///
    /// # Errors
    /// The database.
    pub fn find(store: &'a Store, layout: &'a Layout) -> Result<Self, Problem> {
        let mut fresh = [0; 3];
        getrandom::fill(&mut fresh).map_err(|e| {
            Problem::new("cannot choose a tag", e.to_string(), "try again in a moment")
        })?;
        let tag = store.tag(|| Tag::from_bytes(fresh))?;
        let ops: Result<Arc<dyn Operate>, Problem> = if geteuid().is_root() {
            Ok(Arc::new(LinuxOps::new(tag.clone(), geteuid().as_raw())))
        } else {
            helper::available()
                .map(|()| -> Arc<dyn Operate> { Arc::new(helper::HelperOps::new(tag.clone())) })
        };
        Ok(Self { store, layout, tag, ops })
    }

    /// Does an operation, and writes down that it was done.
    ///
    /// # Errors
    /// That there is nobody to do it, or as [`Operate::run`].
    pub fn run(&self, vm: Option<&VmId>, op: &Op) -> Result<Done, Problem> {
        let ops = self.ops.as_ref().map_err(Problem::clone)?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let begun = Instant::now();
        let result = ops.run(op, &[]);
        let call = HostCall {
            at,
            vm: vm.cloned(),
            command: op.commands(&self.tag).join("\n"),
            took_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            error: result.as_ref().err().map(|problem| problem.why.clone()),
        };
        if let Err(error) = self.store.push_calls(&[call]) {
            tracing::warn!(%error, "what was done is not written down");
        }
        result
    }

    /// Keeps others from making or removing what all VMs share.
    ///
    /// # Errors
    /// If they take too long.
    pub fn lock(&self) -> Result<FileLock, Problem> {
        let path = self.layout.host_lock();
        let fail = |why: String| Problem::new("cannot clean the host", why, "try again");
        FileLock::exclusive_within(&path, PATIENCE)
            .map_err(|e| fail(format!("{}: {e}", path.display())))?
            .ok_or_else(|| fail("other bangers have been at it for a minute".to_owned()))
    }
}
