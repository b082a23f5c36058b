//! The terminal emulator behind our own `Engine`, and the pane thread.
