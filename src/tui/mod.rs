//! Everything visible.
//!
//! `update` turns events into a new state and effects; `draw` turns the state into cells. Both
//! are pure: no clock, no I/O. The loop around them never waits for the supervisor, a guest, a
//! disk or the outer terminal.

pub mod action;
pub mod app;
pub mod available;
pub mod boot;
pub mod chrome;
pub mod clerk;
#[cfg(test)]
mod docs;
pub mod effect;
pub mod event;
pub mod event_loop;
#[cfg(test)]
mod flows;
pub mod forms;
#[cfg(test)]
mod harness;
pub mod input;
pub mod keymap;
pub mod layers;
pub mod outer;
pub mod outside;
pub mod pane;
pub mod popups;
pub mod run;
pub mod runs;
pub mod screens;
pub mod state;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod text;
pub mod toasts;
pub mod verbs;
pub mod widgets;
pub mod writer;

pub use run::{TuiOptions, run};
