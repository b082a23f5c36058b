//! What machines are made from: all images, and one of them closely.

pub mod builds;
mod detail;
mod filter;
mod list;
mod table;
mod verbs;

use ratatui::{
    crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEventKind},
    layout::Rect,
};

use self::{
    filter::Filter,
    list::{List, Sort},
};
pub use self::{table::STALE, verbs::verb};
use crate::tui::{
    action::{Action, Context},
    event::{Handled, LayerEvent},
    layers::{Cx, Draw, Hit, Layer},
    state::State,
    widgets::scrolled,
};

/// The most characters a filter has.
const FILTER_MAX: usize = 200;

/// The screen.
#[derive(Debug)]
pub struct Images {
    list: List,
    filter: Filter,
    /// Whether the filter is being typed.
    editing: bool,
    sort: Sort,
    reverse: bool,
    /// Whether what was made from an image stands below it.
    tree: bool,
    /// The row of the cursor, kept when its image goes away.
    row: usize,
    top: usize,
    /// Whether the detail was asked for; then moving scrolls it.
    open: bool,
    scroll: usize,
    /// The wizard that is to open.
    opening: verbs::Opening,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            list: List::default(),
            filter: Filter::default(),
            editing: false,
            sort: Sort::default(),
            reverse: false,
            tree: true,
            row: 0,
            top: 0,
            open: false,
            scroll: 0,
            opening: verbs::Opening::No,
        }
    }
}

impl Images {
    fn refresh(&mut self, state: &mut State) {
        self.list.refresh(&state.fleet, &self.filter, self.sort, self.reverse, self.tree);
        let row = state.image.as_ref().and_then(|name| self.list.row_of(&state.fleet, name));
        self.go_to(row.unwrap_or(self.row), state);
    }

    fn go_to(&mut self, row: usize, state: &mut State) {
        self.row = row.min(self.list.len().saturating_sub(1));
        let rows = table::rows(state.size, self.open);
        self.top = scrolled(self.top, self.row, self.list.len(), rows);
        let chosen = self.list.get(&state.fleet, self.row).map(|(image, _)| image.name.clone());
        if chosen != state.image {
            self.scroll = 0;
        }
        state.image = chosen;
    }

    /// Goes to the image that something else chose: one that was just built. A filter that hides
    /// it is taken away.
    fn follow_choice(&mut self, state: &mut State) {
        let Some(chosen) = state.image.clone() else { return };
        if self.list.get(&state.fleet, self.row).is_some_and(|(image, _)| image.name == chosen) {
            return;
        }
        let is_there = state.fleet.images.iter().any(|image| image.name == chosen);
        if is_there && self.list.row_of(&state.fleet, &chosen).is_none() {
            self.set_filter("", state);
        }
        if let Some(row) = self.list.row_of(&state.fleet, &chosen) {
            self.go_to(row, state);
        }
    }

    fn go_by(&mut self, by: isize, state: &mut State) {
        if self.open {
            self.scroll = self.scroll.saturating_add_signed(by).min(500);
        } else {
            self.go_to(self.row.saturating_add_signed(by), state);
        }
    }

    fn sort_by(&mut self, sort: Sort, state: &mut State) {
        self.reverse = self.sort == sort && !self.reverse;
        self.sort = sort;
        self.refresh(state);
    }

    fn set_filter(&mut self, text: &str, state: &mut State) {
        let text: String = text.chars().filter(|c| !c.is_control()).take(FILTER_MAX).collect();
        self.filter = Filter::new(&text);
        self.refresh(state);
    }

    fn action(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        let state = &mut *cx.state;
        let page = table::rows(state.size, self.open) as isize;
        match action {
            Action::Up => self.go_by(-1, state),
            Action::Down => self.go_by(1, state),
            Action::HalfUp => self.go_by(-(page / 2).max(1), state),
            Action::HalfDown => self.go_by((page / 2).max(1), state),
            Action::PageUp => self.go_by(-page, state),
            Action::PageDown => self.go_by(page, state),
            Action::Top => self.go_by(isize::MIN + 1, state),
            Action::Bottom => self.go_by(isize::MAX, state),
            Action::ImageFilter => self.editing = true,
            Action::FilterAccept => self.editing = false,
            Action::SortName => self.sort_by(Sort::Name, state),
            Action::ImageSortOrigin => self.sort_by(Sort::Origin, state),
            Action::ImageSortSize => self.sort_by(Sort::Size, state),
            Action::ImageSortUsed => self.sort_by(Sort::Used, state),
            Action::ImageSortBuilt => self.sort_by(Sort::Built, state),
            Action::ImageSortVms => self.sort_by(Sort::Vms, state),
            Action::ImageTree => {
                self.tree = !self.tree;
                self.refresh(state);
            }
            Action::ImageDetail => self.open = !self.open,
            // The form is the same everywhere; here it begins with the image.
            Action::VmNew => {
                state.new_vm.image.clone_from(&state.image);
                return Handled::Ignored;
            }
            Action::Back if self.editing => {
                self.editing = false;
                self.set_filter("", state);
            }
            Action::Back if self.open => self.open = false,
            Action::Back if !self.filter.text.is_empty() => self.set_filter("", state),
            _ => return self.verb(action, cx),
        }
        Handled::Consumed
    }

    fn type_in(&mut self, code: KeyCode, mods: KeyModifiers, state: &mut State) -> Handled {
        let mut text = self.filter.text.clone();
        match code {
            KeyCode::Char('u' | 'w') if mods.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char(_) if mods.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                return Handled::Ignored;
            }
            KeyCode::Char(c) => text.push(c),
            KeyCode::Backspace if text.is_empty() => self.editing = false,
            KeyCode::Backspace => {
                text.pop();
            }
            _ => return Handled::Ignored,
        }
        self.set_filter(&text, state);
        Handled::Consumed
    }

    fn mouse(&mut self, kind: MouseEventKind, hit: Option<Hit>, state: &mut State) -> Handled {
        match (kind, hit) {
            (MouseEventKind::ScrollUp, _) => self.go_by(-3, state),
            (MouseEventKind::ScrollDown, _) => self.go_by(3, state),
            (MouseEventKind::Down(MouseButton::Left), Some(Hit::Item(row))) => {
                self.go_to(row, state);
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }
}

impl Layer for Images {
    fn title(&self) -> &'static str {
        "Images"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        if self.editing {
            &[Context::Filter]
        } else {
            &[Context::Images, Context::List, Context::Global]
        }
    }

    fn takes_text(&self, _: &State) -> bool {
        self.editing
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        if !matches!(event, LayerEvent::Fleet) {
            self.follow_choice(cx.state);
        }
        let handled = match event {
            LayerEvent::Action(action) => self.action(*action, cx),
            LayerEvent::Key(key) if self.editing => self.type_in(key.code, key.modifiers, cx.state),
            LayerEvent::Paste(text) if self.editing => {
                let line = text.lines().next().unwrap_or_default();
                let text = format!("{}{line}", self.filter.text);
                self.set_filter(&text, cx.state);
                Handled::Consumed
            }
            LayerEvent::Mouse(mouse, hit) => self.mouse(mouse.kind, *hit, cx.state),
            LayerEvent::Fleet => {
                self.refresh(cx.state);
                Handled::Ignored
            }
            LayerEvent::Desk(ticket, answer) => self.errand_done(*ticket, answer, cx),
            LayerEvent::Tick
            | LayerEvent::Key(_)
            | LayerEvent::Paste(_)
            | LayerEvent::Answer(..) => Handled::Ignored,
        };
        self.go_to(self.row, cx.state);
        handled
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let parts = table::parts(area, self.open);
        if let Some(place) = parts.table {
            self.draw_table(place, cx);
        }
        if let Some(place) = parts.detail {
            self.draw_detail(place, cx);
        }
    }

    fn deadline(&self, state: &State) -> Option<std::time::Duration> {
        // Ages move by the minute.
        let left = 60_000 - state.now.wall.0 % 60_000;
        Some(state.now.mono + std::time::Duration::from_millis(left))
    }
}
