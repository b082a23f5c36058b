//! Renames that never overwrite, and that swap two names: renameat2(2).

use std::{io, path::Path};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Renames `from` to `to`, which must not be there yet.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if it is; what the file system says.
pub fn exclusive(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)?)
}

/// Gives each the name of the other, in one step: nobody ever sees either of them missing.
///
/// # Errors
/// If one of them is not there, or they are on two file systems.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nothing_is_overwritten_and_directories_are_swapped() {
        let dir = tempfile::tempdir().expect("a directory");
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for path in [&a, &b] {
            fs::create_dir(path).expect("made");
            fs::write(path.join("says"), path.as_os_str().as_encoded_bytes()).expect("written");
        }
        assert_eq!(exclusive(&a, &b).map_err(|e| e.kind()), Err(io::ErrorKind::AlreadyExists));
        exchange(&a, &b).expect("swapped");
        let says = |path: &Path| fs::read_to_string(path.join("says")).expect("read");
        assert_eq!(says(&a), b.to_str().expect("text"));
        assert_eq!(says(&b), a.to_str().expect("text"));
        fs::remove_dir_all(&b).expect("removed");
        exclusive(&a, &b).expect("renamed");
        assert!(exchange(&a, &b).is_err(), "one is not there");
    }
}
