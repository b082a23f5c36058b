//! An image in the making: a directory that nobody sees, and that becomes an image in one step.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{
    Catalog, METADATA_FILE, Metadata, PackageManifest,
    base::check_file_system,
    catalog::{MANIFEST_FILE, RECIPE_FILE},
    content,
    metadata::{SCHEMA, read_bounded, sync_dir, write_file},
};
use crate::{
    bundle::{MANIFEST_MAX, sha256_file},
    domain::{ImageName, ImageView, Layout, Problem, Recipe},
    host::{
        disk, fault,
        lock::{self, FileLock},
        rename,
    },
    store::Store,
};

/// How the names of these directories begin; no image's name does.
pub const STAGED: &str = ".staged-";
/// The file in it that is locked by whoever works on it.
const LOCK: &str = ".lock";
/// The disk in it.
const DISK: &str = "root.img";
/// What may be told of how it was built.
pub const BUILD_LOG: &str = "build.log";

/// An image in the making. It is removed when this is dropped; of a process that was killed, by the
/// next banger.
#[derive(Debug)]
pub struct Staged {
    layout: Layout,
    dir: PathBuf,
    _lock: FileLock,
    sealed: Mutex<Option<(Stamp, String)>>,
    done: bool,
}

/// What of a file changes when it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Staged {
    /// Makes an empty one.
    pub(super) fn new(layout: &Layout) -> io::Result<Self> {
        loop {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
            let name = format!("{STAGED}{:08x}", u32::from_be_bytes(bytes));
            let dir = layout.images().join(name);
            DirBuilder::new().recursive(true).mode(0o700).create(layout.images())?;
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Somebody who sweeps may have been faster: then it is another directory's turn.
            if let Some(lock) = FileLock::try_exclusive(dir.join(LOCK))? {
                let layout = layout.clone();
                return Ok(Self {
                    layout,
                    dir,
                    _lock: lock,
                    sealed: Mutex::default(),
                    done: false,
                });
            }
        }
    }

    /// Its directory, for whatever is needed while it is made. Of what is in it only the disk,
    /// `packages.txt`, `recipe.toml` and `build.log` become part of the image.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the disk is to be: an ext4 file system without a partition table.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.join(DISK)
    }

    /// The name under which a VM can be made from it once it is sealed: `.staged-1a2b3c4d`.
    #[must_use]
    pub fn name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Writes down the package manifest that it is built from.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_packages(&self, packages: &PackageManifest) -> Result<(), Problem> {
        let path = self.dir.join(MANIFEST_FILE);
        write_file(&path, packages.text().as_bytes()).map_err(|e| self.failed(&path, &e))
    }

    /// Checks the finished disk and reads it whole, for its sum: from then on VMs can be made from
    /// it, under its [`Staged::name`]. Sum, size and room are filled in; so is the manifest's sum.
    /// `progress` is told the bytes read and answers whether to go on.
    ///
    /// # Errors
    /// If the disk is missing or no file system; when `progress` wanted to end; what the file system
    /// says.
    pub fn seal(
        &self,
        metadata: Metadata,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Metadata, Problem> {
        let disk = self.disk();
        let failed = |e: io::Error| self.failed(&disk, &e);
        let mut file = File::open(&disk).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        check_file_system(&mut file, meta.len()).map_err(|why| {
            Problem::new("cannot make the image", format!("{}: {why}", disk.display()), "")
        })?;
        let stamp = Stamp::of(&meta);
        let known = self.sealed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sha256 = match known.filter(|(of, _)| *of == stamp) {
            Some((_, sum)) => sum,
            None => sha256_file(&disk, progress)
                .map_err(failed)?
                .ok_or_else(|| Problem::new("the image was not made", "it was cancelled", ""))?,
        };
        *self.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, sha256.clone()));
        let sealed = Metadata {
            schema: SCHEMA,
            sha256,
            size: meta.len(),
            used: disk::used_bytes(&disk).map_err(failed)?,
            packages_sha256: self.packages_sha256()?.or(metadata.packages_sha256),
            ..metadata
        };
        sealed.write(&self.dir).map_err(|e| self.failed(&self.dir, &e))?;
        Ok(sealed)
    }

    /// Believes that the disk as it is now has this sum: whoever wrote it has reckoned it on the way.
    pub(super) fn is_of(&self, sha256: &str) -> io::Result<()> {
        let stamp = Stamp::of(&fs::metadata(self.disk())?);
        *self.sealed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((stamp, sha256.to_owned()));
        Ok(())
    }

    fn packages_sha256(&self) -> Result<Option<String>, Problem> {
        let path = self.dir.join(MANIFEST_FILE);
        match read_bounded(&path, MANIFEST_MAX) {
            Ok(text) => PackageManifest::parse(&text).map(|m| Some(m.sha256())).map_err(|wrong| {
                let (line, why) = wrong.into_iter().next().unwrap_or_default();
                let why = format!("{}:{line}: {why}", path.display());
                Problem::new("cannot make the image", why, "")
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(&path, &e)),
        }
    }

    /// Makes it an image of this name, in one step: whoever looks, and whatever happens, finds the
    /// image that was there before, or this one, whole. Seals it if that was not done, or if the
    /// disk was changed since.
    ///
    /// # Errors
    /// If there is one of that name and it is not to `replace` it; as [`Staged::seal`].
    pub fn publish(
        mut self,
        catalog: &Catalog,
        name: &ImageName,
        metadata: Metadata,
        recipe: Option<&Recipe>,
        replace: bool,
    ) -> Result<ImageView, Problem> {
        let sealed = self.seal(metadata, &mut |_| true)?;
        let (dir, layout) = (self.dir.clone(), self.layout.clone());
        let failed = |e: io::Error| failed(&layout, &dir, &e);
        if let Some(recipe) = recipe {
            let recipe = Recipe { name: name.to_string(), ..recipe.clone() };
            let text = toml::to_string(&recipe).map_err(|e| failed(io::Error::other(e)))?;
            write_file(&self.dir.join(RECIPE_FILE), text.as_bytes()).map_err(failed)?;
        }
        self.tidy().map_err(failed)?;
        fault::point("an image was staged");
        let store = Store::open(&self.layout.database())?;
        let _lock = content::lock(&self.layout).map_err(failed)?;
        catalog.mend(&store)?;
        if !replace {
            catalog.is_free(name)?;
        }
        self.keep(&sealed.sha256).map_err(failed)?;
        fault::point("an image's content was put in its place");
        let to = self.layout.images().join(name.as_str());
        let replaced = match rename::exclusive(&self.dir, &to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && replace => {
                rename::exchange(&self.dir, &to).map_err(failed)?;
                true
            }
            renamed => {
                renamed.map_err(failed)?;
                false
            }
        };
        sync_dir(&self.layout.images()).map_err(failed)?;
        fault::point("an image was published");
        self.done = !replaced;
        // One that stays does no harm.
        let _ = fs::remove_file(to.join(LOCK));
        if replaced {
            let old = Metadata::read(&self.dir).ok().flatten();
            fs::remove_dir_all(&self.dir).map_err(failed)?;
            fault::point("the image that was replaced is gone");
            if let Some(old) = old {
                content::release(&self.layout, &store, &old.sha256, None)?;
            }
        }
        store.images_changed()?;
        Ok(catalog.shown(sealed.view(name.as_str())))
    }

    /// Removes what is not part of an image, and brings the rest to the disk.
    fn tidy(&self) -> io::Result<()> {
        const PARTS: [&str; 6] = [LOCK, DISK, METADATA_FILE, MANIFEST_FILE, RECIPE_FILE, BUILD_LOG];
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() && PARTS.iter().any(|part| entry.file_name() == *part) {
                File::open(entry.path())?.sync_all()?;
            } else if kind.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        sync_dir(&self.dir)
    }

    /// Puts the disk where contents are.
    fn keep(&self, sha256: &str) -> io::Result<()> {
        let (disk, base) = (self.disk(), self.layout.base(sha256));
        if base.exists() {
            return fs::remove_file(disk);
        }
        let dir = base.parent().unwrap_or(&self.layout.state);
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // It is never written to again, by nobody's mistake.
        fs::set_permissions(&disk, Permissions::from_mode(0o400))?;
        fs::rename(&disk, &base)?;
        sync_dir(dir)
    }

    fn failed(&self, at: &Path, error: &io::Error) -> Problem {
        failed(&self.layout, at, error)
    }
}

fn failed(layout: &Layout, at: &Path, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => {
            let free = disk::free_space(&layout.state).unwrap_or(0) >> 20;
            format!("{free} MiB are free; remove a VM or an image, or make room")
        }
        _ => "`banger doctor` checks the directories".to_owned(),
    };
    Problem::new("cannot make the image", format!("{}: {error}", at.display()), hint)
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            // What does not go is swept by the next banger.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// Whether somebody works on the staged image of this name.
#[must_use]
pub fn is_worked_on(layout: &Layout, name: &str) -> bool {
    let safe = name.starts_with(STAGED) && !name.contains('/');
    // One that cannot be asked about is left alone.
    safe && lock::is_held(layout.images().join(name).join(LOCK)).unwrap_or(true)
}

/// Removes staged images that nobody works on any more. What does not go stays for the next banger.
pub fn sweep(layout: &Layout) {
    for entry in fs::read_dir(layout.images()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(STAGED) {
            continue;
        }
        let dir = entry.path();
        if let Ok(Some(_lock)) = FileLock::try_exclusive(dir.join(LOCK))
            && let Err(error) = fs::remove_dir_all(&dir)
        {
            tracing::warn!(%error, dir = %dir.display(), "an unfinished image stays");
        }
    }
}
