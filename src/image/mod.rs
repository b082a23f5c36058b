//! Base images and the disks made from them.

mod base;
pub mod build;
mod ext4;

pub use base::BaseImage;
pub use ext4::{Ext4, NotExt4};
