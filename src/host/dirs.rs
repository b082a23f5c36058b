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

#[cfg(test)]
mod tests {
    use super::*;

    fn env(state: &str, runtime: &str) -> Env {
        let some = |text: &str| (!text.is_empty()).then(|| OsString::from(text));
        Env {
            banger_state_dir: some(state),
            xdg_state: Some("/home/u/.local/state/banger".into()),
            xdg_runtime_dir: some(runtime),
            root: false,
        }
    }

    fn layout_of(env: &Env) -> (String, String) {
        let layout = resolve(env).expect("layout");
        (layout.state.display().to_string(), layout.run.display().to_string())
    }

    #[test]
    fn the_environment_says_where() {
        let of = |env: &Env| layout_of(env);
        let home = "/home/u/.local/state/banger".to_owned();
        assert_eq!(of(&env("", "/run/user/7")), (home.clone(), "/run/user/7/banger".into()));
        assert_eq!(of(&env("/s", "/run/user/7")), ("/s".into(), "/run/user/7/banger".into()));
        assert_eq!(of(&env("/s", "")), ("/s".into(), "/s/run".into()));
        let root = Env { root: true, ..env("", "") };
        assert_eq!(of(&root), (home, "/run/banger".into()));
        let root = Env { root: true, ..env("", "/x") };
        assert_eq!(of(&root).1, "/x/banger");
    }

    #[test]
    fn what_cannot_be_used_is_told_with_the_next_step() {
        let problem = resolve(&Env { xdg_state: None, ..env("", "/r") }).expect_err("no home");
        assert!(problem.hint.contains("HOME"), "{problem}");
        let problem = resolve(&env("vms", "/r")).expect_err("relative");
        assert!(problem.what.contains("BANGER_STATE_DIR=vms"), "{problem}");
        let problem = resolve(&env("/s", "run")).expect_err("relative");
        assert!(problem.what.contains("XDG_RUNTIME_DIR=run"), "{problem}");
        let long = format!("/{}", "x".repeat(200));
        let problem = resolve(&env(&long, "")).expect_err("sockets do not fit");
        assert!(problem.why.contains("107") && problem.hint.contains("XDG_RUNTIME_DIR"));
        resolve(&env(&long, "/run/user/7")).expect("a long state directory is no problem");
    }

    #[test]
    fn a_socket_path_may_have_107_bytes_and_not_one_more() {
        // DIR/banger/<8>/monitor.sock
        let rest = "/banger/00000000/monitor.sock".len();
        let dir = |n: usize| format!("/{}", "x".repeat(n - rest - 1));
        resolve(&env("/s", &dir(107))).expect("fits");
        assert!(resolve(&env("/s", &dir(108))).is_err());
    }

    #[test]
    fn directories_are_made_for_us_alone() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = Layout { state: dir.path().join("a/state"), run: dir.path().join("run") };
        prepare(&layout).expect("made");
        prepare(&layout).expect("again");
        for path in [&layout.state, &layout.run] {
            assert_eq!(fs::metadata(path).expect("dir").mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("temp");
        let state = dir.path().join("shared");
        fs::create_dir(&state).expect("dir");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).expect("chmod");
        let layout = Layout { state: state.clone(), run: dir.path().join("run") };
        let problem = prepare(&layout).expect_err("open to all");
        assert!(problem.why.contains("others may write"), "{problem}");
        assert!(problem.hint.contains("chmod"), "{problem}");
        assert_eq!(fs::metadata(&state).expect("dir").mode() & 0o777, 0o777);
    }

    #[test]
    fn somebody_elses_directory_is_refused() {
        let dir = tempfile::tempdir().expect("temp");
        let state = dir.path().join("theirs");
        fs::create_dir(&state).expect("dir");
        if !geteuid().is_root() {
            return; // only root can give a directory away
        }
        nix::unistd::chown(&state, Some(nix::unistd::Uid::from_raw(12345)), None).expect("chown");
        let problem = prepare(&Layout { state, run: dir.path().join("run") }).expect_err("theirs");
        assert!(problem.why.contains("12345"), "{problem}");
    }

    #[test]
    fn a_file_in_the_way_and_the_usual_failures_are_explained() {
        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("file");
        let run = dir.path().join("run");
        let problem = prepare(&Layout { state: file.join("state"), run }).expect_err("a file");
        assert!(problem.why.contains("no directory"), "{problem}");
        for (errno, why, hint) in [
            (nix::libc::ENOSPC, "full", "free some space"),
            (nix::libc::EROFS, "read-only", "BANGER_STATE_DIR"),
            (nix::libc::EACCES, "may not write", "BANGER_STATE_DIR"),
        ] {
            let problem = io_problem("cannot save", &io::Error::from_raw_os_error(errno));
            assert!(problem.why.contains(why) && problem.hint.contains(hint), "{problem}");
        }
    }
}
