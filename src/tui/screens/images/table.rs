//! The table of images. Only the rows that are seen are drawn.

use ratatui::layout::Rect;

use super::{
    Images,
    list::{Sort, vms_on},
};
use crate::{
    config::theme::Slot,
    domain::{ByteSize, ImageView},
    tui::{
        action::Action,
        chrome,
        layers::{Draw, Hit},
        text::{age, width},
        widgets::{panel, put, wrap},
    },
};

/// What stands beside an image that is not what would be built now, and beside a machine of an
/// older build.
pub const STALE: &str = "↻";

/// From this width on the detail stands beside the table.
const WIDE: u16 = 120;
/// From this height on the detail stands below the table, else in its place.
const TALL: u16 = 34;

/// The parts of the screen.
pub struct Parts {
    /// The table with its frame, if it is shown.
    pub table: Option<Rect>,
    /// The detail with its frame, if it is shown.
    pub detail: Option<Rect>,
}

/// The parts within the body; `open` is whether the detail was asked for.
#[must_use]
pub fn parts(body: Rect, open: bool) -> Parts {
    if body.width >= WIDE {
        let columns = (body.width * 2 / 5).clamp(46, 90);
        let table = Rect { width: body.width - columns, ..body };
        let detail = Rect { x: table.right(), width: columns, ..body };
        Parts { table: Some(table), detail: Some(detail) }
    } else if !open {
        Parts { table: Some(body), detail: None }
    } else if body.height >= TALL {
        let rows = body.height / 2;
        let table = Rect { height: body.height - rows, ..body };
        let detail = Rect { y: table.bottom(), height: rows, ..body };
        Parts { table: Some(table), detail: Some(detail) }
    } else {
        Parts { table: None, detail: Some(body) }
    }
}

/// Rows of images that fit into the table on a terminal of this size.
#[must_use]
pub fn rows(size: (u16, u16), open: bool) -> usize {
    let body = chrome::body(Rect::new(0, 0, size.0, size.1.max(2)));
    // Its frame and the heads of the columns.
    let table = parts(body, open).table;
    table.map_or(1, |table| usize::from(table.height.saturating_sub(3))).max(1)
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Mark,
    Name,
    Origin,
    Size,
    Used,
    Built,
    Packages,
    Vms,
}

impl Column {
    const ALL: [Self; 8] = [
        Self::Mark,
        Self::Name,
        Self::Origin,
        Self::Size,
        Self::Used,
        Self::Built,
        Self::Packages,
        Self::Vms,
    ];

    /// What gives way first when there is no room for all.
    const GIVES_WAY: [Self; 4] = [Self::Packages, Self::Origin, Self::Size, Self::Used];

    const fn head(self) -> &'static str {
        match self {
            Self::Mark => "",
            Self::Name => "Name",
            Self::Origin => "Origin",
            Self::Size => "Size",
            Self::Used => "On disk",
            Self::Built => "Built",
            Self::Packages => "Packages",
            Self::Vms => "Machines",
        }
    }

    /// What it sorts by, and what a click on its head does.
    const fn sort(self) -> Option<(Sort, Action)> {
        match self {
            Self::Mark | Self::Packages => None,
            Self::Name => Some((Sort::Name, Action::SortName)),
            Self::Origin => Some((Sort::Origin, Action::ImageSortOrigin)),
            Self::Size => Some((Sort::Size, Action::ImageSortSize)),
            Self::Used => Some((Sort::Used, Action::ImageSortUsed)),
            Self::Built => Some((Sort::Built, Action::ImageSortBuilt)),
            Self::Vms => Some((Sort::Vms, Action::ImageSortVms)),
        }
    }

    /// Its columns with a blank behind; 0 for the name.
    const fn width(self) -> u16 {
        match self {
            Self::Name => 0,
            Self::Mark => 2,
            Self::Origin => 11,
            Self::Size | Self::Used => 9,
            Self::Built => 11,
            Self::Packages => 10,
            Self::Vms => 11,
        }
    }
}

/// The least columns a name gets before others give way.
const NAME_MIN: u16 = 18;

fn columns(inner: Rect) -> Vec<(Column, Rect)> {
    let mut shown: Vec<Column> = Column::ALL.to_vec();
    let taken = |shown: &[Column]| shown.iter().map(|column| column.width()).sum::<u16>();
    for column in Column::GIVES_WAY {
        if taken(&shown) + NAME_MIN <= inner.width {
            break;
        }
        shown.retain(|c| *c != column);
    }
    let name = inner.width.saturating_sub(taken(&shown));
    let mut x = inner.x;
    let place = |column: Column| {
        let width = if column == Column::Name { name } else { column.width() };
        let width = width.min(inner.right().saturating_sub(x));
        let place = Rect { x, width, height: 1, ..inner };
        x += width;
        (column, place)
    };
    shown.into_iter().map(place).collect()
}

impl Images {
    pub(super) fn draw_table(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let all = state.fleet.images.len();
        let mut title = if self.list.len() == all {
            format!("Images {all}")
        } else {
            format!("Images {} of {all}", self.list.len())
        };
        let filter_at = width(&title) + 4;
        if self.editing || !self.filter.text.is_empty() {
            title.push_str(&format!(" · /{}", self.filter.text));
        }
        let inner = panel(cx.buf, area, &title, cx.theme, !self.open);
        if self.editing {
            let x = area.x + 2 + (filter_at + width(&self.filter.text) + 1) as u16;
            let x = x.min(area.right().saturating_sub(2));
            cx.cursor = Some(ratatui::layout::Position::new(x, area.y));
        }
        if self.list.is_empty() {
            self.draw_empty(inner, cx);
            return;
        }
        let columns = columns(inner);
        self.draw_heads(&columns, cx);
        let rows = usize::from(inner.height.saturating_sub(1));
        for row in self.top..(self.top + rows).min(self.list.len()) {
            let Some((image, depth)) = self.list.get(&state.fleet, row) else { break };
            let y = inner.y + 1 + (row - self.top) as u16;
            let line = Rect { y, height: 1, ..inner };
            if row == self.row {
                cx.buf.set_style(line, cx.theme.style(Slot::Selection));
            }
            cx.hit(line, Hit::Item(row));
            for (column, place) in &columns {
                let at = Rect { y, ..*place };
                draw_cell(*column, at, image, depth, row == self.row, cx);
            }
        }
    }

    fn draw_empty(&self, inner: Rect, cx: &mut Draw<'_>) {
        let text = if !cx.state.fleet.loaded {
            "loading …".to_owned()
        } else if self.filter.is_empty() {
            "No images yet. i imports one; 1 sets up the runtime directory, which brings two."
                .to_owned()
        } else {
            format!("No image fits “{}”. Esc takes the filter away.", self.filter.text)
        };
        let lines = wrap(&text, usize::from(inner.width.saturating_sub(4)));
        let top = inner.y + inner.height.saturating_sub(lines.len() as u16) / 2;
        for (row, line) in lines.iter().enumerate() {
            let x = inner.x + (inner.width.saturating_sub(width(line) as u16)) / 2;
            let y = top + row as u16;
            put(cx.buf, x, y, line, cx.theme.style(Slot::TextDim), inner.right() - x);
        }
    }

    fn draw_heads(&self, columns: &[(Column, Rect)], cx: &mut Draw<'_>) {
        for (column, place) in columns {
            let sort = column.sort();
            let sorted = sort.is_some_and(|(sort, _)| sort == self.sort);
            let arrow = match (sorted, self.reverse) {
                (false, _) => "",
                (true, false) => "▾",
                (true, true) => "▴",
            };
            let text = format!("{}{arrow}", column.head());
            let shown = sorted && (self.sort != Sort::Name || self.reverse);
            let slot = if shown { Slot::Title } else { Slot::TextDim };
            let style = cx.theme.style(slot);
            put(cx.buf, place.x, place.y, &text, style, place.width.saturating_sub(1));
            if let Some((_, action)) = sort {
                cx.hit(*place, Hit::Action(action));
            }
        }
    }
}

fn draw_cell(
    column: Column,
    at: Rect,
    image: &ImageView,
    depth: usize,
    here: bool,
    cx: &mut Draw<'_>,
) {
    let fleet = &cx.state.fleet;
    let (text, slot) = match column {
        Column::Mark if image.stale.is_empty() => (String::new(), Slot::Text),
        Column::Mark => (STALE.to_owned(), Slot::Warning),
        Column::Name if depth == 0 => (image.name.clone(), Slot::Text),
        Column::Name => {
            // A name keeps its room however deep it stands.
            let indent = "  ".repeat(depth.min(4) - 1);
            (format!("{indent}└ {}", image.name), Slot::Text)
        }
        Column::Origin => (image.origin.word().to_owned(), Slot::TextDim),
        Column::Size => (ByteSize(image.size).to_string(), Slot::Text),
        Column::Used => {
            (image.used.map(|used| ByteSize(used).to_string()).unwrap_or_default(), Slot::Text)
        }
        Column::Built => match image.built.filter(|at| at.0 > 0) {
            Some(built) => {
                let ago = age(cx.state.now.wall.since(built));
                (format!("{ago} ago"), Slot::Text)
            }
            None => (String::new(), Slot::TextDim),
        },
        Column::Packages => {
            let hash = image.packages_sha256.as_deref().unwrap_or_default();
            (hash.chars().take(8).collect(), Slot::TextDim)
        }
        Column::Vms => match vms_on(image, fleet) {
            (0, _) => (String::new(), Slot::Text),
            (all, 0) => (all.to_string(), Slot::Text),
            (all, old) => (format!("{all}, {old} {STALE}"), Slot::Warning),
        },
    };
    let slot = if here { Slot::Selection } else { slot };
    put(cx.buf, at.x, at.y, &text, cx.theme.style(slot), at.width.saturating_sub(1));
}
