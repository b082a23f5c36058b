//! How an import can end other than well.

use std::{error, fmt, io};

use crate::domain::Problem;

/// Why a source was not imported.
#[derive(Debug)]
pub enum Failure {
    /// The user wanted it to end.
    Cancelled,
    /// It cannot be imported: why, and what to do.
    Refused {
        /// The reason, without what was tried.
        why: String,
        /// What to do next; may be empty.
        hint: String,
    },
}

impl Failure {
    /// A refusal with what to do next.
    pub fn hinted(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), hint: hint.into() }
    }

    /// A refusal of something that is not as it should be: broken, or made to do harm.
    pub fn broken(why: impl Into<String>) -> Self {
        Self::hinted(why, "fetch or make it again, and compare its checksum")
    }

    /// The failure as the user meets it.
    #[must_use]
    pub fn problem(&self, source: &str) -> Problem {
        let (why, hint) = match self {
            Self::Cancelled => ("cancelled", "nothing was kept"),
            Self::Refused { why, hint } => (why.as_str(), hint.as_str()),
        };
        Problem::new(format!("cannot import {source}"), why, hint)
    }

    /// The same, saying what it is about.
    #[must_use]
    pub fn about(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Cancelled => Self::Cancelled,
            Self::Refused { why, hint } => Self::Refused { why: format!("{what}: {why}"), hint },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::Refused { why, .. } => f.write_str(why),
        }
    }
}

impl error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // One of ours comes back as it was, through whatever read for us.
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        "make room on the file system of the state directory"
                    }
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                        "fetch or make it again, and compare its checksum"
                    }
                    io::ErrorKind::NotFound => "check the path",
                    io::ErrorKind::PermissionDenied => "check its owner and its permissions",
                    _ => "look at the reason, then try again",
                };
                Self::hinted(error.to_string(), hint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_comes_back_whole_through_a_reader() {
        let through: io::Error = Failure::Cancelled.into();
        assert!(matches!(Failure::from(through), Failure::Cancelled));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.problem("x").hint.contains("room"), "{full:?}");
    }
}
