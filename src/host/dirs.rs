//! Where everything of the user's lies, and whether it can lie there.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Component, Path, PathBuf},
};

use directories::ProjectDirs;
use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, User, faccessat, geteuid},
};
use sha2::{Digest, Sha256};

use crate::domain::{Layout, Problem, SOCKET_PATH_MAX, VmId};

/// What the environment says about directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    /// `BANGER_STATE_DIR`; empty counts as unset, here and below.
    pub banger_state_dir: Option<OsString>,
    /// banger's directory below `XDG_STATE_HOME`, or below its default in the home directory.
    pub xdg_state: Option<PathBuf>,
    /// Where it is for a user who sets none of these, by the user database alone.
    pub usual_state: Option<PathBuf>,
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
            // Whoever is not in there has no usual place: one with a name of its own is as good.
            usual_state: User::from_uid(geteuid())
                .ok()
                .flatten()
                .map(|user| user.dir.join(".local/state/banger")),
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

/// The layout that an environment asks for. Follows links, and touches nothing.
///
/// A user may have several homes at once, and each has locks and sockets of its own: that of the
/// user database in `banger`, below `XDG_RUNTIME_DIR` or `/run`, any other beside it in `banger-` and
/// eight hex digits, which follow from where its state is, however that path is written.
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
    let name = || run_name(&state, env.usual_state.as_deref());
    let run = match &env.xdg_runtime_dir {
        Some(dir) => absolute("XDG_RUNTIME_DIR", dir)?.join(name()),
        None if env.root => Path::new("/run").join(name()),
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

/// What a home's directory of sockets is called among those of its user.
fn run_name(state: &Path, usual: Option<&Path>) -> String {
    let state = followed(state);
    if usual.is_some_and(|usual| followed(usual) == state) {
        return "banger".to_owned();
    }
    let sum = Sha256::digest(state.as_os_str().as_bytes());
    let digits: String = sum.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("banger-{digits}")
}

/// A path as it is once all links are followed. What of it is not there yet will be directories:
/// making them changes nothing of this.
fn followed(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|dir| Some((dir, dir.canonicalize().ok()?)));
    let Some((dir, mut followed)) = there else { return path.to_owned() };
    for part in path.strip_prefix(dir).into_iter().flat_map(Path::components) {
        match part {
            Component::ParentDir => drop(followed.pop()),
            part => followed.push(part),
        }
    }
    followed
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
            usual_state: Some("/home/u/.local/state/banger".into()),
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
        // The digits are what `printf /s | sha256sum` begins with.
        assert_eq!(of(&env("/s", "/r")), ("/s".into(), "/r/banger-8e295f31".into()));
        assert_eq!(of(&env("/s", "")), ("/s".into(), "/s/run".into()));
        let root = Env { root: true, ..env("", "") };
        assert_eq!(of(&root), (home, "/run/banger".into()));
        let root = Env { root: true, ..env("", "/x") };
        assert_eq!(of(&root).1, "/x/banger");
        let root = Env { root: true, ..env("/s", "") };
        assert_eq!(of(&root).1, "/run/banger-8e295f31");
    }

    #[test]
    fn other_homes_of_a_user_have_sockets_of_their_own() {
        let run = |env: Env| resolve(&env).expect("layout").run;
        let usual = run(env("", "/r"));
        assert_eq!(run(env("/home/u/.local/state/banger/", "/r")), usual);
        // HOME or XDG_STATE_HOME are set for once, or nobody knows the user.
        let elsewhere = Some(PathBuf::from("/tmp/x/.local/state/banger"));
        let other = run(Env { xdg_state: elsewhere.clone(), ..env("", "/r") });
        let unknown = run(Env { usual_state: None, ..env("", "/r") });
        assert_eq!(other, run(env("/tmp/x/.local/state/banger", "/r")));
        assert!(other != usual && unknown != usual && other != unknown);
        assert_eq!(
            run(Env { xdg_state: elsewhere.clone(), usual_state: elsewhere, ..env("", "/r") }),
            usual
        );
    }

    #[test]
    fn a_home_has_the_same_sockets_however_its_path_is_written_and_before_it_is_made() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().expect("temp");
        let at = |path: &str| dir.path().join(path).display().to_string();
        let run = |path: &str| resolve(&env(&at(path), "/r")).expect("layout").run;
        fs::create_dir(at("disk")).expect("dir");
        symlink(at("disk"), at("link")).expect("link");
        let ways = [
            "disk/a/b",
            "link/a/b",
            "disk/a/b/",
            "disk/./a//b",
            "link/../disk/a/b",
            "disk/a/c/../b",
        ];
        let before = ways.map(run);
        assert!(before.iter().all(|run| *run == before[0]), "{before:?}");
        assert_ne!(run("disk/a"), before[0]);
        fs::create_dir_all(at("disk/a/c")).expect("dirs");
        fs::create_dir_all(at("disk/a/b")).expect("dirs");
        symlink(at("link/a/b"), at("far")).expect("link");
        assert_eq!(ways.map(run), before);
        assert_eq!(run("far"), before[0]);
        // The usual place may be a link to another disk, and be named by where that leads.
        let usual = Env { usual_state: Some(at("far").into()), ..env(&at("disk/a/b"), "/r") };
        assert_eq!(resolve(&usual).expect("layout").run, Path::new("/r/banger"));
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
        // DIR/banger/<8>/monitor.sock, or DIR/banger-<8>/<8>/monitor.sock
        for (state, run) in [("", "/banger"), ("/s", "/banger-00000000")] {
            let rest = format!("{run}/00000000/monitor.sock").len();
            let dir = |n: usize| format!("/{}", "x".repeat(n - rest - 1));
            resolve(&env(state, &dir(107))).expect("fits");
            assert!(resolve(&env(state, &dir(108))).is_err());
        }
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
