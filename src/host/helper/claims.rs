//! Whose tag is whose: a small file for each, in a directory that only root can look into.
//!
//! A tag belongs to the user who first used it, for good: across restarts of the host, too, as a
//! tag is written down in its user's database. What was done in its name is remembered only until
//! the host restarts, as nothing of it survives that.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{libc, unistd::geteuid};
use serde::{Deserialize, Serialize};

use crate::domain::{Subnet, Tag};

/// The most bytes a claim's file is read of; one has some hundred.
const FILE_MAX: u64 = 4096;

/// What is known about a tag.
///
/// What an older or newer helper wrote beside it is left out, not an error: a claim that cannot be
/// read is nobody's, and its user would be locked out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Whose it is.
    pub uid: u32,
    /// In which life of the host what follows was done.
    pub boot: String,
    /// The bridge's addresses, if the helper made one.
    pub subnet: Option<Subnet>,
}

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    dir: PathBuf,
    boot: String,
}

impl Claims {
    /// Opens the directory, makes it if there is none, and makes sure that it is ours alone.
    ///
    /// # Errors
    /// If it cannot be made, or others may write to it.
    pub fn open(dir: &Path, boot: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let meta = fs::symlink_metadata(dir)?;
        if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            let why = format!("{} is no directory that only we may write to", dir.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self { dir: dir.to_owned(), boot: boot.to_owned() })
    }

    fn path(&self, tag: &Tag) -> PathBuf {
        self.dir.join(tag.as_str())
    }

    /// What is known about a tag, if somebody has it.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn read(&self, tag: &Tag) -> io::Result<Option<Claim>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.path(tag)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text)?;
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Whether what a claim says was done is of this life of the host.
    pub fn is_current(&self, claim: &Claim) -> bool {
        claim.boot == self.boot
    }

    /// A claim of `uid`, with nothing done.
    pub fn fresh(&self, uid: u32) -> Claim {
        Claim { uid, boot: self.boot.clone(), subnet: None }
    }

    /// Gives a tag to somebody; false if somebody has it already. The file is there whole or not
    /// at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(&self, tag: &Tag, claim: &Claim) -> io::Result<bool> {
        let new = self.write_aside(tag, claim)?;
        // Unlike a rename, a link never replaces.
        let made = fs::hard_link(&new, self.path(tag));
        fs::remove_file(&new)?;
        match made {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes what is known about a tag.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, tag: &Tag, claim: &Claim) -> io::Result<()> {
        fs::rename(self.write_aside(tag, claim)?, self.path(tag))
    }

    /// Lets a tag be anybody's.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(&self, tag: &Tag) -> io::Result<()> {
        fs::remove_file(self.path(tag))
    }

    /// All tags that are somebody's; damaged files are left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn all(&self) -> io::Result<Vec<(Tag, Claim)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let Some(tag) = name.to_str().and_then(|name| name.parse::<Tag>().ok()) else {
                continue;
            };
            if let Ok(Some(claim)) = self.read(&tag) {
                all.push((tag, claim));
            }
        }
        Ok(all)
    }

    /// Writes a claim beside its place. One thread at a time writes about a tag.
    fn write_aside(&self, tag: &Tag, claim: &Claim) -> io::Result<PathBuf> {
        let path = self.dir.join(format!(".{tag}.new"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&serde_json::to_vec(claim)?)?;
        file.sync_data()?;
        Ok(path)
    }
}

/// Which life of the host this is.
///
/// # Errors
/// If `/proc` is not there.
pub(super) fn boot_id() -> io::Result<String> {
    // proc(5), random(4): a new one each time the kernel starts.
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn tag(n: u8) -> Tag {
        Tag::from_bytes([n; 3])
    }

    #[test]
    fn a_tag_is_the_first_ones_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::open(&dir.path().join("tags"), "boot 1").unwrap();
        assert_eq!(claims.read(&tag(1)).unwrap(), None);
        assert!(claims.make(&tag(1), &claims.fresh(1000)).unwrap());
        assert!(!claims.make(&tag(1), &claims.fresh(1001)).unwrap());
        let mut mine = claims.read(&tag(1)).unwrap().unwrap();
        assert_eq!(mine.uid, 1000);
        mine.subnet = Some("10.0.0.0/22".parse().unwrap());
        claims.write(&tag(1), &mine).unwrap();
        assert_eq!(claims.read(&tag(1)).unwrap().unwrap(), mine);
        assert!(claims.is_current(&mine));

        let later = Claims::open(&dir.path().join("tags"), "boot 2").unwrap();
        assert!(!later.is_current(&mine) && later.is_current(&later.fresh(1000)));
        assert_eq!(later.all().unwrap(), [(tag(1), mine)]);
        later.forget(&tag(1)).unwrap();
        assert_eq!(later.read(&tag(1)).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path().join("tags")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_is_no_obstacle_and_damage_is_not_taken_for_free() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let claims = Claims::open(dir.path(), "b").unwrap();
        fs::write(dir.path().join(".010101.new"), "half").unwrap();
        assert!(claims.make(&tag(1), &claims.fresh(7)).unwrap());
        fs::write(dir.path().join("020202"), "").unwrap();
        assert!(claims.read(&tag(2)).is_err(), "an empty file is nobody's right to the tag");
        assert!(!claims.make(&tag(2), &claims.fresh(7)).unwrap());
        let older = r#"{"uid":8,"boot":"b","subnet":null,"forwarded_before":true}"#;
        fs::write(dir.path().join("040404"), older).unwrap();
        assert_eq!(claims.read(&tag(4)).unwrap(), Some(claims.fresh(8)));
        fs::remove_file(dir.path().join("040404")).unwrap();
        symlink(dir.path().join("010101"), dir.path().join("030303")).unwrap();
        assert!(claims.read(&tag(3)).is_err());
        assert_eq!(claims.all().unwrap().len(), 1);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(Claims::open(&shared, "b").is_err());
        symlink("/tmp", dir.path().join("link")).unwrap();
        assert!(Claims::open(&dir.path().join("link"), "b").is_err());
    }
}
