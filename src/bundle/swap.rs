//! Replacing a whole runtime directory at once, and going back.
//!
//! A new one is made beside the old one, as `.<name>.next`, and marked as unfinished. When it is
//! whole, the two change places in one step of the file system (`RENAME_EXCHANGE`, rename(2)), and
//! the old one becomes `.<name>.previous`. Whenever that is interrupted, the mark says on which
//! side of the exchange: [`Siblings::sweep`] finishes or undoes the rest. Files that do not change
//! are the same files in both (hard links): none is ever written once it is in its place.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{
    BOOTSTRAP, Bundle, LOCK_FILE, PARTIAL_DIR, RECORD_FILE, Record, lock, status::differences,
};
use crate::domain::Problem;

/// In a directory that is being made, and for a moment in one that has just come to its place.
pub(super) const MARK: &str = ".unfinished";

/// What of a runtime directory is not its content.
pub(super) const OWN: [&str; 4] = [RECORD_FILE, LOCK_FILE, PARTIAL_DIR, MARK];

/// A runtime directory and its neighbours.
#[derive(Clone, Debug)]
pub(super) struct Siblings {
    /// The runtime directory itself; links resolved.
    pub dir: PathBuf,
    /// Where the next one is made.
    pub next: PathBuf,
    /// The one before.
    pub previous: PathBuf,
    parent: PathBuf,
}

impl Siblings {
    /// Of a runtime directory that exists.
    ///
    /// # Errors
    /// When it does not, or has no name.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let dir = dir.canonicalize()?;
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let beside = |end: &str| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(end);
            parent.join(hidden)
        };
        let (next, previous) = (beside(".next"), beside(".previous"));
        Ok(Self { next, previous, parent: parent.to_owned(), dir: dir.clone() })
    }

    /// Finishes or undoes what an interrupted replacement left. The caller holds the lock.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sweep(&self) -> io::Result<()> {
        if self.dir.join(MARK).exists() {
            return self.settle(true);
        }
        // Without a mark it is an old one that was on its way to be the previous.
        if self.next.join(MARK).exists() || !self.next.join(RECORD_FILE).exists() {
            return remove(&self.next);
        }
        self.settle(true)
    }

    /// Makes the next one: empty, marked.
    ///
    /// # Errors
    /// When there cannot be one beside it: the parent may not be written to, or the directory is
    /// a mount of its own.
    pub fn stage(&self) -> io::Result<()> {
        if self.parent.metadata()?.dev() != self.dir.metadata()?.dev() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        remove(&self.next)?;
        fs::create_dir(&self.next)?;
        fs::set_permissions(&self.next, self.dir.metadata()?.permissions())?;
        File::create_new(self.next.join(MARK))?;
        // The mark is there before anything else is.
        File::open(&self.next)?.sync_all()
    }

    /// Links what the runtime directory has and the next one has not, as far as `wanted`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn link(&self, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut names = Vec::new();
        list(&self.dir, "", &mut names);
        for name in names.iter().filter(|name| wanted(name)) {
            let to = self.next.join(name);
            fs::create_dir_all(to.parent().unwrap_or(&self.next))?;
            match fs::hard_link(self.dir.join(name), to) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts the next one in the place of the runtime directory, which becomes the previous one if
    /// `keep`. The caller holds the locks of both.
    ///
    /// # Errors
    /// What the file system says: then all is as it was, or the sweep finishes it.
    pub fn swap(&self, keep: bool) -> io::Result<()> {
        sync_tree(&self.next)?;
        exchange(&self.next, &self.dir)?;
        File::open(&self.parent)?.sync_all()?;
        self.settle(keep)
    }

    /// After the exchange: what is at `next` is the old one.
    fn settle(&self, keep: bool) -> io::Result<()> {
        if keep && self.next.join(RECORD_FILE).exists() {
            remove(&self.previous)?;
            fs::rename(&self.next, &self.previous)?;
        } else {
            remove(&self.next)?;
        }
        match fs::remove_file(self.dir.join(MARK)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        File::open(&self.parent)?.sync_all()
    }
}

fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).map_err(|errno| errno.into())
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The names of directories reach the disk, too.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Lists the files below a directory by their path in it, without [`OWN`]; links are not
/// followed. What cannot be listed is no file of ours: those are found by their names.
pub(super) fn list(dir: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if prefix.is_empty() && OWN.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            list(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push(name);
        }
    }
}

/// What a roll-back did.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// The runtime directory.
    pub dir: PathBuf,
    /// What it held, for the case that it had a record.
    pub before: Option<Record>,
    /// What it holds now.
    pub now: Record,
}

impl Rollback {
    /// Of each part that differs: its name, its version before, and now.
    #[must_use]
    pub fn differences(&self) -> Vec<(String, Option<String>, Option<String>)> {
        differences(self.before.as_ref(), &self.now)
    }
}

/// Puts the previous runtime directory in the place of the present one, which becomes the
/// previous: done twice, all is as it was.
///
/// # Errors
/// When there is none, it is not whole, or a bootstrap is at work.
pub fn rollback(dir: &Path) -> Result<Rollback, Problem> {
    let what = || format!("cannot go back to the runtime directory before {}", dir.display());
    let fail = |e: &io::Error| {
        Problem::new(what(), e.to_string(), "check its owner and its permissions, and its parent's")
    };
    let siblings = Siblings::of(dir).map_err(|e| fail(&e))?;
    let _lock = lock::take(&siblings.dir)?;
    siblings.sweep().map_err(|e| fail(&e))?;
    if !siblings.previous.join(RECORD_FILE).exists() {
        return Err(Problem::new(
            what(),
            format!("there is no {}", siblings.previous.display()),
            format!("one is kept when `{BOOTSTRAP}` replaces what was there"),
        ));
    }
    let now = Bundle::open(&siblings.previous).map_err(|p| Problem { what: what(), ..p })?;
    let _other = lock::take(&siblings.previous)?;
    let before = Record::read(&siblings.dir).ok().flatten();
    exchange(&siblings.previous, &siblings.dir).map_err(|e| fail(&e))?;
    // What is in place is in place; that it is on disk is said by who can.
    let synced = File::open(&siblings.parent).and_then(|parent| parent.sync_all());
    synced.map_err(|e| fail(&e))?;
    Ok(Rollback { dir: siblings.dir, before, now: now.record().clone() })
}

/// The record of the previous runtime directory, if there is one.
#[must_use]
pub fn previous(dir: &Path) -> Option<Record> {
    let siblings = Siblings::of(dir).ok()?;
    Record::read(&siblings.previous).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(dir: &Path, text: &str) {
        fs::create_dir_all(dir).unwrap();
        let record = Record { arch: text.to_owned(), ..Record::empty() };
        fs::write(dir.join(RECORD_FILE), serde_json::to_vec(&record).unwrap()).unwrap();
        fs::write(dir.join("file"), text).unwrap();
    }

    fn of(dir: &Path) -> String {
        fs::read_to_string(dir.join("file")).unwrap_or_default()
    }

    /// Every state a crash can leave, and what the sweep makes of it.
    #[test]
    fn after_a_crash_there_is_the_old_or_the_new_one_whole_and_nothing_else() {
        type Crash = fn(&Siblings);
        let staged: Crash = |s| s.stage().unwrap();
        let filled: Crash = |s| {
            s.stage().unwrap();
            bundle(&s.next, "new");
        };
        let exchanged: Crash = |s| {
            s.stage().unwrap();
            bundle(&s.next, "new");
            exchange(&s.next, &s.dir).unwrap();
        };
        let clearing: Crash = |s| {
            s.stage().unwrap();
            bundle(&s.next, "new");
            exchange(&s.next, &s.dir).unwrap();
            fs::remove_file(s.previous.join(RECORD_FILE)).unwrap();
        };
        let renamed: Crash = |s| {
            s.stage().unwrap();
            bundle(&s.next, "new");
            exchange(&s.next, &s.dir).unwrap();
            fs::remove_dir_all(&s.previous).unwrap();
            fs::rename(&s.next, &s.previous).unwrap();
        };
        for (i, (crash, now, before)) in [
            (staged, "old", "older"),
            (filled, "old", "older"),
            (exchanged, "new", "old"),
            (clearing, "new", "old"),
            (renamed, "new", "old"),
        ]
        .into_iter()
        .enumerate()
        {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("runtime");
            bundle(&dir, "old");
            let siblings = Siblings::of(&dir).unwrap();
            bundle(&siblings.previous, "older");
            crash(&siblings);
            assert!(["old", "new"].contains(&of(&dir).as_str()), "{i}: whole at any moment");
            siblings.sweep().unwrap();
            siblings.sweep().unwrap();
            assert_eq!((of(&dir).as_str(), of(&siblings.previous).as_str()), (now, before), "{i}");
            assert!(!siblings.next.exists() && !dir.join(MARK).exists(), "{i}");
        }
    }

    #[test]
    fn what_stays_is_the_same_file_and_what_the_user_put_there_comes_along() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("runtime");
        bundle(&dir, "old");
        fs::create_dir(dir.join("mine")).unwrap();
        fs::write(dir.join("mine/note"), "x").unwrap();
        fs::write(dir.join(LOCK_FILE), "").unwrap();
        let siblings = Siblings::of(&dir).unwrap();
        siblings.stage().unwrap();
        fs::write(siblings.next.join("file"), "new").unwrap();
        fs::write(siblings.next.join(RECORD_FILE), "{}").unwrap();
        siblings.link(|_| true).unwrap();
        let note = dir.join("mine/note").metadata().unwrap().ino();
        siblings.swap(true).unwrap();
        assert_eq!(of(&dir), "new");
        assert_eq!(dir.join("mine/note").metadata().unwrap().ino(), note);
        assert!(!dir.join(LOCK_FILE).exists());
        assert_eq!(of(&siblings.previous), "old");
    }

    #[test]
    fn without_a_previous_one_there_is_no_way_back() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("runtime");
        bundle(&dir, "old");
        assert!(rollback(&dir).unwrap_err().why.contains("there is no"));
        bundle(&root.path().join(".runtime.previous"), "vax");
        assert!(rollback(&dir).unwrap_err().why.contains("made for vax"));
        assert_eq!(of(&dir), "old");
    }
}
