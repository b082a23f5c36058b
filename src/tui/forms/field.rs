//! A field of a form, as data.

use super::TextLine;

/// One of the answers of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it stands for.
    pub value: String,
    /// What is said about it beside it.
    pub note: String,
}

/// What a field takes.
pub enum Kind {
    /// Any text.
    Text(TextLine),
    /// One of these; ← and → go round.
    Choice {
        /// The answers.
        options: Vec<Choice>,
        /// The one chosen; 0 if there is none.
        at: usize,
    },
    /// Yes or no.
    Toggle(bool),
    /// Whether the fields behind it are shown.
    Fold(bool),
    /// A number, perhaps with a unit: a text in which `+` and `-` step.
    Number {
        /// The text.
        line: TextLine,
        /// The next (`true`) or previous sensible value, if the text is one at all.
        step: fn(&str, bool) -> Option<String>,
    },
}

/// A field.
pub struct Field<I> {
    /// Which it is.
    pub id: I,
    /// What stands before it; at most 10 columns.
    pub label: &'static str,
    /// What it takes, and what it holds.
    pub kind: Kind,
    /// One line on what is wanted, shown while it has the focus.
    pub help: String,
    /// What stands in it, dimmed, while it is empty; of a fold, what it hides.
    pub placeholder: String,
    /// What is wrong with it; keeps the form from being submitted.
    pub problem: Option<String>,
    /// What is worth a thought, but no mistake.
    pub note: Option<String>,
    /// Whether the user changed it, so that it no longer follows other fields.
    pub touched: bool,
}

impl<I> Field<I> {
    /// A field that takes `kind`.
    pub fn new(id: I, label: &'static str, kind: Kind, help: impl Into<String>) -> Self {
        Self {
            id,
            label,
            kind,
            help: help.into(),
            placeholder: String::new(),
            problem: None,
            note: None,
            touched: false,
        }
    }

    /// What it holds, as text: `true` or `false` for a toggle or a fold.
    #[must_use]
    pub fn value(&self) -> &str {
        match &self.kind {
            Kind::Text(line) | Kind::Number { line, .. } => line.text(),
            Kind::Choice { options, at } => options.get(*at).map_or("", |o| o.value.as_str()),
            Kind::Toggle(true) | Kind::Fold(true) => "true",
            Kind::Toggle(false) | Kind::Fold(false) => "false",
        }
    }

    /// Puts a value in place as if it were the default; a choice without it stays as it is.
    pub fn set(&mut self, value: &str) {
        match &mut self.kind {
            Kind::Text(line) | Kind::Number { line, .. } => line.set(value),
            Kind::Choice { options, at } => {
                *at = options.iter().position(|o| o.value == value).unwrap_or(*at);
            }
            Kind::Toggle(on) | Kind::Fold(on) => *on = value == "true",
        }
    }
}
