//! Whatever is in a configuration file, reading it ends in settings or in a problem with a line
//! of that file - never in a panic, and never in a page of quoted rubbish.

use std::{fs, path::Path};

use banger::{
    config::{
        Sources,
        keymap::{ActionKeys, Chord, Keys, Overrides},
        load,
        theme::{Depth, ThemeFile, load as load_theme},
    },
    domain::Problem,
};
use proptest::prelude::*;

/// Text that is nearly a configuration: its words, its punctuation, and anything else.
fn nearly_toml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("theme".to_owned()),
        Just("new_vm".to_owned()),
        Just("\"dark\"".to_owned()),
        Just("styles".to_owned()),
        Just("palette".to_owned()),
        Just("list".to_owned()),
        Just("vm-start".to_owned()),
        Just("= ".to_owned()),
        Just("[".to_owned()),
        Just("]\n".to_owned()),
        Just("{ fg = ".to_owned()),
        Just("}\n".to_owned()),
        Just("\n".to_owned()),
        Just("\"".to_owned()),
        Just("1".to_owned()),
        Just(".".to_owned()),
        "\\PC{0,8}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

fn says_where(problem: &Problem, file: &str, text: &str) -> Result<(), TestCaseError> {
    let lines = text.matches('\n').count() + 1;
    for said in problem.why.lines().filter(|line| line.starts_with(file)) {
        let line = said[file.len() + 1..].split(':').next().and_then(|n| n.parse().ok());
        prop_assert!(line.is_some_and(|n: usize| n >= 1 && n <= lines), "{said}");
    }
    prop_assert!(problem.why.contains(file), "{problem}");
    prop_assert!(!problem.hint.is_empty());
    Ok(())
}

proptest! {
    #[test]
    fn any_config_toml_is_settings_or_a_problem(text in nearly_toml()) {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("config.toml");
        fs::write(&file, &text)?;
        let sources = Sources { dir: dir.path().to_owned(), ..Sources::default() };
        if let Err(problem) = load(&sources) {
            says_where(&problem, file.to_str().expect("a text"), &text)?;
        }
    }

    #[test]
    fn any_keymap_toml_is_a_key_map_or_a_problem(text in nearly_toml()) {
        let actions =
            [ActionKeys { action: (), id: "vm-start", contexts: &["list"], keys: &["s"] }];
        if let Err(problem) = Overrides::parse(Path::new("keymap.toml"), &text, &actions) {
            says_where(&problem, "keymap.toml", &text)?;
        }
    }

    #[test]
    fn any_theme_is_a_theme_or_a_problem(text in nearly_toml()) {
        let file = ThemeFile { name: "mine".into(), path: "/mine.toml".into(), text };
        if let Err(problem) = load_theme("mine", &[file], Depth::True) {
            prop_assert!(!problem.hint.is_empty());
            prop_assert!(problem.why.contains("/mine.toml") || problem.why.contains("theme"), "{problem}");
        }
    }

    #[test]
    fn what_is_shown_of_a_chord_reads_as_the_same_chord(text in "(ctrl-|alt-|shift-){0,3}[!-~]|f[1-9]|pgup|space|enter") {
        if let Ok(chord) = text.parse::<Chord>() {
            let shown = chord.to_string();
            // Arrows are shown as arrows; everything else as it is written.
            prop_assert_eq!(shown.parse::<Chord>(), Ok(chord), "{} as {}", text, shown);
        }
    }

    #[test]
    fn keys_never_panic(text in "\\PC{0,20}") {
        let _ = text.parse::<Keys>();
    }
}
