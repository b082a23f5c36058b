//! Where the runtime directory is. Nothing is guessed from the working directory.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use directories::BaseDirs;
use nix::unistd::geteuid;

use super::{BOOTSTRAP, RECORD_FILE, place};
use crate::domain::Problem;

/// The variable that names the runtime directory.
const VARIABLE: &str = "BANGER_RUNTIME_DIR";

/// What the configuration says about the runtime directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// `runtime_dir`.
    pub runtime_dir: Option<PathBuf>,
    /// Whether it was named by the old alias `repo_root`, the directory above it.
    pub by_repo_root: bool,
}

/// Everything the answer depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// `BANGER_RUNTIME_DIR`; empty counts as not set.
    pub variable: Option<OsString>,
    /// The configuration.
    pub configured: Configured,
    /// The running program, symbolic links resolved.
    pub exe: Option<PathBuf>,
    /// The checkout the program was built in, while it is one and may be trusted.
    pub checkout: Option<PathBuf>,
    /// Where programs keep data of this user's: `XDG_DATA_HOME`, or its default.
    pub data: Option<PathBuf>,
}

/// Who named the runtime directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `BANGER_RUNTIME_DIR`.
    Variable,
    /// `runtime_dir` in the configuration.
    RuntimeDir,
    /// `repo_root` in the configuration.
    RepoRoot,
    /// `../lib/banger` beside the program.
    Installed,
    /// `./runtime` of the checkout the program was built in.
    Checkout,
    /// `banger/runtime` in the user's own data: for those who may not write where banger is
    /// installed.
    User,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "set by BANGER_RUNTIME_DIR",
            Self::RuntimeDir => "runtime_dir in the configuration",
            Self::RepoRoot => "repo_root in the configuration",
            Self::Installed => "beside the installed program",
            Self::Checkout => "in the checkout banger was built in",
            Self::User => "your own",
        })
    }
}

/// A runtime directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where it is; absolute.
    pub dir: PathBuf,
    /// Who named it.
    pub origin: Origin,
}

/// How places are looked at; made by hand in tests.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Whether a directory holds a `bundle.json`, or one cannot tell.
    pub has_record: &'a dyn Fn(&Path) -> bool,
    /// Whether we may write to a directory, or make it.
    pub may_write: &'a dyn Fn(&Path) -> bool,
}

impl Look<'_> {
    /// At the file system.
    pub const REAL: Look<'static> =
        Look { has_record: &has_record, may_write: &|dir| place::writable(dir).is_ok() };
}

/// One that cannot be looked at counts: passing it over in silence could mean another kernel and
/// other images than the user's. Reading it says what is wrong.
fn has_record(dir: &Path) -> bool {
    match fs::metadata(dir.join(RECORD_FILE)) {
        Ok(_) => true,
        Err(e) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// The checkout a program was built in, if it is still one. What lies in it is run with the
/// rights of whoever runs banger, so it must belong to root, to that user, or to the owner of
/// the program itself.
fn checkout(built_in: &Path, exe: Option<&Path>) -> Option<PathBuf> {
    let owner = fs::metadata(built_in.join("Cargo.toml")).ok()?.uid();
    let of_program = exe.and_then(|exe| fs::metadata(exe).ok()).map(|meta| meta.uid());
    let trusted = owner == 0 || owner == geteuid().as_raw() || Some(owner) == of_program;
    trusted.then(|| built_in.to_owned())
}

impl Places {
    /// The places of this process.
    #[must_use]
    pub fn of_this_process(configured: &Configured) -> Self {
        let base = BaseDirs::new();
        let exe = env::current_exe().ok();
        let home = base.as_ref().map(BaseDirs::home_dir);
        Self {
            variable: env::var_os(VARIABLE).map(|value| from_home(value, home)),
            configured: configured.clone(),
            checkout: checkout(Path::new(env!("CARGO_MANIFEST_DIR")), exe.as_deref()),
            exe,
            data: base.as_ref().map(|base| base.data_dir().to_owned()),
        }
    }

    /// What the user named. That is final: a wrong setting must not silently mean another place.
    fn named(&self) -> Result<Option<Located>, Problem> {
        let Configured { runtime_dir, by_repo_root } = &self.configured;
        let variable = self.variable.as_ref().filter(|v| !v.is_empty()).map(PathBuf::from);
        let (dir, origin) = match (variable, runtime_dir, by_repo_root) {
            (Some(dir), _, _) => (dir, Origin::Variable),
            (None, Some(dir), false) => (dir.clone(), Origin::RuntimeDir),
            (None, Some(dir), true) => (dir.clone(), Origin::RepoRoot),
            (None, None, _) => return Ok(None),
        };
        if dir.is_relative() {
            return Err(Problem::new(
                "cannot tell where the runtime directory is",
                format!("{} is a relative path ({origin})", dir.display()),
                "write it as an absolute path: machines outlive the directory you are in",
            ));
        }
        Ok(Some(Located { dir, origin }))
    }

    fn installed(&self) -> Option<Located> {
        let prefix = self.exe.as_ref()?.parent()?.parent()?;
        Some(Located { dir: prefix.join("lib/banger"), origin: Origin::Installed })
    }

    fn in_checkout(&self) -> Option<Located> {
        let dir = self.checkout.as_ref()?.join("runtime");
        Some(Located { dir, origin: Origin::Checkout })
    }

    fn of_user(&self) -> Option<Located> {
        let dir = self.data.as_ref()?.join("banger/runtime");
        Some(Located { dir, origin: Origin::User })
    }

    /// Where to look if the user named nothing, best first.
    fn usual(&self) -> Vec<Located> {
        [self.installed(), self.in_checkout(), self.of_user()].into_iter().flatten().collect()
    }
}

/// `~/` as the configuration has it: a variable that was set without a shell.
fn from_home(value: OsString, home: Option<&Path>) -> OsString {
    match (value.to_str().and_then(|text| text.strip_prefix("~/")), home) {
        (Some(rest), Some(home)) => home.join(rest).into(),
        _ => value,
    }
}

/// Finds the runtime directory.
///
/// # Errors
/// When there is none: names all places looked at and the command that makes one.
pub fn resolve(places: &Places, look: Look<'_>) -> Result<Located, Problem> {
    let named = places.named()?;
    let final_word = named.is_some();
    let candidates = named.map_or_else(|| places.usual(), |one| vec![one]);
    if let Some(found) = candidates.iter().find(|c| (look.has_record)(&c.dir)) {
        return Ok(found.clone());
    }
    let looked: Vec<String> =
        candidates.iter().map(|c| format!("{} ({})", c.dir.display(), c.origin)).collect();
    let only = if final_word { ", and nowhere else as it was named" } else { "" };
    Err(Problem::new(
        "there is no runtime directory: no kernel and no images",
        format!("no {RECORD_FILE} in {}{only}", looked.join(", nor in ")),
        how_to_make(places, look)?,
    ))
}

/// The command that makes one, and where it does.
fn how_to_make(places: &Places, look: Look<'_>) -> Result<String, Problem> {
    let made = target(places, look)?;
    let dir = made.dir.display();
    if !(look.may_write)(&made.dir) {
        return Ok(place::make_elsewhere(&made.dir));
    }
    let here = format!("run `{BOOTSTRAP}` to make one in {dir}");
    match places.installed() {
        // Not from a directory of builds, which nobody else uses.
        Some(all) if made.origin == Origin::User => {
            Ok(format!("{here}, for you; {}", place::for_all(&all.dir)))
        }
        _ => Ok(here),
    }
}

/// Finds the runtime directory of this process.
///
/// # Errors
/// As [`resolve`].
pub fn locate(configured: &Configured) -> Result<Located, Problem> {
    resolve(&Places::of_this_process(configured), Look::REAL)
}

/// Where a bootstrap is to make the runtime directory: what the user named, else where there is
/// one, else in the checkout or beside the installed program, whichever of the two we may write to
/// first, else in the user's own data.
///
/// # Errors
/// When the user named a place that cannot be used, or there is no place at all.
pub fn target(places: &Places, look: Look<'_>) -> Result<Located, Problem> {
    if let Some(named) = places.named()? {
        return Ok(named);
    }
    let there = places.usual().into_iter().find(|c| (look.has_record)(&c.dir));
    let may = |c: &Located| (look.may_write)(&c.dir);
    let (installed, in_checkout) = (places.installed(), places.in_checkout());
    there
        .or_else(|| in_checkout.clone().filter(may))
        .or_else(|| installed.clone().filter(may))
        .or_else(|| places.of_user())
        .or(installed)
        .or(in_checkout)
        .ok_or_else(|| {
            Problem::new(
                "cannot tell where to make the runtime directory",
                "there is no home directory",
                format!("set {VARIABLE} to a directory of yours"),
            )
        })
}

#[cfg(test)]
mod tests;
