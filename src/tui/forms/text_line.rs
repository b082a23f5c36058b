//! A line of text that is being typed.

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Position, Rect},
    style::Style,
};
use ratatui_textarea::{CursorMove, TextArea};

use crate::tui::{
    layers::Draw,
    text::{is_harmful, width},
    widgets::put,
};

/// The most characters a line takes: more than any name or path has, so that what is too long is
/// said and not cut off, and little enough that a pasted megabyte does no harm.
const MAX: usize = 1_000;

/// One line of text with a cursor; edits as readline does.
pub struct TextLine(TextArea<'static>);

impl TextLine {
    /// A line with the cursor at its end.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut line = Self(TextArea::default());
        line.insert(text);
        line
    }

    /// What is typed.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.lines().first().map_or("", String::as_str)
    }

    /// Puts another text in place, the cursor at its end.
    pub fn set(&mut self, text: &str) {
        *self = Self::new(text);
    }

    /// Inserts text, such as a paste: its first line that says anything, without harmful
    /// characters, as far as there is room.
    pub fn insert(&mut self, text: &str) {
        let room = MAX.saturating_sub(self.text().chars().count());
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or(text);
        let line: String = line.chars().filter(|c| !is_harmful(*c)).take(room).collect();
        self.0.insert_str(line);
    }

    /// Edits. Returns whether the text is another now.
    pub fn key(&mut self, key: &KeyEvent) -> bool {
        let chord = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Char(c) if !chord => {
                let before = self.text().len();
                self.insert(c.encode_utf8(&mut [0; 4]));
                self.text().len() != before
            }
            // What makes lines, and Ctrl-M and Ctrl-J as terminals send them.
            KeyCode::Enter | KeyCode::Tab | KeyCode::Char('m' | 'j') => false,
            KeyCode::Char('u') if key.modifiers == KeyModifiers::CONTROL => {
                self.0.delete_line_by_head()
            }
            _ => {
                // Shift would select, and a selection is not drawn.
                let mut key = *key;
                key.modifiers.remove(KeyModifiers::SHIFT);
                self.0.input(key)
            }
        }
    }

    /// Draws it into one row so that the cursor is in sight; with the cursor if it has the focus.
    pub fn draw(&self, area: Rect, style: Style, focused: bool, cx: &mut Draw<'_>) {
        let room = usize::from(area.width);
        if room == 0 {
            return;
        }
        cx.buf.set_style(area.intersection(cx.buf.area), style);
        let text = self.text();
        let at = if focused { self.0.cursor().1 } else { 0 };
        let cursor = text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
        let mut from = 0;
        while width(&text[from..cursor]) + 1 > room {
            from += text[from..].chars().next().map_or(1, char::len_utf8);
        }
        put(cx.buf, area.x, area.y, &text[from..], style, area.width);
        if focused {
            let x = area.x + width(&text[from..cursor]) as u16;
            cx.cursor = Some(Position::new(x, area.y));
        }
    }

    /// Moves the cursor to a column of the text as drawn from its beginning: a click.
    pub fn click(&mut self, column: u16) {
        let mut used = 0;
        let text = self.text();
        let before = |c: &char| {
            used += width(c.encode_utf8(&mut [0; 4]));
            used <= usize::from(column)
        };
        let at = text.chars().take_while(before).count();
        self.0.move_cursor(CursorMove::Jump(0, at as u16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut TextLine, code: KeyCode, mods: KeyModifiers) -> bool {
        line.key(&KeyEvent::new(code, mods))
    }

    #[test]
    fn it_edits_like_a_shell() {
        let (none, ctrl) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        let mut line = TextLine::new("web");
        assert!(press(&mut line, KeyCode::Char('1'), none));
        assert!(!press(&mut line, KeyCode::Left, none), "moving changes nothing");
        press(&mut line, KeyCode::Char('-'), none);
        assert_eq!(line.text(), "web-1");
        press(&mut line, KeyCode::Home, none);
        press(&mut line, KeyCode::Delete, none);
        assert_eq!(line.text(), "eb-1");
        press(&mut line, KeyCode::End, none);
        press(&mut line, KeyCode::Char('w'), ctrl);
        assert_eq!(line.text(), "eb-");
        press(&mut line, KeyCode::Char('u'), ctrl);
        assert_eq!(line.text(), "");
    }

    #[test]
    fn it_stays_one_harmless_line_whatever_comes() {
        let mut line = TextLine::new("");
        for (code, mods) in [
            (KeyCode::Enter, KeyModifiers::NONE),
            (KeyCode::Char('m'), KeyModifiers::CONTROL),
            (KeyCode::Char('j'), KeyModifiers::CONTROL),
            (KeyCode::Tab, KeyModifiers::NONE),
        ] {
            press(&mut line, code, mods);
        }
        line.insert("\n\r\n  we\u{1b}[31mb\u{202e}\tx\nrm -rf /\n");
        assert_eq!(line.text(), "  we[31mbx");
        assert_eq!(line.0.lines().len(), 1);
        line.insert(&"y".repeat(1 << 20));
        assert_eq!(line.text().chars().count(), MAX);
        assert!(!press(&mut line, KeyCode::Char('z'), KeyModifiers::NONE));
    }

    #[test]
    fn no_chord_makes_a_second_line() {
        let mut line = TextLine::new("one two");
        for mods in [KeyModifiers::CONTROL, KeyModifiers::ALT, KeyModifiers::SHIFT] {
            // Twice: what one cuts, another may put back.
            for c in ('\0'..='~').chain('\0'..='~') {
                press(&mut line, KeyCode::Char(c), mods);
                assert_eq!(line.0.lines().len(), 1, "{mods} {c:?}");
                assert!(!line.text().chars().any(is_harmful), "{mods} {c:?}");
                line.insert("x y");
            }
        }
    }

    #[test]
    fn shift_and_an_arrow_do_not_select_what_the_next_key_would_replace() {
        let mut line = TextLine::new("web");
        press(&mut line, KeyCode::Home, KeyModifiers::SHIFT);
        press(&mut line, KeyCode::Char('a'), KeyModifiers::NONE);
        assert_eq!(line.text(), "aweb");
    }
}
