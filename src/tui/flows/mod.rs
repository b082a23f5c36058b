//! The whole UI, as a user meets it.

mod forms;
mod host;
mod images;
mod jobs;
mod machines;
mod panes;
mod screens;
