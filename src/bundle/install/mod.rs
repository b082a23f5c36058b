//! Putting banger where all users of a host have it, and taking it away again.
//!
//! Below a prefix such as `/usr/local` lie the program and what goes with it (a list of pieces,
//! made by whoever calls), and the runtime directory in `lib/banger`. `share/banger/installed`
//! lists what was made, down to the directories, so that removing it leaves the tree as it was.

mod bundle;
mod copy;
mod files;
mod list;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::{Component, Path, PathBuf},
};

use nix::unistd::geteuid;

pub use bundle::{InstallReport, install_bundle};
pub use files::{Content, Piece, install_files, uninstall};

use self::list::List;
use crate::domain::Problem;

/// The runtime directory, below the prefix.
const BUNDLE: &str = "lib/banger";

/// Where something is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    prefix: PathBuf,
    destdir: PathBuf,
}

impl Target {
    /// A prefix as it will be when the program runs, and what comes before it while packaging:
    /// nothing, or the root of a staged tree.
    ///
    /// # Errors
    /// If the prefix is relative, has `..`, or a line end, or is no text.
    pub fn new(prefix: &Path, destdir: Option<&Path>) -> Result<Self, Problem> {
        let refused = |why: &str| {
            let what = format!("cannot install to {}", prefix.display());
            Problem::new(what, why, "give --prefix an absolute path, such as /usr/local")
        };
        let Some(text) = prefix.to_str().filter(|text| !text.contains('\n')) else {
            return Err(refused("the path is no line of text"));
        };
        if !text.starts_with('/') {
            return Err(refused("it is a relative path"));
        }
        if prefix.components().any(|part| part == Component::ParentDir) {
            return Err(refused("it has .. in it"));
        }
        let destdir = match destdir.filter(|dir| !dir.as_os_str().is_empty()) {
            None => PathBuf::from("/"),
            Some(dir) => std::path::absolute(dir)
                .map_err(|e| io_problem(format!("cannot install to {}", dir.display()), &e))?,
        };
        Ok(Self { prefix: prefix.components().collect(), destdir })
    }

    /// The prefix, as the installed program will have it.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Where the prefix lies now.
    #[must_use]
    pub fn now_at(&self) -> PathBuf {
        self.now(&self.prefix)
    }

    /// Where a path of the installed system lies now.
    fn now(&self, path: &Path) -> PathBuf {
        self.destdir.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes the directories that lead to a path of the installed system, and lists those that
    /// were not there. The list is written before each is made.
    fn make_parents(&self, path: &Path, list: &mut List) -> Result<(), Problem> {
        let parents: Vec<&Path> = path.ancestors().skip(1).collect();
        for dir in parents.into_iter().rev() {
            let now = self.now(dir);
            if now.is_dir() {
                continue;
            }
            let failed = |e: &io::Error| io_problem(format!("cannot make {}", now.display()), e);
            list.dirs.insert(dir.to_owned());
            // What is listed lies deeper than the list: the list's own directories come first.
            if list.is_somewhere(self) {
                list.write(self)?;
            }
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&now)
                .map_err(|e| failed(&e))?;
            give(&now, 0o755).map_err(|e| failed(&e))?;
        }
        Ok(())
    }
}

/// Sets permission bits, whatever the umask is; and root's things are root's, whoever's the
/// directory's group is.
fn give(path: &Path, mode: u32) -> io::Result<()> {
    if geteuid().is_root() {
        chown(path, Some(0), Some(0))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes a file; one that is not there is fine.
fn remove_file(path: &Path) -> Result<(), Problem> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(io_problem(format!("cannot remove {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}

fn io_problem(what: impl Into<String>, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "run it as root, or choose a prefix you may write to, such as ~/.local"
        }
        _ => "see to that, and run it again: what is there already is replaced",
    };
    Problem::new(what, error.to_string(), hint)
}

#[cfg(test)]
mod tests;
