//! The whole UI, as a user meets it.

mod forms;
mod host;
mod images;
mod machines;
mod panes;
mod screens;
