//! The runtime bundle: manifest, where it lies, bootstrap, verification.
