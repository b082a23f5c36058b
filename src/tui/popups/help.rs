//! What can be done here and now, and why not what cannot.

use std::cell::Cell;

use ratatui::{
    crossterm::event::{KeyCode, MouseEventKind},
    layout::Rect,
};

use crate::{
    config::theme::Slot,
    tui::{
        action::{ALL, Action, Context},
        available::{Availability, availability},
        event::{Handled, LayerEvent},
        forms::TextLine,
        layers::{Cx, Draw, Layer},
        popups::whole::scrolled_by,
        state::State,
        text::width,
        widgets::{popup, put, wrap},
    },
};

/// The popup.
pub struct Help {
    /// The contexts that help was asked in, the most special first.
    contexts: Vec<Context>,
    /// The first row that is shown. Only drawing knows how many there is room for.
    top: Cell<usize>,
    filter: TextLine,
    /// Whether the filter has the keyboard.
    typing: bool,
}

/// A row of the list.
enum Row {
    Title(&'static str),
    Entry { keys: String, doc: &'static str, why_not: Option<String> },
}

/// A line of them as it is drawn.
enum Line<'a> {
    Title(&'static str),
    Entry { keys: &'a str, doc: String, ready: bool },
}

impl Help {
    /// Help for these contexts, the most special first.
    #[must_use]
    pub fn new(contexts: &[Context]) -> Self {
        Self {
            contexts: contexts.to_vec(),
            top: Cell::new(0),
            filter: TextLine::new(""),
            typing: false,
        }
    }

    fn rows(&self, state: &State) -> Vec<Row> {
        let filter = self.filter.text().trim().to_lowercase();
        let mut rows = Vec::new();
        let mut told: Vec<Action> = Vec::new();
        for context in &self.contexts {
            let mut title = Some(context.title());
            for info in ALL.iter().filter(|info| info.contexts.contains(context)) {
                let keys: Vec<String> = state
                    .keys
                    .all_keys_of(*context, info.action)
                    .map(ToString::to_string)
                    .collect();
                let keys = keys.join("  ");
                let found = |text: &str| text.to_lowercase().contains(&filter);
                // An action of two contexts is told in the one whose keys win.
                if keys.is_empty() || told.contains(&info.action) {
                    continue;
                }
                if !(found(info.doc) || found(&keys) || found(info.id)) {
                    continue;
                }
                told.push(info.action);
                rows.extend(title.take().map(Row::Title));
                let why_not = match availability(state, info.action) {
                    Availability::Ready => None,
                    Availability::Disabled(why) => Some(why),
                };
                rows.push(Row::Entry { keys, doc: info.doc, why_not });
            }
        }
        rows
    }

    fn scroll(&self, action: Action, state: &State) {
        // How many lines there are is known when they are drawn.
        self.top.set(scrolled_by(action, self.top.get(), usize::MAX, state));
    }
}

impl Layer for Help {
    fn title(&self) -> &'static str {
        "Help"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Help]
    }

    fn takes_text(&self, _: &State) -> bool {
        self.typing
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            // While it is typed in, Enter keeps the filter and Esc takes it away.
            LayerEvent::Action(Action::CloseView) if self.typing => self.typing = false,
            LayerEvent::Action(Action::Back) if self.typing || !self.filter.text().is_empty() => {
                self.typing = false;
                self.filter.set("");
                self.top.set(0);
            }
            LayerEvent::Action(Action::Back | Action::Cancel | Action::CloseView) => cx.close(),
            LayerEvent::Action(action) => self.scroll(*action, cx.state),
            LayerEvent::Key(key) if self.typing => {
                self.filter.key(key);
                self.top.set(0);
            }
            LayerEvent::Key(key) if key.code == KeyCode::Char('/') => self.typing = true,
            LayerEvent::Key(key) if key.code == KeyCode::Char('?') => cx.close(),
            LayerEvent::Paste(text) if self.typing => {
                self.filter.insert(text);
                self.top.set(0);
            }
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
        let columns = area.width.saturating_sub(2).min(96);
        let rows = self.rows(cx.state);
        let keys = rows.iter().map(|row| match row {
            Row::Entry { keys, .. } => width(keys) as u16,
            Row::Title(_) => 0,
        });
        let keys = keys.max().unwrap_or(0).clamp(8, 22);
        // Beside the frame and the blanks in it.
        let lines = lines(&rows, usize::from(columns.saturating_sub(4 + 3 + keys)));
        let height = (lines.len() as u16).saturating_add(4).clamp(8, area.height.max(8));
        let inner = popup(cx, area, "Help: what works here and now", columns, height);
        let (x, right) = (inner.x + 1, inner.right().saturating_sub(1));
        let list = inner.height.saturating_sub(2);
        let top = self.top.get().min(lines.len().saturating_sub(usize::from(list)));
        self.top.set(top);
        for (line, y) in lines.iter().skip(top).zip(inner.y..inner.y + list) {
            match line {
                Line::Title(title) => {
                    put(cx.buf, x, y, title, cx.theme.style(Slot::Title), right - x);
                }
                Line::Entry { keys: text, doc, ready } => {
                    let (key, slot) = match ready {
                        true => (Slot::KeyHint, Slot::Text),
                        false => (Slot::TextDim, Slot::TextDim),
                    };
                    put(cx.buf, x + 1, y, text, cx.theme.style(key), keys);
                    let x = x + 3 + keys;
                    put(cx.buf, x, y, doc, cx.theme.style(slot), right.saturating_sub(x));
                }
            }
        }
        if rows.is_empty() {
            let text = "Nothing here has that in its name.";
            put(cx.buf, x, inner.y, text, cx.theme.style(Slot::TextDim), right - x);
        }
        self.draw_foot(lines.len(), top + usize::from(list), inner, cx);
    }
}

/// The rows, with what each says in lines of at most `room` columns: why something does not work
/// stands at the end.
fn lines(rows: &[Row], room: usize) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for row in rows {
        match row {
            Row::Title(title) => lines.push(Line::Title(title)),
            Row::Entry { keys, doc, why_not } => {
                let text = match why_not {
                    None => (*doc).to_owned(),
                    Some(why) => format!("{doc} - {why}"),
                };
                for (n, doc) in wrap(&text, room).into_iter().enumerate() {
                    let keys = if n == 0 { keys.as_str() } else { "" };
                    lines.push(Line::Entry { keys, doc, ready: why_not.is_none() });
                }
            }
        }
    }
    lines
}

impl Help {
    fn draw_foot(&self, rows: usize, shown: usize, inner: Rect, cx: &mut Draw<'_>) {
        let (x, y) = (inner.x + 1, inner.bottom().saturating_sub(1));
        let room = inner.width.saturating_sub(2);
        if self.typing || !self.filter.text().is_empty() {
            put(cx.buf, x, y, "/", cx.theme.style(Slot::KeyHint), room);
            let row = Rect { x: x + 1, y, width: room.saturating_sub(1), height: 1 };
            self.filter.draw(row, cx.theme.style(Slot::FieldFocus), self.typing, cx);
        } else {
            let more = if shown < rows { "↓ more · " } else { "" };
            let text = format!("{more}/ finds · Esc closes");
            put(cx.buf, x, y, &text, cx.theme.style(Slot::TextDim), room);
        }
    }
}
