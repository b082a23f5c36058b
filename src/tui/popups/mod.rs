//! What lies above the screens.

pub mod confirm;
pub mod history;
pub mod prompt;
pub mod which_key;
