//! What an image is built from again.
//!
//! One of the runtime directory is made by a bootstrap, for all users of that directory. What a user
//! wants otherwise - a package manifest of that image's name - is built into an image of the user's
//! that has the same name and goes before it.

use super::{BaseImage, Catalog, PackageManifest};
use crate::domain::{ImageOrigin, Problem, Recipe};

impl Catalog {
    /// The image that a recipe begins with. One that has its own base's name takes the place of the
    /// runtime directory's, and begins with that, not with what took its place before.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub fn base_of(&self, recipe: &Recipe) -> Result<BaseImage, Problem> {
        match self.bundle().filter(|bundle| {
            recipe.base == recipe.name && bundle.image_file(&recipe.base).is_some()
        }) {
            Some(bundle) => BaseImage::open(bundle, &recipe.base),
            None => self.open(&recipe.base),
        }
    }

    /// The recipe by which an image is built again; `None` for one of the runtime directory that a
    /// bootstrap makes.
    ///
    /// # Errors
    /// If there is no such image, nobody knows how it was made, or a manifest of the user's cannot
    /// be used.
    pub fn recipe_again(&self, name: &str) -> Result<Option<Recipe>, Problem> {
        let view = self.open(name)?.view().clone();
        let manifest = self.users_manifest(name)?;
        let mut recipe = match (view.origin, self.recipe(name)) {
            (ImageOrigin::Bundle, _) if !self.made_of_users_manifest(name) => return Ok(None),
            (ImageOrigin::Bundle, _) => Recipe {
                base: name.to_owned(),
                about: format!("{}, with packages of yours", view.about),
                ..Recipe::default()
            },
            (_, Some(recipe)) => recipe,
            (_, None) => {
                let why = "it was not made from another image here, so there is no recipe of it";
                let what = format!("cannot rebuild {name}");
                return Err(Problem::new(what, why, "import it again, with --replace"));
            }
        };
        name.clone_into(&mut recipe.name);
        if let Some(manifest) = manifest {
            recipe.packages = manifest.text();
            // As that of the image whose place it takes.
            recipe.complete |= recipe.base == name;
        }
        Ok(Some(recipe))
    }

    /// Whether this is an image of the runtime directory, and the user has a manifest for it that is
    /// another than it was built from.
    pub(super) fn made_of_users_manifest(&self, name: &str) -> bool {
        let bundled = self.bundle().and_then(|bundle| bundle.built_packages(name));
        let Some(built) = bundled.filter(|_| self.metadata(name).is_none()) else { return false };
        let wanted = self.users_manifest(name).ok().flatten();
        wanted.is_some_and(|wanted| PackageManifest::parse(built) != Ok(wanted))
    }

    /// The package manifest that a recipe's base was built from.
    #[must_use]
    pub fn manifest_of_base(&self, recipe: &Recipe) -> Option<PackageManifest> {
        let of_bundle = self.bundle().filter(|_| recipe.base == recipe.name);
        match of_bundle.and_then(|bundle| bundle.built_packages(&recipe.base)) {
            Some(text) => PackageManifest::parse(text).ok(),
            None => self.built_packages(&recipe.base),
        }
    }

    /// What of the base's manifest is to go for a recipe that names all there is to be: `name-`,
    /// a line each, as apt-get(8) takes it.
    #[must_use]
    pub fn too_much(&self, recipe: &Recipe, packages: &PackageManifest) -> Vec<String> {
        if !recipe.complete {
            return Vec::new();
        }
        let had = self.manifest_of_base(recipe).unwrap_or_default();
        let named: Vec<&str> = packages.names().map(package).collect();
        let gone = had.names().filter(|line| !line.ends_with('-')).map(package);
        gone.filter(|name| !named.contains(name)).map(|name| format!("{name}-")).collect()
    }
}

/// The package that a line of a manifest is about.
fn package(line: &str) -> &str {
    let end = line.find(['=', '/']).unwrap_or(line.len());
    line[..end].strip_suffix('-').unwrap_or(&line[..end])
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        bundle::{Bundle, FileRecord, ImageRecord, RECORD_FILE, Record},
        domain::{Layout, StaleReason},
    };

    /// A runtime directory with `debian`, built from `packages`; only the record and the disk's
    /// superblock are real.
    fn bundle(dir: &Path, packages: &str) -> Bundle {
        let file = |size| FileRecord {
            sha256: "ab".repeat(32),
            size,
            modified_ns: 0,
            source: "test".into(),
            version: String::new(),
        };
        fs::create_dir_all(dir.join("images")).unwrap();
        let mut record = Record::empty();
        for name in ["vmlinux", "initrd.cpio"] {
            record.files.insert(name.into(), file(1));
            fs::write(dir.join(name), "x").unwrap();
        }
        let disk = dir.join("images/debian.img");
        fs::File::create(&disk).unwrap().set_len(8 << 20).unwrap();
        let mut mke2fs = std::process::Command::new("/sbin/mke2fs");
        assert!(mke2fs.args(["-q", "-F", "-t", "ext4"]).arg(&disk).status().unwrap().success());
        record.files.insert("images/debian.img".into(), file(8 << 20));
        let manifest = PackageManifest::parse(packages).unwrap();
        let image = ImageRecord {
            file: "images/debian.img".into(),
            about: "Debian".into(),
            default_memory_mib: 128,
            packages: manifest.text(),
            packages_sha256: Some(manifest.sha256()),
        };
        record.images.insert("debian".into(), image);
        fs::write(dir.join(RECORD_FILE), serde_json::to_vec(&record).unwrap()).unwrap();
        Bundle::open(dir).unwrap()
    }

    #[test]
    fn a_base_that_was_replaced_while_it_was_copied_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(&dir.path().join("runtime"), "less\n");
        let base = BaseImage::open(&bundle, "debian").unwrap();
        base.was_this().unwrap();
        let mut record = Record::read(bundle.dir()).unwrap().unwrap();
        record.files.get_mut("images/debian.img").unwrap().sha256 = "cd".repeat(32);
        fs::write(bundle.dir().join(RECORD_FILE), serde_json::to_vec(&record).unwrap()).unwrap();
        assert!(base.was_this().unwrap_err().to_string().contains("replaced"));
        fs::remove_file(bundle.dir().join(RECORD_FILE)).unwrap();
        base.was_this().unwrap_err();
    }

    #[test]
    fn a_manifest_for_a_bundled_image_is_built_into_one_of_the_users() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = bundle(&dir.path().join("runtime"), "less\nsystemd\nvim-tiny=1\n");
        let layout = Layout { state: dir.path().join("s"), run: dir.path().join("r") };
        let wanted = dir.path().join("packages");
        fs::create_dir_all(&wanted).unwrap();
        let catalog = Catalog::new(&layout, Some(&bundle), &wanted);
        let file = wanted.join("debian.txt");
        assert_eq!(catalog.recipe_again("debian"), Ok(None), "a bootstrap makes it");
        fs::write(&file, "less\nsystemd\nvim-tiny=1\n# as it was\n").unwrap();
        assert_eq!(catalog.recipe_again("debian"), Ok(None), "nothing else is wanted");

        fs::write(&file, "systemd\nless=2\ngit\n").unwrap();
        let view = &catalog.list()[0];
        assert!(view.own_manifest && matches!(view.stale[..], [StaleReason::Packages { .. }]));
        let recipe = catalog.recipe_again("debian").unwrap().expect("a recipe");
        assert_eq!((recipe.name.as_str(), recipe.base.as_str()), ("debian", "debian"));
        assert!(recipe.complete);
        let packages = PackageManifest::parse(&recipe.packages).unwrap();
        assert_eq!(packages.text(), "git\nless=2\nsystemd\n");
        assert_eq!(catalog.too_much(&recipe, &packages), ["vim-tiny-"]);
        let some = Recipe { complete: false, ..recipe.clone() };
        assert_eq!(catalog.too_much(&some, &packages), [""; 0]);

        // Built, it is what is wanted, and what it began with is not it.
        let staged = catalog.stage().unwrap();
        fs::copy(bundle.dir().join("images/debian.img"), staged.disk()).unwrap();
        staged.set_packages(&packages).unwrap();
        let base = catalog.base_of(&recipe).unwrap();
        let metadata = crate::image::Metadata {
            origin: ImageOrigin::Customized,
            parent: Some(crate::image::Parent {
                name: "debian".into(),
                sha256: base.sha256().into(),
            }),
            ..crate::image::Metadata::default()
        };
        let name = "debian".parse().unwrap();
        staged.publish(&catalog, &name, metadata, Some(&recipe), true).unwrap();
        let view = &catalog.list()[0];
        assert_eq!(
            (view.origin, &view.stale, view.own_manifest),
            (ImageOrigin::Customized, &vec![], false)
        );
        assert_eq!(catalog.base_of(&recipe).unwrap().path(), base.path());
        // The next change of it begins with the bundled one again.
        fs::write(&file, "git\n").unwrap();
        assert_eq!(catalog.list()[0].stale.len(), 1);
        let recipe = catalog.recipe_again("debian").unwrap().expect("a recipe");
        let packages = PackageManifest::parse(&recipe.packages).unwrap();
        assert_eq!(catalog.too_much(&recipe, &packages), ["less-", "systemd-", "vim-tiny-"]);
        // Without it there is the bundled one again.
        catalog.remove(&name).unwrap();
        assert_eq!(catalog.list()[0].origin, ImageOrigin::Bundle);
    }
}
