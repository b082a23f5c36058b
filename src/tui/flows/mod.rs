//! The whole UI, as a user meets it.

mod machines;
mod panes;
mod screens;
