//! A TOML file under examination: what is wrong with it, and where.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeTable};

use crate::domain::Problem;

/// The text of a TOML file and the mistakes found in it so far.
///
/// Mistakes are collected, not returned at the first: the user corrects them in one go.
pub(super) struct Doc<'a> {
    file: PathBuf,
    text: &'a str,
    mistakes: Vec<(usize, String)>,
}

impl<'a> Doc<'a> {
    pub fn new(file: &Path, text: &'a str) -> Self {
        Self { file: file.to_owned(), text, mistakes: Vec::new() }
    }

    /// The root table; empty, with the mistake noted, if the text is no TOML.
    pub fn parse(&mut self) -> DeTable<'a> {
        match DeTable::parse(self.text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                self.mistakes.push((at, format!("this is no TOML: {}", error.message())));
                DeTable::new()
            }
        }
    }

    /// Notes a mistake at a place.
    pub fn mistake(&mut self, at: &Range<usize>, message: String) {
        self.mistakes.push((at.start, message));
    }

    /// Notes that `key` is none of the `known`.
    pub fn unknown<'k>(
        &mut self,
        key: &Spanned<impl AsRef<str>>,
        noun: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let message = unknown(noun, key.get_ref().as_ref(), known);
        self.mistake(&key.span(), message);
    }

    /// The line that byte `at` is on, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        before.iter().filter(|b| **b == b'\n').count() + 1
    }

    /// The verdict.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    pub fn finish(mut self, what: &str) -> Result<(), Problem> {
        self.mistakes.sort();
        let lines: Vec<String> = self
            .mistakes
            .iter()
            .map(|(at, message)| format!("{}:{}: {message}", self.file.display(), self.line(*at)))
            .collect();
        let Some(last) = self.mistakes.last() else { return Ok(()) };
        let where_to = match self.line(self.mistakes[0].0) {
            line if line == self.line(last.0) => format!("correct line {line}"),
            _ => "correct these lines".to_owned(),
        };
        let hint = format!("{where_to} of {} and start banger again", self.file.display());
        Err(Problem::new(what, lines.join("\n"), hint))
    }
}

/// “there is no key “tehme”; did you mean “theme”?”, or all that is known if nothing is near.
pub(super) fn unknown<'k>(
    noun: &str,
    name: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> String {
    let shown = quoted(name);
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("there is no {noun} {shown}; did you mean “{near}”?"),
        None if known.is_empty() => format!("there is no {noun} {shown}"),
        None if known.len() <= 24 => {
            format!("there is no {noun} {shown}; known are: {}", known.join(", "))
        }
        None => format!("there is no {noun} {shown}"),
    }
}

/// The text as it may be shown in an error: short, and without control characters.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let rest = if text.chars().nth(60).is_some() { "…" } else { "" };
    format!("“{}{rest}”", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

/// The name most like `name`, if one is like it at all.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Jaro-Winkler favours a common beginning, which mistyped words have; below 0.8 the
    // suggestions are guesses ("mouse" for "memory" is 0.70).
    // Of short words it knows too little: one slip ("tpo" for "top") makes any word near.
    let likeness = |candidate: &str| {
        let slip = name.len() > 2 && strsim::osa_distance(name, candidate) == 1;
        strsim::jaro_winkler(name, candidate).max(if slip { 0.9 } else { 0.0 })
    };
    known
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_come_in_line_order_with_file_and_line() {
        let text = "a = 1\n\nb = 2\n";
        let mut doc = Doc::new(Path::new("/x/config.toml"), text);
        let table = doc.parse();
        for (key, _) in table.iter().rev() {
            doc.unknown(key, "key", ["theme"]);
        }
        let problem = doc.finish("cannot read the configuration").expect_err("two mistakes");
        assert_eq!(
            problem.why,
            "/x/config.toml:1: there is no key “a”; known are: theme\n\
             /x/config.toml:3: there is no key “b”; known are: theme"
        );
        assert!(problem.hint.contains("these lines"), "{}", problem.hint);
    }

    #[test]
    fn the_nearest_name_is_suggested_only_if_it_is_near() {
        assert_eq!(
            unknown("key", "tehme", ["theme", "mouse"]),
            "there is no key “tehme”; did you mean “theme”?"
        );
        assert_eq!(
            unknown("key", "tpo", ["up", "top"]),
            "there is no key “tpo”; did you mean “top”?"
        );
        assert_eq!(
            unknown("key", "zzz", ["theme", "mouse"]),
            "there is no key “zzz”; known are: theme, mouse"
        );
    }

    #[test]
    fn what_is_quoted_is_short_and_harmless() {
        assert_eq!(quoted("a \"b\" 'c' ü"), "“a \"b\" 'c' ü”");
        assert_eq!(quoted("\u{1b}[2J\n"), "“\\u{1b}[2J\\n”");
        assert_eq!(quoted(&"x".repeat(1_000)).chars().count(), 63);
    }

    #[test]
    fn what_is_no_toml_has_a_line() {
        let mut doc = Doc::new(Path::new("c.toml"), "a = 1\nb = = 2\n");
        assert!(doc.parse().is_empty());
        let problem = doc.finish("x").expect_err("no TOML");
        assert!(problem.why.starts_with("c.toml:2: this is no TOML"), "{}", problem.why);
    }
}
