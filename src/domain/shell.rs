//! Commands as a user would type them into a shell.

/// A word of a POSIX shell: between apostrophes unless it means itself; an apostrophe cannot stand
/// between apostrophes.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
