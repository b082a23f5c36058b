//! Where settings come from.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::domain::Problem;

/// A configuration file larger than this is a mistake, such as a link to a disk image.
const LARGEST_FILE: u64 = 1 << 20;

/// Everything that the settings depend on; made by hand in tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// `$XDG_CONFIG_HOME/banger`: `config.toml`, `keymap.toml`, `themes/`. It need not exist.
    pub dir: PathBuf,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The user's home, for paths that begin with `~/`.
    pub home: Option<PathBuf>,
}

impl Sources {
    /// Those of this process.
    ///
    /// # Errors
    /// If neither `XDG_CONFIG_HOME` nor `HOME` says where configuration lies.
    pub fn of_this_process() -> Result<Self, Problem> {
        let base = directories::BaseDirs::new().ok_or_else(|| {
            Problem::new(
                "cannot tell where the configuration is",
                "there is no home directory: HOME is not set",
                "set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME",
            )
        })?;
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Ok(Self {
            dir: base.config_dir().join("banger"),
            env: env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            home: Some(base.home_dir().to_owned()),
        })
    }

    /// Where the user's package manifests are: `<image>.txt`. It need not exist.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.dir.join("packages")
    }

    /// A variable; set to nothing counts as not set.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The text of a file of [`Self::dir`]; `None` if there is no such file.
    pub(super) fn read(&self, path: &Path) -> Result<Option<String>, Problem> {
        let wrong = |why: String| {
            let hint = format!("correct or remove {}", path.display());
            Problem::new(format!("cannot read {}", path.display()), why, hint)
        };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
            Ok(meta) if !meta.is_file() => return Err(wrong("it is not a file".to_owned())),
            Ok(meta) if meta.len() > LARGEST_FILE => {
                return Err(wrong(format!("it has {} bytes, and 1 MiB is the most", meta.len())));
            }
            Ok(_) => {}
        }
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(wrong("it is no UTF-8 text".to_owned()))
            }
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}
