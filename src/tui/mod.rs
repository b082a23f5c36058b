//! Everything visible.
