//! The user's own key pair for the VMs: made on first use, never shipped.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::domain::Problem;

/// Makes sure that the key pair `path` and `path.pub` is there.
///
/// Two processes may do so at once: the pair is made in a directory of its own, whose rename to
/// the final place succeeds for one of them. It is on the disk before it is in its place: a power
/// cut must not leave an empty key, without which no VM starts any more.
///
/// # Errors
/// Without `ssh-keygen`, or on a state directory that cannot be written.
pub fn ensure(path: &Path) -> Result<(), Problem> {
    let Some((dir, state)) = path.parent().and_then(|dir| Some((dir, dir.parent()?))) else {
        return Err(problem(path, "the path has no parent"));
    };
    if path.exists() {
        return Ok(());
    }
    let work = tempdir_in(state).map_err(|e| problem(path, e))?;
    let made = generate(&work.join(path.file_name().unwrap_or_default()))
        .and_then(|()| sync(&work).map_err(|e| problem(path, e)));
    let placed = made.and_then(|()| match fs::rename(&work, dir) {
        // Somebody else was faster: theirs is as good.
        Err(_) if path.exists() => Ok(()),
        other => other.and_then(|()| File::open(state)?.sync_all()).map_err(|e| problem(path, e)),
    });
    let _ = fs::remove_dir_all(&work);
    placed
}

/// Has the disk take a directory and the files in it.
fn sync(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(dir)?.sync_all()
}

fn tempdir_in(state: &Path) -> io::Result<std::path::PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = state.join(format!("ssh.{}.{count}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

fn generate(path: &Path) -> Result<(), Problem> {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "banger", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| problem(path, format!("ssh-keygen: {e}")))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(problem(path, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn problem(path: &Path, why: impl std::fmt::Display) -> Problem {
    Problem::new(
        format!("cannot make the SSH key {}", path.display()),
        why.to_string(),
        "install openssh-client and check that the state directory can be written",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pair_is_made_once_even_by_many_at_once() {
        let state = tempfile::tempdir().expect("tempdir");
        let path = state.path().join("ssh/id_ed25519");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| ensure(&path).expect("one of the first"));
            }
        });
        let first = fs::read_to_string(path.with_extension("pub")).expect("public key");
        assert!(first.starts_with("ssh-ed25519 "), "{first}");
        ensure(&path).expect("second");
        assert_eq!(fs::read_to_string(path.with_extension("pub")).expect("public key"), first);
        let left: Vec<_> = fs::read_dir(state.path()).expect("list").collect();
        assert_eq!(left.len(), 1, "nothing but ssh/ is left: {left:?}");
    }
}
