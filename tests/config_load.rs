//! The settings as a user meets them: layers, and every way to get one wrong.

use std::{fs, path::Path};

use banger::{
    config::{Config, ENV_ONLY, KEYS, Sources, keymap::ActionKeys, load, load_keymap, load_theme},
    domain::{Problem, VmmKind},
};

/// A configuration directory with these files, and this environment.
fn sources(files: &[(&str, &str)], env: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let sources = Sources { dir: dir.path().to_owned(), env, home: Some("/home/ada".into()) };
    (dir, sources)
}

fn config(text: &str, env: &[(&str, &str)]) -> Result<Config, Problem> {
    let (_dir, sources) = sources(&[("config.toml", text)], env);
    load(&sources)
}

#[test]
fn without_any_file_the_defaults_are_in_force() {
    let (_dir, sources) = sources(&[], &[("PATH", "/bin")]);
    assert_eq!(load(&sources), Ok(Config::default()));
    assert_eq!(config("", &[]), Ok(Config::default()));
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let file = "theme = \"light\"\nscrollback = 50\n[new_vm]\nvcpus = 4\nmemory = \"2G\"\n";
    let env = [("BANGER_THEME", "dark"), ("BANGER_NEW_VM_VCPUS", "8"), ("BANGER_SCROLLBACK", "")];
    let config = config(file, &env).expect("good");
    assert_eq!(config.theme, "dark");
    assert_eq!(config.new_vm.vcpus, 8);
    assert_eq!(config.new_vm.memory_mib, Some(2048));
    assert_eq!(config.scrollback, 50, "a variable that is set to nothing is not set");
    assert!(config.mouse);
}

#[test]
fn every_key_is_read_from_the_file_and_from_its_variable() {
    let values = [
        ("theme", "\"light\"", "light"),
        ("runtime_dir", "\"~/rt\"", "/home/ada/rt"),
        ("vmm", "\"qemu-tcg\"", "qemu-tcg"),
        ("network", "\"user\"", "user"),
        ("overlay", "\"dm-snapshot\"", "dm-snapshot"),
        ("jailer", "\"on\"", "on"),
        ("new_vm.image", "\"debian\"", "debian"),
        ("new_vm.vcpus", "3", "3"),
        ("new_vm.memory", "\"1G\"", "1024"),
        ("stop_timeout", "5", "5"),
        ("escape_chord", "\"ctrl-g\"", "ctrl-g"),
        ("mouse", "false", "false"),
        ("guest_clipboard", "\"allow\"", "allow"),
        ("scrollback", "1_000", "1000"),
        ("extra_keys", "[\"~/a.pub\"]", "~/a.pub"),
        ("names.route", "\"hosts\"", "hosts"),
        ("names.mapdns_file", "\"~/mapdns.json\"", "/home/ada/mapdns.json"),
        ("names.mapdns_publish", "\"m add {name}\"", "m add {name}"),
        ("names.mapdns_withdraw", "\"m del {name}\"", "m del {name}"),
    ];
    assert_eq!(
        values.map(|(name, ..)| name).as_slice(),
        KEYS.iter().map(|k| k.name).collect::<Vec<_>>()
    );
    for ((name, toml, text), key) in values.iter().zip(KEYS) {
        let from_file = config(&format!("{name} = {toml}\n"), &[]).expect(name);
        let from_env = config("", &[(key.env, text)]).expect(name);
        assert_ne!(from_file, Config::default(), "{name} changes nothing");
        assert_eq!(from_file, from_env, "{name}");
    }
    assert_eq!(config("vmm = \"qemu-tcg\"", &[]).expect("good").vmm, Some(VmmKind::QemuTcg));
    assert_eq!(config("jailer = \"off\"", &[]).expect("good").jailer, Some(false));
    assert_eq!(config("jailer = \"auto\"", &[]).expect("good").jailer, None);
}

#[test]
fn each_key_says_what_is_wrong_with_its_value_and_where() {
    for (text, said) in [
        ("tehme = \"dark\"", "config.toml:1: there is no key “tehme”; did you mean “theme”?"),
        (
            "\n\n[new_vm]\nmemroy = 1",
            "config.toml:4: there is no key “new_vm.memroy”; did you mean “new_vm.memory”?",
        ),
        ("new_vm = 3", "config.toml:1: write it as a table: [new_vm]"),
        ("runtime_dir = \"runtime\"", "“runtime” is no absolute path: begin it with / or ~/"),
        (
            "vmm = \"xen\"",
            "vmm: there is no value “xen” (one of auto, firecracker, qemu-kvm, qemu-tcg)",
        ),
        ("network = \"bridge\"", "network: there is no value “bridge” (one of auto, tap, user)"),
        ("overlay = \"zfs\"", "(one of auto, dm-snapshot, reflink, sparse-copy)"),
        ("jailer = true", "jailer: this is true or false, and a text in quotes is expected"),
        (
            "[new_vm]\nvcpus = 33",
            "config.toml:2: new_vm.vcpus: “33” is not possible: write 1 to 32",
        ),
        ("[new_vm]\nvcpus = -1", "“-1” is not possible"),
        ("[new_vm]\nmemory = \"10TiB\"", "memory is 64 MiB to 1 TiB"),
        ("[new_vm]\nmemory = \"lots\"", "“lots” is no size"),
        ("extra_keys = \"~/a.pub\"", "this is a text, and a list of texts"),
        ("extra_keys = [1]", "each of the list is a text in quotes"),
        (
            "\nextra_keys = [\"ssh-ed25519 AAAA you@work\", \"ssh-rsa AAA\"]",
            "config.toml:2: extra_keys: “ssh-rsa AAA”: the key is cut off",
        ),
        ("extra_keys = [\"id_ed25519.pub\"]", "write a public key, or the path of a file"),
        ("extra_keys = [\"~ada/a.pub\"]", "is no absolute path"),
        ("stop_timeout = 0", "write 1 to 3600"),
        ("stop_timeout = \"5\"", "stop_timeout: this is a text, and a whole number is expected"),
        ("escape_chord = \"ctrl-pgupp\"", "there is no key “pgupp”; did you mean “pgup”?"),
        ("mouse = \"yes\"", "mouse: this is a text, and true or false, without quotes is expected"),
        ("guest_clipboard = \"ask\"", "(one of deny, allow)"),
        ("scrollback = 99999999999999999999", "is not possible: write 0 to 100000"),
        ("theme = ", "config.toml:1: this is no TOML"),
        ("theme = \"a\"\ntheme = \"b\"", "this is no TOML: duplicate key"),
        ("runtime_dir = \"/a\"\nrepo_root = \"/b\"", "config.toml:2: repo_root is an old name"),
    ] {
        let problem = config(text, &[]).expect_err(text);
        assert!(problem.why.contains(said), "{text}\nsaid: {}\nnot: {said}", problem.why);
        assert!(problem.hint.contains("config.toml"), "{problem}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let problem = config("mouse = 1\n[new_vm]\nvcpus = 0\nimge = \"x\"\n", &[]).expect_err("three");
    let lines: Vec<&str> = problem.why.lines().collect();
    assert_eq!(lines.len(), 3, "{problem}");
    for (line, at) in lines.iter().zip([":1:", ":3:", ":4:"]) {
        assert!(line.contains(at), "{problem}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let problem = config("", &[("BANGER_MOUSE", "maybe")]).expect_err("wrong");
    assert!(problem.why.contains("BANGER_MOUSE: there is no value “maybe”"), "{problem}");
}

#[test]
fn an_unknown_variable_is_told_but_does_no_harm() {
    let config = config("", &[("BANGER_THEM", "x"), ("BANGER_STATE_DIR", "/s")]).expect("good");
    assert_eq!(
        config.notices,
        ["there is no variable “BANGER_THEM”; did you mean “BANGER_THEME”?; it is ignored"]
    );
}

/// Else whoever uses it is told at each call that there is none of the name.
#[test]
fn every_variable_that_code_tests_and_scripts_read_is_known() {
    fn texts(at: &Path, found: &mut Vec<(String, String)>) {
        if at.is_dir() {
            let entries = fs::read_dir(at).expect("a directory");
            entries.for_each(|entry| texts(&entry.expect("an entry").path(), found));
        } else if let Ok(text) = fs::read_to_string(at) {
            found.push((at.display().to_string(), text));
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for part in ["src", "tests", "scripts", "Makefile"] {
        texts(&root.join(part), &mut found);
    }
    let known: Vec<&str> = KEYS.iter().map(|key| key.env).chain(ENV_ONLY.iter().copied()).collect();
    let mut read = 0;
    for (path, text) in &found {
        for (at, _) in text.match_indices("BANGER_") {
            let rest = &text[at..];
            let part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let end = rest.find(|c: char| !part(c));
            let name = &rest[..end.unwrap_or(rest.len())];
            read += 1;
            // The mistyped one of the test above, and prefixes of several.
            let none = name == "BANGER_THEM" || name.ends_with('_');
            assert!(none || known.contains(&name), "{path} has {name}");
        }
    }
    assert!(read > known.len(), "{read} found");
}

#[test]
fn the_old_repo_root_means_its_runtime_and_says_so() {
    let config = config("repo_root = \"/src/banger\"\n", &[]).expect("good");
    assert_eq!(config.runtime_dir.as_deref(), Some(Path::new("/src/banger/runtime")));
    assert_eq!(config.notices.len(), 1);
    assert!(config.notices[0].contains("runtime_dir = \"/src/banger/runtime\""), "{config:?}");
    assert!(config.by_repo_root);
    let file = "repo_root = \"/src/banger\"\n";
    let config = self::config(file, &[("BANGER_RUNTIME_DIR", "/rt")]).expect("good");
    assert_eq!(
        (config.runtime_dir.as_deref(), config.by_repo_root),
        (Some(Path::new("/rt")), false)
    );
}

#[test]
fn files_that_are_none_are_refused() {
    let (dir, sources) = sources(&[("keymap.toml/x", "")], &[]);
    fs::write(dir.path().join("config.toml"), [0xff, 0xfe]).expect("written");
    let problem = load(&sources).expect_err("no text");
    assert!(problem.why.contains("no UTF-8"), "{problem}");
    let problem = load_keymap::<()>(&sources, &[]).expect_err("a directory");
    assert!(problem.why.contains("not a file"), "{problem}");
    fs::write(dir.path().join("config.toml"), vec![b'#'; (1 << 20) + 1]).expect("written");
    let problem = load(&sources).expect_err("too large");
    assert!(problem.why.contains("1 MiB is the most"), "{problem}");
}

#[test]
fn the_key_map_and_the_themes_are_read_from_their_files() {
    let files = [
        ("keymap.toml", "[list]\nstart = \"S\"\n"),
        ("themes/sea.toml", "inherits = \"dark\"\n[palette]\nblue = \"#5fd7ff\"\n"),
        ("themes/notes.txt", "not a theme"),
    ];
    let (_dir, sources) = sources(&files, &[("COLORTERM", "truecolor")]);
    let actions = [ActionKeys { action: 1, id: "start", contexts: &["list"], keys: &["s"] }];
    let overrides = load_keymap(&sources, &actions).expect("good");
    assert_eq!(overrides.keys("list", "start").map(<[_]>::len), Some(1));
    assert_eq!(load_theme(&sources, "sea").expect("good").name(), "sea");
    let problem = load_theme(&sources, "notes").expect_err("no theme");
    assert!(problem.why.contains("known are: sea, dark, light"), "{problem}");
}

/// The rows of the tables of `docs/configuration.md`, cells without backquotes.
fn rows(below: &str) -> Vec<Vec<String>> {
    let doc = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"));
    let doc = doc.expect("the page is there");
    let section = doc.split("\n## ").find(|s| s.starts_with(below)).expect("the section is there");
    let cells = |line: &str| line.split('|').map(|c| c.trim().replace('`', "")).collect::<Vec<_>>();
    section.lines().filter(|l| l.starts_with("| `")).map(|l| cells(l)[1..].to_vec()).collect()
}

#[test]
fn the_documentation_has_exactly_the_known_keys_with_their_defaults_and_variables() {
    let documented: Vec<_> = rows("config.toml").into_iter().map(|r| r[..3].to_vec()).collect();
    let known: Vec<_> =
        KEYS.iter().map(|k| [k.name, k.default, k.env].map(String::from).to_vec()).collect();
    assert_eq!(documented, known);
    // The defaults that are documented are those that are in force.
    for key in KEYS.iter().filter(|key| key.default != "unset") {
        let text = format!("{} = {}\n", key.name, key.default);
        assert_eq!(config(&text, &[]), Ok(Config::default()), "{}", key.name);
    }
    let doc = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"))
        .expect("there");
    for word in doc
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|w| w.starts_with("BANGER_"))
    {
        assert!(ENV_ONLY.contains(&word) || KEYS.iter().any(|k| k.env == word), "{word}");
    }
}

#[test]
fn the_documentation_has_exactly_the_known_slots() {
    let documented: Vec<_> = rows("Themes").into_iter().map(|r| r[0].clone()).collect();
    let known: Vec<_> = banger::config::theme::Slot::ALL.iter().map(|(_, key)| *key).collect();
    assert_eq!(documented, known);
}
