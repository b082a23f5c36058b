//! A runtime directory in use: paths, looked up in its record.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Manifest, RECORD_FILE, Record, format::initrd, packages, place};
use crate::domain::{ImageView, Problem};

/// A runtime directory whose record has been read. Cheap to make: no other file is read.
#[derive(Clone, Debug)]
pub struct Bundle {
    dir: PathBuf,
    record: Record,
}

/// A base image's file as the record has it; nothing about the file itself is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// What is shown of it.
    pub view: ImageView,
    /// Where it is to be.
    pub path: PathBuf,
    /// SHA-256 of the content it is to have, in lower-case hex: the identity of the base.
    pub sha256: String,
}

/// Paths within the runtime directory.
pub(super) const VMLINUX: &str = "vmlinux";
pub(super) const INITRD: &str = "initrd.cpio";
const FIRECRACKER: &str = "firecracker";
const JAILER: &str = "jailer";
pub(super) const MODULES_DIR: &str = "modules";
pub(super) const MODULES_IMAGE: &str = "modules.img";
pub(super) const IMAGES_DIR: &str = "images";
pub(super) const QEMU_DIR: &str = "qemu";
/// The guest's init, kept so that the initrd can be made anew for another kernel.
pub(super) const INIT: &str = "banger-init";

impl Bundle {
    /// Reads the record of a runtime directory and checks that what every VM needs - kernel and
    /// initrd - is in the record and on disk.
    ///
    /// # Errors
    /// When there is no record, it cannot be read, it is of another architecture, or one of the
    /// two files is not there.
    pub fn open(dir: &Path) -> Result<Self, Problem> {
        let what = || format!("cannot use the runtime directory {}", dir.display());
        let again = || place::make_again(dir);
        let Some(record) = Record::read(dir)? else {
            return Err(Problem::new(what(), format!("it has no {RECORD_FILE}"), again()));
        };
        if record.arch != env::consts::ARCH {
            let why = format!("it was made for {}, this is {}", record.arch, env::consts::ARCH);
            return Err(Problem::new(what(), why, place::make_anew(dir)));
        }
        for name in [VMLINUX, INITRD] {
            if !record.files.contains_key(name) {
                let why = format!("it is not complete: {name} has not been made");
                return Err(Problem::new(what(), why, again()));
            }
            if !dir.join(name).is_file() {
                return Err(Problem::new(what(), format!("{name} is missing in it"), again()));
            }
        }
        Ok(Self { dir: dir.to_owned(), record })
    }

    /// The runtime directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it holds.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Whether what a start of a VM needs of it is what it was when the record was read. Asked
    /// after the files were opened by their paths, this says that all of them were of one runtime
    /// directory: another may come to this place at any moment, as a whole.
    #[must_use]
    pub fn is_as_read(&self) -> bool {
        fn needed(record: &Record) -> impl Iterator<Item = (&str, &str)> {
            let files = record.files.iter().filter(|(name, _)| !name.starts_with(IMAGES_DIR));
            files.map(|(name, file)| (name.as_str(), file.sha256.as_str()))
        }
        let now = Record::read(&self.dir).ok().flatten();
        now.is_some_and(|now| needed(&now).eq(needed(&self.record)))
    }

    /// The uncompressed kernel, an ELF with a PVH entry.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join(VMLINUX)
    }

    /// The initrd: banger's init and the modules it loads.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.dir.join(INITRD)
    }

    /// The initrd with one more file in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn initrd_with(&self, name: &str, data: &[u8]) -> io::Result<Vec<u8>> {
        initrd::with_file(&fs::read(self.initrd())?, name, data)
    }

    /// All of the kernel's modules: an ext4 file system to be read only, whose root is what
    /// belongs at `/lib/modules/<release>`. A runtime directory that an older banger made has none.
    #[must_use]
    pub fn modules(&self) -> Option<PathBuf> {
        let image = self.dir.join(MODULES_IMAGE);
        (self.record.files.contains_key(MODULES_IMAGE) && image.is_file()).then_some(image)
    }

    /// The base images in the record, by name.
    #[must_use]
    pub fn images(&self) -> Vec<ImageView> {
        self.record.images.keys().filter_map(|n| Some(self.image_file(n)?.view)).collect()
    }

    /// What the record says about a base image; `image::BaseImage` checks the file itself.
    #[must_use]
    pub fn image_file(&self, name: &str) -> Option<ImageFile> {
        let image = self.record.images.get(name)?;
        let file = self.record.files.get(&image.file)?;
        Some(ImageFile {
            view: ImageView {
                name: name.to_owned(),
                about: image.about.clone(),
                size: file.size,
                default_memory_mib: image.default_memory_mib,
                sha256: file.sha256.clone(),
                packages_sha256: image.packages_sha256.clone(),
                // Ours have it only if the user's own manifest names it.
                cloud_init: Some(image.packages.lines().any(|line| line.trim() == "cloud-init")),
                ..ImageView::default()
            },
            path: self.dir.join(&image.file),
            sha256: file.sha256.clone(),
        })
    }

    /// The package manifest that a base image was built from; `None` if it is not recorded.
    #[must_use]
    pub fn built_packages(&self, name: &str) -> Option<&str> {
        let image = self.record.images.get(name)?;
        image.packages_sha256.is_some().then_some(image.packages.as_str())
    }

    /// The package manifest that a base image would be built from now: that of this banger, else
    /// the one it was built from.
    #[must_use]
    pub fn wanted_packages(&self, name: &str) -> Option<&str> {
        self.record.images.get(name)?;
        packages::default_of(name).or_else(|| self.built_packages(name))
    }

    /// Firecracker: that of the runtime directory, else `firecracker` in `PATH`.
    ///
    /// # Errors
    /// Where it was looked for: a clause for `doctor`.
    pub fn firecracker(&self) -> Result<PathBuf, String> {
        self.own_or_path(FIRECRACKER)
    }

    /// Firecracker's jailer, as [`Bundle::firecracker`].
    ///
    /// # Errors
    /// As there.
    pub fn jailer(&self) -> Result<PathBuf, String> {
        self.own_or_path(JAILER)
    }

    /// The name of QEMU's program for this machine, and of the Debian package it is in.
    pub(super) fn names_of_qemu() -> Option<(String, String)> {
        let qemu = Manifest::embedded().qemu;
        let of_arch = |names: &BTreeMap<String, String>| names.get(env::consts::ARCH).cloned();
        of_arch(&qemu.program).zip(of_arch(&qemu.package))
    }

    fn own_or_path(&self, name: &str) -> Result<PathBuf, String> {
        let own = self.dir.join(name);
        if self.record.files.contains_key(name) && own.is_file() {
            return Ok(own);
        }
        let found = find_program(name, env::var_os("PATH").as_deref());
        found.ok_or_else(|| format!("{name} is neither in {} nor in PATH", self.dir.display()))
    }

    /// QEMU: that of the runtime directory, if it came with one, else `qemu-system-<arch>` in
    /// `PATH`.
    ///
    /// # Errors
    /// When there is none: names the Debian package.
    pub fn qemu(&self) -> Result<PathBuf, Problem> {
        let Some((program, package)) = Self::names_of_qemu() else {
            let why = format!("banger does not know QEMU's name on {}", env::consts::ARCH);
            return Err(Problem::new(
                "there is no QEMU",
                why,
                "use an x86-64 or 64-bit ARM machine",
            ));
        };
        let own = format!("{QEMU_DIR}/{program}");
        if self.record.files.contains_key(&own) && self.dir.join(&own).is_file() {
            return Ok(self.dir.join(own));
        }
        find_program(&program, env::var_os("PATH").as_deref()).ok_or_else(|| {
            Problem::new(
                "there is no QEMU",
                format!("{program} is neither in {} nor in PATH", self.dir.display()),
                format!("install it: sudo apt-get install --no-install-recommends {package}"),
            )
        })
    }
}

/// The first executable file of this name in the directories of `path`.
pub(super) fn find_program(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?).map(|dir| dir.join(name)).find(|file| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{FileRecord, ImageRecord};

    fn file(size: u64) -> FileRecord {
        FileRecord {
            sha256: "00".repeat(32),
            size,
            modified_ns: 0,
            source: "test".into(),
            version: String::new(),
        }
    }

    fn write(dir: &Path, record: &Record) {
        fs::write(dir.join(RECORD_FILE), serde_json::to_vec(record).unwrap()).unwrap();
    }

    #[test]
    fn an_incomplete_directory_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let why = |dir: &Path| Bundle::open(dir).unwrap_err().why;
        assert!(why(dir.path()).contains("no bundle.json"));
        let mut record = Record::empty();
        record.files.insert(VMLINUX.into(), file(1));
        write(dir.path(), &record);
        assert!(why(dir.path()).contains("vmlinux is missing"));
        fs::write(dir.path().join(VMLINUX), "x").unwrap();
        assert!(why(dir.path()).contains("initrd.cpio has not been made"));
        record.arch = "vax".into();
        write(dir.path(), &record);
        assert!(why(dir.path()).contains("made for vax"));
    }

    #[test]
    fn images_are_those_of_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::empty();
        for name in [VMLINUX, INITRD] {
            record.files.insert(name.into(), file(1));
            fs::write(dir.path().join(name), "x").unwrap();
        }
        record.files.insert("images/tiny.img".into(), file(64 << 20));
        let tiny = ImageRecord {
            file: "images/tiny.img".into(),
            about: "small".into(),
            default_memory_mib: 128,
            packages: String::new(),
            packages_sha256: None,
        };
        record.images.insert("tiny".into(), tiny);
        write(dir.path(), &record);
        let bundle = Bundle::open(dir.path()).unwrap();
        let names: Vec<_> = bundle.images().into_iter().map(|i| (i.name, i.size)).collect();
        assert_eq!(names, [("tiny".to_owned(), 64 << 20)]);
        assert_eq!(bundle.image_file("tiny").unwrap().path, dir.path().join("images/tiny.img"));
        assert_eq!(bundle.image_file("tin"), None);
        assert_eq!(bundle.vmlinux(), dir.path().join("vmlinux"));
    }

    #[test]
    fn what_was_read_is_told_from_what_came_to_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let [now, next] = ["now", "next"].map(|name| dir.path().join(name));
        let make = |dir: &Path, kernel: &str, image: u64| {
            fs::create_dir_all(dir).unwrap();
            let mut record = Record::empty();
            for name in [VMLINUX, INITRD] {
                record.files.insert(name.into(), file(1));
                fs::write(dir.join(name), "x").unwrap();
            }
            record.files.get_mut(VMLINUX).unwrap().sha256 = kernel.to_owned();
            record.files.insert("images/tiny.img".into(), file(image));
            write(dir, &record);
        };
        make(&now, "aa", 1);
        let bundle = Bundle::open(&now).unwrap();
        assert!(bundle.is_as_read());
        // Another image is no other kernel.
        make(&now, "aa", 2);
        assert!(bundle.is_as_read());
        make(&next, "bb", 1);
        fs::rename(&now, dir.path().join("previous")).unwrap();
        assert!(!bundle.is_as_read(), "there is none");
        fs::rename(&next, &now).unwrap();
        assert!(!bundle.is_as_read());
        assert!(Bundle::open(&now).unwrap().is_as_read());
    }

    #[test]
    fn a_program_is_an_executable_file_in_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = env::join_paths([Path::new("/nonexistent"), dir.path()]).unwrap();
        let program = dir.path().join("qemu");
        assert_eq!(find_program("qemu", Some(&path)), None);
        fs::write(&program, "").unwrap();
        assert_eq!(find_program("qemu", Some(&path)), None, "not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program("qemu", Some(&path)), Some(program));
        assert_eq!(find_program("qemu", None), None);
    }
}
