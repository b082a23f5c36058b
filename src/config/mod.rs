//! Layered configuration, key map, themes.
//!
//! Everything a user can get wrong here is an error with file and line, what is accepted, and
//! the nearest name that exists; nothing unknown is passed over in silence.

mod doc;
pub mod keymap;
pub mod theme;
