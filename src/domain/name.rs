//! The name of a VM: what the user types, and the host name of the guest.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A DNS label (RFC 1035 as relaxed by RFC 1123): 1 to 63 of `a-z`, `0-9` and `-`, neither
/// starting nor ending with `-`. Lower case only, as DNS does not tell cases apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

/// The most characters a DNS label has (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// Why a text is no [`VmName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing was given.
    #[error("a name is needed")]
    Empty,
    /// Longer than a DNS label may be.
    #[error("a name has at most 63 characters, this one has {0}")]
    TooLong(usize),
    /// A character that DNS labels do not have.
    #[error("{0:?} cannot be in a name: use a-z, 0-9 and -")]
    Character(char),
    /// Starts or ends with `-`.
    #[error("a name neither starts nor ends with -")]
    Hyphen,
}

impl VmName {
    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        let count = text.chars().count();
        if count > LABEL_MAX {
            return Err(BadName::TooLong(count));
        }
        let legal = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
        if let Some(bad) = text.chars().find(|c| !legal(c)) {
            return Err(BadName::Character(bad));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(BadName::Hyphen);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VmName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-1", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<VmName>().expect(good).as_str(), good);
        }
        assert_eq!("".parse::<VmName>(), Err(BadName::Empty));
        assert_eq!("x".repeat(300).parse::<VmName>(), Err(BadName::TooLong(300)));
        assert_eq!("Web".parse::<VmName>(), Err(BadName::Character('W')));
        assert_eq!("a.b".parse::<VmName>(), Err(BadName::Character('.')));
        assert_eq!("ü".parse::<VmName>(), Err(BadName::Character('ü')));
        assert_eq!("-a".parse::<VmName>(), Err(BadName::Hyphen));
        assert_eq!("a-".parse::<VmName>(), Err(BadName::Hyphen));
    }
}
