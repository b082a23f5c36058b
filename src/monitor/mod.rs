//! The hidden process that owns one running VM.
