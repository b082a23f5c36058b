//! Where things are on the Machines screen.

use ratatui::layout::Rect;

use crate::tui::{chrome, state::Sort};

/// From this width on the detail stands beside the table.
pub const WIDE: u16 = 120;
/// From this height on the detail stands below the table, else in its place.
const TALL: u16 = 34;

/// The parts of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Host capacity and what runs machines here: two rows.
    pub header: Rect,
    /// The table with its frame, if it is shown.
    pub table: Option<Rect>,
    /// The detail with its frame, if it is shown.
    pub detail: Option<Rect>,
}

/// The parts within the body; `open` is whether the detail was asked for.
#[must_use]
pub fn parts(body: Rect, open: bool) -> Parts {
    let header = Rect { height: body.height.min(2), ..body };
    let rest = Rect { y: body.y + header.height, height: body.height - header.height, ..body };
    if body.width >= WIDE {
        let columns = (body.width * 2 / 5).clamp(46, 90);
        let table = Rect { width: rest.width - columns, ..rest };
        let detail = Rect { x: table.right(), width: columns, ..rest };
        Parts { header, table: Some(table), detail: Some(detail) }
    } else if !open {
        Parts { header, table: Some(rest), detail: None }
    } else if body.height >= TALL {
        let rows = rest.height / 2;
        let table = Rect { height: rest.height - rows, ..rest };
        let detail = Rect { y: table.bottom(), height: rows, ..rest };
        Parts { header, table: Some(table), detail: Some(detail) }
    } else {
        Parts { header, table: None, detail: Some(rest) }
    }
}

/// The parts for a terminal of this size.
#[must_use]
pub fn parts_of(size: (u16, u16), open: bool) -> Parts {
    parts(chrome::body(Rect::new(0, 0, size.0, size.1.max(2))), open)
}

/// Rows of machines that fit into the table.
#[must_use]
pub fn rows(size: (u16, u16), open: bool) -> usize {
    // Its frame and the heads of the columns.
    parts_of(size, open).table.map_or(1, |t| usize::from(t.height.saturating_sub(3))).max(1)
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Whether it is marked.
    Mark,
    /// Glyph and word.
    State,
    /// The name; takes what is left.
    Name,
    /// Where it is reached.
    Address,
    /// The image.
    Image,
    /// vCPUs.
    Vcpus,
    /// Memory.
    Memory,
    /// Bytes of disk used.
    Disk,
    /// How long it has been up.
    Uptime,
}

impl Column {
    const ALL: [Self; 9] = [
        Self::Mark,
        Self::State,
        Self::Name,
        Self::Address,
        Self::Image,
        Self::Vcpus,
        Self::Memory,
        Self::Disk,
        Self::Uptime,
    ];

    /// What gives way first when there is no room for all.
    const GIVES_WAY: [Self; 5] = [Self::Disk, Self::Vcpus, Self::Image, Self::Memory, Self::Uptime];

    /// The word above it.
    #[must_use]
    pub const fn head(self) -> &'static str {
        match self {
            Self::Mark => "",
            Self::State => "State",
            Self::Name => "Name",
            Self::Address => "Address",
            Self::Image => "Image",
            Self::Vcpus => "vCPU",
            Self::Memory => "Memory",
            Self::Disk => "Disk",
            Self::Uptime => "Up",
        }
    }

    /// What a click on its head sorts by.
    #[must_use]
    pub const fn sort(self) -> Option<Sort> {
        match self {
            Self::Mark | Self::Address => None,
            Self::State => Some(Sort::State),
            Self::Name => Some(Sort::Name),
            Self::Image => Some(Sort::Image),
            Self::Vcpus => Some(Sort::Vcpus),
            Self::Memory => Some(Sort::Memory),
            Self::Disk => Some(Sort::Disk),
            Self::Uptime => Some(Sort::Uptime),
        }
    }

    /// Its columns with a blank behind; 0 for the name.
    const fn width(self) -> u16 {
        match self {
            Self::Name => 0,
            Self::Mark => 2,
            Self::State => 12,
            Self::Address => 16,
            Self::Image => 10,
            Self::Vcpus => 6,
            Self::Memory | Self::Disk => 9,
            Self::Uptime => 8,
        }
    }
}

/// The least columns a name gets before others give way.
const NAME_MIN: u16 = 16;

/// The columns that fit, with their places.
#[must_use]
pub fn columns(inner: Rect) -> Vec<(Column, Rect)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_room_and_columns_stay_inside() {
        for width in 0..300 {
            let inner = Rect::new(3, 1, width, 5);
            let columns = columns(inner);
            assert!(columns.iter().all(|(_, at)| at.right() <= inner.right()), "{width}");
            let name = columns.iter().find(|(c, _)| *c == Column::Name).expect("always");
            if width >= 60 {
                assert!(name.1.width >= NAME_MIN, "{width}");
            }
        }
        assert_eq!(columns(Rect::new(0, 0, 118, 1)).len(), 9);
    }

    #[test]
    fn the_detail_is_beside_below_or_instead() {
        let wide = parts_of((200, 50), false);
        assert!(wide.table.is_some() && wide.detail.is_some());
        assert_eq!(parts_of((80, 24), false).detail, None);
        assert_eq!(parts_of((80, 24), true).table, None);
        let tall = parts_of((80, 50), true);
        assert!(tall.table.is_some() && tall.detail.is_some());
        assert_eq!(rows((80, 24), false), 17);
    }
}
