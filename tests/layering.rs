//! The rules of the house that a compiler does not check: who may use whom, how long a file may
//! be, where `unsafe` is, and that pure code has no clock.
//!
//! The sources are read, not compiled: comments and literals are blanked, then every path that
//! begins with `crate::` (or with as many `super::` as lead to the root) is followed, nested
//! groups of a `use` included.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The table of `ARCHITECTURE.md`: a module, and the modules it may use beside itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("store", &["domain"]),
    ("host", &["domain"]),
    ("vmm", &["domain"]),
    // Of host the init has one call to its own kernel.
    ("guest", &["domain", "host"]),
    ("bundle", &["domain"]),
    ("image", &["domain", "store", "host", "bundle"]),
    ("session", &["domain"]),
    // A pane shows the problem that a session could not be opened with.
    ("term", &["domain", "session"]),
    ("names", &["domain", "host"]),
    (
        "monitor",
        &["domain", "store", "host", "vmm", "guest", "bundle", "image", "names", "session"],
    ),
    (
        "supervisor",
        &[
            "domain", "store", "host", "vmm", "guest", "bundle", "image", "names", "session",
            "monitor",
        ],
    ),
    ("config", &["domain"]),
    // Beside the supervisor's handle: `runtime …` is the bundle, `images …` the images, `doctor` is
    // bundle, host, names and store, `console` and `ssh` are a session on the user's own terminal,
    // without a UI between.
    (
        "cli",
        &["domain", "config", "supervisor", "bundle", "host", "image", "names", "session", "store"],
    ),
    ("tui", &["domain", "config", "term", "supervisor"]),
];

/// Of the supervisor the TUI sees the handle and nothing else.
const HANDLE: &[&str] = &[
    "handle",
    "Command",
    "ConsoleKind",
    "ImageDesk",
    "OpenSession",
    "RUN_DONE",
    "SupervisorHandle",
    "read_packages",
];

/// Where `unsafe` may be.
const UNSAFE: &[&str] = &["src/host/"];

/// Code that is told the time and never looks at a clock.
const NO_CLOCK: &[&str] = &["src/domain/", "src/supervisor/core/", "src/tui/"];

/// Code that does no I/O at all.
const PURE: &[&str] = &["src/domain/", "src/supervisor/core/", "src/supervisor/admit.rs"];

/// The most lines a file may have, its tests included.
const LINES_MAX: usize = 800;

/// Blanks comments, strings and character literals, so that only code is left. Newlines stay.
fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while i < chars.len() {
        let c = chars[i];
        let before = if i == 0 { '\0' } else { chars[i - 1] };
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                blank(&mut out, chars[i]);
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < chars.len() {
                if at(i) == '/' && at(i + 1) == '*' {
                    depth += 1;
                    out.push_str("  ");
                    i += 2;
                } else if at(i) == '*' && at(i + 1) == '/' {
                    depth -= 1;
                    out.push_str("  ");
                    i += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    blank(&mut out, chars[i]);
                    i += 1;
                }
            }
        } else if c == 'r'
            && (at(i + 1) == '"' || at(i + 1) == '#')
            && !(before.is_alphanumeric() && before != 'b' || before == '_')
        {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            if at(i + 1 + hashes) != '"' {
                out.push(c);
                i += 1;
                continue;
            }
            let end: String = std::iter::once('"').chain("#".repeat(hashes).chars()).collect();
            let end: Vec<char> = end.chars().collect();
            let mut j = i + 2 + hashes;
            while j < chars.len() && !chars[j..].starts_with(&end) {
                j += 1;
            }
            let stop = (j + end.len()).min(chars.len());
            while i < stop {
                blank(&mut out, chars[i]);
                i += 1;
            }
        } else if c == '"' {
            blank(&mut out, c);
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                if chars[i] == '\\' {
                    blank(&mut out, chars[i]);
                    i += 1;
                }
                if i < chars.len() {
                    blank(&mut out, chars[i]);
                    i += 1;
                }
            }
            if i < chars.len() {
                out.push(' ');
                i += 1;
            }
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // A character; anything else after a quote is a lifetime or a label.
            let mut j = if at(i + 1) == '\\' { i + 3 } else { i + 2 };
            while j < chars.len() && chars[j] != '\'' {
                j += 1;
            }
            while i <= j && i < chars.len() {
                blank(&mut out, chars[i]);
                i += 1;
            }
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

/// Splits code into identifiers, `::`, and single other characters.
fn tokens(code: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                word.push(c);
            }
            out.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            out.push("::".to_owned());
        } else if !c.is_whitespace() {
            out.push(c.to_string());
        }
    }
    out
}

/// The paths below a `::` at `i` (the token after it): each path's first `depth` segments.
fn paths_at(tokens: &[String], i: usize, depth: usize, prefix: &[String]) -> Vec<Vec<String>> {
    let Some(token) = tokens.get(i) else { return Vec::new() };
    if token != "{" {
        let mut path = prefix.to_vec();
        path.push(token.clone());
        if path.len() < depth && tokens.get(i + 1).is_some_and(|t| t == "::") {
            return paths_at(tokens, i + 2, depth, &path);
        }
        return vec![path];
    }
    let mut out = Vec::new();
    let (mut level, mut j, mut fresh) = (1, i + 1, true);
    while let Some(token) = tokens.get(j).filter(|_| level > 0) {
        match token.as_str() {
            "{" => level += 1,
            "}" => level -= 1,
            "," if level == 1 => fresh = true,
            _ if fresh && level == 1 => {
                out.extend(paths_at(tokens, j, depth, prefix));
                fresh = false;
            }
            _ => {}
        }
        j += 1;
    }
    out
}

/// All paths from the crate's root, two segments long, that the file at `file` mentions.
fn root_paths(file: &Path, source: &str) -> Vec<Vec<String>> {
    let tokens = tokens(&code_of(source));
    let depth = module_of(file).len();
    let mut out = Vec::new();
    for i in 0..tokens.len() {
        let after_path = i > 0 && tokens[i - 1] == "::";
        let next = tokens.get(i + 1).is_some_and(|t| t == "::");
        if tokens[i] == "crate" && next && !after_path {
            out.extend(paths_at(&tokens, i + 2, 2, &[]));
        }
        if tokens[i] == "super" && next && !after_path {
            let mut supers = 1;
            let mut j = i + 2;
            while tokens.get(j).is_some_and(|t| t == "super") {
                supers += 1;
                j += 2;
            }
            if supers >= depth {
                // From the root, or, inside an inline module, from the file's own top module:
                // the second is told apart by naming no module of the table.
                let known = |p: &Vec<String>| ALLOWED.iter().any(|(m, _)| *m == p[0]);
                out.extend(paths_at(&tokens, j, 2, &[]).into_iter().filter(known));
            }
        }
    }
    out
}

/// The module path of a file: `src/a/b/mod.rs` and `src/a/b.rs` are `a, b`.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let mut path: Vec<String> =
        relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// What is wrong with one file, one line per finding.
fn findings(file: &Path, source: &str) -> Vec<String> {
    let mut out = Vec::new();
    let name = file.to_string_lossy();
    let lines = source.lines().count();
    if lines > LINES_MAX {
        out.push(format!("{name}: {lines} lines, {LINES_MAX} are the limit: split it"));
    }
    if !name.starts_with("src/") {
        return out;
    }
    let below = |dirs: &[&str]| dirs.iter().any(|dir| name.starts_with(dir));
    let code = tokens(&code_of(source));
    let has = |words: &[&str]| code.windows(words.len()).any(|w| w == words);

    if code.iter().any(|t| t == "unsafe") && !below(UNSAFE) {
        out.push(format!("{name}: `unsafe` is allowed only in {UNSAFE:?}"));
    }
    if below(NO_CLOCK) {
        for clock in ["Instant", "SystemTime"] {
            if has(&[clock, "::", "now"]) {
                out.push(format!("{name}: {clock}::now: the time is passed in here"));
            }
        }
    }
    if below(PURE) {
        for (what, words) in [
            ("tokio", &["tokio", "::"][..]),
            ("std::fs", &["std", "::", "fs"]),
            ("std::net", &["std", "::", "net"]),
            ("std::process", &["std", "::", "process"]),
            ("std::thread", &["std", "::", "thread"]),
        ] {
            if has(words) {
                out.push(format!("{name}: {what}: this code is pure"));
            }
        }
    }

    let module = module_of(file);
    let top = module[0].as_str();
    if matches!(top, "main" | "lib" | "bin") {
        return out;
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(m, _)| *m == top) else {
        out.push(format!("{name}: module `{top}` is not in the table of layers"));
        return out;
    };
    let paths: BTreeSet<Vec<String>> = root_paths(file, source).into_iter().collect();
    for path in paths {
        let used = path[0].as_str();
        if used != top && !allowed.contains(&used) {
            out.push(format!("{name}: `{top}` must not use `{used}`"));
        }
        if top == "tui" && used == "supervisor" {
            let item = path.get(1).map_or("", String::as_str);
            if !HANDLE.contains(&item) {
                out.push(format!(
                    "{name}: of the supervisor `tui` may use only its handle: {item}"
                ));
            }
        }
    }
    out.dedup();
    out
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable directory") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_sources_keep_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches"] {
        if root.join(dir).is_dir() {
            rust_files(&root.join(dir), &mut files);
        }
    }
    assert!(files.len() > 20, "only {} files: the walk is broken", files.len());
    let mut wrong = Vec::new();
    for file in &files {
        let source = fs::read_to_string(file).expect("readable file");
        let relative = file.strip_prefix(root).expect("below the root");
        wrong.extend(findings(relative, &source));
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_has_every_module_and_no_cycle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (module, _) in ALLOWED {
        assert!(root.join(module).is_dir(), "the table lists `{module}`, which is not there");
    }
    // Each module's users come after it once sorted by what they reach: no cycle.
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < ALLOWED.len() {
        let ready: Vec<&str> = ALLOWED
            .iter()
            .filter(|(m, uses)| !done.contains(m) && uses.iter().all(|u| done.contains(u)))
            .map(|(m, _)| *m)
            .collect();
        assert!(!ready.is_empty(), "a cycle among what is not in {done:?}");
        done.extend(ready);
    }
}

/// What the rules say of `source` at `file`.
fn check(file: &str, source: &str) -> Vec<String> {
    findings(Path::new(file), source)
}

#[test]
fn a_forbidden_edge_is_found_however_it_is_written() {
    for bad in [
        "use crate::store::Store;",
        "use crate::{domain::VmId, store::{Store, VmRow}};",
        "use crate::{\n    domain::{VmId, VmName},\n    store,\n};",
        "fn f() { let _ = crate::store::Store::open; }",
        "#[cfg(test)] mod tests { use crate::store::Store; }",
        "use super::super::store::Store;",
        "pub use crate :: store;",
        "fn f<'a>(x: &'a str) { crate::store::g('\"', \"x\", '\\'') }",
    ] {
        let found = check("src/tui/app.rs", bad);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].contains("`tui` must not use `store`"), "{found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for good in [
        "use crate::domain::VmId;",
        "use crate::tui::theme;",
        "// use crate::store::Store;",
        "/* use crate::store::Store; /* nested */ crate::vmm */",
        "const S: &str = \"crate::store::Store unsafe\";",
        "const S: &str = r#\"crate::store \" unsafe\"#;",
        "use super::store_view;",
        "use crate::supervisor::{SupervisorHandle, OpenSession};",
        "mod x { use super::super::layers; }",
        "use somecrate::store;",
    ] {
        assert_eq!(check("src/tui/app.rs", good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn the_tui_sees_only_the_handle_of_the_supervisor() {
    assert_eq!(check("src/tui/a.rs", "use crate::supervisor::core::Core;").len(), 1);
    assert_eq!(check("src/tui/a.rs", "use crate::supervisor::{Command, core};").len(), 1);
    assert_eq!(check("src/tui/a.rs", "use crate::supervisor;").len(), 1);
    assert!(check("src/cli/a.rs", "use crate::supervisor::core::Core;").is_empty());
}

#[test]
fn clocks_unsafe_length_and_unknown_modules_are_found() {
    assert_eq!(check("src/domain/a.rs", "let x = std::time::Instant::now();").len(), 1);
    assert_eq!(check("src/supervisor/core/a.rs", "SystemTime::now()").len(), 1);
    assert!(check("src/supervisor/driver.rs", "SystemTime::now()").is_empty());
    assert_eq!(check("src/supervisor/core/a.rs", "use tokio::sync::mpsc;").len(), 1);
    assert_eq!(check("src/domain/a.rs", "use std::fs;").len(), 1);
    assert_eq!(check("src/vmm/a.rs", "unsafe { x() }").len(), 1);
    assert!(check("src/host/a.rs", "unsafe { x() }").is_empty());
    assert_eq!(check("src/host/a.rs", &"\n".repeat(801)).len(), 1);
    assert!(check("src/host/a.rs", &"\n".repeat(800)).is_empty());
    assert_eq!(check("tests/a.rs", &"\n".repeat(801)).len(), 1);
    assert_eq!(check("src/extra/mod.rs", "").len(), 1);
}

#[test]
fn blanking_keeps_code_and_lines() {
    let code = code_of("a \"b\\\"c\" 'd' '\\n' <'e> // f\ng /* h\n */ i r\"j\" br#\"k\"# l");
    let words: Vec<String> = tokens(&code)
        .into_iter()
        .filter(|t| t.len() == 1 && t.as_bytes()[0].is_ascii_alphabetic())
        .collect();
    assert_eq!(words, ["a", "e", "g", "i", "b", "l"], "{code}");
    assert_eq!(code.lines().count(), 3);
}
