//! Who may ask: root always, else those on the list.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    libc,
    unistd::{Uid, User, geteuid},
};

/// The most bytes a list may have.
const FILE_MAX: u64 = 64 * 1024;

/// Where it is written who may ask.
#[derive(Clone, Debug)]
pub enum Allowed {
    /// In a file, a user's name or number on each line, `#` begins a comment. Read anew for each
    /// connection, so that a change counts at once.
    File(PathBuf),
    /// These.
    Users(Vec<u32>),
}

impl Allowed {
    /// Whether a user may ask.
    ///
    /// # Errors
    /// A list that cannot be read, or that others than root may write to.
    pub fn has(&self, uid: u32) -> io::Result<bool> {
        if Uid::from_raw(uid).is_root() {
            return Ok(true);
        }
        match self {
            Self::Users(users) => Ok(users.contains(&uid)),
            Self::File(path) => Ok(lists(&read(path)?, uid, name_of(uid).as_deref())),
        }
    }
}

/// The words of a list.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|w| !w.is_empty())
}

fn lists(list: &str, uid: u32, name: Option<&str>) -> bool {
    // By name as by number, but never a number that is somebody's name: names of digits alone
    // are not made by useradd(8), and a line means one user.
    words(list).any(|word| match word.parse::<u32>() {
        Ok(number) => number == uid,
        Err(_) => Some(word) == name,
    })
}

fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The text of a list, if nobody but root (as who we run) can have written it.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let refused = |what: &str| {
        let why = format!("{what} may be written to by others than root");
        io::Error::new(io::ErrorKind::PermissionDenied, why)
    };
    // Whoever looks at the list, root must have written it; or, in tests, we.
    let ours = |meta: &fs::Metadata| {
        let owner = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
        owner && meta.mode() & 0o022 == 0
    };
    if let Some(dir) = path.parent()
        && !ours(&fs::metadata(dir)?)
    {
        return Err(refused(&dir.display().to_string()));
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > FILE_MAX {
        return Err(io::Error::other(format!("{} is no list of users", path.display())));
    }
    if !ours(&meta) {
        return Err(refused(&path.display().to_string()));
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn users_are_listed_by_name_or_number() {
        let list = "# who may\nana\n 1002 # by number\n\nnobody2\n";
        assert!(lists(list, 1000, Some("ana")));
        assert!(lists(list, 1002, None));
        for (uid, name) in [(1001, Some("an")), (1001, Some("# who may")), (7, None), (7, Some(""))]
        {
            assert!(!lists(list, uid, name), "{uid} {name:?}");
        }
        assert!(!lists("1002", 7, Some("1002")), "a number is no name");
    }

    #[test]
    fn a_list_that_others_could_have_written_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("helper.allow");
        let allowed = Allowed::File(path.clone());
        assert!(allowed.has(0).unwrap(), "root needs no list");
        assert_eq!(allowed.has(4242).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, "4242\n").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(allowed.has(4242).unwrap());
        assert!(!allowed.has(4243).unwrap());
        for mode in [0o664, 0o646] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(allowed.has(4242).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(allowed.has(4242).is_err(), "its directory is everybody's");
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(Allowed::File(link).has(4242).is_err());
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
            assert!(allowed.has(4242).is_err(), "written by the one who asks");
        }
    }
}
