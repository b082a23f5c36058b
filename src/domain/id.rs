//! The identity of a VM.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Identifies a VM for its whole life, whatever its name becomes: eight lower-case hex digits.
///
/// Short on purpose: it names the VM's runtime directory, whose sockets must stay within 107
/// bytes, and later its network interfaces, which have at most 15 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmId(String);

impl VmId {
    /// Makes an id from four random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(format!("{:08x}", u32::from_be_bytes(bytes)))
    }

    /// The eight digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`VmId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{0}” is no VM id: eight lower-case hex digits are expected")]
pub struct BadVmId(String);

impl FromStr for VmId {
    type Err = BadVmId;

    fn from_str(text: &str) -> Result<Self, BadVmId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 8 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadVmId(text.chars().take(32).collect()))
        }
    }
}

impl TryFrom<String> for VmId {
    type Error = BadVmId;

    fn try_from(text: String) -> Result<Self, BadVmId> {
        text.parse()
    }
}

impl From<VmId> for String {
    fn from(id: VmId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_eight_lower_case_hex_digits() {
        assert_eq!(VmId::from_bytes([0, 1, 0xab, 0xff]).as_str(), "0001abff");
        for bad in ["", "0001abf", "0001abff0", "0001ABFF", "../../et", "0001abfg"] {
            assert!(bad.parse::<VmId>().is_err(), "{bad}");
        }
    }
}
