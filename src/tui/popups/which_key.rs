//! The box after a prefix key: what can follow.

use ratatui::layout::Rect;

use crate::{
    config::{
        keymap::{Chord, Next},
        theme::Slot,
    },
    tui::{
        action::Action,
        available::availability,
        layers::{Draw, Hit},
        widgets::{panel, put},
    },
};

/// Draws it at the bottom right of the body.
pub fn draw(area: Rect, pressed: &[Chord], next: &[Next<Action>], cx: &mut Draw<'_>) {
    let title: Vec<String> = pressed.iter().map(ToString::to_string).collect();
    let columns = area.width.min(46);
    let rows = (next.len() as u16 + 2).min(area.height);
    let place = Rect::new(area.right() - columns, area.bottom() - rows, columns, rows);
    let inner = panel(cx.buf, place, &format!("{} …", title.join(" ")), cx.theme, true);
    cx.hit(place, Hit::Surface);
    for (row, next) in next.iter().take(usize::from(inner.height)).enumerate() {
        let y = inner.y + row as u16;
        let doc = next.action.map_or("more keys follow", |action| action.info().doc);
        let ready = next.action.is_none_or(|action| availability(cx.state, action).is_ready());
        let slot = if ready { Slot::Text } else { Slot::TextDim };
        let key = cx.theme.style(Slot::KeyHint);
        put(cx.buf, inner.x + 1, y, &next.chord.to_string(), key, 10);
        let width = inner.width.saturating_sub(9);
        put(cx.buf, inner.x + 8, y, doc, cx.theme.style(slot), width);
        if let Some(action) = next.action {
            cx.hit(Rect::new(inner.x, y, inner.width, 1), Hit::Action(action));
        }
    }
}
