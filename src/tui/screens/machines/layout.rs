//! Where things are on the Machines screen.

use ratatui::layout::Rect;

use super::list::Sort;
use crate::tui::{
    action::Action,
    chrome,
    screens::browser::{self, Parts},
};

/// Rows of what stands above table and detail: host capacity and what runs machines here.
const HEADER: u16 = 2;
/// From this height on the detail stands below the table, else in its place.
const TALL: u16 = 32;

/// What stands above, and what is below it.
#[must_use]
pub fn split(body: Rect) -> (Rect, Rect) {
    let header = Rect { height: body.height.min(HEADER), ..body };
    let rest = Rect { y: header.bottom(), height: body.height - header.height, ..body };
    (header, rest)
}

/// The parts below the header for a terminal of this size; `open` is whether the detail was asked
/// for.
#[must_use]
pub fn parts_of(size: (u16, u16), open: bool) -> Parts {
    let (_, rest) = split(chrome::body_of(size));
    parts(rest, open)
}

/// The parts below the header.
#[must_use]
pub fn parts(rest: Rect, open: bool) -> Parts {
    browser::parts(rest, open, TALL)
}

/// Rows of machines that fit into the table.
#[must_use]
pub fn rows(size: (u16, u16), open: bool) -> usize {
    browser::rows(parts_of(size, open))
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
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
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

    /// What it sorts by, and what a click on its head does.
    #[must_use]
    pub const fn sort(self) -> Option<(Sort, Action)> {
        match self {
            Self::Mark | Self::Address => None,
            Self::State => Some((Sort::State, Action::SortState)),
            Self::Name => Some((Sort::Name, Action::SortName)),
            Self::Image => Some((Sort::Image, Action::SortImage)),
            Self::Vcpus => Some((Sort::Vcpus, Action::SortVcpus)),
            Self::Memory => Some((Sort::Memory, Action::SortMemory)),
            Self::Disk => Some((Sort::Disk, Action::SortDisk)),
            Self::Uptime => Some((Sort::Uptime, Action::SortUptime)),
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
    browser::columns(inner, &Column::ALL, &Column::GIVES_WAY, Column::width, NAME_MIN)
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
