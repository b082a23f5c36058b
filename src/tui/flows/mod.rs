//! The whole UI, as a user meets it.

mod forms;
mod host;
mod machines;
mod panes;
mod screens;
