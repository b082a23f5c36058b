//! What was installed: a text file below the prefix, for removing exactly that.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Target, give, io_problem};
use crate::domain::Problem;

/// Below the prefix.
const NAME: &str = "share/banger/installed";

/// What was made, by its path in the installed system. Written before anything is made: what was
/// interrupted can be removed, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    /// Files, without this list itself.
    pub files: BTreeSet<PathBuf>,
    /// Directories that were not there before.
    pub dirs: BTreeSet<PathBuf>,
    /// Whether the runtime directory is ours.
    pub bundle: bool,
}

impl List {
    /// Where the list of a target lies, as the installed system has it.
    pub fn path(target: &Target) -> PathBuf {
        target.prefix.join(NAME)
    }

    /// The list of a target; `None` if nothing was installed there.
    ///
    /// # Errors
    /// If it cannot be read, or has what it cannot have: a path outside of the prefix.
    pub fn read(target: &Target) -> Result<Option<Self>, Problem> {
        let path = target.now(&Self::path(target));
        let what = || format!("cannot use {}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => other.map_err(|e| io_problem(what(), &e))?,
        };
        let mut list = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let path = PathBuf::from(rest);
            let normal = path.components().all(|c| c != std::path::Component::ParentDir);
            let inside = normal && path.starts_with(&target.prefix);
            match word {
                "file" if inside => {
                    list.files.insert(path);
                }
                // Also those that lead to the prefix; only empty ones will be removed.
                "dir" if inside || (normal && target.prefix.starts_with(&path)) => {
                    list.dirs.insert(path);
                }
                "bundle" => list.bundle = true,
                _ => {
                    let why = format!("it has a line that was not written by banger: {line}");
                    return Err(Problem::new(what(), why, "look at it, and correct or remove it"));
                }
            }
        }
        Ok(Some(list))
    }

    /// Whether there is a place to write it to.
    pub fn is_somewhere(&self, target: &Target) -> bool {
        target.now(&Self::path(target)).parent().is_some_and(Path::is_dir)
    }

    /// Writes it, as a whole or not at all. Its directory must be there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, target: &Target) -> Result<(), Problem> {
        let path = target.now(&Self::path(target));
        let mut text = "# What was installed; `make uninstall` removes it.\n".to_owned();
        let mut line = |word: &str, path: &Path| {
            text.push_str(&format!("{word} {}\n", path.display()));
        };
        self.dirs.iter().for_each(|dir| line("dir", dir));
        self.files.iter().for_each(|file| line("file", file));
        if self.bundle {
            line("bundle", &target.prefix.join(super::BUNDLE));
        }
        let new = path.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| give(&new, 0o644))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| io_problem(format!("cannot write {}", path.display()), &e))
    }
}
