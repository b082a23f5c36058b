//! Small things that screens and popups are made of.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    widgets::{Block, BorderType, Borders, Clear, Widget},
};

use super::{
    action::Action,
    layers::{Draw, Hit},
    text::{clip, width},
};
use crate::config::theme::{Slot, Theme};

/// Writes cleaned text into one row, at most `columns` wide and never out of the buffer.
/// Returns the column after it.
pub fn put(buf: &mut Buffer, x: u16, y: u16, text: &str, style: Style, columns: u16) -> u16 {
    let area = buf.area;
    if y < area.top() || y >= area.bottom() || x >= area.right() {
        return x;
    }
    let columns = columns.min(area.right() - x);
    let text = clip(text, usize::from(columns));
    buf.set_stringn(x, y, &text, usize::from(columns), style).0
}

/// Writes text that ends at the right edge of `area`'s first row. Returns where it begins.
pub fn put_right(buf: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    let text = clip(text, usize::from(area.width));
    let x = area.right().saturating_sub(width(&text) as u16);
    put(buf, x, area.y, &text, style, area.width);
    x
}

/// A place of this size in the middle of `area`, smaller if it has to be.
#[must_use]
pub fn centered(area: Rect, columns: u16, rows: u16) -> Rect {
    let (w, h) = (columns.min(area.width), rows.min(area.height));
    Rect::new(area.x + (area.width - w) / 2, area.y + (area.height - h) / 2, w, h)
}

/// Draws a frame with a title, emptied inside, and returns the inside.
pub fn panel(buf: &mut Buffer, area: Rect, title: &str, theme: &Theme, focused: bool) -> Rect {
    let border = if focused { Slot::BorderFocus } else { Slot::Border };
    Clear.render(area, buf);
    buf.set_style(area, theme.style(Slot::Text));
    let title = clip(title, usize::from(area.width.saturating_sub(4)));
    let block = Block::new()
        .borders(Borders::ALL)
        .border_type(BorderType::Rounded)
        .border_style(theme.style(border));
    let inner = block.inner(area);
    block.render(area, buf);
    if !title.is_empty() && area.width > 4 {
        let style = theme.style(Slot::Title);
        put(buf, area.x + 2, area.y, &format!(" {title} "), style, area.width - 3);
    }
    inner
}

/// A popup in the middle of the screen: everything on it is the layer's own.
pub fn popup(cx: &mut Draw<'_>, area: Rect, title: &str, columns: u16, rows: u16) -> Rect {
    let place = centered(area, columns, rows);
    cx.hit(area, Hit::Surface);
    panel(cx.buf, place, title, cx.theme, true)
}

/// A row of buttons, which [`Hit::Item`]s from 0 on belong to.
pub fn buttons(cx: &mut Draw<'_>, area: Rect, labels: &[&str], focus: usize) {
    let mut x = area.x;
    for (index, label) in labels.iter().enumerate() {
        let slot = if index == focus { Slot::ButtonFocus } else { Slot::Button };
        let text = format!("[ {label} ]");
        let end =
            put(cx.buf, x, area.y, &text, cx.theme.style(slot), area.right().saturating_sub(x));
        cx.hit(Rect::new(x, area.y, end - x, 1), Hit::Item(index));
        x = end + 2;
    }
}

/// A bar of `columns` cells that is full for `part` of `whole`.
pub fn meter(buf: &mut Buffer, area: Rect, part: u64, whole: u64, theme: &Theme) {
    if area.is_empty() {
        return;
    }
    let share = if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) };
    let full = (share * f64::from(area.width)).round() as u16;
    for column in 0..area.width {
        let (symbol, slot) =
            if column < full { ("━", Slot::MeterUsed) } else { ("─", Slot::MeterFree) };
        put(buf, area.x + column, area.y, symbol, theme.style(slot), 1);
    }
}

/// Breaks text into lines of at most `columns` columns, between words where there are any.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for line in text.lines() {
        let before = lines.len();
        let mut current = String::new();
        for word in line.split_whitespace() {
            let mut word = super::text::clean(word, 2_000);
            if !current.is_empty() && width(&current) + 1 + width(&word) > columns {
                lines.push(std::mem::take(&mut current));
            }
            while width(&word) > columns {
                let head: String = take_columns(&word, columns);
                word.drain(..head.len());
                lines.push(head);
            }
            if !current.is_empty() && !word.is_empty() {
                current.push(' ');
            }
            current.push_str(&word);
        }
        // An empty line stays one; the rest of a broken word may be nothing.
        if !current.is_empty() || lines.len() == before {
            lines.push(current);
        }
    }
    lines
}

/// A line in pieces of at most so many columns, wherever that breaks it.
#[must_use]
pub fn broken(line: &str, columns: usize) -> Vec<String> {
    let mut rest = super::text::clean(line, 2_000);
    let mut pieces = Vec::new();
    while width(&rest) > columns {
        let head = take_columns(&rest, columns);
        rest.drain(..head.len());
        pieces.push(head);
    }
    // An empty line stays one; the rest of a broken one may be nothing.
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}

fn take_columns(text: &str, columns: usize) -> String {
    use unicode_width::UnicodeWidthChar;
    let mut used = 0;
    let mut head = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns && !head.is_empty() {
            break;
        }
        head.push(c);
    }
    head
}

/// Where a list of `len` rows has to begin so that row `at` is within `rows`, moving as little
/// as possible from `top`.
#[must_use]
pub fn scrolled(top: usize, at: usize, len: usize, rows: usize) -> usize {
    let rows = rows.max(1);
    let top = top.min(len.saturating_sub(rows));
    if at < top {
        at
    } else if at >= top + rows {
        at + 1 - rows
    } else {
        top
    }
}

/// How many rows an action moves a cursor or a text by, if it is one that moves; `page` is how
/// many are seen. To the top and to the bottom it is as far as can be.
#[must_use]
pub const fn step(action: Action, page: usize) -> Option<isize> {
    let page = page as isize;
    let half = if page < 4 { 1 } else { page / 2 };
    Some(match action {
        Action::Up => -1,
        Action::Down => 1,
        Action::HalfUp => -half,
        Action::HalfDown => half,
        Action::PageUp => -page,
        Action::PageDown => page,
        Action::Top => isize::MIN,
        Action::Bottom => isize::MAX,
        _ => return None,
    })
}

/// Writes wrapped text into the middle of an area.
pub fn note(buf: &mut Buffer, area: Rect, text: &str, style: Style) {
    let lines = wrap(text, usize::from(area.width.saturating_sub(4)));
    let top = area.y + area.height.saturating_sub(lines.len() as u16) / 2;
    for (line, y) in lines.iter().zip(top..area.bottom()) {
        let x = area.x + area.width.saturating_sub(width(line) as u16) / 2;
        put(buf, x, y, line, style, area.right() - x);
    }
}

/// The spinner's frame at a time: one every 120 ms.
#[must_use]
pub fn spinner(mono: std::time::Duration) -> &'static str {
    const FRAMES: [&str; 8] = ["⣾", "⣽", "⣻", "⢿", "⡿", "⣟", "⣯", "⣷"];
    FRAMES[(mono.as_millis() / SPIN.as_millis()) as usize % FRAMES.len()]
}

/// How long a frame of the spinner stays.
pub const SPIN: std::time::Duration = std::time::Duration::from_millis(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_scroll_no_more_than_needed() {
        assert_eq!(scrolled(0, 3, 10, 5), 0);
        assert_eq!(scrolled(0, 5, 10, 5), 1);
        assert_eq!(scrolled(4, 2, 10, 5), 2);
        assert_eq!(scrolled(9, 9, 10, 5), 5);
        assert_eq!(scrolled(3, 0, 0, 5), 0);
    }

    #[test]
    fn text_is_wrapped_between_words_and_long_words_are_broken() {
        assert_eq!(wrap("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("a\nb", 10), ["a", "b"]);
        assert_eq!(wrap("日本語", 1), ["日", "本", "語"]);
    }

    #[test]
    fn lines_are_broken_where_the_room_ends() {
        assert_eq!(broken("  hint: x", 6), ["  hint", ": x"]);
        assert_eq!(broken("abcdef", 3), ["abc", "def"]);
        assert_eq!(broken("日本語", 1), ["日", "本", "語"]);
        assert_eq!(broken("", 4), [""]);
    }

    #[test]
    fn nothing_is_written_out_of_the_buffer() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 4, 1));
        put(&mut buf, 2, 0, "long text", Style::new(), 100);
        put(&mut buf, 9, 0, "x", Style::new(), 5);
        put(&mut buf, 0, 7, "x", Style::new(), 5);
        assert_eq!(buf, Buffer::with_lines(["  l…"]));
    }
}
