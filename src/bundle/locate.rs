//! Where the runtime directory is. Nothing is guessed from the working directory.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::{BOOTSTRAP, RECORD_FILE};
use crate::domain::Problem;

/// The variable that names the runtime directory.
const VARIABLE: &str = "BANGER_RUNTIME_DIR";

/// What the configuration says about the runtime directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// `runtime_dir`.
    pub runtime_dir: Option<PathBuf>,
    /// `repo_root`, the old alias: the runtime directory is `runtime/` in it.
    pub repo_root: Option<PathBuf>,
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
    /// The checkout the program was built in.
    pub checkout: PathBuf,
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
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "set by BANGER_RUNTIME_DIR",
            Self::RuntimeDir => "runtime_dir in the configuration",
            Self::RepoRoot => "repo_root in the configuration",
            Self::Installed => "beside the installed program",
            Self::Checkout => "in the checkout banger was built in",
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
    /// A notice to show if it was named in a way that is going away.
    pub deprecated: Option<String>,
}

impl Places {
    /// The places of this process.
    #[must_use]
    pub fn of_this_process(configured: &Configured) -> Self {
        Self {
            variable: env::var_os(VARIABLE),
            configured: configured.clone(),
            exe: env::current_exe().ok(),
            checkout: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        }
    }

    /// What the user named. That is final: a wrong setting must not silently mean another place.
    fn named(&self) -> Result<Option<Located>, Problem> {
        let Configured { runtime_dir, repo_root } = &self.configured;
        let variable = self.variable.as_ref().filter(|v| !v.is_empty()).map(PathBuf::from);
        let (dir, origin) = match (variable, runtime_dir, repo_root) {
            (Some(dir), _, _) => (dir, Origin::Variable),
            (None, Some(dir), _) => (dir.clone(), Origin::RuntimeDir),
            (None, None, Some(root)) => (root.join("runtime"), Origin::RepoRoot),
            (None, None, None) => return Ok(None),
        };
        if dir.is_relative() {
            return Err(Problem::new(
                "cannot tell where the runtime directory is",
                format!("{} is a relative path ({origin})", dir.display()),
                "write it as an absolute path: machines outlive the directory you are in",
            ));
        }
        let deprecated = (origin == Origin::RepoRoot).then(|| {
            format!("repo_root is an old name: write runtime_dir = \"{}\" instead", dir.display())
        });
        Ok(Some(Located { dir, origin, deprecated }))
    }

    /// Where to look if the user named nothing, best first.
    fn usual(&self) -> Vec<Located> {
        let installed = self.exe.as_ref().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
        let installed = installed.map(|prefix| (prefix.join("lib/banger"), Origin::Installed));
        let checkout = (self.checkout.join("runtime"), Origin::Checkout);
        let located = |(dir, origin)| Located { dir, origin, deprecated: None };
        installed.into_iter().chain([checkout]).map(located).collect()
    }
}

/// Finds the runtime directory; `has_record` says whether a directory holds a `bundle.json`.
///
/// # Errors
/// When there is none: names all places looked at and the command that makes one.
pub fn resolve(places: &Places, has_record: impl Fn(&Path) -> bool) -> Result<Located, Problem> {
    let named = places.named()?;
    let final_word = named.is_some();
    let candidates = named.map_or_else(|| places.usual(), |one| vec![one]);
    if let Some(found) = candidates.iter().find(|c| has_record(&c.dir)) {
        return Ok(found.clone());
    }
    let looked: Vec<String> =
        candidates.iter().map(|c| format!("{} ({})", c.dir.display(), c.origin)).collect();
    let only = if final_word { ", and nowhere else as it was named" } else { "" };
    Err(Problem::new(
        "there is no runtime directory: no kernel and no images",
        format!("no {RECORD_FILE} in {}{only}", looked.join(", nor in ")),
        format!("run `{BOOTSTRAP}` to make one"),
    ))
}

/// Finds the runtime directory of this process.
///
/// # Errors
/// As [`resolve`].
pub fn locate(configured: &Configured) -> Result<Located, Problem> {
    resolve(&Places::of_this_process(configured), |dir| dir.join(RECORD_FILE).is_file())
}

/// Where a bootstrap is to make the runtime directory: where there is one, else what the user
/// named, else the checkout if it still is one, else beside the installed program.
///
/// # Errors
/// When the user named a place that cannot be used.
pub fn target(places: &Places, is_there: impl Fn(&Path) -> bool) -> Result<Located, Problem> {
    if let Some(named) = places.named()? {
        return Ok(named);
    }
    let mut usual = places.usual();
    let best = usual
        .iter()
        .position(|c| is_there(&c.dir.join(RECORD_FILE)))
        .or_else(|| is_there(&places.checkout.join("Cargo.toml")).then(|| usual.len() - 1))
        .unwrap_or(0);
    Ok(usual.swap_remove(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variable: bool, runtime_dir: bool, repo_root: bool, exe: bool) -> Places {
        Places {
            variable: variable.then(|| "/var".into()),
            configured: Configured {
                runtime_dir: runtime_dir.then(|| "/conf".into()),
                repo_root: repo_root.then(|| "/repo".into()),
            },
            exe: exe.then(|| "/usr/bin/banger".into()),
            checkout: "/src".into(),
        }
    }

    /// All 16 settings times all 32 sets of directories that are there.
    #[test]
    fn every_combination_gives_the_first_in_order() {
        let dirs = ["/var", "/conf", "/repo/runtime", "/usr/lib/banger", "/src/runtime"];
        let origins = [
            Origin::Variable,
            Origin::RuntimeDir,
            Origin::RepoRoot,
            Origin::Installed,
            Origin::Checkout,
        ];
        for settings in 0..16_u32 {
            let set = |bit: usize| bit == 4 || settings >> bit & 1 == 1;
            let places = places(set(0), set(1), set(2), set(3));
            for there in 0..32_u32 {
                let has = |dir: &Path| {
                    dirs.iter()
                        .position(|d| dir == Path::new(d))
                        .is_some_and(|i| there >> i & 1 == 1)
                };
                // The first named one is final; else the first usual one that is there.
                let named = (0..3).find(|&i| set(i));
                let expected = match named {
                    Some(i) => has(Path::new(dirs[i])).then_some(i),
                    None => (3..5).find(|&i| set(i) && has(Path::new(dirs[i]))),
                };
                let got = resolve(&places, has);
                match (expected, got) {
                    (Some(i), Ok(located)) => {
                        assert_eq!(
                            (located.dir.as_path(), located.origin),
                            (Path::new(dirs[i]), origins[i])
                        );
                        assert_eq!(located.deprecated.is_some(), i == 2);
                    }
                    (None, Err(problem)) => {
                        let looked: Vec<usize> = match named {
                            Some(i) => vec![i],
                            None => (3..5).filter(|&i| set(i)).collect(),
                        };
                        for (i, dir) in dirs.iter().enumerate() {
                            assert_eq!(problem.why.contains(dir), looked.contains(&i), "{problem}");
                        }
                        assert!(problem.hint.contains("banger runtime bootstrap"), "{problem}");
                    }
                    (expected, got) => panic!("{places:?} {there:b}: {expected:?} {got:?}"),
                }
            }
        }
    }

    #[test]
    fn an_empty_variable_is_not_set_and_a_relative_one_is_refused() {
        let mut p = places(true, false, false, false);
        p.variable = Some("".into());
        assert_eq!(resolve(&p, |_| true).unwrap().origin, Origin::Checkout);
        p.variable = Some("./runtime".into());
        let problem = resolve(&p, |_| true).unwrap_err();
        assert!(problem.why.contains("relative"), "{problem}");
        assert!(target(&p, |_| true).is_err());
    }

    #[test]
    fn a_bootstrap_goes_where_there_is_one_then_to_the_checkout_then_beside_the_program() {
        let p = places(false, false, false, true);
        let at = |there: &[&str]| {
            target(&p, |path| there.iter().any(|t| path == Path::new(t))).unwrap().dir
        };
        assert_eq!(
            at(&["/usr/lib/banger/bundle.json", "/src/Cargo.toml"]),
            Path::new("/usr/lib/banger")
        );
        assert_eq!(at(&["/src/Cargo.toml"]), Path::new("/src/runtime"));
        assert_eq!(at(&[]), Path::new("/usr/lib/banger"));
        let named = target(&places(true, true, true, true), |_| false).unwrap();
        assert_eq!(named.dir, Path::new("/var"));
    }
}
