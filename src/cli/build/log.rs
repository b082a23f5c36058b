//! The log of a build: everything it says, on the terminal and in a file of the image's.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use super::out;

/// The most bytes of it: a step that says more goes on without being written down.
const MAX: u64 = 16 << 20;

/// The log of a build.
pub struct Log {
    file: File,
    room: u64,
}

impl Log {
    /// Begins it, in a file.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, room: MAX })
    }

    /// A line of a program's.
    pub fn line(&mut self, text: &str) {
        out::note(text);
        let text = out::printable(text);
        let needed = text.len() as u64 + 1;
        if needed <= self.room {
            self.room -= needed;
            // The terminal has it; a full disk is found by who writes the image.
            let _ = writeln!(self.file, "{text}");
        }
    }
}
