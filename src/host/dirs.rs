//! Where everything of the user's lies, and whether it can lie there.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use directories::ProjectDirs;
use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat, geteuid},
};

use crate::domain::{Layout, Problem, SOCKET_PATH_MAX, VmId};

/// What the environment says about directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// `BANGER_STATE_DIR`; empty counts as unset, here and below.
    pub banger_state_dir: Option<OsString>,
    /// banger's directory below `XDG_STATE_HOME`, or below its default in the home directory.
    pub xdg_state: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<OsString>,
    /// Whether we are root.
    pub root: bool,
}

impl Env {
    /// As it is.
    #[must_use]
    pub fn current() -> Self {
        let var = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            banger_state_dir: var("BANGER_STATE_DIR"),
            xdg_state: ProjectDirs::from("", "", "banger")
                .and_then(|dirs| dirs.state_dir().map(Path::to_owned)),
            xdg_runtime_dir: var("XDG_RUNTIME_DIR"),
            root: geteuid().is_root(),
        }
    }
}

/// The layout for the environment as it is, with its directories made and checked.
///
/// # Errors
/// As [`resolve`] and [`prepare`].
pub fn layout() -> Result<Layout, Problem> {
    let layout = resolve(&Env::current())?;
    prepare(&layout)?;
    Ok(layout)
}

/// The layout that an environment asks for. Touches nothing.
///
/// # Errors
/// If there is no home directory, a path is relative, or sockets would not fit.
pub fn resolve(env: &Env) -> Result<Layout, Problem> {
    let state = match (&env.banger_state_dir, &env.xdg_state) {
        (Some(dir), _) => absolute("BANGER_STATE_DIR", dir)?,
        (None, Some(dir)) => dir.clone(),
        (None, None) => {
            return Err(Problem::new(
                "cannot tell where to keep VMs",
                "there is no home directory",
                "set HOME, or BANGER_STATE_DIR to a directory of yours",
            ));
        }
    };
    let run = match &env.xdg_runtime_dir {
        Some(dir) => absolute("XDG_RUNTIME_DIR", dir)?.join("banger"),
        None if env.root => PathBuf::from("/run/banger"),
        None => state.join("run"),
    };
    let layout = Layout { state, run };
    // Every id is as long as this one.
    let paths = layout.vm(&VmId::from_bytes([0; 4]));
    let longest = [paths.monitor_socket(), paths.vmm_socket()]
        .iter()
        .map(|path| path.as_os_str().as_bytes().len())
        .max()
        .unwrap_or(0);
    if longest > SOCKET_PATH_MAX {
        let run = layout.run.display();
        return Err(Problem::new(
            format!("cannot use {run} for sockets"),
            format!(
                "their paths would have {longest} bytes, and the kernel takes {SOCKET_PATH_MAX}"
            ),
            "set XDG_RUNTIME_DIR to a shorter directory of yours, such as /tmp/b",
        ));
    }
    Ok(layout)
}

fn absolute(name: &str, value: &OsString) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Problem::new(
        format!("cannot use {name}={}", path.display()),
        "it is a relative path, and the monitors of VMs run elsewhere",
        format!("set {name} to a path that begins with /"),
    ))
}

/// Makes the directories of a layout (mode 0700) and checks that they are ours alone and that
/// we can write there.
///
/// # Errors
/// A directory that cannot be made or written, belongs to somebody else, or is open to others.
pub fn prepare(layout: &Layout) -> Result<(), Problem> {
    prepare_dir("the state directory", "BANGER_STATE_DIR", &layout.state)?;
    prepare_dir("the runtime directory", "XDG_RUNTIME_DIR", &layout.run)
}

fn prepare_dir(what: &str, variable: &str, dir: &Path) -> Result<(), Problem> {
    let failed = |why: String, hint: String| {
        Err(Problem::new(format!("cannot use {what} {}", dir.display()), why, hint))
    };
    let io_failed = |error: io::Error| {
        Problem::new(
            format!("cannot use {what} {}", dir.display()),
            explain(&error),
            hint(&error, variable),
        )
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_failed)?;
    let stat = fs::metadata(dir).map_err(io_failed)?;
    if stat.uid() != geteuid().as_raw() {
        let why = format!("it belongs to the user {} and we are {}", stat.uid(), geteuid());
        return failed(why, format!("set {variable} to a directory of yours"));
    }
    if stat.permissions().mode() & 0o022 != 0 {
        let mode = stat.permissions().mode() & 0o7777;
        let why = format!("others may write there (mode {mode:o})");
        return failed(why, format!("chmod go-w {}, if the files in it are yours", dir.display()));
    }
    let may = faccessat(AT_FDCWD, dir, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS);
    may.map_err(|errno| io_failed(errno.into()))
}

/// The problem for a file operation that failed: what was to be done, why it was not, and what
/// to do about a full or read-only file system and missing permissions.
pub fn io_problem(what: impl Into<String>, error: &io::Error) -> Problem {
    Problem::new(what, explain(error), hint(error, "BANGER_STATE_DIR"))
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the file system is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        io::ErrorKind::PermissionDenied => "we may not write there".to_owned(),
        io::ErrorKind::NotADirectory => "a part of the path is no directory".to_owned(),
        io::ErrorKind::AlreadyExists => "there is a file of that name".to_owned(),
        _ => error.to_string(),
    }
}

fn hint(error: &io::Error, variable: &str) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free some space, or set {variable} to a directory on another disk")
        }
        _ => format!("set {variable} to a directory that you can write to"),
    }
}
