//! What machines are made from: all images, and one of them closely.

pub mod builds;
mod detail;
mod filter;
mod list;
mod table;
mod verbs;

use ratatui::layout::Rect;

use self::{
    list::{List, Sort},
    table::Column,
};
pub use self::{table::STALE, verbs::verb};
use super::browser::{Browser, Did};
use crate::tui::{
    action::{Action, Context},
    event::{Handled, LayerEvent},
    layers::{Cx, Draw, Layer},
    state::State,
};

/// The screen.
#[derive(Debug)]
pub struct Images {
    list: List,
    browser: Browser<Sort>,
    /// Whether what was made from an image stands below it.
    tree: bool,
    /// The wizard that is to open.
    opening: verbs::Opening,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            list: List::default(),
            browser: Browser::new(filter::KEYS),
            tree: true,
            opening: verbs::Opening::No,
        }
    }
}

impl Images {
    fn refresh(&mut self, state: &mut State) {
        let Browser { filter, sort, reverse, row, .. } = &self.browser;
        self.list.refresh(&state.fleet, filter, *sort, *reverse, self.tree);
        let chosen = state.image.as_ref().and_then(|name| self.list.row_of(&state.fleet, name));
        self.go_to(chosen.unwrap_or(*row), state);
    }

    fn go_to(&mut self, row: usize, state: &mut State) {
        let rows = table::rows(state.size, self.browser.open);
        self.browser.settle(row, self.list.len(), rows);
        let image = self.list.get(&state.fleet, self.browser.row);
        let chosen = image.map(|(image, _)| image.name.clone());
        if chosen != state.image {
            self.browser.scroll = 0;
        }
        state.image = chosen;
    }

    /// Goes to the image that something else chose: one that was just built. A filter that hides
    /// it is taken away.
    fn follow_choice(&mut self, state: &mut State) {
        let Some(chosen) = state.image.clone() else { return };
        match self.list.row_of(&state.fleet, &chosen) {
            Some(row) if row != self.browser.row => self.go_to(row, state),
            None if state.fleet.images.iter().any(|image| image.name == chosen) => {
                self.browser.set_filter("");
                self.refresh(state);
            }
            _ => {}
        }
    }

    fn action(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        let state = &mut *cx.state;
        match action {
            Action::ImageFilter => self.browser.editing = true,
            Action::ImageTree => {
                self.tree = !self.tree;
                self.refresh(state);
            }
            Action::ImageDetail => self.browser.open = !self.browser.open,
            // The form is the same everywhere; here it begins with the image.
            Action::VmNew => {
                state.new_vm.image.clone_from(&state.image);
                return Handled::Ignored;
            }
            _ => {
                let page = table::rows(state.size, self.browser.open);
                let sorts = Column::ALL.into_iter().filter_map(Column::sort);
                return match self.browser.action(action, page, sorts) {
                    Did::Nothing => self.verb(action, cx),
                    did => self.did(did, state),
                };
            }
        }
        Handled::Consumed
    }

    fn did(&mut self, did: Did, state: &mut State) -> Handled {
        match did {
            Did::Nothing => return Handled::Ignored,
            // The cursor is settled behind each event.
            Did::Moved => {}
            Did::Listed => self.refresh(state),
        }
        Handled::Consumed
    }
}

impl Layer for Images {
    fn title(&self) -> &'static str {
        "Images"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        if self.browser.editing {
            &[Context::Filter]
        } else {
            &[Context::Images, Context::List, Context::Global]
        }
    }

    fn takes_text(&self, _: &State) -> bool {
        self.browser.editing
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        if !matches!(event, LayerEvent::Fleet) {
            self.follow_choice(cx.state);
        }
        self.browser.scroll_most = self.scroll_most(cx.state);
        let handled = match event {
            LayerEvent::Action(action) => self.action(*action, cx),
            LayerEvent::Fleet => {
                self.refresh(cx.state);
                Handled::Ignored
            }
            LayerEvent::Desk(ticket, answer) => self.errand_done(*ticket, answer, cx),
            _ => {
                let did = self.browser.input(event);
                self.did(did, cx.state)
            }
        };
        self.go_to(self.browser.row, cx.state);
        handled
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let parts = table::parts(area, self.browser.open);
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
