//! Base images and the disks made from them.
//!
//! The store of images: an image of the user's is a directory `images/<name>/` that says what it is,
//! and a content `bases/<sha256>`, which it may share with other images and with snapshots. Whoever
//! changes one of them holds the lock of the contents; an image appears, goes and changes its name
//! in one step, as a [`Staged`] directory that is renamed.

pub mod archive;
mod base;
pub mod build;
mod catalog;
pub mod content;
mod ext4;
pub mod import;
pub mod lineage;
mod metadata;
mod rebuild;
mod staged;
pub mod stale;

pub use crate::bundle::PackageManifest;
pub use base::BaseImage;
pub use catalog::{Catalog, MANIFEST_FILE, RECIPE_FILE, in_use};
pub use ext4::{Ext4, NotExt4};
pub(crate) use metadata::write_file;
pub use metadata::{METADATA_FILE, Metadata, Parent};
pub use staged::{BUILD_LOG, STAGED, Staged, is_worked_on};
