//! The scripting verbs and `--restore`.
