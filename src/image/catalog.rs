//! All images: those of the runtime directory, and the user's, which go before them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    BaseImage, Metadata, PackageManifest, Staged,
    base::{check, unknown},
    build, content,
    metadata::{Parent, read_bounded, write_file},
    staged::STAGED,
    stale::{self, Built, Wanted},
};
use crate::{
    bundle::{Bundle, ImageFile, MANIFEST_MAX, sha256_file},
    domain::{ByteSize, ImageName, ImageOrigin, ImageView, Layout, Problem, Recipe, VmId},
    host::{fault, lock::FileLock, rename},
    store::{Store, VmRow, VmState},
};

/// The normalised manifest an image was built from, in its directory.
pub const MANIFEST_FILE: &str = "packages.txt";
/// The recipe it was built by.
pub const RECIPE_FILE: &str = "recipe.toml";
/// Says under which name an image was known before, while it is being renamed.
const RENAMED_FILE: &str = "renamed-from";
/// The most bytes of a recipe: scripts are in it.
pub const RECIPE_MAX: u64 = 4 << 20;

/// All images. Cheap to make: what is asked is looked up when it is asked.
#[derive(Clone, Debug)]
pub struct Catalog {
    layout: Layout,
    bundle: Option<Bundle>,
    wanted: PathBuf,
    steps: BTreeMap<String, String>,
}

impl Catalog {
    /// The images of this runtime directory, if there is one, and of this user, whose package
    /// manifests are in the directory `wanted` as `<image>.txt`.
    #[must_use]
    pub fn new(layout: &Layout, bundle: Option<&Bundle>, wanted: &Path) -> Self {
        Self {
            layout: layout.clone(),
            bundle: bundle.cloned(),
            wanted: wanted.to_owned(),
            steps: build::all_digests(),
        }
    }

    /// Where everything lies.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The runtime directory.
    #[must_use]
    pub const fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref()
    }

    /// All images by name, each with why it is stale. Reads some small files of each.
    #[must_use]
    pub fn list(&self) -> Vec<ImageView> {
        let sums = self.sums();
        let mut views: BTreeMap<String, ImageView> = BTreeMap::new();
        for view in self.bundle.iter().flat_map(Bundle::images) {
            views.insert(view.name.clone(), view);
        }
        for (name, metadata) in self.of_user() {
            views.insert(name.to_string(), metadata.view(name.as_str()));
        }
        views.into_values().map(|view| self.judged(view, &sums)).collect()
    }

    /// What is wrong with images of the user's: those that cannot be read, which no list has, and
    /// those whose disk is gone. Reads 2 KiB of each.
    #[must_use]
    pub fn broken(&self) -> Vec<(ImageName, Problem)> {
        let directories = content::directories(&self.layout).unwrap_or_default();
        let broken = |(name, _): (ImageName, PathBuf)| {
            let problem = self.open(name.as_str()).err()?;
            Some((name, problem))
        };
        directories.into_iter().filter_map(broken).collect()
    }

    /// Finds an image and checks its file: there, of the recorded size, and an ext4 file system
    /// that fits in. Reads 2 KiB. A staged image that was sealed is found by its name as well.
    ///
    /// # Errors
    /// What is wrong with it and the command that mends it.
    pub fn open(&self, name: &str) -> Result<BaseImage, Problem> {
        const OWN: &str = "`banger images verify` tells what changed; build or import it again";
        if let Some((metadata, path)) = self.own(name)? {
            let view = metadata.view(name);
            return check(ImageFile { view, path, sha256: metadata.sha256 }, OWN, OWN);
        }
        match &self.bundle {
            Some(bundle) if bundle.image_file(name).is_some() => BaseImage::open(bundle, name),
            _ => Err(unknown(name, &self.list())),
        }
    }

    /// What is known of an image of the user's, and where its disk is.
    fn own(&self, name: &str) -> Result<Option<(Metadata, PathBuf)>, Problem> {
        if name.starts_with(STAGED) && !name.contains('/') {
            let dir = self.layout.images().join(name);
            let metadata = Metadata::read(&dir)?;
            return Ok(metadata.map(|metadata| (metadata, dir.join("root.img"))));
        }
        let Ok(name) = name.parse::<ImageName>() else { return Ok(None) };
        let metadata = Metadata::read(&self.dir(&name))?;
        Ok(metadata.map(|metadata| {
            let path = self.layout.base(&metadata.sha256);
            (metadata, path)
        }))
    }

    /// Where the disk of an image is, unchecked.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match self.own(name) {
            Ok(Some((_, path))) => Some(path),
            _ => Some(self.bundle.as_ref()?.image_file(name)?.path),
        }
    }

    /// What is known of an image of the user's; `None` for one of the runtime directory's, one that
    /// is not there, and one that cannot be read.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<Metadata> {
        self.own(name).ok().flatten().map(|(metadata, _)| metadata)
    }

    /// How an image of the user's was made from another.
    #[must_use]
    pub fn recipe(&self, name: &str) -> Option<Recipe> {
        let dir = self.dir(&name.parse().ok()?);
        let text = read_bounded(&dir.join(RECIPE_FILE), RECIPE_MAX).ok()?;
        toml::from_str(&text).inspect_err(|error| tracing::warn!(name, %error, "bad recipe")).ok()
    }

    /// The package manifest an image was built from.
    #[must_use]
    pub fn built_packages(&self, name: &str) -> Option<PackageManifest> {
        let own = name.parse::<ImageName>().ok().map(|name| self.dir(&name));
        let text = match own.filter(|dir| dir.is_dir()) {
            Some(dir) => read_bounded(&dir.join(MANIFEST_FILE), MANIFEST_MAX).ok()?,
            None => self.bundle.as_ref()?.built_packages(name)?.to_owned(),
        };
        PackageManifest::parse(&text).ok()
    }

    /// The package manifest an image of this name is to have: the user's file, else that of its
    /// recipe, else the runtime directory's. `None` if nobody says.
    ///
    /// # Errors
    /// A file of the user's that cannot be used, with its line.
    pub fn wanted(&self, name: &str) -> Result<Option<PackageManifest>, Problem> {
        if let Some(manifest) = self.users_manifest(name)? {
            return Ok(Some(manifest));
        }
        if self.metadata(name).is_some() {
            let recipe = self.recipe(name);
            return Ok(recipe.and_then(|recipe| PackageManifest::parse(&recipe.packages).ok()));
        }
        let text = self.bundle.as_ref().and_then(|bundle| bundle.wanted_packages(name));
        Ok(text.and_then(|text| PackageManifest::parse(text).ok()))
    }

    /// The user's file that says what an image of this name is to have.
    pub(super) fn users_manifest(&self, name: &str) -> Result<Option<PackageManifest>, Problem> {
        if name.parse::<ImageName>().is_err() {
            return Ok(None);
        }
        let path = self.wanted.join(format!("{name}.txt"));
        let wrong = |why: String| {
            let hint = format!("correct or remove {}", path.display());
            Problem::new(format!("cannot use the package manifest of {name}"), why, hint)
        };
        let read = fs::File::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MANIFEST_MAX + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MANIFEST_MAX {
                let most = ByteSize(MANIFEST_MAX);
                let why = format!("it has more than {most}, and no list of packages has");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
            String::from_utf8(bytes).map_err(io::Error::other)
        });
        match read {
            Ok(text) => PackageManifest::parse(&text).map(Some).map_err(|lines| {
                let lines =
                    lines.iter().map(|(line, why)| format!("{}:{line}: {why}", path.display()));
                wrong(lines.collect::<Vec<_>>().join("\n"))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(wrong(format!("{}: {e}", path.display()))),
        }
    }

    /// As [`Catalog::wanted`]; one that cannot be used is none.
    #[must_use]
    pub fn wanted_packages(&self, name: &str) -> Option<PackageManifest> {
        self.wanted(name).ok().flatten()
    }

    /// A place to make an image in.
    ///
    /// # Errors
    /// What the file system says.
    pub fn stage(&self) -> Result<Staged, Problem> {
        Staged::new(&self.layout).map_err(|e| {
            let why = format!("{}: {e}", self.layout.images().display());
            Problem::new("cannot make an image", why, "`banger doctor` checks the directories")
        })
    }

    /// Gives an image of the user's another name; VMs and images that were made from it follow.
    ///
    /// # Errors
    /// If it is not one of the user's, the new name is taken, or the file system's word.
    pub fn rename(&self, old: &ImageName, new: &ImageName) -> Result<(), Problem> {
        let what = || format!("cannot rename the image {old}");
        let failed = |e: io::Error| Problem::new(what(), e.to_string(), "");
        let store = Store::open(&self.layout.database())?;
        let _lock = self.lock(&what())?;
        self.mend(&store)?;
        self.is_users(&what(), old)?;
        if old == new {
            return Ok(());
        }
        self.is_free(new)?;
        let (from, to) = (self.dir(old), self.dir(new));
        write_file(&from.join(RENAMED_FILE), old.as_str().as_bytes()).map_err(failed)?;
        fault::point("an image is about to be renamed");
        let stays = self.bundle_sum(old);
        store.rename_image(old, new, stays.as_deref(), || {
            rename::exclusive(&from, &to).map_err(failed)?;
            super::metadata::sync_dir(&self.layout.images()).map_err(failed)?;
            fault::point("an image was renamed");
            Ok(())
        })?;
        fault::point("the VMs of an image were renamed");
        self.follow(old, new)?;
        store.images_changed()
    }

    /// Ends a renaming: images that were made from it get to know, and the mark goes.
    fn follow(&self, old: &ImageName, new: &ImageName) -> Result<(), Problem> {
        let failed = |e: io::Error| {
            Problem::new(format!("cannot end the renaming of {old}"), e.to_string(), "try again")
        };
        let sum = Metadata::read(&self.dir(new))?.map(|metadata| metadata.sha256);
        for (name, mut metadata) in self.of_user() {
            let dir = self.dir(&name);
            let child = metadata.parent.as_ref().is_some_and(|parent| {
                parent.name == old.as_str()
                    && (self.bundle_sum(old).is_none() || Some(&parent.sha256) == sum.as_ref())
            });
            // One with its parent's name took the place of the runtime directory's.
            if child && name != *new && name != *old {
                metadata.parent =
                    metadata.parent.map(|parent| Parent { name: new.to_string(), ..parent });
                metadata.write(&dir).map_err(failed)?;
                fault::point("an image was told of its parent's name");
            }
            let Some(mut recipe) = self.recipe(name.as_str()) else { continue };
            let before = recipe.clone();
            if child && name != *new && recipe.base == old.as_str() {
                recipe.base = new.to_string();
            }
            if name == *new {
                recipe.name = new.to_string();
            }
            if recipe != before {
                let text = toml::to_string(&recipe).map_err(|e| failed(io::Error::other(e)))?;
                write_file(&dir.join(RECIPE_FILE), text.as_bytes()).map_err(failed)?;
            }
        }
        match fs::remove_file(self.dir(new).join(RENAMED_FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(()),
        }
    }

    /// Ends what was interrupted: renamings. The caller holds the lock of the contents.
    pub(super) fn mend(&self, store: &Store) -> Result<(), Problem> {
        for (name, dir) in content::directories(&self.layout).unwrap_or_default() {
            let Ok(text) = read_bounded(&dir.join(RENAMED_FILE), 64) else { continue };
            let Ok(old) = text.parse::<ImageName>() else { continue };
            if old != name {
                let stays = self.bundle_sum(&old);
                store.rename_image(&old, &name, stays.as_deref(), || Ok(()))?;
            }
            self.follow(&old, &name)?;
        }
        Ok(())
    }

    /// Whether something lies where an image of the user's of this name would be, be it one that can
    /// be read or not: it can be [removed](Self::remove).
    #[must_use]
    pub fn has(&self, name: &ImageName) -> bool {
        self.dir(name).symlink_metadata().is_ok()
    }

    /// Removes an image of the user's, also one that cannot be read.
    ///
    /// # Errors
    /// If it is not one of the user's, VMs were made from it (it says which), or the file system's
    /// word.
    pub fn remove(&self, name: &ImageName) -> Result<(), Problem> {
        let what = format!("cannot remove the image {name}");
        let failed = |e: io::Error| Problem::new(&what, e.to_string(), "try again");
        let store = Store::open(&self.layout.database())?;
        let _lock = self.lock(&what)?;
        let mended = self.mend(&store);
        let metadata = match Metadata::read(&self.dir(name)) {
            Ok(None) if !self.has(name) => return Err(self.is_not_users(&what, name)),
            Ok(Some(metadata)) => Some(metadata),
            // Whatever is wrong with it, it goes.
            Ok(None) | Err(_) => None,
        };
        if metadata.is_some() {
            mended?;
        }
        let rows = store.vms()?;
        let users: Vec<&str> = rows
            .iter()
            .filter(|row| self.is_of(row, name.as_str()))
            .map(|row| row.spec.name.as_str())
            .collect();
        if !users.is_empty() {
            return Err(in_use(name.as_str(), &users));
        }
        // In one step, as a directory is removed file by file.
        let gone = Staged::new(&self.layout).map_err(failed)?;
        let doomed = gone.dir().join("gone");
        fs::rename(self.dir(name), &doomed).map_err(failed)?;
        super::metadata::sync_dir(&self.layout.images()).map_err(failed)?;
        fault::point("an image was taken off the list");
        drop(gone);
        fault::point("an image's directory is gone");
        match metadata {
            Some(metadata) => content::release(&self.layout, &store, &metadata.sha256, None)?,
            // Which content was its own is known by what nothing else needs.
            None => {
                if let Err(problem) = content::clear(&self.layout, &store) {
                    tracing::warn!(%problem, image = %name, "its content stays for now");
                }
            }
        }
        store.images_changed()
    }

    /// Reads an image's disk whole and compares its sum with what it is to be. `progress` is told
    /// the bytes read and answers whether to go on. Whether it went on to the end.
    ///
    /// # Errors
    /// If it is another, or cannot be read.
    pub fn verify(
        &self,
        name: &str,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, Problem> {
        let image = self.open(name)?;
        let what = format!("the image {name} is not as it was made");
        let at = image.path().display();
        let again = match image.view().origin {
            ImageOrigin::Bundle => "run `banger runtime bootstrap` to make it again",
            ImageOrigin::Customized | ImageOrigin::Imported => "build or import it again",
        };
        let sum = sha256_file(image.path(), progress)
            .map_err(|e| Problem::new(&what, format!("{at}: {e}"), again))?;
        match sum {
            None => Ok(false),
            Some(sum) if sum == image.sha256() => Ok(true),
            Some(sum) => {
                let why = format!("{at}: its sha256 is {sum} instead of {}", image.sha256());
                Err(Problem::new(what, why, again))
            }
        }
    }

    /// Ends what interrupted processes began, and removes what they left: for each new banger. What
    /// somebody is at is left to them.
    ///
    /// # Errors
    /// What could not be done.
    pub fn sweep(&self) -> Result<(), Problem> {
        super::staged::sweep(&self.layout);
        let store = Store::open(&self.layout.database())?;
        let marked = |(_, dir): &(ImageName, PathBuf)| dir.join(RENAMED_FILE).exists();
        if content::directories(&self.layout).unwrap_or_default().iter().any(marked)
            && let Ok(Some(lock)) = FileLock::try_exclusive(self.layout.bases_lock())
        {
            let _lock = lock.remove_on_drop();
            self.mend(&store)?;
            store.images_changed()?;
        }
        content::sweep(&self.layout, &store)
    }

    /// Whether a VM's disk was made from the image that has this name among the user's, in whatever
    /// state that was then; and not from the runtime directory's of the same name.
    fn is_of(&self, row: &VmRow, name: &str) -> bool {
        let of_bundle = self.bundle.as_ref().and_then(|bundle| bundle.image_file(name));
        row.spec.image == name
            && match (&row.made_from, of_bundle) {
                (Some(sum), Some(file)) => *sum != file.sha256,
                // From before there were any but the runtime directory's.
                (None, Some(_)) => row.state == VmState::Creating,
                (_, None) => true,
            }
    }

    /// What a disk of this VM's is to be made from: the image its row names now, whatever it was
    /// called when the VM was asked for. The caller holds the lock of the contents until it is
    /// written down that it needs it.
    ///
    /// # Errors
    /// The image; the database.
    pub fn open_for(&self, store: &Store, vm: &VmId) -> Result<BaseImage, Problem> {
        let row = store.vm(vm)?.ok_or_else(|| {
            Problem::new("cannot make the disk", "another banger deleted the VM", "")
        })?;
        self.open(&row.spec.image)
    }

    fn bundle_sum(&self, name: &ImageName) -> Option<String> {
        Some(self.bundle.as_ref()?.image_file(name.as_str())?.sha256)
    }

    fn dir(&self, name: &ImageName) -> PathBuf {
        self.layout.images().join(name.as_str())
    }

    fn lock(&self, what: &str) -> Result<FileLock, Problem> {
        content::lock(&self.layout)
            .map_err(|e| Problem::new(what, e.to_string(), "try again when it is done"))
    }

    fn is_users(&self, what: &str, name: &ImageName) -> Result<Metadata, Problem> {
        Metadata::read(&self.dir(name))?.ok_or_else(|| self.is_not_users(what, name))
    }

    /// Why there is no image of the user's of this name.
    fn is_not_users(&self, what: &str, name: &ImageName) -> Problem {
        if self.bundle_sum(name).is_some() {
            let why = "it is part of the runtime directory";
            return Problem::new(what, why, "only images of your own can be changed");
        }
        unknown(name.as_str(), &self.list())
    }

    /// Whether no image has this name.
    ///
    /// # Errors
    /// Which one has it.
    pub fn is_free(&self, name: &ImageName) -> Result<(), Problem> {
        let what = format!("cannot use the name {name}");
        if self.has(name) {
            let hint = "choose another name, or replace it (`--replace`)";
            return Err(Problem::new(what, "there is an image of that name", hint));
        }
        if self.bundle_sum(name).is_some() {
            let hint = "choose another name, or take its place (`--replace`)";
            return Err(Problem::new(
                what,
                "the runtime directory has an image of that name",
                hint,
            ));
        }
        Ok(())
    }

    /// The user's images that can be read.
    fn of_user(&self) -> Vec<(ImageName, Metadata)> {
        let directories = content::directories(&self.layout).unwrap_or_else(|error| {
            tracing::warn!(%error, "the images cannot be listed");
            Vec::new()
        });
        let read = |(name, dir): (ImageName, PathBuf)| match Metadata::read(&dir) {
            Ok(metadata) => Some((name, metadata?)),
            Err(problem) => {
                tracing::warn!(%problem, "an image is left out");
                None
            }
        };
        directories.into_iter().filter_map(read).collect()
    }

    /// The sums of all images by name, the user's before the runtime directory's.
    fn sums(&self) -> BTreeMap<String, String> {
        let bundle = self.bundle.iter().flat_map(Bundle::images);
        let mut sums: BTreeMap<_, _> = bundle.map(|view| (view.name, view.sha256)).collect();
        sums.extend(self.of_user().into_iter().map(|(name, m)| (name.to_string(), m.sha256)));
        sums
    }

    /// A view with why it is stale.
    pub(super) fn shown(&self, view: ImageView) -> ImageView {
        self.judged(view, &self.sums())
    }

    fn judged(&self, view: ImageView, sums: &BTreeMap<String, String>) -> ImageView {
        let name = view.name.as_str();
        let metadata = if view.origin == ImageOrigin::Bundle { None } else { self.metadata(name) };
        let parent = metadata.as_ref().and_then(|metadata| metadata.parent.as_ref());
        // Its own name is that of the one it took the place of.
        let now = parent.and_then(|parent| match parent.name.parse::<ImageName>() {
            Ok(own) if own.as_str() == name => self.bundle_sum(&own),
            _ => sums.get(&parent.name).cloned(),
        });
        let (was, is) = (self.built_packages(name), self.wanted_packages(name));
        let built = Built {
            packages: was.as_ref(),
            parent,
            steps: metadata.as_ref().map(|metadata| &metadata.steps),
        };
        let wanted = Wanted {
            packages: is.as_ref(),
            parent: now.as_deref(),
            steps: (!self.steps.is_empty()).then_some(&self.steps),
        };
        let own_manifest = self.made_of_users_manifest(name);
        ImageView { own_manifest, stale: stale::reasons(built, wanted), ..view }
    }
}

/// The problem of an image that VMs were made from.
#[must_use]
pub fn in_use(name: &str, vms: &[&str]) -> Problem {
    const NAMED: usize = 5;
    let mut names = vms.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if vms.len() > NAMED {
        names = format!("{names} and {} more", vms.len() - NAMED);
    }
    Problem::new(
        format!("cannot remove the image {name}"),
        format!("VMs were made from it: {names}"),
        "remove them first, or keep the image",
    )
}
