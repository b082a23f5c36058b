//! Public SSH keys as OpenSSH writes them down, and which of them all VMs get.

use std::path::PathBuf;

/// The most that a key may have, in bytes: more than an RSA key of 8192 bits has; longer ones would
/// not fit a kernel's command line anyway.
pub const SSH_KEY_MAX: usize = 1500;

/// A key, or keys, that all VMs get beside the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraKey {
    /// A line such as that of `id_ed25519.pub`.
    Line(String),
    /// A file with such lines; absolute.
    File(PathBuf),
}

/// The type, the key and the comment of a line such as that of `id_ed25519.pub`; the comment may be
/// empty.
///
/// # Errors
/// Why it is none.
pub fn split_ssh_key(line: &str) -> Result<(&str, &str, &str), String> {
    let mut parts = line.trim().splitn(3, [' ', '\t']);
    let (Some(kind), Some(blob)) = (parts.next(), parts.next()) else {
        return Err("a public SSH key is expected: type, key, comment".to_owned());
    };
    let comment = parts.next().unwrap_or_default().trim();
    check_ssh_key(kind, blob, comment)?;
    Ok((kind, blob, comment))
}

/// Checks the parts of a key, as far as that is possible without knowing its type.
///
/// # Errors
/// What is wrong with it.
pub fn check_ssh_key(kind: &str, blob: &str, comment: &str) -> Result<(), String> {
    let kind_ok = |b: u8| b.is_ascii_alphanumeric() || b"@.-".contains(&b);
    if !["ssh-", "ecdsa-", "sk-"].iter().any(|p| kind.starts_with(p)) || !kind.bytes().all(kind_ok)
    {
        let clipped = kind.chars().take(40).map(|c| if c.is_control() { '?' } else { c });
        let clipped: String = clipped.collect();
        return Err(format!("“{clipped}” is not a type of SSH keys such as ssh-ed25519"));
    }
    let digits = blob.trim_end_matches('=');
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if digits.is_empty() || !blob.len().is_multiple_of(4) || blob.len() - digits.len() > 2 {
        return Err("the key is cut off: its base64 part is incomplete".to_owned());
    }
    if !digits.bytes().all(base64) {
        return Err("the key has a character that base64 does not have".to_owned());
    }
    if comment.chars().any(char::is_control) {
        return Err("the comment of the key has a control character".to_owned());
    }
    if kind.len() + blob.len() + comment.len() > SSH_KEY_MAX {
        return Err(format!("the key is longer than {SSH_KEY_MAX} bytes"));
    }
    Ok(())
}
