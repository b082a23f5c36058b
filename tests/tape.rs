//! The demonstration's tape, played against the real program: what it shows is so.

mod common;

use std::{env, fs, path::Path};

use common::{Home, Load, screen::Tui};

const TAPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vhs/demo.tape");

/// A line of a tape; vhs's `Set`, `Output` and `Require` are about the picture.
#[derive(Debug, PartialEq, Eq)]
enum Play {
    Variable(String, String),
    Keys(String),
    See(String),
}

fn quoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or_else(|| panic!("not in quotes: {text}")).to_owned()
}

/// What a line means; every word of the format that this does not know is an error.
fn read(line: &str) -> Option<Play> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match word {
        "" | "#" | "Set" | "Output" | "Require" => return None,
        "Env" => {
            let (name, value) = rest.split_once(' ').expect("a value");
            Play::Variable(name.to_owned(), quoted(value))
        }
        "Type" => Play::Keys(quoted(rest)),
        "Enter" => Play::Keys("\r".to_owned()),
        "Ctrl+]" => Play::Keys("\x1d".to_owned()),
        "Wait+Screen" => {
            let pattern = rest.strip_prefix('/').and_then(|p| p.strip_suffix('/'));
            let pattern = pattern.unwrap_or_else(|| panic!("no pattern: {line}"));
            // Plain text means the same to vhs, which takes a regular expression.
            let operators = pattern.contains(|c: char| r"\.+*?()|[]{}^$".contains(c));
            assert!(!operators, "an operator: {line}");
            Play::See(pattern.to_owned())
        }
        _ => panic!("not understood: {line}"),
    })
}

#[test]
fn the_tape_can_be_played() {
    let test = "the_tape_can_be_played";
    let tape = fs::read_to_string(TAPE).expect("the tape");
    let plays: Vec<Play> = tape.lines().filter_map(read).collect();
    // Each key waits for what the one before it led to.
    let eager = |two: &[Play]| match two {
        [Play::Keys(first), Play::Keys(second)] => second != "\r" && first != "\r" || first == "\r",
        _ => false,
    };
    assert_eq!(plays.windows(2).filter(|two| eager(two)).count(), 0, "{plays:?}");

    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    let banger = Path::new(env!("CARGO_BIN_EXE_banger"));
    std::os::unix::fs::symlink(banger, bin.join("banger")).expect("a link");
    let path = env::var("PATH").expect("PATH");
    home.set("PATH", &format!("{}:{path}", bin.display()));
    home.set("PS1", "> ");
    for play in &plays {
        if let Play::Variable(name, value) = play {
            home.set(name, value);
        }
    }
    let mut shell = Tui::program(&home, &["bash", "--norc", "--noprofile"], (100, 30));
    shell.see("> ");
    for play in &plays {
        match play {
            Play::Variable(..) => {}
            Play::Keys(keys) => shell.keys(keys),
            Play::See(text) => drop(shell.see(text)),
        }
    }
    shell.keys("exit 0\r");
    assert_eq!(shell.end(), 0, "{}", shell.screen());
    assert!(home.list().is_empty());
    home.assert_nothing_runs();
}

#[test]
fn a_tape_is_read_as_vhs_reads_it() {
    assert_eq!(read("# Type \"x\""), None);
    assert_eq!(read("Set Width 1200"), None);
    assert_eq!(read("Type \"a b\""), Some(Play::Keys("a b".into())));
    assert_eq!(read("Ctrl+]"), Some(Play::Keys("\x1d".into())));
    assert_eq!(read("Wait+Screen /a b/"), Some(Play::See("a b".into())));
}
