//! A runtime directory as one file: a tar archive, compressed with zstd. `bundle.json` comes
//! first, then every file it names, by name; nothing else, and no kind of entry but plain files.

mod pack;
mod unpack;

pub(super) use self::{
    pack::{Part, pack},
    unpack::{Refused, unpack},
};

/// The largest `bundle.json` that is read, in bytes.
const RECORD_MAX: u64 = 4 << 20;

/// The most files a bundle may have.
const FILES_MAX: usize = 10_000;

/// The most bytes, holes included, all its files may have together.
const TOTAL_MAX: u64 = 256 << 30;

/// What tar counts in.
const BLOCK: u64 = 512;

/// Why a text cannot be the path of a file in a runtime directory.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.starts_with('/') {
        return Err("it is an absolute path");
    }
    if name.split('/').any(|part| part == "..") {
        return Err("it leads out of the directory");
    }
    // Files of ours begin with a dot: lock, work in progress.
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return Err("a part of it is empty or begins with a dot");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+~/:".contains(&b);
    if !name.bytes().all(plain) {
        return Err("it has characters that no file of a bundle has");
    }
    // What fits into a tar header without extensions, and any file system.
    if name.len() > 150 || name.split('/').any(|part| part.len() > 99) {
        return Err("it is too long");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_directory() {
        for good in ["vmlinux", "images/tiny.img", "qemu/lib/libstdc++.so.6", "a/b/c-d_e~1"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "a".repeat(100);
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            ".lock",
            "a/.b",
            "a\nb",
            "a\\b",
            "a b",
            "ä",
            &long,
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
