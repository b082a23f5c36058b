//! SHA-256 of files and of what goes into a step.

use std::{io, path::Path};

use sha2::{Digest, Sha256};

use super::sparse;

/// How much is read at a time, and between two looks at whether to go on.
const CHUNK: usize = 1 << 20;

/// The SHA-256 of some bytes in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file in lower-case hex. `progress` is told the bytes read so far and
/// answers whether to go on; `None` if it did not want to. Holes are summed up as the zeros they
/// stand for, without being read.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path, progress: impl FnMut(u64) -> bool) -> io::Result<Option<String>> {
    sha256_of(&mut sparse::Reader::open(path)?, progress, |_| Ok(()))
}

/// The same of a file that is open; each piece goes to `each` as well.
///
/// # Errors
/// When it cannot be read; those of `each`.
pub(super) fn sha256_of(
    from: &mut sparse::Reader,
    mut progress: impl FnMut(u64) -> bool,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Option<String>> {
    let (mut buffer, zeros) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut hash = Sha256::new();
    let mut done = 0;
    loop {
        if !progress(done) {
            return Ok(None);
        }
        match from.piece(&mut buffer, &zeros)? {
            [] => return Ok(Some(hex(&hash.finalize()))),
            piece => {
                hash.update(piece);
                each(piece)?;
                done += piece.len() as u64;
            }
        }
    }
}

/// A digest of everything that goes into a step of the bootstrap. Each part is preceded by its
/// length, so that no two lists of parts look the same.
#[must_use]
pub fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Bytes in lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether a text is a SHA-256 in lower-case hex.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn sums_are_those_of_the_standard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(b"abc"), ABC);
        assert_eq!(sha256_file(&path, |_| true).unwrap().as_deref(), Some(ABC));
        assert_eq!(sha256_file(&path, |done| done == 0).unwrap(), None, "stopped on request");
        assert!(sha256_file(&dir.path().join("none"), |_| true).is_err());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(fingerprint(&[b"abc"]), fingerprint(&[b"abc", b""]));
        assert_eq!(fingerprint(&[b"abc"]), fingerprint(&[b"abc"]));
    }
}
