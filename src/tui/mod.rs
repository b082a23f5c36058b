//! Everything visible.
//!
//! `update` turns events into a new state and effects; `draw` turns the state into cells. Both
//! are pure: no clock, no I/O. The loop around them never waits for the supervisor, a guest, a
//! disk or the outer terminal.

pub mod action;
pub mod available;
pub mod effect;
pub mod event;
pub mod forms;
pub mod keymap;
pub mod layers;
pub mod pane;
pub mod popups;
pub mod screens;
pub mod state;
pub mod text;
pub mod toasts;
pub mod widgets;
