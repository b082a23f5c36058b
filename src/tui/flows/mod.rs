//! The whole UI, as a user meets it.

mod forms;
mod machines;
mod panes;
mod screens;
