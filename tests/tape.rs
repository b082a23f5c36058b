//! The demonstration's tape, played against the real program: what it shows is so.

mod common;

use std::{env, fs, path::Path};

use common::{Home, Load, screen::Tui};

const TAPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vhs/demo.tape");

/// What a line of a tape does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Play {
    /// A variable of the environment.
    Variable(String, String),
    /// Keys, one after the other.
    Keys(String),
    /// Waits for a text on the screen.
    See(String),
}

/// What a line means, if it is about more than the picture; every word of the format that this
/// does not know is an error.
fn read(line: &str) -> Result<Option<Play>, String> {
    let line = line.trim();
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let alone = |keys: &str| {
        if rest.is_empty() { Ok(keys.to_owned()) } else { Err(format!("more than a key: {line}")) }
    };
    Ok(Some(match word {
        "" | "Set" | "Output" | "Require" | "Sleep" | "Hide" | "Show" => return Ok(None),
        _ if word.starts_with('#') => return Ok(None),
        "Env" => {
            let (name, value) = rest.split_once(' ').ok_or(format!("no value: {line}"))?;
            Play::Variable(name.to_owned(), quoted(value)?)
        }
        "Type" => Play::Keys(quoted(rest)?),
        "Enter" => Play::Keys(alone("\r")?),
        "Escape" => Play::Keys(alone("\x1b")?),
        "Wait+Screen" => {
            let pattern = rest.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            let pattern = pattern.ok_or(format!("no pattern: {line}"))?;
            // Plain text means the same to vhs, which takes a regular expression, and so does a
            // bracket that closes what was not opened. A slash is its end.
            if pattern.contains(|c: char| r"\.+*?()|[{^$/".contains(c)) {
                return Err(format!("an operator: {line}"));
            }
            Play::See(pattern.to_owned())
        }
        _ => match word.strip_prefix("Ctrl+").map(str::as_bytes) {
            // Of a letter and of @[\]^_ that is the lowest five bits (ascii(7)).
            Some(&[key @ (b'a'..=b'z' | b'@'..=b'_')]) => {
                Play::Keys(alone(&char::from(key & 0x1f).to_string())?)
            }
            _ => return Err(format!("not understood: {line}")),
        },
    }))
}

/// What is between quotes; vhs knows no way to have a quote in there.
fn quoted(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let inner = inner.filter(|inner| !inner.contains('"'));
    inner.map(str::to_owned).ok_or(format!("not in quotes: {text}"))
}

fn tape() -> Vec<Play> {
    let tape = fs::read_to_string(TAPE).expect("the tape");
    tape.lines().filter_map(|line| read(line).expect("a line of the tape")).collect()
}

#[test]
fn the_tape_can_be_played() {
    let test = "the_tape_can_be_played";
    let plays = tape();
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let bin = home.path().join("bin");
    fs::create_dir(&bin).expect("a directory");
    let banger = Path::new(env!("CARGO_BIN_EXE_banger"));
    std::os::unix::fs::symlink(banger, bin.join("banger")).expect("a link");
    let path = env::var("PATH").expect("PATH");
    home.set("PATH", &format!("{}:{path}", bin.display()));
    // As vhs has it.
    home.set("PS1", "> ");
    for play in &plays {
        if let Play::Variable(name, value) = play {
            home.set(name, value);
        }
    }
    let mut shell = Tui::program(&home, &["bash", "--norc", "--noprofile"], (100, 30));
    shell.see(">");
    for play in &plays {
        match play {
            Play::Variable(..) => {}
            Play::Keys(keys) => keys.chars().for_each(|key| shell.keys(&key.to_string())),
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
    for passed in ["", "# Type \"x\"", "#x", "Set Width 1200", "Sleep 500ms", "Hide", "Show"] {
        assert_eq!(read(passed), Ok(None), "{passed}");
    }
    let keys = |text: &str| Ok(Some(Play::Keys(text.to_owned())));
    assert_eq!(read("Type \"a b\""), keys("a b"));
    assert_eq!(read("Enter"), keys("\r"));
    assert_eq!(read("Escape"), keys("\x1b"));
    assert_eq!(read("Ctrl+]"), keys("\x1d"));
    assert_eq!(read("Ctrl+c"), keys("\x03"));
    assert_eq!(read("Wait+Screen /a ] b/"), Ok(Some(Play::See("a ] b".into()))));
    let variable = Play::Variable("NAME".into(), "a b".into());
    assert_eq!(read("Env NAME \"a b\""), Ok(Some(variable)));
}

#[test]
fn what_is_not_known_of_a_tape_is_an_error() {
    let wrong = [
        "Wait /prompt/",
        "Wait+Screen",
        "Wait+Screen /a.*b/",
        "Wait+Screen /a/b/",
        "Wait+Screen@5s /a/",
        "Type@1s \"x\"",
        "Type x",
        "Type \"a\" \"b\"",
        "Enter 2",
        "Ctrl+Alt+a",
        "Alt+a",
        "Screenshot x.png",
        "Source other.tape",
        "Env NAME",
    ];
    for line in wrong {
        assert!(read(line).is_err(), "{line}");
    }
}
