//! What a build is going to do, checked as far as that can be done before it begins.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use serde::Serialize;

use super::{
    Options, engine,
    step::{self, Ended},
};
use crate::{
    cli::{args::EngineKind, exit::Failure, exit::Outcome, out, setup::Setup, signals},
    domain::{ByteSize, ImageName, ImageOrigin, Problem, Recipe},
    image::{
        BaseImage, Catalog, PackageManifest,
        build::{self, Host, Mounted, Parts, Preview, Step},
    },
};

/// The version of the JSON that `--dry-run --json` prints.
const SCHEMA: u32 = 1;

/// What a build is going to do.
pub struct Plan {
    /// What is to be made.
    pub recipe: Recipe,
    /// Its name.
    pub name: ImageName,
    /// What it is made from.
    pub base: BaseImage,
    /// Its package manifest.
    pub packages: PackageManifest,
    /// What of its base's manifest goes.
    too_much: Vec<String>,
    /// What this host fetches, as its base has no apt; nothing if that has.
    fetched: Option<Vec<String>>,
    /// Where the steps run.
    pub engine: EngineKind,
    /// What runs.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Checks a recipe against the host.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn new(catalog: &Catalog, recipe: Recipe, options: &Options) -> Result<Self, Failure> {
        let what = format!("cannot build {}", recipe.name);
        let base = catalog.base_of(&recipe)?;
        let mut wrong: Vec<String> = Vec::new();
        let name: Option<ImageName> = match recipe.name.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                wrong.push(format!("name: {error}"));
                None
            }
        };
        let packages = PackageManifest::parse(&recipe.packages).unwrap_or_else(|lines| {
            let said = lines.into_iter().map(|(line, why)| format!("packages, line {line}: {why}"));
            wrong.extend(said);
            PackageManifest::default()
        });
        let least = base.size().div_ceil(1 << 20);
        if let Some(mib) = recipe.size_mib.filter(|mib| *mib < least) {
            wrong.push(format!(
                "size_mib: {} has {least} MiB, and a disk is never shrunk to {mib} MiB",
                recipe.base
            ));
        }
        for file in &recipe.files {
            if let Err(error) = fs::metadata(&file.from) {
                wrong.push(format!("files: {}: {error}", file.from.display()));
            }
        }
        let free = name.as_ref().filter(|_| !options.replace).map(|name| catalog.is_free(name));
        let taken = free.and_then(Result::err);
        wrong.extend(taken.as_ref().map(|problem| format!("name: {}", problem.why)));
        match name {
            Some(name) if wrong.is_empty() => {
                let steps = Step::of(&recipe);
                let engine = options.engine.unwrap_or_else(engine::of_host);
                let too_much = catalog.too_much(&recipe, &packages);
                let mut plan =
                    Self { recipe, name, base, packages, too_much, fetched: None, engine, steps };
                plan.look_for_apt(catalog)?;
                Ok(plan)
            }
            _ => {
                let hint = if taken.is_some() {
                    "take another name, or --replace"
                } else {
                    "correct the recipe; docs/images.md has all keys"
                };
                Err(Problem::new(what, wrong.join("\n  "), hint).into())
            }
        }
    }

    /// What a base without apt, such as `tiny`, can be given, and what not.
    fn look_for_apt(&mut self, catalog: &Catalog) -> Result<(), Problem> {
        let more = !self.recipe.presets.is_empty() || self.recipe.users.iter().any(|u| u.sudo);
        // What else they need, only apt knows; the step says that there is none.
        if more || !self.steps.contains(&Step::Packages) || !self.installed(catalog).is_empty() {
            return Ok(());
        }
        // Somebody else's system: what is Debian's need not run there.
        let Some(has) = catalog.manifest_of_base(&self.recipe) else { return Ok(()) };
        let words = self.changes();
        let gone: Vec<&str> = words.lines().filter(|word| word.ends_with('-')).collect();
        if !gone.is_empty() {
            let why = format!("{} has no apt: nothing can be taken out of it", self.recipe.base);
            let what = format!("cannot build {} with {}", self.name, gone.join(" "));
            return Err(Problem::new(what, why, "correct the package manifest"));
        }
        self.fetched = Some(has.diff(&self.packages).added);
        Ok(())
    }

    /// Brings what the steps need from this host into the directory of the parts.
    ///
    /// # Errors
    /// What cannot be fetched.
    pub fn bring(&self, work: &Path) -> Result<(), Problem> {
        build::fetch(work, self.fetched.as_deref().unwrap_or_default())
    }

    /// The size of the disk in MiB.
    pub fn size_mib(&self) -> u64 {
        self.recipe.size_mib.unwrap_or_else(|| self.base.size().div_ceil(1 << 20))
    }

    /// What the step of the packages is told: the manifest, and what goes. A line each.
    pub fn changes(&self) -> String {
        self.too_much.iter().fold(self.packages.text(), |text, line| text + line + "\n")
    }

    /// Copies the base, to be changed.
    ///
    /// # Errors
    /// If there is no room, or another took its place meanwhile.
    pub fn copy_base(&self, disk: &Path) -> Result<(), Problem> {
        build::copy_of(self.base.path(), disk)?;
        self.base.was_this().map_err(|error| {
            let what = format!("cannot copy {}", self.base.path().display());
            Problem::new(what, error.to_string(), "try again")
        })
    }

    /// In a few lines, for who is asked whether to go on.
    pub fn lines(&self) -> Vec<String> {
        let steps: Vec<&str> = self.steps.iter().map(|step| step.word()).collect();
        let where_it_runs = match self.engine {
            EngineKind::Chroot => "in a mounted copy",
            EngineKind::Vm => "in a VM of it",
        };
        let base = match self.recipe.base == self.recipe.name {
            true => format!("the runtime directory's {}", self.recipe.base),
            false => self.recipe.base.clone(),
        };
        let mut lines = vec![
            format!("{} from {base}, {where_it_runs}", self.name),
            format!("  disk      {}", ByteSize(self.size_mib() << 20)),
            format!("  steps     {}", steps.join(", ")),
        ];
        let names = self.changes().replace('\n', " ");
        if !names.is_empty() {
            lines.push(format!("  packages  {}", names.trim_end()));
        }
        lines
    }

    /// `--dry-run`: what would change.
    ///
    /// # Errors
    /// A package that does not exist; what apt says.
    pub fn show(&self, catalog: &Catalog, setup: &Setup, json: bool) -> Outcome {
        let preview = match self.engine {
            EngineKind::Chroot
                if self.steps.contains(&Step::Packages) && self.fetched.is_none() =>
            {
                self.ask_apt(catalog, setup)?
            }
            EngineKind::Chroot | EngineKind::Vm => self.plain(catalog),
        };
        if json {
            #[derive(Serialize)]
            struct Shown<'a> {
                schema: u32,
                name: &'a str,
                base: &'a str,
                engine: &'a str,
                size_mib: u64,
                steps: Vec<&'a str>,
                packages: &'a Preview,
            }
            let shown = Shown {
                schema: SCHEMA,
                name: self.name.as_str(),
                base: &self.recipe.base,
                engine: self.engine.word(),
                size_mib: self.size_mib(),
                steps: self.steps.iter().map(|step| step.word()).collect(),
                packages: &preview,
            };
            let text = serde_json::to_string_pretty(&shown).map_err(std::io::Error::from)?;
            out::line(text)?;
            return Ok(crate::cli::exit::OK);
        }
        for line in self.lines().into_iter().take(3) {
            out::line(line)?;
        }
        for change in &preview.install {
            out::line(format!("  + {} {}", change.name, change.version).trim_end())?;
        }
        for name in &preview.remove {
            out::line(format!("  - {name}"))?;
        }
        if let Some(bytes) = preview.download_bytes {
            out::line(format!("  download  {}", ByteSize(bytes)))?;
        }
        if let Some(bytes) = preview.installed_bytes {
            let sign = if bytes < 0 { "less" } else { "more" };
            out::line(format!("  on disk   {} {sign}", ByteSize(bytes.unsigned_abs())))?;
        }
        if !preview.dependencies {
            out::line("  what these depend on is known when they are fetched")?;
        }
        Ok(crate::cli::exit::OK)
    }

    /// Has apt say it, in a copy of the base that is thrown away.
    ///
    /// # Errors
    /// What apt says; a signal that wants it to end, and then nothing is left of it either.
    fn ask_apt(&self, catalog: &Catalog, setup: &Setup) -> Result<Preview, Failure> {
        let asked = Arc::new(AtomicI32::new(0));
        let flag = Arc::clone(&asked);
        signals::watch(move |signal| flag.store(signal, Ordering::Relaxed))?;
        let go_on = || match asked.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Said(signals::exit_code(signal))),
        };
        let staged = catalog.stage()?;
        self.copy_base(&staged.disk())?;
        let work = staged.dir().join("work");
        let host = Host::look();
        let packages = self.changes();
        let parts = Parts { recipe: &self.recipe, packages: &packages, host: &host, in_vm: false };
        parts.write(&work)?;
        fs::write(work.join("preview"), "")?;
        let root = staged.dir().join("root");
        go_on()?;
        let mounted = Mounted::open(&setup.options.program, &staged.disk(), &root, &work)?;
        for step in [Step::Prepare, Step::Packages] {
            let ended = step::run(mounted.step(step, &host), |_| (), &asked)?;
            go_on()?;
            if let Ended::Badly { status, last } = ended {
                let why = if last.is_empty() { format!("apt ended with {status}") } else { last };
                let what = format!("cannot tell what {} would get", self.name);
                return Err(Problem::new(what, why, "correct the package manifest").into());
            }
        }
        Ok(Preview::read(&work))
    }

    /// The plain difference, without what packages depend on.
    fn plain(&self, catalog: &Catalog) -> Preview {
        match &self.fetched {
            Some(words) => Preview::plain(&words.join("\n"), &[]),
            None => Preview::plain(&self.changes(), &self.installed(catalog)),
        }
    }

    /// What is installed in the base; nothing if that has no dpkg.
    fn installed(&self, catalog: &Catalog) -> Vec<String> {
        // One of the runtime directory's may have the name of another that took its place.
        let known = match self.base.view().origin {
            ImageOrigin::Bundle => None,
            _ => catalog.metadata(&self.recipe.base).map(|metadata| metadata.packages),
        };
        known
            .filter(|packages| !packages.is_empty())
            .unwrap_or_else(|| installed_in(self.base.path().to_owned()))
    }
}

/// What dpkg has installed in an image: “name version”. Nothing, if there is no dpkg in it.
fn installed_in(disk: PathBuf) -> Vec<String> {
    // Debian keeps it in a directory that only root has in its PATH.
    let program = ["/usr/sbin/debugfs", "/sbin/debugfs"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .unwrap_or("debugfs");
    let run = Command::new(program).args(["-R", "cat /var/lib/dpkg/status"]).arg(disk).output();
    let status = run.map(|run| String::from_utf8_lossy(&run.stdout).into_owned());
    let status = status.unwrap_or_default();
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let installed = |paragraph: &str| {
        let is = field(paragraph, "Status:")?.ends_with(" installed");
        let name = field(paragraph, "Package:")?;
        is.then_some(format!("{name} {}", field(paragraph, "Version:")?))
    };
    status.split("\n\n").filter_map(installed).collect()
}
