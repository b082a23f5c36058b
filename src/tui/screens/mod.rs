//! What lies below all popups.

mod browser;
pub mod first_start;
pub mod host;
pub mod images;
pub mod jobs;
pub mod machines;
pub mod panes;
mod steps;
