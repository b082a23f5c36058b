//! banger: real Linux machines in a terminal.
//!
//! The modules are layers; `ARCHITECTURE.md` has the table of who may use whom, and
//! `tests/layering.rs` enforces it.

pub mod domain;
pub mod guest;

#[cfg(feature = "app")]
pub mod bundle;
#[cfg(feature = "app")]
pub mod cli;
#[cfg(feature = "app")]
pub mod config;
#[cfg(feature = "app")]
pub mod host;
/// What the guest's init needs of `host`, when it is built alone.
#[cfg(not(feature = "app"))]
pub mod host {
    pub mod ext4;
}
#[cfg(feature = "app")]
pub mod image;
#[cfg(feature = "app")]
pub mod monitor;
#[cfg(feature = "app")]
pub mod names;
#[cfg(feature = "app")]
pub mod session;
#[cfg(feature = "app")]
pub mod store;
#[cfg(feature = "app")]
pub mod supervisor;
#[cfg(feature = "app")]
pub mod term;
#[cfg(feature = "app")]
pub mod tui;
#[cfg(feature = "app")]
pub mod vmm;
