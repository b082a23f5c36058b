//! What lies below all popups.

pub mod first_start;
pub mod jobs;
mod steps;
