//! The shipped themes are whole and readable; what is wrong with a user's is said precisely.

use std::path::PathBuf;

use banger::config::theme::{Depth, Rgb, SHIPPED, Slot, Theme, ThemeFile, load};
use ratatui::style::Color;

fn rgb(color: Option<Color>) -> Option<Rgb> {
    match color {
        Some(Color::Rgb(r, g, b)) => Some(Rgb(r, g, b)),
        None => None,
        other => panic!("a true-colour theme has {other:?}"),
    }
}

fn user(name: &str, text: &str) -> ThemeFile {
    let path = PathBuf::from(format!("/t/{name}.toml"));
    ThemeFile { name: name.to_owned(), path, text: text.to_owned() }
}

fn error(files: &[ThemeFile]) -> String {
    load(&files[0].name, files, Depth::True).expect_err("it is wrong").to_string()
}

#[test]
fn every_text_of_the_shipped_themes_has_contrast() {
    for (name, _) in SHIPPED {
        let theme = load(name, &[], Depth::True).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = theme.style(Slot::Text);
        let ground = rgb(text.bg).expect("the text slot has the screen's background");
        // What lies on a row that is selected must stay readable too.
        let selection = rgb(theme.style(Slot::Selection).bg).expect("a selection is visible");
        for (slot, key) in Slot::ALL {
            let style = theme.style(slot);
            let fg = rgb(style.fg).unwrap_or_else(|| panic!("{name}: {key} has no colour"));
            let least = if slot.is_text() { 4.5 } else { 1.8 };
            let bg = rgb(style.bg).unwrap_or(ground);
            let contrast = fg.contrast(bg);
            assert!(contrast >= least, "{name}: {key}: {contrast:.2} on its background");
            if key.starts_with("state.") || slot == Slot::Mark {
                let contrast = fg.contrast(selection);
                assert!(contrast >= 3.0, "{name}: {key}: {contrast:.2} on a selected row");
            }
        }
    }
}

#[test]
fn with_sixteen_colours_no_text_vanishes() {
    for (name, _) in SHIPPED {
        for depth in [Depth::Ansi16, Depth::Indexed] {
            let theme = load(name, &[], depth).expect("shipped");
            let ground = theme.style(Slot::Text).bg;
            for (slot, key) in Slot::ALL {
                let style = theme.style(slot);
                assert_ne!(style.fg, style.bg.or(ground), "{name} {depth:?}: {key}");
            }
            let selected = theme.style(Slot::Selection).bg;
            assert_ne!(selected, ground, "{name} {depth:?}: the selection does not show");
        }
    }
}

#[test]
fn a_theme_of_the_users_changes_what_it_names_and_inherits_the_rest() {
    let mine = user(
        "mine",
        "inherits = \"light\"\n[palette]\ngreen = \"#004400\"\n[styles]\ntitle = { fg = \"#102030\", italic = true }\n",
    );
    let theme = load("mine", &[mine], Depth::True).expect("good");
    let light = load("light", &[], Depth::True).expect("good");
    assert_eq!(theme.name(), "mine");
    assert_eq!(theme.style(Slot::Title).fg, Some(Color::Rgb(0x10, 0x20, 0x30)));
    assert_eq!(theme.style(Slot::StateRunning).fg, Some(Color::Rgb(0, 0x44, 0)));
    assert_eq!(theme.style(Slot::Text), light.style(Slot::Text));
}

#[test]
fn a_theme_may_replace_a_shipped_one_and_inherit_from_it() {
    let dark = user("dark", "inherits = \"dark\"\n[palette]\nblue = \"#99ccff\"\n");
    let theme = load("dark", &[dark], Depth::True).expect("good");
    assert_eq!(theme.style(Slot::JobBar).fg, Some(Color::Rgb(0x99, 0xcc, 0xff)));
}

#[test]
fn a_circle_of_inherits_is_found() {
    let files = [user("a", "inherits = \"b\""), user("b", "inherits = \"a\"")];
    assert!(error(&files).contains("a → b → a"), "{}", error(&files));
    let alone = [user("a", "inherits = \"a\"")];
    assert!(error(&alone).contains("a → a"), "{}", error(&alone));
}

#[test]
fn every_mistake_has_file_line_and_suggestion() {
    let text = "inherit = \"dark\"\n[palette]\nred = \"rot\"\n[styles]\n\"state.runing\" = \"red\"\ntitle = { fg = \"red\", blod = true }\nheader = 3\n";
    let said = error(&[user("mine", text)]);
    for part in [
        "/t/mine.toml:1: there is no key “inherit”; did you mean “inherits”?",
        "/t/mine.toml:3: “rot” is no colour",
        "/t/mine.toml:5: there is no slot “state.runing”; did you mean “state.running”?",
        "/t/mine.toml:6: there is no part of a style “blod”; did you mean “bold”?",
        "/t/mine.toml:7: a style is a colour",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn a_slot_without_a_style_and_a_colour_without_a_value_are_errors() {
    let said = error(&[user("bare", "[styles]\ntext = \"#000000\"\n")]);
    assert!(said.contains("the slot “title” has no style"), "{said}");
    let said = error(&[user("mine", "inherits = \"dark\"\n[styles]\ntitle = \"bleu\"\n")]);
    assert!(
        said.contains("/t/mine.toml:3: there is no colour “bleu”; did you mean “blue”?"),
        "{said}"
    );
}

#[test]
fn a_theme_that_does_not_exist_is_named_with_those_that_do() {
    let said = load("solarised", &[user("mine", "")], Depth::True).expect_err("none").to_string();
    assert!(said.contains("known are: mine, dark, light"), "{said}");
}

#[test]
fn without_colour_any_theme_is_the_monochrome_one() {
    let theme = load("light", &[], Depth::Mono).expect("good");
    assert_eq!(theme, Theme::mono("light"));
}
