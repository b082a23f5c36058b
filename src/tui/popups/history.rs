//! What was said so far, newest first.

use ratatui::{crossterm::event::MouseEventKind, layout::Rect};

use crate::{
    config::theme::Slot,
    domain::NoticeLevel,
    tui::{
        action::{Action, Context},
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Layer},
        popups::whole::scrolled_by,
        state::State,
        text::age,
        widgets::{popup, put, wrap},
    },
};

/// The list.
#[derive(Debug, Default)]
pub struct History {
    top: usize,
}

impl Layer for History {
    fn title(&self) -> &'static str {
        "Notices"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::History]
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        let rows = cx.state.toasts.history().len();
        let by = |top: usize, by: isize| top.saturating_add_signed(by).min(rows.saturating_sub(1));
        match event {
            LayerEvent::Action(Action::Back | Action::Cancel | Action::CloseView) => cx.close(),
            LayerEvent::Action(action) => {
                self.top = scrolled_by(*action, self.top, rows, cx.state);
            }
            LayerEvent::Mouse(mouse, _) => match mouse.kind {
                MouseEventKind::ScrollUp => self.top = by(self.top, -3),
                MouseEventKind::ScrollDown => self.top = by(self.top, 3),
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
        let columns = area.width.saturating_sub(4).min(110);
        let rows = area.height.saturating_sub(2).max(5);
        let inner = popup(cx, area, "Notices", columns, rows);
        let (x, width) = (inner.x + 1, inner.width.saturating_sub(2));
        let mut y = inner.y;
        let state = cx.state;
        if state.toasts.history().len() == 0 {
            let text = "Nothing was said yet.";
            put(cx.buf, x, y, text, cx.theme.style(Slot::TextDim), width);
        }
        for toast in state.toasts.history().skip(self.top) {
            let slot = level_slot(toast.level);
            let times =
                if toast.times > 1 { format!(" ({}×)", toast.times) } else { String::new() };
            let when = format!("{} ago", age(state.now.wall.since(toast.at)));
            let head = format!("{} {}{times}", glyph(toast.level), toast.text);
            let room = usize::from(width).saturating_sub(when.len() + 2).max(10);
            for (n, line) in wrap(&head, room).into_iter().enumerate() {
                if y >= inner.bottom() {
                    return;
                }
                if n == 0 {
                    let row = Rect::new(x, y, width, 1);
                    crate::tui::widgets::put_right(
                        cx.buf,
                        row,
                        &when,
                        cx.theme.style(Slot::TextDim),
                    );
                }
                put(cx.buf, x, y, &line, cx.theme.style(slot), width);
                y += 1;
            }
            if !toast.hint.is_empty() {
                for line in wrap(&toast.hint, usize::from(width).saturating_sub(2)) {
                    if y >= inner.bottom() {
                        return;
                    }
                    put(cx.buf, x + 2, y, &line, cx.theme.style(Slot::TextDim), width - 2);
                    y += 1;
                }
            }
        }
    }
}

/// The sign before a notice: it tells levels apart without colours.
#[must_use]
pub const fn glyph(level: NoticeLevel) -> &'static str {
    match level {
        NoticeLevel::Info => "·",
        NoticeLevel::Warning => "!",
        NoticeLevel::Error => "✗",
    }
}

/// The slot of a notice.
#[must_use]
pub const fn level_slot(level: NoticeLevel) -> Slot {
    match level {
        NoticeLevel::Info => Slot::ToastInfo,
        NoticeLevel::Warning => Slot::ToastWarning,
        NoticeLevel::Error => Slot::ToastError,
    }
}
