//! Layered configuration, key map, themes.
