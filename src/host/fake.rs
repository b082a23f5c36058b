//! A machine that does next to nothing, remembers what it was asked, and fails when told to.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Host,
    facts::HostFacts,
    process::{ProcessRef, Signal},
};
use crate::domain::OverlayKind;

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Host::overlay_kind`]
    OverlayKind(PathBuf),
    /// [`Host::copy_image`]
    CopyImage(PathBuf, PathBuf),
    /// [`Host::grow`]
    Grow(PathBuf, u64),
    /// [`Host::used_bytes`]
    UsedBytes(PathBuf),
    /// [`Host::free_space`]
    FreeSpace(PathBuf),
    /// [`Host::facts`]
    Facts(PathBuf),
    /// [`Host::signal`]
    Signal(ProcessRef, Signal),
}

/// Records calls and can be told to fail the Nth. Images are copied for real, plainly; signals
/// go nowhere.
#[derive(Debug)]
pub struct FakeHost {
    overlay: OverlayKind,
    free: u64,
    facts: HostFacts,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    calls: Vec<Call>,
    failures: BTreeMap<usize, i32>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self::new(OverlayKind::SparseCopy)
    }
}

impl FakeHost {
    /// A machine with 2 CPUs, 8 GiB of memory, half of it available, and 100 GiB of free disk.
    #[must_use]
    pub fn new(overlay: OverlayKind) -> Self {
        let free = 100 << 30;
        let facts = HostFacts {
            cpus: 2,
            memory_total: 8 << 30,
            memory_available: 4 << 30,
            disk_total: 2 * free,
            disk_available: free,
        };
        Self { overlay, free, facts, inner: Mutex::default() }
    }

    /// Lets call number `nth` (the first is 0, all methods counted together) fail with `errno`.
    pub fn fail(&self, nth: usize, errno: i32) {
        self.inner().failures.insert(nth, errno);
    }

    /// The calls so far, failed ones included.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, call: Call) -> io::Result<()> {
        let mut inner = self.inner();
        let nth = inner.calls.len();
        inner.calls.push(call);
        match inner.failures.get(&nth) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }
}

impl Host for FakeHost {
    fn overlay_kind(&self, dir: &Path) -> io::Result<OverlayKind> {
        self.record(Call::OverlayKind(dir.into()))?;
        Ok(self.overlay)
    }

    fn copy_image(&self, from: &Path, to: &Path) -> io::Result<OverlayKind> {
        self.record(Call::CopyImage(from.into(), to.into()))?;
        fs::copy(from, to)?;
        Ok(self.overlay)
    }

    fn grow(&self, image: &Path, bytes: u64) -> io::Result<()> {
        self.record(Call::Grow(image.into(), bytes))
    }

    fn used_bytes(&self, path: &Path) -> io::Result<u64> {
        self.record(Call::UsedBytes(path.into()))?;
        Ok(fs::metadata(path)?.len())
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.record(Call::FreeSpace(dir.into()))?;
        Ok(self.free)
    }

    fn facts(&self, dir: &Path) -> io::Result<HostFacts> {
        self.record(Call::Facts(dir.into()))?;
        Ok(self.facts)
    }

    fn signal(&self, process: ProcessRef, signal: Signal) -> io::Result<bool> {
        self.record(Call::Signal(process, signal))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_call_fails_and_all_are_recorded() {
        let host = FakeHost::default();
        host.fail(1, nix::libc::ENOSPC);
        let dir = Path::new("/x");
        assert!(host.free_space(dir).is_ok());
        let error = host.grow(dir, 5).expect_err("told to fail");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(host.grow(dir, 5).is_ok());
        assert_eq!(
            host.calls(),
            [Call::FreeSpace(dir.into()), Call::Grow(dir.into(), 5), Call::Grow(dir.into(), 5)]
        );
    }
}
