//! What we may do at a place, and what to tell the user who may not do it.

use std::{
    env,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat, geteuid},
};

use super::BOOTSTRAP;
use crate::domain::Problem;

/// Where `sudo` looks for programs, whatever the user's `PATH` is: `secure_path` of Debian.
const SECURE_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether we may write to a directory, or make it if it is not there.
///
/// # Errors
/// Why not.
pub(super) fn writable(dir: &Path) -> Result<(), Errno> {
    let may = AccessFlags::W_OK | AccessFlags::X_OK;
    for at in dir.ancestors() {
        match faccessat(AT_FDCWD, at, may, AtFlags::AT_EACCESS) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
    }
    Err(Errno::ENOENT)
}

/// As [`writable`], told to the user before anything else is done.
///
/// # Errors
/// What cannot be made, why, and where it can.
pub(super) fn must_be_writable(dir: &Path) -> Result<(), Problem> {
    writable(dir).map_err(|errno| {
        let what = format!("cannot make the runtime directory {}", dir.display());
        Problem::new(what, errno.desc().to_lowercase(), make_elsewhere(dir))
    })
}

/// What to do about a runtime directory that is there but not whole.
pub(super) fn make_again(dir: &Path) -> String {
    match writable(dir) {
        Ok(()) => format!("run `{}`", command(dir)),
        Err(_) => make_elsewhere(dir),
    }
}

/// What to do about a runtime directory that must be made from nothing.
pub(super) fn make_anew(dir: &Path) -> String {
    match dir.parent().map(writable) {
        Some(Ok(())) => format!("move it away and run `{}`", command(dir)),
        _ => make_elsewhere(dir),
    }
}

/// What somebody can do who may not write to `dir`.
pub(super) fn make_elsewhere(dir: &Path) -> String {
    let other = format!("set BANGER_RUNTIME_DIR to a directory of yours and run `{BOOTSTRAP}`");
    match writable(dir) {
        Err(Errno::EACCES | Errno::EPERM) if !geteuid().is_root() => {
            format!("{}, or {other}", for_all(dir))
        }
        _ => other,
    }
}

/// How root makes it.
pub(super) fn for_all(dir: &Path) -> String {
    let exe = env::current_exe().unwrap_or_else(|_| PathBuf::from("banger"));
    let known = exe.parent().is_some_and(|dir| SECURE_PATH.iter().any(|d| dir == Path::new(d)));
    let program = if known { "banger".to_owned() } else { word(&exe) };
    format!(
        "`sudo {program} runtime bootstrap --dir {}` makes it for all users of this host",
        word(dir)
    )
}

/// The command that makes this very directory.
fn command(dir: &Path) -> String {
    format!("{BOOTSTRAP} --dir {}", word(dir))
}

/// A path as a shell reads it back.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_as_writable_as_the_nearest_above() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(writable(dir.path()), Ok(()));
        assert_eq!(writable(&dir.path().join("a/b")), Ok(()));
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(writable(&dir.path().join("file/b")), Err(Errno::ENOTDIR));
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(command(Path::new("/opt/b-1/rt")), "banger runtime bootstrap --dir /opt/b-1/rt");
        let odd = command(Path::new("/my own/it's"));
        assert_eq!(odd, r"banger runtime bootstrap --dir '/my own/it'\''s'");
        let dir = tempfile::tempdir().unwrap();
        assert!(make_again(dir.path()).contains(dir.path().to_str().unwrap()));
        assert!(make_anew(dir.path()).starts_with("move it away"));
    }
}
