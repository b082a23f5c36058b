//! What of a guest's text may go on to the outer terminal.

/// The longest title that is kept, in characters.
const TITLE_MAX: usize = 128;

/// A title without control characters and direction marks, cut to 128 characters.
///
/// A title goes to places where the user reads what banger says; it must not be able to look
/// like more than one line, or like something it is not.
#[must_use]
pub fn title(text: &str) -> String {
    let shown: String =
        text.chars().filter(|&c| !c.is_control() && !is_format(c)).take(TITLE_MAX).collect();
    shown.trim().to_owned()
}

/// Whether a zero-width character may be painted with the cell it belongs to.
#[must_use]
pub(super) fn may_combine(c: char) -> bool {
    !c.is_control() && !is_format(c)
}

/// What a cell shows for a character of the grid.
#[must_use]
pub(super) fn shown(c: char) -> char {
    // The emulator keeps a tab as the character of the cell where it began. A skin tone alone
    // in its cells would be drawn into the emoji before it, and the rest of the line would shift.
    if c.is_control() || ('\u{1f3fb}'..='\u{1f3ff}').contains(&c) { ' ' } else { c }
}

/// Characters without a form of their own that change how others are drawn: joiners, direction
/// marks, variation selectors, tags (the category Cf of Unicode, and the selectors of Mn).
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_harmless_line() {
        assert_eq!(title("root@web: ~"), "root@web: ~");
        assert_eq!(title(" a\x1b]0;b\x07\r\nc\u{9b}31m\u{202e}d "), "a]0;bc31md");
        assert_eq!(title(&"x".repeat(5000)).len(), TITLE_MAX);
        assert_eq!(title("\u{200d}\u{7f}"), "");
    }

    #[test]
    fn only_real_marks_combine() {
        assert!(may_combine('\u{301}'));
        assert!(may_combine('\u{1160}'), "a Hangul vowel");
        for c in ['\u{200d}', '\u{fe0f}', '\u{fe0e}', '\u{202e}', '\u{e0041}'] {
            assert!(!may_combine(c), "{c:?}");
        }
        assert_eq!((shown('\t'), shown('\u{1f3fd}'), shown('é')), (' ', ' ', 'é'));
    }
}
