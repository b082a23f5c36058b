//! The name of a VM: what the user types, and the host name of the guest.

use std::{cmp::Ordering, fmt, str::FromStr};

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

/// The order of names as people read them: `web-2` before `web-10`.
#[must_use]
pub fn name_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        match (left, right) {
            ([x, ..], [y, ..]) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (number, other);
                (number, left) = digits(left);
                (other, right) = digits(right);
                let order = number.len().cmp(&other.len()).then_with(|| number.cmp(other));
                if order.is_ne() {
                    return order;
                }
            }
            ([x, l @ ..], [y, r @ ..]) if x == y => (left, right) = (l, r),
            // `web-02` and `web-2` differ, too.
            _ => return left.cmp(right).then_with(|| a.cmp(b)),
        }
    }
}

/// The number at the beginning, without its leading zeros, and what follows it.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().position(|c| *c != b'0').unwrap_or(number.len());
    (&number[zeros..], rest)
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
    fn names_are_ordered_by_the_numbers_in_them() {
        let mut names =
            ["web-10", "db", "web-2", "web", "web-02", "web-2b", "a1-9", "a1-10", "a01-9", "web-"];
        names.sort_by(|a, b| name_order(a, b));
        let wanted =
            ["a01-9", "a1-9", "a1-10", "db", "web", "web-", "web-02", "web-2", "web-2b", "web-10"];
        assert_eq!(names, wanted);
        let long = "9".repeat(60);
        assert_eq!(name_order(&long, &format!("1{long}")), Ordering::Less);
        assert_eq!(name_order("web", "web"), Ordering::Equal);
    }

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
