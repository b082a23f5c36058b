//! Something that a list shows in one line, whole.

use std::cell::Cell;

use ratatui::{crossterm::event::MouseEventKind, layout::Rect};

use crate::{
    config::theme::Slot,
    domain::NoticeLevel,
    tui::{
        action::{Action, Context},
        effect::Effect,
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Layer},
        state::State,
        text::{clip, width},
        widgets::{popup, put, step, wrap},
    },
};

/// Something that is said of a thing: `Why`, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// One word, or nothing.
    pub label: &'static str,
    /// What is said; empty parts are left out.
    pub text: String,
    /// What it looks like.
    pub slot: Slot,
}

/// Columns before the texts: the longest label and a gap.
fn indent(parts: &[Part]) -> u16 {
    let labels = parts.iter().filter(|part| !part.text.is_empty()).map(|part| width(part.label));
    labels.max().unwrap_or(0).max(8) as u16 + 1
}

/// The parts as rows of text that is at most `columns` wide, labels included.
fn rows(parts: &[Part], columns: u16) -> Vec<(&'static str, String, Slot)> {
    let room = usize::from(columns.saturating_sub(indent(parts))).max(1);
    let mut rows = Vec::new();
    for part in parts.iter().filter(|part| !part.text.is_empty()) {
        for (n, line) in wrap(&part.text, room).into_iter().enumerate() {
            rows.push((if n == 0 { part.label } else { "" }, line, part.slot));
        }
    }
    rows
}

/// How many rows the parts have in so many columns.
#[must_use]
pub fn count_rows(parts: &[Part], columns: u16) -> usize {
    rows(parts, columns).len()
}

/// Draws the parts from row `top` on. Returns how many rows they have.
pub fn draw_parts(parts: &[Part], top: usize, area: Rect, cx: &mut Draw<'_>) -> usize {
    let (rows, indent) = (rows(parts, area.width), indent(parts));
    let top = top.min(rows.len().saturating_sub(usize::from(area.height)));
    for ((label, text, slot), y) in rows.iter().skip(top).zip(area.y..area.bottom()) {
        put(cx.buf, area.x, y, label, cx.theme.style(Slot::FieldLabel), indent);
        let room = area.width.saturating_sub(indent);
        put(cx.buf, area.x + indent, y, text, cx.theme.style(*slot), room);
    }
    rows.len()
}

/// Where a popup that scrolls begins after an action: the row at its top, of `rows`.
#[must_use]
pub fn scrolled_by(action: Action, top: usize, rows: usize, state: &State) -> usize {
    let page = usize::from(state.size.1).saturating_sub(6).max(1);
    // What is shown of the end is for drawing to say, which knows how much fits.
    top.saturating_add_signed(step(action, page).unwrap_or(0)).min(rows.saturating_sub(1))
}

/// Puts a command, or one a line, on the clipboard and says so.
pub fn copy(command: &str, cx: &mut Cx<'_>) {
    let text = match command.lines().count() {
        0 | 1 => format!("copied: {}", clip(command, 100)),
        n => format!("copied {n} commands"),
    };
    cx.toast(NoticeLevel::Info, text, "");
    cx.effect(Effect::Copy(command.to_owned()));
}

/// The popup.
pub struct Whole {
    title: String,
    parts: Vec<Part>,
    command: Option<String>,
    /// The first row that is shown. Only drawing knows how many there is room for.
    top: Cell<usize>,
}

impl Whole {
    /// Shows these parts; `command` can be copied.
    #[must_use]
    pub fn new(title: String, parts: Vec<Part>, command: Option<String>) -> Self {
        Self { title, parts, command, top: Cell::new(0) }
    }

    fn scroll(&self, action: Action, state: &State) {
        let rows = count_rows(&self.parts, inner_columns(state.size.0));
        self.top.set(scrolled_by(action, self.top.get(), rows, state));
    }
}

/// Columns of the popup's inside on a screen of this width.
fn inner_columns(columns: u16) -> u16 {
    columns.saturating_sub(4).min(110).saturating_sub(4)
}

impl Layer for Whole {
    fn title(&self) -> &'static str {
        "Whole line"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::View]
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Action(Action::Back | Action::Cancel | Action::CloseView) => cx.close(),
            LayerEvent::Action(Action::HostCopy) => {
                if let Some(command) = &self.command {
                    copy(command, cx);
                }
            }
            LayerEvent::Action(action) => self.scroll(*action, cx.state),
            LayerEvent::Mouse(mouse, _) => match mouse.kind {
                MouseEventKind::ScrollUp => self.scroll(Action::Up, cx.state),
                MouseEventKind::ScrollDown => self.scroll(Action::Down, cx.state),
                _ => {}
            },
            LayerEvent::Fleet
            | LayerEvent::Answer(..)
            | LayerEvent::Desk(..)
            | LayerEvent::Tick => {
                return Handled::Ignored;
            }
            _ => {}
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let columns = inner_columns(area.width) + 4;
        let rows = count_rows(&self.parts, inner_columns(area.width));
        let height = u16::try_from(rows + 4).unwrap_or(u16::MAX).min(area.height);
        let inner = popup(cx, area, &self.title, columns, height);
        let list = Rect {
            x: inner.x + 1,
            width: inner.width.saturating_sub(2),
            height: inner.height.saturating_sub(2),
            ..inner
        };
        let top = self.top.get().min(rows.saturating_sub(usize::from(list.height)));
        self.top.set(top);
        draw_parts(&self.parts, top, list, cx);
        let more = top + usize::from(list.height) < rows;
        let mut foot = String::new();
        if more {
            foot.push_str("↓ more · ");
        }
        if self.command.is_some() {
            foot.push_str("y copies the command · ");
        }
        foot.push_str("Esc closes");
        let y = inner.bottom().saturating_sub(1);
        put(cx.buf, list.x, y, &foot, cx.theme.style(Slot::TextDim), width(&foot) as u16);
    }
}
