//! A text of several lines that is being typed.

use std::cell::Cell;

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::{Position, Rect},
};
use ratatui_textarea::{CursorMove, TextArea};

use crate::{
    config::theme::Slot,
    tui::{
        layers::Draw,
        text::{is_harmful, width},
        widgets::{put, scrolled},
    },
};

/// The most characters a text takes: a long script, and little enough that a pasted disk does no
/// harm.
const MAX: usize = 200_000;

/// Columns before the lines: a mark for what is wrong, and a blank.
const GUTTER: u16 = 2;

/// Lines of text with a cursor.
pub struct Editor {
    area: TextArea<'static>,
    /// The first line that is shown. Only drawing knows how many there is room for.
    top: Cell<usize>,
    /// Where the lines were drawn last, for clicks.
    place: Cell<Rect>,
}

impl Editor {
    /// A text with the cursor at its end.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        let mut area = TextArea::new(if lines.is_empty() { vec![String::new()] } else { lines });
        if text.ends_with('\n') {
            area.move_cursor(CursorMove::Bottom);
            area.move_cursor(CursorMove::End);
            area.insert_newline();
        }
        area.move_cursor(CursorMove::Bottom);
        area.move_cursor(CursorMove::End);
        Self { area, top: Cell::new(0), place: Cell::new(Rect::ZERO) }
    }

    /// What is typed; every line has its end.
    #[must_use]
    pub fn text(&self) -> String {
        let text = self.area.lines().join("\n");
        if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
    }

    /// The lines.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.area.lines()
    }

    /// Edits. Returns whether the text is another now.
    pub fn key(&mut self, key: &KeyEvent) -> bool {
        let chord = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match key.code {
            KeyCode::Char(c) if !chord => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Enter => self.insert("\n"),
            // What a paste has at a line's end, from a terminal that does not say that it is one.
            KeyCode::Char('j') if key.modifiers == KeyModifiers::CONTROL => self.insert("\n"),
            // Another chord pastes what this cuts; the terminal's paste comes as one.
            KeyCode::Char('y') if key.modifiers == KeyModifiers::CONTROL => false,
            _ => {
                // Shift would select, and a selection is not drawn.
                let mut key = *key;
                key.modifiers.remove(KeyModifiers::SHIFT);
                self.area.input(key)
            }
        }
    }

    /// Inserts text, such as a paste, without harmful characters and as far as there is room.
    /// Returns whether the text is another now.
    pub fn insert(&mut self, text: &str) -> bool {
        let used: usize = self.area.lines().iter().map(|line| line.chars().count() + 1).sum();
        let room = MAX.saturating_sub(used);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let harmless = |c: &char| matches!(c, '\n' | '\t') || !is_harmful(*c);
        let text: String = text.chars().filter(harmless).take(room).collect();
        self.area.insert_str(text)
    }

    /// Moves the cursor to a cell of the screen, if it is one of the text.
    pub fn click(&mut self, column: u16, row: u16) {
        let place = self.place.get();
        if place.contains(Position::new(column, row)) {
            let line = self.top.get() + usize::from(row - place.y);
            let line = u16::try_from(line).unwrap_or(u16::MAX);
            self.area.move_cursor(CursorMove::Jump(line, column - place.x));
        }
    }

    /// Moves the cursor to the end of a line, from 1 on.
    pub fn go_to_line(&mut self, line: usize) {
        let line = u16::try_from(line.saturating_sub(1)).unwrap_or(u16::MAX);
        self.area.move_cursor(CursorMove::Jump(line, 0));
        self.area.move_cursor(CursorMove::End);
    }

    /// Moves by lines: the wheel.
    pub fn scroll(&mut self, by: isize) {
        let way = if by < 0 { CursorMove::Up } else { CursorMove::Down };
        for _ in 0..by.unsigned_abs() {
            self.area.move_cursor(way);
        }
    }

    /// Draws it so that the cursor is in sight; `wrong` are lines (from 1 on) that are. Returns
    /// the line with the cursor, from 1 on.
    pub fn draw(&self, at: Rect, focused: bool, wrong: &[usize], cx: &mut Draw<'_>) -> usize {
        let (row, column) = (self.area.cursor().0, self.area.cursor().1);
        let rows = usize::from(at.height);
        let top = scrolled(self.top.get(), row, self.area.lines().len(), rows);
        self.top.set(top);
        let slot = if focused { Slot::FieldFocus } else { Slot::FieldValue };
        let style = cx.theme.style(slot);
        let text_at =
            Rect { x: at.x + GUTTER.min(at.width), width: at.width.saturating_sub(GUTTER), ..at };
        self.place.set(text_at);
        cx.buf.set_style(text_at.intersection(cx.buf.area), style);
        for ((n, line), y) in self.area.lines().iter().enumerate().skip(top).zip(at.y..at.bottom())
        {
            if wrong.contains(&(n + 1)) {
                put(cx.buf, at.x, y, "✗", cx.theme.style(Slot::FieldProblem), 1);
            }
            let before: String = line.chars().take(column).collect();
            let (line, before) = (shown(line), shown(&before));
            // The line with the cursor goes left as far as it has to.
            let mut from = 0;
            if n == row && focused {
                while width(&before[from..]) + 1 > usize::from(text_at.width) {
                    let Some(first) = before[from..].chars().next() else { break };
                    from += first.len_utf8();
                }
                let x = text_at.x + width(&before[from..]) as u16;
                cx.cursor = Some(Position::new(x, y));
            }
            put(cx.buf, text_at.x, y, &line[from..], style, text_at.width);
        }
        row + 1
    }
}

/// A line as it is drawn: a tab takes four columns wherever it stands.
fn shown(line: &str) -> String {
    line.replace('\t', "    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(editor: &mut Editor, code: KeyCode) -> bool {
        editor.key(&KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn it_takes_lines_and_gives_them_back() {
        for text in ["", "a\n", "a\n\nb\n", "\tx\n"] {
            assert_eq!(Editor::new(text).text(), text);
        }
        assert_eq!(Editor::new("no end").text(), "no end\n");
        let mut editor = Editor::new("git\n");
        assert!(press(&mut editor, KeyCode::Char('v')));
        assert!(press(&mut editor, KeyCode::Enter));
        assert!(!press(&mut editor, KeyCode::Up), "moving changes nothing");
        assert_eq!(editor.text(), "git\nv\n");
    }

    #[test]
    fn a_paste_is_harmless_and_bounded() {
        let mut editor = Editor::new("");
        editor.insert("a\r\nb\u{1b}[31m\u{202e}\tc\u{0}\rd");
        assert_eq!(editor.lines(), ["a", "b[31m\tc", "d"]);
        editor.insert(&"y\n".repeat(1 << 20));
        assert!(editor.text().len() <= MAX + 1);
        assert!(!press(&mut editor, KeyCode::Char('z')));
    }

    #[test]
    fn lines_that_come_as_keys_stay() {
        let mut editor = Editor::new("");
        for key in "set -e".chars() {
            press(&mut editor, KeyCode::Char(key));
        }
        // A line feed is Ctrl-J to a terminal.
        assert!(editor.key(&KeyEvent::new(KeyCode::Char('j'), KeyModifiers::CONTROL)));
        press(&mut editor, KeyCode::Char('x'));
        assert_eq!(editor.lines(), ["set -e", "x"]);
    }

    #[test]
    fn no_chord_brings_in_what_harms() {
        let mut editor = Editor::new("one\ntwo words\n");
        for mods in [KeyModifiers::CONTROL, KeyModifiers::ALT, KeyModifiers::SHIFT] {
            for c in '\0'..='~' {
                editor.key(&KeyEvent::new(KeyCode::Char(c), mods));
                let bad = |c: char| is_harmful(c) && c != '\t';
                assert!(!editor.lines().iter().any(|line| line.contains(bad)), "{mods} {c:?}");
            }
        }
    }
}
