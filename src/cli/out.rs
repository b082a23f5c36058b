//! What is printed: errors, notes and progress on standard error, results on standard output.
//!
//! Everything that may hold a guest's, a program's or the user's own words goes through
//! [`printable`]: none of it may steer the terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use crate::domain::Problem;

/// A text without control characters; line ends stay.
///
/// What directs text (bidirectional overrides) goes, too: it can make a name look like another.
#[must_use]
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// `error: what: why`, and the hint below it.
pub fn error(problem: &Problem) {
    tracing::error!(what = problem.what, why = problem.why, "told the user");
    error_line(&problem.to_string());
}

/// `error: ` and a text.
pub fn error_line(text: &str) {
    note(&format!("error: {text}"));
}

/// A line on standard error. If that is closed, there is nobody to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// A line on standard error for somebody who watches: only on a terminal.
pub fn progress(text: &str) {
    if io::stderr().is_terminal() {
        note(text);
    }
}

/// A line on standard output.
///
/// # Errors
/// What the stream says; [`io::ErrorKind::BrokenPipe`] if nobody reads.
pub fn line(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", printable(&text.to_string()))?;
    out.flush()
}

/// A text of banger's own on standard output, as it is.
///
/// # Errors
/// As [`line`].
pub fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_can_steer_the_terminal() {
        assert_eq!(printable("a\n  hint: b"), "a\n  hint: b");
        assert_eq!(printable("\u{1b}]52;c;eA==\u{7}x\u{9b}31m\r"), "�]52;c;eA==�x�31m�");
        assert_eq!(printable("web\u{202e}bew"), "web�bew");
    }
}
