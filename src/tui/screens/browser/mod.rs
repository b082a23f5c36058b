//! A list with its filter and the detail of what the cursor is on, as Machines and Images have
//! them: what they share. What is listed, and how a row looks, is each screen's own.

mod filter;
mod table;

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEventKind};

pub use self::{
    filter::Filter,
    table::{Parts, columns, parts, rows},
};
use crate::{
    domain::name_order,
    tui::{
        action::Action,
        event::LayerEvent,
        layers::Hit,
        widgets::{scrolled, step},
    },
};

/// The most characters a filter has.
const FILTER_MAX: usize = 200;

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was none of the browser's.
    Nothing,
    /// Something was moved, opened or closed: the cursor has to be [settled](Browser::settle).
    Moved,
    /// The filter or the order is another one: the list has to be made anew.
    Listed,
}

/// The state of such a screen; `S` is what its list can be sorted by, by default the name.
#[derive(Debug)]
pub struct Browser<S> {
    /// What is shown.
    pub filter: Filter,
    /// Whether the filter is being typed.
    pub editing: bool,
    /// What the list is sorted by.
    pub sort: S,
    /// Whether it is sorted the other way round.
    pub reverse: bool,
    /// The row of the cursor, kept when what is in it goes away.
    pub row: usize,
    /// The first row that is seen.
    pub top: usize,
    /// Whether the detail was asked for; then moving scrolls it.
    pub open: bool,
    /// Lines of the detail above the first that is seen.
    pub scroll: usize,
    /// The most lines that can be above it: then its end is seen. Set by the screen, which knows
    /// the text, before each event.
    pub scroll_most: usize,
}

impl<S: Copy + Default + PartialEq> Browser<S> {
    /// One that shows all. `keys` are the words that can stand before a `:` in the filter.
    #[must_use]
    pub fn new(keys: &'static [&'static str]) -> Self {
        Self {
            filter: Filter::new(keys, ""),
            editing: false,
            sort: S::default(),
            reverse: false,
            row: 0,
            top: 0,
            open: false,
            scroll: 0,
            scroll_most: 0,
        }
    }

    /// Does what an action means to every list. `page` is how many rows are seen, `sorts` is what
    /// can be sorted by and the action that does it.
    pub fn action(
        &mut self,
        action: Action,
        page: usize,
        sorts: impl IntoIterator<Item = (S, Action)>,
    ) -> Did {
        if let Some(by) = step(action, page) {
            self.go_by(by);
            return Did::Moved;
        }
        if let Some((sort, _)) = sorts.into_iter().find(|(_, by)| *by == action) {
            self.reverse = self.sort == sort && !self.reverse;
            self.sort = sort;
            return Did::Listed;
        }
        match action {
            Action::FilterAccept => self.editing = false,
            Action::Back if self.editing => {
                self.editing = false;
                return self.set_filter("");
            }
            Action::Back if self.open => self.open = false,
            Action::Back if !self.filter.text().is_empty() => return self.set_filter(""),
            _ => return Did::Nothing,
        }
        Did::Moved
    }

    /// Takes what was typed or pasted into the filter, and the mouse.
    pub fn input(&mut self, event: &LayerEvent<'_>) -> Did {
        match event {
            LayerEvent::Key(key) if self.editing => self.type_in(key.code, key.modifiers),
            LayerEvent::Paste(text) if self.editing => {
                let line = text.lines().next().unwrap_or_default();
                let text = format!("{}{line}", self.filter.text());
                self.set_filter(&text)
            }
            LayerEvent::Mouse(mouse, hit) => self.mouse(mouse.kind, *hit),
            _ => Did::Nothing,
        }
    }

    fn type_in(&mut self, code: KeyCode, mods: KeyModifiers) -> Did {
        let mut text = self.filter.text().to_owned();
        match code {
            KeyCode::Char('u' | 'w') if mods.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char(_) if mods.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                return Did::Nothing;
            }
            KeyCode::Char(c) => text.push(c),
            KeyCode::Backspace if text.is_empty() => self.editing = false,
            KeyCode::Backspace => {
                text.pop();
            }
            _ => return Did::Nothing,
        }
        self.set_filter(&text)
    }

    fn mouse(&mut self, kind: MouseEventKind, hit: Option<Hit>) -> Did {
        match (kind, hit) {
            (MouseEventKind::ScrollUp, _) => self.go_by(-3),
            (MouseEventKind::ScrollDown, _) => self.go_by(3),
            (MouseEventKind::Down(MouseButton::Left), Some(Hit::Item(row))) => self.row = row,
            _ => return Did::Nothing,
        }
        Did::Moved
    }

    /// Filters by this text.
    pub fn set_filter(&mut self, text: &str) -> Did {
        let text: String = text.chars().filter(|c| !c.is_control()).take(FILTER_MAX).collect();
        self.filter.set(&text);
        Did::Listed
    }

    fn go_by(&mut self, by: isize) {
        if self.open {
            // The text may be shorter now, or have more room.
            let scroll = self.scroll.min(self.scroll_most);
            self.scroll = scroll.saturating_add_signed(by).min(self.scroll_most);
        } else {
            self.row = self.row.saturating_add_signed(by);
        }
    }

    /// Puts the cursor on a row of `len`, of which `rows` are seen, or on the last if there are
    /// fewer.
    pub fn settle(&mut self, row: usize, len: usize, rows: usize) {
        self.row = row.min(len.saturating_sub(1));
        self.top = scrolled(self.top, self.row, len, rows);
    }
}

/// The places of those that are shown, sorted. Equal ones stay in the order of their names.
pub fn ordered<'a, T>(
    all: &'a [T],
    shown: impl Fn(&T) -> bool,
    compare: impl Fn(&T, &T) -> Ordering,
    reverse: bool,
    name: impl Fn(&'a T) -> &'a str,
) -> Vec<usize> {
    let mut places: Vec<usize> = (0..all.len()).filter(|at| shown(&all[*at])).collect();
    places.sort_by(|a, b| {
        let (a, b) = (&all[*a], &all[*b]);
        let order = compare(a, b);
        let order = if reverse { order.reverse() } else { order };
        order.then_with(|| name_order(name(a), name(b)))
    });
    places
}
