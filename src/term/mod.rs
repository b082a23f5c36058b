//! The terminal emulator behind our own [`Engine`], key, mouse and paste encoding, and the
//! pane thread that connects an emulator with a [`Session`](crate::session::Session).
//!
//! What a guest sends is data: it changes the grid, and it can ask for a few things
//! ([`EngineEvent`]), but nothing of it reaches the outer terminal, and no stream of it makes
//! memory grow without bound or keeps the UI waiting. Nothing here knows ratatui or crossterm.

mod cell;
pub mod encode;
mod engine;
mod limit;
mod palette;
pub mod pane;
mod sanitise;

pub use cell::{Attrs, Cell, Color, Cursor, CursorShape, Modes, MouseMode};
pub use encode::{Button, Key, Mods, Mouse, MouseKind};
pub use engine::{Engine, EngineEvent, Found, Options, Select, Toward};
pub use pane::{INPUT_MAX, News, NotSent, Pane, PaneState, panic_is_caught};
pub use sanitise::title as sanitise_title;

pub use crate::session::{Control, Session, Size};
