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
        layers::Draw,
        screens::browser::{self, Parts, columns},
        text::{age, clip_middle, width},
        widgets::put,
    },
};

/// What stands beside an image that is not what would be built now, and beside a machine of an
/// older build.
pub const STALE: &str = "↻";

/// From this height on the detail stands below the table, else in its place.
const TALL: u16 = 34;

/// The parts within the body; `open` is whether the detail was asked for.
#[must_use]
pub fn parts(body: Rect, open: bool) -> Parts {
    browser::parts(body, open, TALL)
}

/// Rows of images that fit into the table on a terminal of this size.
#[must_use]
pub fn rows(size: (u16, u16), open: bool) -> usize {
    browser::rows(parts(chrome::body_of(size), open))
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Whether it is stale.
    Mark,
    /// The name; takes what is left.
    Name,
    /// Where it comes from.
    Origin,
    /// The size of its disk.
    Size,
    /// Bytes on the host.
    Used,
    /// How long ago it was built.
    Built,
    /// What its packages are told by.
    Packages,
    /// Machines on it.
    Vms,
}

impl Column {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
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
    #[must_use]
    pub const fn sort(self) -> Option<(Sort, Action)> {
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

impl Images {
    pub(super) fn draw_table(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let all = state.fleet.images.len();
        let title = if self.list.len() == all {
            format!("Images {all}")
        } else {
            format!("Images {} of {all}", self.list.len())
        };
        let browser = &self.browser;
        let inner = browser.draw_frame(area, title, cx);
        if self.list.is_empty() {
            let none =
                "No images yet. i imports one; 1 sets up the runtime directory, which brings two.";
            browser.draw_empty(inner, none, "image", cx);
            return;
        }
        let columns = columns(inner, &Column::ALL, &Column::GIVES_WAY, Column::width, NAME_MIN);
        browser.draw_heads(columns.iter().map(|(c, place)| (c.head(), c.sort(), *place)), cx);
        browser.draw_rows(inner, self.list.len(), cx, |row, y, cx| {
            let Some((image, depth)) = self.list.get(&state.fleet, row) else { return };
            for (column, place) in &columns {
                draw_cell(*column, Rect { y, ..*place }, image, depth, row == browser.row, cx);
            }
        });
    }
}

/// How long ago, in that many columns.
fn rough(ms: u64, columns: u16) -> String {
    let age = age(ms);
    let whole = format!("{age} ago");
    if width(&whole) <= usize::from(columns) {
        return whole;
    }
    // Of “11m 29s” the minutes are enough.
    format!("{} ago", age.split(' ').next().unwrap_or_default())
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
        Column::Name => {
            // A name keeps its room however deep it stands; names of one family differ at their ends.
            let depth = depth.min(4);
            let mut text = "  ".repeat(depth.saturating_sub(1));
            text.push_str(if depth > 0 { "└ " } else { "" });
            let room = usize::from(at.width.saturating_sub(1)).saturating_sub(2 * depth);
            text.push_str(&clip_middle(&image.name, room));
            (text, Slot::Text)
        }
        Column::Origin => (image.origin.word().to_owned(), Slot::TextDim),
        Column::Size => (ByteSize(image.size).to_string(), Slot::Text),
        Column::Used => {
            (image.used.map(|used| ByteSize(used).to_string()).unwrap_or_default(), Slot::Text)
        }
        Column::Built => match image.built.filter(|at| at.0 > 0) {
            Some(built) => {
                (rough(cx.state.now.wall.since(built), at.width.saturating_sub(1)), Slot::Text)
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
