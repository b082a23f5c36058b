//! What a backend makes on the host for one machine, as a list that can be written down before
//! anything of it is made.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The cgroup that those of our machines are in; it goes with the last of them.
pub(super) const CGROUP: &str = "banger";

/// How long the processes of a cgroup may take to be gone after it was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether they are. The kernel needs about a millisecond.
const KILL_RETRY: Duration = Duration::from_millis(2);

/// Something on the host that goes with one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "piece", content = "path")]
pub enum Piece {
    /// A UNIX socket's file.
    Socket(PathBuf),
    /// A named pipe.
    Pipe(PathBuf),
    /// A directory, with all that is in it.
    Directory(PathBuf),
    /// A cgroup (version 2).
    Cgroup(PathBuf),
}

impl Piece {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Socket(path) | Self::Pipe(path) | Self::Directory(path) | Self::Cgroup(path) => {
                path
            }
        }
    }

    /// What it is, in a word or two.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Socket(_) => "socket",
            Self::Pipe(_) => "pipe",
            Self::Directory(_) => "directory",
            Self::Cgroup(_) => "cgroup",
        }
    }

    /// Removes it. That it is not there is no error: it may never have been made. Blocks.
    ///
    /// # Errors
    /// Why it stays.
    pub fn remove(&self) -> io::Result<()> {
        match self {
            Self::Socket(path) | Self::Pipe(path) => gone_is_fine(fs::remove_file(path)),
            Self::Directory(path) => gone_is_fine(fs::remove_dir_all(path)),
            Self::Cgroup(path) => remove_cgroup(path),
        }
    }
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Ends whatever still runs in a cgroup, and removes it.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                // Kernels before 5.14 do not have the file; then somebody else must end them.
                gone_is_fine(fs::write(path.join("cgroup.kill"), "1"))?;
                if Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(KILL_RETRY);
            }
            other => {
                gone_is_fine(other)?;
                break;
            }
        }
    }
    if let Some(parent) = path.parent().filter(|parent| parent.ends_with(CGROUP)) {
        // It stays as long as another machine's is in it.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_goes_and_what_is_not_is_no_error() {
        let dir = tempfile::tempdir().expect("temp");
        let at = |name: &str| dir.path().join(name);
        std::os::unix::net::UnixListener::bind(at("s")).expect("socket");
        fs::create_dir_all(at("tree/a/b")).expect("tree");
        std::os::unix::fs::symlink(dir.path(), at("tree/a/link")).expect("link");
        // An empty directory is removed as a cgroup is.
        fs::create_dir_all(at("banger/group")).expect("group");
        fs::create_dir_all(at("banger/other")).expect("group");
        let pieces = [
            Piece::Directory(at("tree")),
            Piece::Socket(at("s")),
            Piece::Cgroup(at("banger/group")),
        ];
        for _ in 0..2 {
            for piece in &pieces {
                piece.remove().unwrap_or_else(|e| panic!("{piece:?}: {e}"));
            }
        }
        assert!(at("banger/other").exists(), "another machine's");
        Piece::Cgroup(at("banger/other")).remove().expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("left").count(), 0);
    }

    #[test]
    fn a_cgroup_that_is_in_use_is_no_plain_directory() {
        let dir = tempfile::tempdir().expect("temp");
        fs::write(dir.path().join("file"), "").expect("file");
        let error = Piece::Cgroup(dir.path().to_owned()).remove().expect_err("not empty");
        assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty);
        assert!(dir.path().join("file").exists());
    }

    #[test]
    fn pieces_are_written_down_and_read_back() {
        let piece = Piece::Cgroup("/sys/fs/cgroup/banger/x".into());
        let text = serde_json::to_string(&piece).expect("text");
        assert_eq!(text, r#"{"piece":"cgroup","path":"/sys/fs/cgroup/banger/x"}"#);
        assert_eq!(serde_json::from_str::<Piece>(&text).expect("piece"), piece);
    }
}
