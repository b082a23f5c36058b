//! What a user is told when something fails.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Field;

/// A failure as the user meets it: what failed, why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What failed, in one line: "cannot start web".
    pub what: String,
    /// Why: the cause as it is known.
    pub why: String,
    /// What to do next; a command or a key where there is one.
    pub hint: String,
}

impl Problem {
    /// A problem with all its three parts.
    pub fn new(what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), hint: hint.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}

impl std::error::Error for Problem {}

/// A problem of one field of a form or of one option of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// The field it belongs to.
    pub field: Field,
    /// One line: what is wrong and what is accepted.
    pub message: String,
}
