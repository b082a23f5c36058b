//! How such a screen looks. Only the rows that are seen are drawn.

use ratatui::layout::{Position, Rect};

use super::Browser;
use crate::{
    config::theme::Slot,
    tui::{
        action::Action,
        layers::{Draw, Hit},
        text::width,
        widgets::{note, panel, put},
    },
};

/// From this width on the detail stands beside the table.
const WIDE: u16 = 120;

/// The parts of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The table with its frame, if it is shown.
    pub table: Option<Rect>,
    /// The detail with its frame, if it is shown.
    pub detail: Option<Rect>,
}

/// The parts of an area; `open` is whether the detail was asked for. From the height `tall` on it
/// stands below the table, else in its place.
#[must_use]
pub fn parts(area: Rect, open: bool, tall: u16) -> Parts {
    if area.width >= WIDE {
        let columns = (area.width * 2 / 5).clamp(46, 90);
        let table = Rect { width: area.width - columns, ..area };
        let detail = Rect { x: table.right(), width: columns, ..area };
        Parts { table: Some(table), detail: Some(detail) }
    } else if !open {
        Parts { table: Some(area), detail: None }
    } else if area.height >= tall {
        let rows = area.height / 2;
        let table = Rect { height: area.height - rows, ..area };
        let detail = Rect { y: table.bottom(), height: rows, ..area };
        Parts { table: Some(table), detail: Some(detail) }
    } else {
        Parts { table: None, detail: Some(area) }
    }
}

/// Rows that fit into the table; 1 if it is not shown.
#[must_use]
pub fn rows(parts: Parts) -> usize {
    // Its frame and the heads of the columns.
    parts.table.map_or(1, |table| usize::from(table.height.saturating_sub(3))).max(1)
}

/// Those of `all` columns that fit, with their places. `width` is a column's, a blank behind
/// included; 0 takes what is left, and before that is less than `least`, what `gives_way` does.
#[must_use]
pub fn columns<C: Copy + PartialEq>(
    inner: Rect,
    all: &[C],
    gives_way: &[C],
    width: impl Fn(C) -> u16,
    least: u16,
) -> Vec<(C, Rect)> {
    let mut shown = all.to_vec();
    let taken = |shown: &[C]| shown.iter().map(|column| width(*column)).sum::<u16>();
    for column in gives_way {
        if taken(&shown) + least <= inner.width {
            break;
        }
        shown.retain(|c| c != column);
    }
    let rest = inner.width.saturating_sub(taken(&shown));
    let mut x = inner.x;
    let place = |column: C| {
        let width = match width(column) {
            0 => rest,
            width => width,
        };
        let width = width.min(inner.right().saturating_sub(x));
        let place = Rect { x, width, height: 1, ..inner };
        x += width;
        (column, place)
    };
    shown.into_iter().map(place).collect()
}

impl<S: Copy + Default + PartialEq> Browser<S> {
    /// Draws the frame of the table, with the filter behind its title. Returns its inside.
    pub fn draw_frame(&self, area: Rect, mut title: String, cx: &mut Draw<'_>) -> Rect {
        let filter = self.filter.text();
        let filter_at = width(&title) + 4;
        if self.editing || !filter.is_empty() {
            title.push_str(&format!(" · /{filter}"));
        }
        let inner = panel(cx.buf, area, &title, cx.theme, !self.open);
        if self.editing {
            let x = area.x + 2 + (filter_at + width(filter) + 1) as u16;
            let x = x.min(area.right().saturating_sub(2));
            cx.cursor = Some(Position::new(x, area.y));
        }
        inner
    }

    /// Says that nothing is shown: `none` when there is nothing, else that no `thing` fits.
    pub fn draw_empty(&self, inner: Rect, none: &str, thing: &str, cx: &mut Draw<'_>) {
        let text = if !cx.state.fleet.loaded {
            "loading …".to_owned()
        } else if self.filter.is_empty() {
            none.to_owned()
        } else {
            format!("No {thing} fits “{}”. Esc takes the filter away.", self.filter.text())
        };
        note(cx.buf, inner, &text, cx.theme.style(Slot::TextDim));
    }

    /// Draws the words above columns; a click on one sorts by it.
    pub fn draw_heads(
        &self,
        heads: impl Iterator<Item = (&'static str, Option<(S, Action)>, Rect)>,
        cx: &mut Draw<'_>,
    ) {
        for (head, sort, place) in heads {
            let sorted = sort.is_some_and(|(sort, _)| sort == self.sort);
            let arrow = match (sorted, self.reverse) {
                (false, _) => "",
                (true, false) => "▾",
                (true, true) => "▴",
            };
            let shown = sorted && (self.sort != S::default() || self.reverse);
            let style = cx.theme.style(if shown { Slot::Title } else { Slot::TextDim });
            let columns = place.width.saturating_sub(1);
            put(cx.buf, place.x, place.y, &format!("{head}{arrow}"), style, columns);
            if let Some((_, action)) = sort {
                cx.hit(place, Hit::Action(action));
            }
        }
    }

    /// Draws the rows that are seen of `len`, below the heads; `draw` draws what is in a row, at
    /// this height.
    pub fn draw_rows(
        &self,
        inner: Rect,
        len: usize,
        cx: &mut Draw<'_>,
        draw: impl Fn(usize, u16, &mut Draw<'_>),
    ) {
        let rows = usize::from(inner.height.saturating_sub(1));
        for (row, y) in (self.top..(self.top + rows).min(len)).zip(inner.y + 1..) {
            let line = Rect { y, height: 1, ..inner };
            if row == self.row {
                cx.buf.set_style(line, cx.theme.style(Slot::Selection));
            }
            cx.hit(line, Hit::Item(row));
            draw(row, y, cx);
        }
    }
}
