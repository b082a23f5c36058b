//! The outer terminal as ratatui sees it: a buffer and a size, never asked anything.
//!
//! Crossterm's own backend asks the terminal where its cursor is whenever it is cleared, and
//! waits for the answer, which the input thread has taken meanwhile.

use std::io;

use ratatui::{
    backend::{Backend, ClearType, CrosstermBackend, WindowSize},
    buffer::Cell,
    layout::{Position, Size},
};

use super::writer::FrameBuffer;

/// The backend.
pub struct Outer {
    inner: CrosstermBackend<FrameBuffer>,
    size: Size,
    cursor: Position,
}

impl Outer {
    /// Writes into `buffer` for a terminal of this size.
    #[must_use]
    pub const fn new(buffer: FrameBuffer, columns: u16, rows: u16) -> Self {
        let inner = CrosstermBackend::new(buffer);
        Self { inner, size: Size::new(columns, rows), cursor: Position::ORIGIN }
    }

    /// The terminal has this size now.
    pub const fn resize(&mut self, columns: u16, rows: u16) {
        self.size = Size::new(columns, rows);
    }
}

impl Backend for Outer {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.cursor = position.into();
        self.inner.set_cursor_position(self.cursor)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        self.inner.clear_region(clear_type)
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        // The size in pixels is not known, and nothing here draws pixels.
        Ok(WindowSize { columns_rows: self.size, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        // A frame is handed over whole by the loop.
        Ok(())
    }
}
