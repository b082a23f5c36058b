//! How the Host screen looks.

use ratatui::layout::Rect;

use super::{
    Host, Look, Tab,
    lines::{Line, widths},
};
use crate::{
    config::theme::Slot,
    domain::CheckLevel,
    tui::{
        chrome,
        layers::{Draw, Hit},
        popups::whole::draw_parts,
        text::{age, clip_middle},
        widgets::{note, panel, put, put_right, spinner},
    },
};

/// From this width on the line under the cursor stands beside the list, not below it.
const WIDE: u16 = 120;
/// From this height on it stands below the list, else only Enter shows it.
const TALL: u16 = 16;
/// Columns before the cells of a line: its glyph between blanks.
const GLYPH: u16 = 3;
/// Columns of how long ago something was.
const AGO: u16 = 8;

/// The list, and what is known of the line under the cursor, each with its frame.
fn split(area: Rect) -> (Rect, Option<Rect>) {
    if area.width >= WIDE {
        let columns = area.width * 2 / 5;
        let list = Rect { width: area.width - columns, ..area };
        (list, Some(Rect { x: list.right(), width: columns, ..area }))
    } else if area.height >= TALL {
        let rows = (area.height / 3).clamp(6, 12);
        let list = Rect { height: area.height - rows, ..area };
        (list, Some(Rect { y: list.bottom(), height: rows, ..area }))
    } else {
        (area, None)
    }
}

/// Rows of lines within the list's frame: below the tabs, above the filter.
const fn room(inner: Rect, has_filter: bool) -> Rect {
    let below = if has_filter { 2 } else { 1 };
    Rect { y: inner.y + 1, height: inner.height.saturating_sub(below), ..inner }
}

/// How many lines are seen on a screen of this size.
pub fn rows(size: (u16, u16), has_filter: bool) -> usize {
    let (list, _) = split(chrome::body_of(size));
    let inner = Rect { height: list.height.saturating_sub(2), ..list };
    usize::from(room(inner, has_filter).height).max(1)
}

impl Host {
    pub(super) fn draw_screen(&self, area: Rect, cx: &mut Draw<'_>) {
        let (list, detail) = split(area);
        let inner = panel(cx.buf, list, "Host", cx.theme, true);
        self.draw_look(list, cx);
        self.draw_tabs(Rect { height: 1, ..inner }, cx);
        let lines = room(inner, self.has_filter());
        if self.lines.is_empty() {
            self.draw_empty(lines, cx);
        } else {
            self.draw_lines(lines, cx);
        }
        if self.has_filter() && inner.height > 1 {
            let row = Rect { y: inner.bottom() - 1, height: 1, ..inner };
            put(cx.buf, row.x + 1, row.y, "/", cx.theme.style(Slot::KeyHint), 1);
            let text = Rect { x: row.x + 2, width: row.width.saturating_sub(3), ..row };
            self.filter.draw(text, cx.theme.style(Slot::FieldFocus), self.editing, cx);
        }
        let Some(detail) = detail else { return };
        let line = self.lines.get(self.row);
        let inner = panel(cx.buf, detail, "", cx.theme, false);
        let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
        let Some(line) = line else { return };
        let rows = draw_parts(&line.parts, 0, inner, cx);
        if rows > usize::from(inner.height) {
            let row = Rect { y: detail.bottom() - 1, height: 1, width: detail.width - 2, ..detail };
            put_right(cx.buf, row, " Enter shows all ", cx.theme.style(Slot::KeyHint));
        }
    }

    /// How old what is shown is, or that a newer look is under way.
    fn draw_look(&self, frame: Rect, cx: &mut Draw<'_>) {
        let row = Rect { height: 1, width: frame.width.saturating_sub(2), ..frame };
        let now = cx.state.now;
        let (text, slot) = match (&self.look, &cx.state.fleet.report) {
            (Look::Asked(_) | Look::UnderWay(_), _) => {
                (format!(" {} looking … ", spinner(now.mono)), Slot::StateBooting)
            }
            (Look::Failed(why), _) => (format!(" ✗ {why} · r looks again "), Slot::StateCrashed),
            (Look::Done, Some(report)) => {
                let ago = age(now.wall.since(report.at));
                (format!(" looked at {ago} ago · r looks again "), Slot::TextDim)
            }
            (Look::Done, None) => return,
        };
        let room = Rect { x: row.x + 8, width: row.width.saturating_sub(8), ..row };
        put_right(cx.buf, room, &text, cx.theme.style(slot));
    }

    fn draw_tabs(&self, row: Rect, cx: &mut Draw<'_>) {
        let report = cx.state.fleet.report.clone();
        let mut x = row.x + 1;
        for tab in Tab::ALL {
            let here = tab == self.tab;
            let slot = if here { Slot::Selection } else { Slot::TextDim };
            let mut text = format!(" {}", tab.title());
            if let Some(report) = &report {
                text.push_str(&format!(" {}", tab.count(report)));
            }
            // What needs a look is seen from every tab.
            let sign = report.as_ref().and_then(|report| match tab {
                Tab::Checks => Some(report.worst()).filter(|worst| *worst != CheckLevel::Ok),
                Tab::LeftOver if !report.orphans.is_empty() => Some(CheckLevel::Warning),
                _ => None,
            });
            let start = x;
            let left = |x: u16| row.right().saturating_sub(x);
            x = put(cx.buf, x, row.y, &text, cx.theme.style(slot), left(x));
            if let Some((glyph, _, sign)) = sign.map(super::lines::level) {
                let style = cx.theme.style(slot).patch(cx.theme.style(sign));
                x = put(cx.buf, x, row.y, &format!(" {glyph}"), style, left(x));
            }
            x = put(cx.buf, x, row.y, " ", cx.theme.style(slot), left(x));
            cx.hit(Rect::new(start, row.y, x - start, 1), Hit::HostTab(tab));
            x += 1;
        }
    }

    fn draw_empty(&self, area: Rect, cx: &mut Draw<'_>) {
        let text = if cx.state.fleet.report.is_none() {
            match &self.look {
                Look::Failed(why) => why.clone(),
                _ => "looking at the host …".to_owned(),
            }
        } else if self.has_filter() && !self.filter.text().trim().is_empty() {
            let filter = self.filter.text().trim();
            format!("No line fits “{filter}”. Esc takes the filter away.")
        } else {
            match self.tab {
                Tab::Checks => "Nothing was checked.",
                Tab::Made => "Nothing of banger's is on this host: no machine is up.",
                Tab::LeftOver => "Nothing is left over on this host.",
                Tab::Ran => "Nothing was run on this host yet.",
            }
            .to_owned()
        };
        note(cx.buf, area, &text, cx.theme.style(Slot::TextDim));
    }

    fn draw_lines(&self, area: Rect, cx: &mut Draw<'_>) {
        let has_age = matches!(self.tab, Tab::Made | Tab::Ran);
        let before = GLYPH + if has_age { AGO } else { 0 };
        let columns = area.width.saturating_sub(before + 1);
        let widths = widths(self.tab, columns);
        let fixed: u16 = widths.iter().sum();
        let rest = columns.saturating_sub(fixed);
        let shown = self.lines.iter().enumerate().skip(self.top).take(usize::from(area.height));
        for ((row, line), y) in shown.zip(area.y..) {
            let here = row == self.row;
            let place = Rect { y, height: 1, ..area };
            if here {
                cx.buf.set_style(place, cx.theme.style(Slot::Selection));
            }
            cx.hit(place, Hit::Item(row));
            self.draw_line(line, here, place, before, (&widths, rest), cx);
        }
    }

    fn draw_line(
        &self,
        line: &Line,
        here: bool,
        place: Rect,
        before: u16,
        (widths, rest): (&[u16], u16),
        cx: &mut Draw<'_>,
    ) {
        // On the selected row only the glyph keeps its colour.
        let style = |slot: Slot| cx.theme.style(if here { Slot::Selection } else { slot });
        let mut glyph = cx.theme.style(line.slot);
        if here {
            glyph = cx.theme.style(Slot::Selection).patch(glyph);
        }
        let (text, dim) = (style(Slot::Text), style(Slot::TextDim));
        put(cx.buf, place.x + 1, place.y, line.glyph, glyph, 1);
        if before > GLYPH
            && let Some(at) = line.at
        {
            let ago = age(cx.state.now.wall.since(at));
            put(cx.buf, place.x + GLYPH, place.y, &ago, dim, AGO - 1);
        }
        let mut x = place.x + before;
        for (cell, columns) in line.cells.iter().zip(widths) {
            let main = *columns == 0;
            let columns = if main { rest } else { *columns };
            let room = columns.saturating_sub(1).min(place.right().saturating_sub(x));
            let style = if main { text } else { dim };
            if main && matches!(self.tab, Tab::Made | Tab::LeftOver) {
                let cell = clip_middle(cell, usize::from(room));
                put(cx.buf, x, place.y, &cell, style, room);
            } else {
                put(cx.buf, x, place.y, cell, style, room);
            }
            x += columns;
        }
    }
}
