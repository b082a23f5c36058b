//! The runtime bundle: what VMs need besides banger itself - kernel, initrd, base images,
//! Firecracker - where it lies, how it is made and how it is checked.
//!
//! Everything here blocks; an async caller uses a thread of its own.

mod apt;
mod archive;
mod bootstrap;
mod digest;
mod format;
mod install;
mod locate;
mod lock;
mod manifest;
mod open;
mod package;
mod packages;
mod place;
mod record;
mod report;
pub(crate) mod sparse;
mod status;
mod swap;
mod verify;

pub use bootstrap::{BootstrapOptions, BootstrapReport, Extent, bootstrap, bundle_at};
pub(crate) use digest::{hex, is_sha256, sha256, sha256_file};
pub use install::{
    Content, InstallReport, Piece, Target, install_bundle, install_files, uninstall,
};
pub use locate::{Configured, Located, Look, Origin, Places, locate, resolve, target};
pub use manifest::{
    Arch, At, Firecracker, Image, Initrd, Kernel, Manifest, Member, Pinned, Qemu, Source, Sources,
};
pub use open::{Bundle, ImageFile};
pub use package::{Package, PackageOptions, package};
pub use packages::{MANIFEST_MAX, PackageManifest};
pub use record::{
    FileRecord, ImageRecord, Looked, Published, RECORD_FILE, Record, SCHEMA, StepRecord,
};
pub use report::{Event, Reporter};
pub use status::{Component, KernelNews, Missing, Status, kernel_news, status};
pub use swap::{Rollback, previous, rollback};
pub use verify::{Finding, FindingKind, Verification, verify};

/// The command that makes a runtime directory, as told to the user.
pub(crate) const BOOTSTRAP: &str = "banger runtime bootstrap";

/// The guest's init of an installed banger, below its prefix.
pub const INSTALLED_INIT: &str = "libexec/banger/banger-init";

/// Held while a bootstrap is at work, within the runtime directory.
const LOCK_FILE: &str = ".lock";

/// Where a bootstrap works, within the runtime directory.
const PARTIAL_DIR: &str = ".partial";
