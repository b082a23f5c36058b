//! How forms look.

use ratatui::{layout::Rect, style::Style};

use super::{Field, Form, Kind};
use crate::{
    config::theme::Slot,
    tui::{
        layers::{Draw, Hit},
        widgets::{put, scrolled, wrap},
    },
};

/// Columns before the values: a mark, the label, a gap.
const LABELS: u16 = 13;

/// A row of the form.
enum Row {
    /// The label and the value of a field.
    Value,
    /// Something said about it: in which style, after which mark.
    Said(Slot, &'static str, String),
}

impl<I: Copy + PartialEq> Form<I> {
    /// Rows it takes when it is `columns` wide and nothing is cut off: its fields with their
    /// problems and notes, and two for the help of the field with the focus.
    #[must_use]
    pub fn rows(&self, columns: u16) -> u16 {
        (self.layout(columns).len() + 2) as u16
    }

    fn layout(&self, columns: u16) -> Vec<(usize, Row)> {
        let room = usize::from(columns.saturating_sub(LABELS + 2));
        let mut rows = Vec::new();
        for (at, field) in self.fields.iter().take(self.shown()).enumerate() {
            rows.push((at, Row::Value));
            let (slot, mark, text) = match (&field.problem, &field.note) {
                (Some(problem), _) => (Slot::FieldProblem, "✗ ", problem),
                (None, Some(note)) => (Slot::FieldNote, "! ", note),
                (None, None) => continue,
            };
            for (n, line) in wrap(text, room).into_iter().enumerate() {
                rows.push((at, Row::Said(slot, if n == 0 { mark } else { "  " }, line)));
            }
        }
        rows
    }

    /// Draws it; what does not fit is scrolled so that the focus is in sight.
    pub fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let rows = self.layout(area.width);
        let help = area.height.min(2);
        let shown = usize::from(area.height - help);
        // The focus with all that is said about it.
        let of_focus = |row: &&(usize, Row)| row.0 == self.focus();
        let last = rows.iter().rposition(|row| of_focus(&row)).unwrap_or(0);
        let first = rows.iter().position(|row| of_focus(&row)).unwrap_or(0);
        let top = scrolled(scrolled(0, last, rows.len(), shown), first, rows.len(), shown);
        for (y, (at, row)) in (area.y..).zip(rows.iter().skip(top).take(shown)) {
            let line = Rect { y, height: 1, ..area };
            match row {
                Row::Value => {
                    self.draw_field(&self.fields[*at], *at == self.focus(), line, cx);
                }
                Row::Said(slot, mark, text) => {
                    let x = line.x + LABELS.min(line.width);
                    let room = line.right().saturating_sub(x);
                    put(cx.buf, x, y, &format!("{mark}{text}"), cx.theme.style(*slot), room);
                }
            }
            cx.hit(line, Hit::Item(*at));
        }
        let text = &self.fields[self.focus()].help;
        let style = cx.theme.style(Slot::TextDim);
        // At the bottom, in the one row or in both.
        let lines = wrap(text, usize::from(area.width));
        let lines = &lines[..lines.len().min(usize::from(help))];
        for (y, line) in (area.bottom() - lines.len() as u16..).zip(lines) {
            put(cx.buf, area.x, y, line, style, area.width);
        }
    }

    fn draw_field(&self, field: &Field<I>, focused: bool, line: Rect, cx: &mut Draw<'_>) {
        let (label, value) = match (focused, field.problem.is_some()) {
            (true, _) => (Slot::KeyHint, Slot::FieldFocus),
            (false, true) => (Slot::FieldProblem, Slot::FieldValue),
            (false, false) => (Slot::FieldLabel, Slot::FieldValue),
        };
        // The mark tells the focus without colours.
        let text = format!("{} {}", if focused { "›" } else { " " }, field.label);
        put(cx.buf, line.x, line.y, &text, cx.theme.style(label), LABELS);
        let left = line.width.min(LABELS);
        let at = Rect { x: line.x + left, width: line.width - left, ..line };
        let style = cx.theme.style(value);
        let dim = cx.theme.style(Slot::TextDim);
        match &field.kind {
            Kind::Text(text) | Kind::Number { line: text, .. } => {
                text.draw(at, style, focused, cx);
                if text.text().is_empty() {
                    // Beside the cursor.
                    let x = at.x + u16::from(focused);
                    let dim = Style { bg: style.bg, ..dim };
                    put(cx.buf, x, at.y, &field.placeholder, dim, at.width.saturating_sub(1));
                }
            }
            Kind::Choice { options, at: chosen } => {
                let Some(choice) = options.get(*chosen) else {
                    put(cx.buf, at.x, at.y, &field.placeholder, dim, at.width);
                    return;
                };
                let text = match (options.len(), focused) {
                    (1, _) | (_, false) => choice.value.clone(),
                    (_, true) => format!("‹ {} ›", choice.value),
                };
                let end = put(cx.buf, at.x, at.y, &text, style, at.width);
                let rest = at.right().saturating_sub(end + 2);
                put(cx.buf, end + 2, at.y, &choice.note, dim, rest);
            }
            Kind::Fold(open) => {
                let sign = if *open { "▾" } else { "▸" };
                put(cx.buf, at.x, at.y, sign, style, at.width);
                let rest = at.width.saturating_sub(2);
                put(cx.buf, at.x + 2, at.y, &field.placeholder, dim, rest);
            }
            Kind::Toggle(on) => {
                let text = if *on { "[x] yes" } else { "[ ] no" };
                put(cx.buf, at.x, at.y, text, style, at.width);
            }
        }
    }
}
