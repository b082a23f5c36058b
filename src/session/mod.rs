//! Byte streams: a PTY, SSH, a monitor's serial console, a recording.
//!
//! All blocking: a pane has a thread of its own.

pub mod pty;
mod ready;
pub mod replay;
pub mod serial;
pub mod ssh;
pub mod wire;

use std::io::{self, Read, Write};

pub use crate::domain::Problem;

/// Size of a terminal in cells; at least 2 columns and 1 row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// An open byte stream.
pub struct Session {
    /// What comes; 0 bytes at its end.
    pub reader: Box<dyn Read + Send>,
    /// What goes.
    pub writer: Box<dyn Write + Send>,
    /// The rest.
    pub control: Box<dyn Control>,
}

/// What a stream can do beside carrying bytes.
pub trait Control: Send {
    /// Tells the other side the size of the terminal, where it can be told.
    ///
    /// # Errors
    /// If the stream is closed.
    fn resize(&mut self, size: Size) -> io::Result<()>;

    /// Calls `tell` once, in whatever thread, as soon as what is written reaches the one it is
    /// meant for; what is typed before is better kept until then. Most streams are ready when
    /// they are open.
    fn when_ready(&mut self, tell: Box<dyn FnOnce() + Send>) {
        tell();
    }

    /// Ends the stream: the reader then comes to its end. Idempotent.
    fn close(&mut self);

    /// Why it ended, in one line for the user; after the reader's end. May block for a moment.
    fn end(&mut self) -> String;
}
