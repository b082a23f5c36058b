//! Text on its way to the screen.
//!
//! What comes from a guest or an image is data: no control character of it may reach the outer
//! terminal, and none may move what stands beside it.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a character would do something else than be drawn: controls (C0, DEL, C1) and what
/// turns the direction of the text around it.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text on one line with every harmful character shown as `·`, at most `max` characters.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let harmless = |c| if is_harmful(c) { '·' } else { c };
    text.trim_end_matches(['\n', '\r']).chars().take(max).map(harmless).collect()
}

/// Columns the text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text cleaned and cut to `columns` columns; what is cut ends in `…`.
#[must_use]
pub fn clip(text: &str, columns: usize) -> String {
    // A line cannot show more characters than columns but for those of width 0.
    let text = clean(text, columns.saturating_mul(4).saturating_add(8));
    if text.width() <= columns {
        return text;
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The text cleaned and cut to `columns` columns in its middle: of paths the end tells more than
/// what is before it.
#[must_use]
pub fn clip_middle(text: &str, columns: usize) -> String {
    // Longer than any path (PATH_MAX, linux/limits.h).
    let text = clean(text, 4_096);
    if text.width() <= columns || columns == 0 {
        return clip(&text, columns);
    }
    let head = clip(&text, columns / 3 + 1);
    let room = columns - head.width();
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= room
    };
    let tail: Vec<char> = text.chars().rev().take_while(fits).collect();
    head.chars().chain(tail.into_iter().rev()).collect()
}

/// A duration as a user reads it at a glance: `42s`, `3m 5s`, `2h 10m`, `5d 3h`.
#[must_use]
pub fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A short time as it is measured: `230 ms`, `1.72 s`.
#[must_use]
pub fn millis(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{:.2} s", ms as f64 / 1_000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_gets_through() {
        let evil = "a\u{1b}]0;x\u{7}b\u{9b}31mc\u{202e}d\r\ne";
        let clean = clean(evil, 100);
        assert!(!clean.chars().any(is_harmful), "{clean:?}");
        assert_eq!(clean, "a·]0;x·b·31mc·d··e");
    }

    #[test]
    fn text_is_cut_by_columns() {
        assert_eq!(clip("hello", 5), "hello");
        assert_eq!(clip("hello!", 5), "hell…");
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("x", 0), "");
        assert_eq!(clip(&"y".repeat(1_000_000), 3), "yy…");
    }

    #[test]
    fn of_long_paths_the_end_is_seen() {
        assert_eq!(clip_middle("/run/banger", 11), "/run/banger");
        assert_eq!(clip_middle("/run/banger/0a/vmm.sock", 15), "/run/…/vmm.sock");
        assert_eq!(clip_middle("日本語日本語", 8), "日…本語");
        assert_eq!(clip_middle("abcdef", 1), "…");
        assert_eq!(clip_middle("abcdef", 0), "");
        for columns in 0..12 {
            assert!(width(&clip_middle("a日b本c語d", columns)) <= columns);
        }
    }

    #[test]
    fn ages_are_short() {
        for (ms, text) in [
            (0, "0s"),
            (59_999, "59s"),
            (185_000, "3m 5s"),
            (7_800_000, "2h 10m"),
            (442_800_000, "5d 3h"),
        ] {
            assert_eq!(age(ms), text);
        }
        assert_eq!((millis(230).as_str(), millis(1_720).as_str()), ("230 ms", "1.72 s"));
    }
}
