//! What lies above the screens.

pub mod clean;
pub mod confirm;
pub mod help;
pub mod history;
pub mod palette;
pub mod prompt;
pub mod which_key;
pub mod whole;
