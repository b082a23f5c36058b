//! Every privileged or kernel contact; the only room for `unsafe`.
//!
//! [`Host`] is what may fail for reasons of the machine, so that the layers above can be tested
//! against a [`FakeHost`] that fails where it is told to. The rest (locks, directories, PTYs,
//! processes of our own) is cheap and unprivileged and is used for real everywhere.

pub mod call;
pub mod dirs;
pub mod disk;
pub mod dm;
pub mod ext4;
pub mod facts;
mod fake;
pub mod fault;
pub mod helper;
pub mod lock;
pub mod memory;
pub mod net;
pub mod ops;
pub mod own_root;
pub mod process;
pub mod pty;
pub mod rename;
pub mod replace;
pub mod resolver;
pub mod sockets;
pub mod testing;

use std::{io, path::Path};

use crate::domain::OverlayKind;

pub use fake::{Call, FakeHost};

/// What the machine does for us, and may refuse to do.
pub trait Host: Send + Sync {
    /// See [`disk::overlay_kind`].
    ///
    /// # Errors
    /// If nothing can be written there.
    fn overlay_kind(&self, dir: &Path) -> io::Result<OverlayKind>;

    /// See [`disk::copy_image`].
    ///
    /// # Errors
    /// As there.
    fn copy_image(&self, from: &Path, to: &Path) -> io::Result<OverlayKind>;

    /// See [`disk::grow`].
    ///
    /// # Errors
    /// As there.
    fn grow(&self, image: &Path, bytes: u64) -> io::Result<()>;

    /// See [`disk::used_bytes`].
    ///
    /// # Errors
    /// If there is no such file.
    fn used_bytes(&self, path: &Path) -> io::Result<u64>;

    /// See [`disk::free_space`].
    ///
    /// # Errors
    /// If there is no such directory.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;

    /// See [`facts::host_facts`].
    ///
    /// # Errors
    /// If there is no such directory, or no `/proc`.
    fn facts(&self, dir: &Path) -> io::Result<facts::HostFacts>;

    /// See [`process::ProcessRef::signal`].
    ///
    /// # Errors
    /// As there.
    fn signal(&self, process: process::ProcessRef, signal: process::Signal) -> io::Result<bool>;
}

/// The machine we run on.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxHost;

impl Host for LinuxHost {
    fn overlay_kind(&self, dir: &Path) -> io::Result<OverlayKind> {
        disk::overlay_kind(dir)
    }

    fn copy_image(&self, from: &Path, to: &Path) -> io::Result<OverlayKind> {
        disk::copy_image(from, to)
    }

    fn grow(&self, image: &Path, bytes: u64) -> io::Result<()> {
        disk::grow(image, bytes)
    }

    fn used_bytes(&self, path: &Path) -> io::Result<u64> {
        disk::used_bytes(path)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        disk::free_space(dir)
    }

    fn facts(&self, dir: &Path) -> io::Result<facts::HostFacts> {
        facts::host_facts(dir)
    }

    fn signal(&self, process: process::ProcessRef, signal: process::Signal) -> io::Result<bool> {
        process.signal(signal)
    }
}
