//! An installed banger: it works without the checkout, from a read-only prefix, as any user; it
//! finds its runtime directory wherever that may be; and it can be removed without a trace.

mod common;

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use common::{Home, Load, in_own_mounts, runtime_dir, skip};
use nix::unistd::{Uid, User, geteuid};
use serde_json::{Value, json};

const BANGER: &str = env!("CARGO_BIN_EXE_banger");
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// The directory of the binary under test: `debug`, or whatever it was built as.
fn built() -> &'static Path {
    Path::new(BANGER).parent().expect("a directory")
}

/// The guest's init as `make init` left it, or one that is only a file.
fn init() -> PathBuf {
    built().join("banger-init")
}

/// `make` with these variables, of what is built.
fn make(target: &str, variables: &[(&str, &str)]) -> Output {
    let mut make = Command::new("make");
    make.args(["--no-print-directory", "-C", CHECKOUT, target, "BUILD=no"]);
    for (name, value) in variables {
        make.arg(format!("{name}={value}"));
    }
    make.env("CARGO_TARGET_DIR", built().parent().expect("a directory"));
    make.env("PROFILE", built().file_name().expect("a name"));
    // What a `make test` above passes on.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
        make.env_remove(name);
    }
    make.output().expect("make runs")
}

#[track_caller]
fn good(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Every path below a directory, with kind and permissions.
fn tree(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("its kind");
            found.insert(format!("{} {:o}", path.display(), meta.mode()));
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

/// A runtime directory with the image `tiny` alone, as a checked copy need not be larger.
fn small_runtime(to: &Path) {
    let from = runtime_dir();
    let text = fs::read_to_string(from.join("bundle.json")).expect("a record");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    let wanted = |name: &str| !name.starts_with("images/") || name == "images/tiny.img";
    record["files"].as_object_mut().expect("files").retain(|name, _| wanted(name));
    record["images"].as_object_mut().expect("images").retain(|name, _| name == "tiny");
    for name in record["files"].as_object().expect("files").keys() {
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        let mut cp = Command::new("cp");
        cp.args(["--reflink=auto", "--sparse=always"]).arg(from.join(name)).arg(path);
        good(&cp.output().expect("cp runs"));
    }
    fs::write(to.join("bundle.json"), record.to_string()).expect("a record");
}

/// Gives a tree to a user.
fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("given");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), uid);
        }
    }
}

#[test]
fn an_installed_banger_runs_vms_for_any_user_from_a_read_only_prefix_without_the_checkout() {
    let test =
        "an_installed_banger_runs_vms_for_any_user_from_a_read_only_prefix_without_the_checkout";
    if !geteuid().is_root() {
        return skip(test, "only root can mount, and become somebody else");
    }
    if !init().is_file() {
        return skip(test, "banger-init is not built; `make init` does it");
    }
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    // ssh wants a user who has a name.
    let named = |uid: u32| User::from_uid(Uid::from_raw(uid)).is_ok_and(|user| user.is_some());
    let uid = if named(1000) { 1000 } else { 65534 };

    let dir = tempfile::Builder::new().prefix("bgr-install").tempdir().expect("a directory");
    let (source, root) = (dir.path().join("rt"), dir.path().join("root"));
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("mode");
    small_runtime(&source);
    fs::create_dir_all(root.join("opt/other/bin")).expect("a directory");
    let before = tree(&root);
    let at = [("PREFIX", "/opt/banger"), ("DESTDIR", root.to_str().expect("UTF-8"))];
    let with = [("RUNTIME", source.to_str().expect("UTF-8"))];
    good(&make("install", &[at.as_slice(), &with].concat()));
    fs::remove_dir_all(&source).expect("gone");

    // Its places are the usual ones: nothing names them.
    home.set("BANGER_RUNTIME_DIR", "");
    home.set("PATH", &format!("/opt/banger/bin:{}", env::var("PATH").expect("PATH")));
    give(home.path(), uid);
    // What is built lies in the checkout, and is hidden with it, or elsewhere.
    let target = built().parent().expect("a directory");
    let mut hidden = vec![Path::new(CHECKOUT)];
    hidden.extend((!target.starts_with(CHECKOUT)).then_some(target));
    let hide: String =
        hidden.iter().map(|dir| format!("mount -t tmpfs tmpfs '{}'\n", dir.display())).collect();
    let script = format!(
        "mount -t tmpfs tmpfs /opt
         mkdir /opt/banger
         mount --bind '{}/opt/banger' /opt/banger
         mount -o remount,bind,ro /opt/banger
         {hide}",
        root.display()
    );
    let run = |lines: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", &format!("as() {{ setpriv --reuid {uid} --regid {uid} --clear-groups -- \"$@\"; }}\ncd /\n{lines}")]);
        shell.envs(home.variables().iter().cloned());
        home.run_with(in_own_mounts(&script, &shell), b"")
    };
    let said = run("! touch /opt/banger/x 2>/dev/null
        test ! -e Cargo.toml
        as banger --version
        as banger runtime verify
        as banger create web --image tiny --start --wait
        as banger ssh web -- 'echo $((6*7))-inside'
        as banger rm --yes --force web
        as banger ls --json");
    assert_eq!(said.code, Some(0), "{said:?}\n{}", home.report());
    assert!(said.out.contains("/opt/banger/lib/banger: all "), "{said:?}");
    assert!(said.out.contains("42-inside\n") && said.out.contains("web: removed"), "{said:?}");

    // A runtime directory that is damaged cannot be mended here, and that is said.
    let said = run("as banger runtime bootstrap 2>&1 || echo code=$?");
    assert!(said.out.contains("/opt/banger/lib/banger: "), "{said:?}");
    assert!(said.out.contains("set BANGER_RUNTIME_DIR to a directory of yours"), "{said:?}");
    assert!(said.out.contains("code=1"), "{said:?}");

    // Without one, a user's own is made and found.
    let own = home.path().join("h/.local/share/banger/runtime");
    let none = "mount -t tmpfs -o ro tmpfs /opt/banger/lib/banger\n";
    let said = run(&format!("{none}as banger runtime verify 2>&1 || echo code=$?"));
    let make_one = format!("run `banger runtime bootstrap` to make one in {}", own.display());
    assert!(said.out.contains(&make_one), "{said:?}");
    assert!(
        said.out.contains("/opt/banger/bin/banger runtime bootstrap --dir /opt/banger/lib/banger"),
        "{said:?}"
    );
    fake_runtime(&own);
    give(home.path(), uid);
    let said = run(&format!("{none}as banger runtime verify"));
    assert_eq!(said.out, format!("{}: all 1 files are as recorded\n", own.display()), "{said:?}");

    good(&make("uninstall", &at));
    assert_eq!(tree(&root), before);
}

#[test]
fn a_prefix_with_blanks_works_and_is_left_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("a root");
    let prefix = root.join("opt/my tools");
    fs::create_dir_all(prefix.join("share/man/man1")).expect("a directory");
    fs::write(prefix.join("share/man/man1/other.1"), "mine").expect("a file");
    let before = tree(&root);
    let at = [("PREFIX", "/opt/my tools"), ("DESTDIR", root.to_str().expect("UTF-8"))];
    if !init().is_file() {
        return skip(
            "a_prefix_with_blanks_works_and_is_left_as_it_was",
            "banger-init is not built",
        );
    }
    for _ in 0..2 {
        good(&make("install", &[at.as_slice(), &[("RUNTIME", "none")]].concat()));
    }
    let read = |path: &str| fs::read_to_string(prefix.join(path)).expect(path);
    let unit = read("lib/systemd/user/banger-restore.service");
    assert!(unit.contains("ExecStart=\"/opt/my tools/bin/banger\" --restore\n"), "{unit}");
    assert!(read("share/man/man1/banger.1").contains(".SH \"EXIT STATUS\""));
    let page = read("share/man/man1/banger-runtime-install.1");
    assert!(page.contains("banger\\-runtime\\-install") || page.contains("banger-runtime-install"));
    let version = Command::new(prefix.join("bin/banger")).arg("--version").output();
    assert_eq!(good(&version.expect("it runs")), format!("banger {}\n", env!("CARGO_PKG_VERSION")));
    good(&make("uninstall", &at));
    assert_eq!(tree(&root), before);
    // A second time there is nothing, and that is said.
    let output = make("uninstall", &at);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing to remove"), "{output:?}");
    // So is a runtime directory that is not there.
    let output = make("install", &[at.as_slice(), &[("RUNTIME", "/nonexistent")]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("RUNTIME=none"), "{output:?}");
    assert_eq!(tree(&root), before);
}

/// The manual pages are such that a reader has nothing to say about them.
#[test]
fn the_manual_pages_can_be_read() {
    let test = "the_manual_pages_can_be_read";
    let dir = tempfile::tempdir().expect("a directory");
    installed(dir.path());
    let pages = dir.path().join("usr/share/man/man1");
    for entry in fs::read_dir(pages).expect("pages") {
        let path = entry.expect("a page").path();
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path);
        let Ok(output) = groff.output() else { return skip(test, "there is no groff") };
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.is_empty(), "{}: {told}", path.display());
    }
}

/// What `banger self install` makes of the binary under test, below `/usr`.
fn installed(root: &Path) {
    let mut install = Command::new(BANGER);
    install.args(["self", "install", "--prefix", "/usr", "--destdir"]).arg(root);
    // Any file will do here.
    install.arg("--init").arg(Path::new(CHECKOUT).join("Cargo.toml"));
    good(&install.args(["--checkout", CHECKOUT]).output().expect("it runs"));
}

/// What cargo-deb is told agrees with what is installed: nothing is missing, and nothing is named
/// that is not there.
#[test]
fn the_debian_package_has_what_is_installed() {
    let dir = tempfile::tempdir().expect("a directory");
    installed(dir.path());
    let mut left: BTreeSet<PathBuf> = tree(dir.path())
        .iter()
        .filter_map(|line| line.rsplit_once(' ').map(|(path, _)| PathBuf::from(path)))
        .filter(|path| path.is_file())
        .collect();
    left.remove(&dir.path().join("usr/share/banger/installed"));
    let manifest = fs::read_to_string(Path::new(CHECKOUT).join("Cargo.toml")).expect("Cargo.toml");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().expect("assets") {
        let word = |i: usize| asset[i].as_str().expect("a text");
        let from = word(0).strip_prefix("target/release/package/").expect("of the tree");
        let (above, name) = from.rsplit_once('/').expect("a file in a directory");
        let to = word(1).trim_end_matches('/');
        let here: Vec<PathBuf> = left
            .iter()
            .filter(|path| path.parent() == Some(&dir.path().join(above)))
            .filter(|path| name == "*" || path.file_name().is_some_and(|file| file == name))
            .cloned()
            .collect();
        assert!(!here.is_empty(), "{from} is not there");
        for path in here {
            let mode = fs::metadata(&path).expect("its mode").mode() & 0o777;
            assert_eq!(format!("{mode:o}"), word(2), "{}", path.display());
            assert!(to == above || to.starts_with("usr/share/zsh/"), "{from} goes to {to}");
            left.remove(&path);
        }
    }
    assert_eq!(left, BTreeSet::new(), "in no package");
    // dpkg takes a package with `[amd64]` there for broken: that is for sources.
    for list in ["depends", "recommends", "suggests"] {
        let list = deb[list].as_str().expect("a text");
        assert!(!list.contains(['[', '<', '\n']), "{list}");
    }
    let scripts = Path::new(CHECKOUT).join(deb["maintainer-scripts"].as_str().expect("a path"));
    for entry in fs::read_dir(scripts).expect("scripts") {
        let path = entry.expect("a script").path();
        let checked = Command::new("sh").arg("-n").arg(&path).status().expect("sh runs");
        assert!(checked.success(), "{}", path.display());
    }
}

/// A runtime directory of one file, which is as recorded.
fn fake_runtime(dir: &Path) {
    fs::create_dir_all(dir).expect("a directory");
    fs::write(dir.join("vmlinux"), "").expect("a file");
    // Of no bytes: FIPS 180-4.
    let sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let file = json!({"sha256": sum, "size": 0, "modified_ns": 0, "source": "a test"});
    let record = json!({
        "schema": banger::bundle::SCHEMA, "arch": env::consts::ARCH, "files": {"vmlinux": file},
        "images": {}, "steps": {},
    });
    fs::write(dir.join("bundle.json"), record.to_string()).expect("a record");
}

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Whole,
    Broken,
    Unreadable,
}

impl There {
    const ALL: [Self; 4] = [Self::Nothing, Self::Whole, Self::Broken, Self::Unreadable];

    fn make(self, dir: &Path) {
        let record = dir.join("bundle.json");
        match self {
            Self::Nothing => {}
            Self::Whole => fake_runtime(dir),
            Self::Broken => {
                fs::create_dir_all(dir).expect("a directory");
                fs::write(record, "{").expect("a file");
            }
            // Root could read a file without permissions.
            Self::Unreadable => fs::create_dir_all(record).expect("a directory"),
        }
    }

    fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Who may name a place, but for the checkout and the user's data, which come after these: their
/// combinations are tested without the program.
#[test]
fn the_runtime_directory_is_found_whoever_names_it_and_whatever_is_there() {
    let home = Home::new(Load::Light);
    let dir = home.path().to_owned();
    // A place of each kind for each who may name it; the program itself lies in four prefixes.
    for there in There::ALL {
        for name in ["env", "conf", "repo"] {
            let place = dir.join(name).join(there.word());
            there.make(&if name == "repo" { place.join("runtime") } else { place });
        }
        let prefix = dir.join("prefix").join(there.word());
        fs::create_dir_all(prefix.join("bin")).expect("a directory");
        if fs::hard_link(BANGER, prefix.join("bin/banger")).is_err() {
            fs::copy(BANGER, prefix.join("bin/banger")).expect("a copy");
        }
        there.make(&prefix.join("lib/banger"));
        // And is called through a link from elsewhere.
        symlink(prefix.join("bin/banger"), dir.join(format!("banger-{}", there.word())))
            .expect("a link");
    }
    let config = dir.join("c/banger/config.toml");
    fs::create_dir_all(config.parent().expect("a directory")).expect("a directory");
    let set = |one: Option<There>| one.map(There::word).unwrap_or_default();
    let choices = || There::ALL.into_iter().map(Some).chain([None]);
    let mut tried = 0;
    for installed in There::ALL {
        for (key, file) in choices().flat_map(|file| [("runtime_dir", file), ("repo_root", file)]) {
            let at = if key == "runtime_dir" { dir.join("conf") } else { dir.join("repo") };
            let at = at.join(set(file));
            let text = file.map(|_| format!("{key} = \"{}\"\n", at.display()));
            fs::write(&config, text.unwrap_or_default()).expect("a configuration");
            for variable in choices() {
                let by_variable = dir.join("env").join(set(variable));
                let in_prefix = dir.join("prefix").join(installed.word()).join("lib/banger");
                let (wins, place, final_word) = match (variable, file) {
                    (Some(there), _) => (there, by_variable.clone(), true),
                    (None, Some(there)) if key == "runtime_dir" => (there, at.clone(), true),
                    (None, Some(there)) => (there, at.join("runtime"), true),
                    (None, None) => (installed, in_prefix, false),
                };
                if wins == There::Nothing
                    && !final_word
                    && runtime_dir().join("bundle.json").exists()
                {
                    continue;
                }
                let mut command = Command::new(dir.join(format!("banger-{}", installed.word())));
                command.args(["runtime", "verify"]).env_clear();
                command.envs(home.variables().iter().cloned()).env_remove("BANGER_RUNTIME_DIR");
                if variable.is_some() {
                    command.env("BANGER_RUNTIME_DIR", &by_variable);
                }
                let said = home.run_with(command, b"");
                let place = place.to_str().expect("UTF-8");
                let says = |text: &str| assert!(said.err.contains(text), "“{text}”: {said:?}");
                assert_eq!(
                    said.err.contains("repo_root is an old name"),
                    key == "repo_root" && file.is_some()
                );
                if wins == There::Whole {
                    assert_eq!(
                        said.out,
                        format!("{place}: all 1 files are as recorded\n"),
                        "{said:?}"
                    );
                    assert_eq!(said.code, Some(0), "{said:?}");
                } else {
                    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
                    says(place);
                }
                match wins {
                    There::Whole => {}
                    There::Nothing => {
                        says("there is no runtime directory");
                        says("banger runtime bootstrap");
                        assert_eq!(said.err.contains("nowhere else as it was named"), final_word);
                    }
                    There::Broken => {
                        says("bundle.json is damaged");
                        says(&format!("banger runtime bootstrap --dir {place}"));
                    }
                    There::Unreadable => {
                        says("bundle.json cannot be read");
                        says("BANGER_RUNTIME_DIR");
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried >= 196, "{tried}");
}
