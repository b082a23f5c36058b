//! What a UI does with images beside commands: the wizard's draft, and recipes for builds.

use std::{fs, io, path::PathBuf, process::Command, sync::atomic::AtomicBool};

use serde::Deserialize;

use super::{Options, asked::output_unless, driver::look::catalog};
use crate::{
    domain::{BuildPreview, ImageFacts, ImageName, Problem, Recipe, is_same_draft},
    image::{PackageManifest, write_file},
};

/// Keeps what the wizard writes. Blocking: call it from a thread that may wait for a disk.
pub trait ImageDesk: Send + Sync {
    /// The draft that was left, as it was kept; nothing if there is none.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    fn draft(&self) -> Result<Option<String>, Problem>;

    /// Keeps a draft in place of the one before, whole whatever happens; `None`: there is none
    /// any more.
    ///
    /// # Errors
    /// If it cannot be written.
    fn keep_draft(&self, text: Option<&str>) -> Result<(), Problem>;

    /// Looks closely at an image.
    ///
    /// # Errors
    /// If there is no such image.
    fn facts(&self, image: &str) -> Result<ImageFacts, Problem>;

    /// Works out what building this recipe would do. Takes some seconds, unless `ended` is set
    /// meanwhile: then nothing of it runs any more when this returns.
    ///
    /// # Errors
    /// Why that cannot be said.
    fn preview(&self, recipe: &Recipe, ended: &AtomicBool) -> Result<BuildPreview, Problem>;

    /// Writes a recipe to a file of its own, for `banger images build`.
    ///
    /// # Errors
    /// If its name is none, or it cannot be written.
    fn save_recipe(&self, recipe: &Recipe) -> Result<PathBuf, Problem>;

    /// Throws away this draft and the recipe's file: the image is built and keeps its own. A draft
    /// that was kept since then stays.
    ///
    /// # Errors
    /// If they cannot be removed.
    fn built(&self, image: &str, draft: &str) -> Result<(), Problem>;
}

/// The lines of a package manifest: sorted, each once, without comments.
///
/// # Errors
/// What is wrong with which lines (from 1 on), all at once.
pub fn read_packages(text: &str) -> Result<Vec<String>, Vec<(usize, String)>> {
    let manifest = PackageManifest::parse(text)?;
    Ok(manifest.names().map(ToOwned::to_owned).collect())
}

/// The desk in the state directory.
pub struct Desk {
    options: Options,
}

impl Desk {
    /// That of a supervisor with these options.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { options: options.clone() }
    }
}

impl ImageDesk for Desk {
    fn draft(&self) -> Result<Option<String>, Problem> {
        let path = self.options.layout.draft();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Problem::new(
                "the draft of an image cannot be read",
                format!("{}: {e}", path.display()),
                "a new one takes its place as soon as you change something",
            )),
        }
    }

    fn keep_draft(&self, text: Option<&str>) -> Result<(), Problem> {
        let path = self.options.layout.draft();
        let kept = match text {
            Some(text) => write_file(&path, text.as_bytes()),
            None => match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
        };
        kept.map_err(|e| {
            let why = format!("{}: {e}", path.display());
            Problem::new("the draft of the image is not kept", why, "make room, or check its owner")
        })
    }

    fn save_recipe(&self, recipe: &Recipe) -> Result<PathBuf, Problem> {
        let fail = |why: String, hint: &str| {
            Problem::new(format!("cannot build {}", recipe.name), why, hint)
        };
        let name: ImageName =
            recipe.name.parse().map_err(|e| fail(format!("{e}"), "give it another name"))?;
        let text = toml::to_string(recipe)
            .map_err(|e| fail(format!("its recipe cannot be written down: {e}"), ""))?;
        let dir = self.options.layout.recipes();
        let path = dir.join(format!("{name}.toml"));
        fs::create_dir_all(&dir)
            .and_then(|()| write_file(&path, text.as_bytes()))
            .map_err(|e| fail(format!("{}: {e}", path.display()), "make room, then try again"))?;
        Ok(path)
    }

    fn facts(&self, image: &str) -> Result<ImageFacts, Problem> {
        let catalog = catalog(&self.options);
        let none = || Problem::new("cannot look at the image", format!("{image} is gone"), "");
        catalog.path(image).ok_or_else(none)?;
        let installed = catalog.metadata(image).map(|known| known.packages).unwrap_or_default();
        let name = |line: String| {
            let name = line.split([' ', ':']).next().unwrap_or_default();
            name.to_owned()
        };
        let mut packages: Vec<String> = installed.into_iter().map(name).collect();
        let asked_for = packages.is_empty();
        if asked_for {
            // What it was asked to have is at least there.
            let built = catalog.built_packages(image);
            let lines = built.iter().flat_map(PackageManifest::names);
            packages = lines.map(|line| name(line.to_owned())).collect();
        }
        packages.sort_unstable();
        packages.dedup();
        Ok(ImageFacts { packages, asked_for, recipe: catalog.recipe(image) })
    }

    fn preview(&self, recipe: &Recipe, ended: &AtomicBool) -> Result<BuildPreview, Problem> {
        let path = self.save_recipe(recipe)?;
        let fail = |why: String| {
            let hint =
                "set that right (Ctrl-p goes back), or see whether it can be built all the same";
            Problem::new("what it would fetch is not known", why, hint)
        };
        let mut dry_run = Command::new(&self.options.program);
        dry_run.args(["images", "build", "--dry-run", "--json"]).arg(&path);
        let said = output_unless(&mut dry_run, ended).map_err(|e| fail(e.to_string()))?;
        let said = said.ok_or_else(|| fail("it was ended".to_owned()))?;
        if !said.status.success() {
            // The hints in it are for whoever has a recipe in an editor.
            let said = String::from_utf8_lossy(&said.stderr);
            let why: Vec<&str> = said
                .lines()
                .map(|line| line.strip_prefix("error: ").unwrap_or(line).trim())
                .filter(|line| !line.is_empty() && !line.starts_with("hint: "))
                .collect();
            return Err(fail(why.join("; ")));
        }
        /// What of it is shown.
        #[derive(Deserialize)]
        struct Said {
            packages: BuildPreview,
        }
        let said: Said = serde_json::from_slice(&said.stdout).map_err(|e| fail(e.to_string()))?;
        Ok(said.packages)
    }

    fn built(&self, image: &str, draft: &str) -> Result<(), Problem> {
        if self.draft()?.is_some_and(|kept| is_same_draft(&kept, draft)) {
            self.keep_draft(None)?;
        }
        let path = self.options.layout.recipes().join(format!("{image}.toml"));
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Problem::new(
                format!("the recipe of {image} that was built is still there"),
                format!("{}: {e}", path.display()),
                "it does no harm; remove it",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;
    use crate::{
        bundle::Configured,
        domain::{Layout, NamesSettings},
        supervisor::Origin,
    };

    fn desk(dir: &Path) -> Desk {
        let layout = Layout { state: dir.to_owned(), run: dir.to_owned() };
        let options = Options {
            layout,
            program: "/no/such/program".into(),
            runtime_dir: Configured { runtime_dir: Some(dir.to_owned()), ..Configured::default() },
            vmm: None,
            overlay: None,
            network: None,
            jailer: None,
            names: NamesSettings::default(),
            extra_keys: Vec::new(),
            stop_timeout_ms: 0,
            packages: dir.join("packages"),
            origin: Origin::Tui,
        };
        Desk { options }
    }

    #[test]
    fn a_draft_is_kept_replaced_and_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let desk = desk(dir.path());
        assert_eq!(desk.draft(), Ok(None));
        assert_eq!(desk.keep_draft(None), Ok(()), "nothing is there to throw away");
        desk.keep_draft(Some("one, which is longer")).unwrap();
        desk.keep_draft(Some("two")).unwrap();
        assert_eq!(desk.draft(), Ok(Some("two".to_owned())));
        let mode = fs::metadata(desk.options.layout.draft()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        desk.keep_draft(None).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let desk = desk(dir.path());
        assert!(desk.facts("none").unwrap_err().why.contains("none is gone"));
        let recipe = Recipe { name: "dev".into(), base: "none".into(), ..Recipe::default() };
        assert!(desk.preview(&recipe, &AtomicBool::new(false)).is_err());
        assert_eq!(read_packages("vim\n# x\ngit\nvim\n"), Ok(vec!["git".into(), "vim".into()]));
    }

    #[test]
    fn a_state_directory_that_is_gone_is_a_problem_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let desk = desk(&dir.path().join("none"));
        assert_eq!(desk.draft(), Ok(None));
        assert!(desk.keep_draft(Some("x")).unwrap_err().why.contains("none"));
    }

    #[test]
    fn a_recipe_lies_under_its_own_name_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let desk = desk(dir.path());
        let recipe = Recipe {
            name: "dev".into(),
            base: "debian".into(),
            packages: "git\n# more\nvim\n".into(),
            script: "echo \"'\\n\"\n".into(),
            ..Recipe::default()
        };
        let path = desk.save_recipe(&recipe).unwrap();
        let read: Recipe = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(read, recipe);
        desk.keep_draft(Some("step = \"name\"\nx")).unwrap();
        desk.built("dev", "step = \"review\"\nx").unwrap();
        assert_eq!(fs::read_dir(desk.options.layout.recipes()).unwrap().count(), 0);
        assert_eq!(desk.draft(), Ok(None));
        // Another that was begun meanwhile stays.
        desk.keep_draft(Some("y")).unwrap();
        desk.built("dev", "x").unwrap();
        assert_eq!(desk.draft(), Ok(Some("y".into())));
        for bad in ["", "../dev", "a/b"] {
            let bad = Recipe { name: bad.into(), ..recipe.clone() };
            assert!(desk.save_recipe(&bad).is_err());
        }
    }
}
