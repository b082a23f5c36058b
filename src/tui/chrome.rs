//! What surrounds the screens: the top line, the hint line, toasts.

use ratatui::{layout::Rect, style::Style, widgets::Widget};

use super::{
    action::{ALL, Action, Context},
    available::availability,
    layers::{Draw, Hit},
    popups::history::{glyph, level_slot},
    state::{Screen, State},
    text::width,
    widgets::{panel, put, put_right, spinner, wrap},
};
use crate::{config::theme::Slot, domain::ImageView};

/// Below this nothing useful can be shown (style study, part (d)).
pub const MIN: (u16, u16) = (60, 15);

/// What the hint line is about.
pub struct Hints {
    /// Whose keys work.
    pub contexts: &'static [Context],
    /// The popups from the bottom up.
    pub path: Vec<&'static str>,
    /// Whether printable keys are text.
    pub text: bool,
}

/// Says that the terminal is too small, if it is.
pub fn too_small(area: Rect, cx: &mut Draw<'_>) -> bool {
    if area.width >= MIN.0 && area.height >= MIN.1 {
        return false;
    }
    cx.buf.set_style(area, cx.theme.style(Slot::Text));
    let text = format!("too small: needs {}x{}", MIN.0, MIN.1);
    let lines = wrap(&text, usize::from(area.width));
    let top = area.height.saturating_sub(lines.len() as u16) / 2;
    for (row, line) in lines.iter().enumerate() {
        let x = area.width.saturating_sub(width(line) as u16) / 2;
        put(cx.buf, x, top + row as u16, line, cx.theme.style(Slot::Text), area.width);
    }
    true
}

/// Where the screen is drawn: between the top line and the hint line.
#[must_use]
pub fn body(area: Rect) -> Rect {
    Rect { y: area.y + 1, height: area.height.saturating_sub(2), ..area }
}

/// Where the screen is drawn on a terminal of this size, in columns and rows.
#[must_use]
pub fn body_of(size: (u16, u16)) -> Rect {
    body(Rect::new(0, 0, size.0, size.1.max(2)))
}

/// Draws top line and hint line and returns what is between them.
pub fn draw(area: Rect, cx: &mut Draw<'_>, hints: &Hints) -> Rect {
    ratatui::widgets::Clear.render(area, cx.buf);
    cx.buf.set_style(area, cx.theme.style(Slot::Text));
    top_line(Rect { height: 1, ..area }, cx, hints);
    let bottom = Rect { y: area.bottom() - 1, height: 1, ..area };
    hint_line(bottom, cx, hints);
    body(area)
}

fn top_line(area: Rect, cx: &mut Draw<'_>, hints: &Hints) {
    let header = cx.theme.style(Slot::Header);
    cx.buf.set_style(area, header);
    let mut x = put(cx.buf, area.x, area.y, " banger ", cx.theme.style(Slot::Title), area.width);
    for screen in Screen::ALL {
        let count = match screen {
            Screen::Machines => cx.state.fleet.vms.len(),
            Screen::Panes => cx.state.panes.len(),
            // Those that are no longer what is wanted.
            Screen::Images => {
                let stale = |image: &&ImageView| !image.stale.is_empty();
                cx.state.fleet.images.iter().filter(stale).count()
            }
            Screen::Jobs => cx.state.running_jobs(),
            // What is left over there.
            Screen::Host => cx.state.fleet.report.as_ref().map_or(0, |report| report.orphans.len()),
        };
        let count = if count == 0 { String::new() } else { format!(" {count}") };
        let key = cx.state.keys.keys_of(&[Context::Global], screen.action());
        let key = key.map(|key| format!(" {key}")).unwrap_or_default();
        let text = format!("{key} {}{count} ", screen.title());
        let style =
            if screen == cx.state.screen { cx.theme.style(Slot::Selection) } else { header };
        let end = put(cx.buf, x, area.y, &text, style, area.right().saturating_sub(x));
        cx.hit(Rect::new(x, area.y, end - x, 1), Hit::Screen(screen));
        x = end;
    }
    for title in &hints.path {
        x = put(cx.buf, x, area.y, &format!(" › {title}"), header, area.right() - x);
    }
    let state = cx.state;
    let moving = if state.is_busy() { spinner(state.now.mono) } else { " " };
    let right = format!("{moving} {} up ", state.machines_up());
    let room = Rect { x, width: area.right().saturating_sub(x), ..area };
    if usize::from(room.width) > width(&right) {
        put_right(cx.buf, room, &right, header);
    }
}

/// The actions worth a place in the hint line, the best first, with their keys.
fn hints(state: &State, contexts: &[Context]) -> Vec<(Action, String)> {
    let mut found: Vec<(usize, Action, String)> = Vec::new();
    for info in ALL {
        let Some(rank) = contexts.iter().position(|c| info.contexts.contains(c)) else { continue };
        // Moving is known to everyone, and help has a place of its own.
        let moving = contexts[rank] == Context::List;
        let known = matches!(info.action, Action::Help | Action::Cancel);
        if moving || known || !availability(state, info.action).is_ready() {
            continue;
        }
        // Sequences are shown after their first key.
        let keys = state.keys.keys_of(contexts, info.action);
        if let Some(keys) = keys.filter(|keys| keys.chords().len() == 1) {
            found.push((rank, info.action, keys.to_string()));
        }
    }
    found.sort_by_key(|(rank, action, _)| (*rank, *action));
    found.into_iter().map(|(_, action, keys)| (action, keys)).collect()
}

fn hint_line(area: Rect, cx: &mut Draw<'_>, hints_of: &Hints) {
    let (key, dim) = (cx.theme.style(Slot::KeyHint), cx.theme.style(Slot::TextDim));
    let mut right = area.right();
    if hints_of.contexts.contains(&Context::Global)
        && let Some(keys) = cx.state.keys.keys_of(hints_of.contexts, Action::Help)
    {
        let text = format!("{keys} help ");
        right = put_right(cx.buf, area, &text, key);
        cx.hit(Rect::new(right, area.y, area.right() - right, 1), Hit::Action(Action::Help));
    }
    let mut x = area.x + 1;
    for (action, keys) in hints(cx.state, hints_of.contexts) {
        let short = action.info().short;
        let columns = (width(&keys) + 1 + width(short) + 2) as u16;
        if x + columns + 2 > right {
            put(cx.buf, x, area.y, "…", dim, 1);
            break;
        }
        let start = x;
        x = put(cx.buf, x, area.y, &keys, key, columns);
        x = put(cx.buf, x + 1, area.y, short, dim, columns);
        cx.hit(Rect::new(start, area.y, x - start, 1), Hit::Action(action));
        x += 2;
    }
}

/// Draws the newest toasts at the bottom right of the body.
pub fn toasts(area: Rect, cx: &mut Draw<'_>) {
    let columns = area.width.saturating_sub(2).min(56);
    let room = usize::from(columns.saturating_sub(4));
    let toasts: Vec<_> = cx.state.toasts.shown(cx.state.now).collect();
    let mut bottom = area.bottom();
    for toast in toasts.into_iter().rev() {
        let times = if toast.times > 1 { format!(" ({}×)", toast.times) } else { String::new() };
        let mut lines = wrap(&format!("{} {}{times}", glyph(toast.level), toast.text), room);
        lines.truncate(4);
        let hint_from = lines.len();
        lines.extend(wrap(&toast.hint, room).into_iter().filter(|l| !l.is_empty()).take(3));
        let rows = lines.len() as u16 + 2;
        if bottom.saturating_sub(rows) < area.y {
            break;
        }
        bottom -= rows;
        let place = Rect::new(area.right() - columns - 1, bottom, columns, rows);
        let inner = panel(cx.buf, place, "", cx.theme, false);
        let loud = cx.theme.style(level_slot(toast.level));
        for (row, line) in lines.iter().enumerate() {
            let style: Style = if row < hint_from { loud } else { cx.theme.style(Slot::TextDim) };
            let y = inner.y + row as u16;
            put(cx.buf, inner.x + 1, y, line, style, inner.width.saturating_sub(2));
        }
        if toast.until.is_none() {
            let note = " Esc ";
            let row = Rect { y: place.bottom() - 1, height: 1, width: place.width - 2, ..place };
            put_right(cx.buf, row, note, cx.theme.style(Slot::KeyHint));
        }
        cx.hit(place, Hit::Action(Action::History));
    }
}
