//! Making an image from another: the recipe, the steps, and where they run.
//!
//! The steps are the scripts of `scripts/customize/`, which this program carries with it. They
//! run in the root of a copy of the base: mounted in namespaces of its own ([`Mounted`]), or as the
//! disk of a VM that is up. Whoever drives them decides what follows a failure.

mod disk;
mod host;
mod mounted;
mod parts;
mod preview;
mod recipe;
mod steps;
mod unpacked;

pub use disk::{check, copy_of, grow};
pub use host::Host;
pub use mounted::{HOLDER, Mounted, Session, shell_in};
pub use parts::{Parts, step_path};
pub use preview::{Change, Preview};
pub use recipe::{parse, toml_of};
pub use steps::{LIB, Step, all_digests, digests, scripts};
pub use unpacked::fetch;
