//! Recipes as text: TOML, read so that all that is wrong with it is said at once.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::domain::Recipe;

/// What a value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    Texts,
    Tables(&'static [(&'static str, Kind, bool)]),
}

/// The keys of a recipe: what each is, and whether it must be there.
const KEYS: &[(&str, Kind, bool)] = &[
    ("name", Kind::Text, true),
    ("base", Kind::Text, true),
    ("about", Kind::Text, false),
    ("packages", Kind::Text, false),
    ("complete", Kind::Flag, false),
    ("presets", Kind::Texts, false),
    ("size_mib", Kind::Number, false),
    ("memory_mib", Kind::Number, false),
    ("script", Kind::Text, false),
    ("keys", Kind::Texts, false),
    ("files", Kind::Tables(FILE), false),
    ("users", Kind::Tables(USER), false),
];
const FILE: &[(&str, Kind, bool)] = &[("from", Kind::Text, true), ("to", Kind::Text, true)];
const USER: &[(&str, Kind, bool)] =
    &[("name", Kind::Text, true), ("sudo", Kind::Flag, false), ("keys", Kind::Texts, false)];

/// How alike two words must be for one to be offered for the other (1 is the same).
const ALIKE: f64 = 0.8;

/// Reads a recipe.
///
/// # Errors
/// All that is wrong, each with its line, counted from 1; 0 is the file as a whole.
pub fn parse(text: &str) -> Result<Recipe, Vec<(usize, String)>> {
    let line = |at: usize| text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        vec![(line(at), format!("this is no TOML: {}", error.message()))]
    })?;
    let mut wrong = Vec::new();
    let whole = table.span();
    look(table.get_ref(), &whole, "", KEYS, &mut wrong);
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (key, value) in table.get_ref() {
        lines.insert(key.get_ref().to_string(), line(value.span().start));
    }
    let mut wrong: Vec<(usize, String)> = wrong
        .into_iter()
        .map(|(span, message)| (span.map_or(0, |span| line(span.start)), message))
        .collect();
    if wrong.is_empty() {
        match toml::from_str::<Recipe>(text) {
            Ok(recipe) => {
                wrong.extend(recipe.problems().into_iter().map(|problem| {
                    let top: String =
                        problem.key.chars().take_while(|c| !matches!(c, '[' | '.')).collect();
                    let at = lines.get(&top).copied().unwrap_or(0);
                    (at, format!("{}: {}", problem.key, problem.message))
                }));
                if wrong.is_empty() {
                    return Ok(recipe);
                }
            }
            // What is left after the look: the word of a preset.
            Err(error) => {
                let at = error.span().map_or(0, |span| line(span.start));
                wrong.push((at, error.message().to_owned()));
            }
        }
    }
    wrong.sort();
    Err(wrong)
}

/// A recipe as text, with only what it has.
#[must_use]
pub fn toml_of(recipe: &Recipe) -> String {
    // Texts, numbers and lists of them: nothing that TOML has no words for.
    toml::to_string(recipe).unwrap_or_default()
}

type Wrong = Vec<(Option<Range<usize>>, String)>;

fn look(
    table: &DeTable<'_>,
    whole: &Range<usize>,
    place: &str,
    keys: &'static [(&'static str, Kind, bool)],
    wrong: &mut Wrong,
) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some((_, kind, _)) = keys.iter().find(|(known, ..)| *known == name) else {
            wrong.push((Some(key.span()), unknown(place, name, keys)));
            continue;
        };
        check(value, *kind, &format!("{place}{name}"), wrong);
    }
    for (name, _, needed) in keys {
        if *needed && !table.iter().any(|(key, _)| key.get_ref() == name) {
            let at = (!place.is_empty()).then(|| whole.clone());
            wrong.push((at, format!("the key {place}{name} is missing")));
        }
    }
}

fn check(value: &Spanned<DeValue<'_>>, kind: Kind, name: &str, wrong: &mut Wrong) {
    let mut is = |right: bool, what: &str| {
        if !right {
            wrong.push((Some(value.span()), format!("{name} is {what}")));
        }
    };
    let it = value.get_ref();
    match kind {
        Kind::Text => is(it.is_str(), "a text in quotes"),
        Kind::Flag => is(it.is_bool(), "true or false"),
        Kind::Number => {
            let number = it.as_integer().and_then(|n| {
                u64::from_str_radix(n.as_str(), n.radix()).ok().filter(|n| *n <= i64::MAX as u64)
            });
            is(number.is_some(), "a whole number, not negative");
        }
        Kind::Texts => {
            let texts = it.as_array().is_some_and(|all| all.iter().all(|v| v.get_ref().is_str()));
            is(texts, "a list of texts: [\"…\"]");
        }
        Kind::Tables(keys) => {
            let all = it.as_array();
            let tables = all.is_some_and(|all| all.iter().all(|v| v.get_ref().is_table()));
            is(tables, &format!("a list of tables: [[{name}]]"));
            for (nth, entry) in all.into_iter().flatten().enumerate() {
                if let Some(table) = entry.get_ref().as_table() {
                    look(table, &entry.span(), &format!("{name}[{nth}]."), keys, wrong);
                }
            }
        }
    }
}

fn unknown(place: &str, name: &str, keys: &[(&'static str, Kind, bool)]) -> String {
    let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    let nearest = keys
        .iter()
        .map(|(known, ..)| (strsim::jaro_winkler(name, known), *known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, known)) => format!("there is no key “{place}{shown}”; did you mean “{known}”?"),
        None => {
            let known: Vec<&str> = keys.iter().map(|(known, ..)| *known).collect();
            format!("there is no key “{place}{shown}”; known are: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;
    use crate::domain::Preset;

    const GOOD: &str = r#"
name = "web"
base = "debian"
packages = """
curl   # for downloads
vim-
"""
presets = ["docker"]
size_mib = 4096
keys = []

[[files]]
from = "/etc/motd"
to = "/srv/"

[[users]]
name = "ada"
sudo = true
"#;

    #[test]
    fn a_recipe_is_read_and_written_and_is_the_same() {
        let recipe = parse(GOOD).expect("good");
        assert_eq!(
            (recipe.presets.as_slice(), recipe.size_mib),
            (&[Preset::Docker][..], Some(4096))
        );
        assert_eq!(parse(&toml_of(&recipe)), Ok(recipe));
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_line() {
        let bad = "nmae = \"web\"\nbase = 3\nsize_mib = -1\nkeys = \"x\"\n[[users]]\nsuod = true\n";
        let wrong = parse(bad).expect_err("bad");
        let text: Vec<String> = wrong.iter().map(|(line, m)| format!("{line}: {m}")).collect();
        assert_eq!(
            text,
            [
                "0: the key name is missing",
                "1: there is no key “nmae”; did you mean “name”?",
                "2: base is a text in quotes",
                "3: size_mib is a whole number, not negative",
                "4: keys is a list of texts: [\"…\"]",
                "5: the key users[0].name is missing",
                "6: there is no key “users[0].suod”; did you mean “sudo”?",
            ]
        );
        let wrong = parse("name = \"Web\"\nbase = \"b\"\n[[files]]\nfrom = \"x\"\nto = \"y\"\n");
        let wrong = wrong.expect_err("bad");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!((wrong[0].0, wrong[1].0), (1, 3), "{wrong:?}");
        let preset =
            parse("name = \"w\"\nbase = \"b\"\npresets = [\"dokcer\"]\n").expect_err("bad");
        assert!(preset[0].0 == 3 && preset[0].1.contains("docker"), "{preset:?}");
        assert!(parse("name = ").expect_err("no TOML")[0].1.contains("no TOML"));
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
