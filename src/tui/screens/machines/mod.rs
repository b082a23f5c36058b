//! The home: all machines, and one of them closely.

mod detail;
mod filter;
mod layout;
mod list;
mod table;

use std::time::Duration;

use ratatui::layout::Rect;

use self::{
    layout::Column,
    list::{List, Sort},
};
use super::browser::{Browser, Did};
use crate::{
    domain::VmId,
    tui::{
        action::{Action, Context},
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Layer},
        state::{Screen, State},
    },
};

/// How long the cursor rests on a machine before its console is attached: passing over a
/// hundred machines attaches to none.
const REST: Duration = Duration::from_millis(150);

/// A tab of the detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// What it is and does.
    #[default]
    Overview,
    /// Its serial console, live.
    Console,
}

/// The screen.
#[derive(Debug)]
pub struct Machines {
    list: List,
    browser: Browser<Sort>,
    tab: Tab,
    /// The console to attach to, and from when on.
    peek: Option<(VmId, Duration)>,
}

impl Default for Machines {
    fn default() -> Self {
        Self {
            list: List::default(),
            browser: Browser::new(filter::KEYS),
            tab: Tab::default(),
            peek: None,
        }
    }
}

impl Machines {
    fn refresh(&mut self, state: &mut State) {
        let Browser { filter, sort, reverse, row, .. } = &self.browser;
        self.list.refresh(&state.fleet, filter, *sort, *reverse);
        let selected = state.selected.as_ref().and_then(|id| self.list.row_of(&state.fleet, id));
        self.go_to(selected.unwrap_or(*row), state);
    }

    fn go_to(&mut self, row: usize, state: &mut State) {
        let rows = layout::rows(state.size, self.browser.open);
        self.browser.settle(row, self.list.len(), rows);
        let selected = self.list.get(&state.fleet, self.browser.row).map(|vm| vm.id.clone());
        if selected != state.selected {
            self.browser.scroll = 0;
        }
        state.selected = selected;
    }

    /// Goes to the machine that another layer chose, such as the palette; a filter that hides it
    /// is taken away.
    fn follow_choice(&mut self, state: &mut State) {
        let Some(chosen) = state.selected.clone() else { return };
        match self.list.row_of(&state.fleet, &chosen) {
            Some(row) if row != self.browser.row => self.go_to(row, state),
            None if state.vm(&chosen).is_some() => {
                self.browser.set_filter("");
                self.refresh(state);
            }
            _ => {}
        }
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

    fn action(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        let state = &mut *cx.state;
        match action {
            Action::Mark => {
                if let Some(id) = state.selected.clone() {
                    if !state.marks.remove(&id) {
                        state.marks.insert(id);
                    }
                    self.go_to(self.browser.row + 1, state);
                }
            }
            Action::MarkAll => {
                let shown = self.list.iter(&state.fleet).map(|vm| vm.id.clone());
                state.marks.extend(shown);
            }
            Action::Unmark => state.marks.clear(),
            Action::Filter => self.browser.editing = true,
            Action::VmDetail => self.browser.open = !self.browser.open,
            Action::TabNext | Action::TabPrev => {
                self.tab = match self.tab {
                    Tab::Overview => Tab::Console,
                    Tab::Console => Tab::Overview,
                };
                self.browser.scroll = 0;
                if layout::parts_of(state.size, self.browser.open).detail.is_none() {
                    self.browser.open = true;
                }
            }
            _ => {
                let page = layout::rows(state.size, self.browser.open);
                let sorts = Column::ALL.into_iter().filter_map(Column::sort);
                let did = self.browser.action(action, page, sorts);
                return self.did(did, state);
            }
        }
        Handled::Consumed
    }

    /// Sees to it that the console that is shown is the selected machine's, once the cursor
    /// rests.
    fn follow_console(&mut self, cx: &mut Cx<'_>) {
        let state = &mut *cx.state;
        let detail = layout::parts_of(state.size, self.browser.open).detail;
        let shown = state.screen == Screen::Machines && self.tab == Tab::Console;
        let wanted = state.selected_vm().filter(|vm| shown && vm.phase.is_up());
        let (Some(vm), Some(detail)) = (wanted.cloned(), detail) else {
            self.peek = None;
            state.panes.end_peek();
            return;
        };
        let size = detail::console_size(detail);
        if state.panes.peeks_at(&vm.id) {
            self.peek = None;
            state.panes.resize_peek(size);
            return;
        }
        let now = state.now.mono;
        match &self.peek {
            Some((id, at)) if *id == vm.id && now >= *at => {
                self.peek = None;
                let effect = state.panes.peek(&vm, size);
                cx.effect(effect);
            }
            Some((id, _)) if *id == vm.id => {}
            _ => self.peek = Some((vm.id.clone(), now + REST)),
        }
    }
}

impl Layer for Machines {
    fn title(&self) -> &'static str {
        "Machines"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        if self.browser.editing {
            &[Context::Filter]
        } else {
            &[Context::Machines, Context::List, Context::Global]
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
            _ => {
                let did = self.browser.input(event);
                self.did(did, cx.state)
            }
        };
        self.go_to(self.browser.row, cx.state);
        self.follow_console(cx);
        handled
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let (header, rest) = layout::split(area);
        table::header(header, cx);
        let parts = layout::parts(rest, self.browser.open);
        if let Some(place) = parts.table {
            self.draw_table(place, cx);
        }
        if let Some(place) = parts.detail {
            self.draw_detail(place, cx);
        }
    }

    fn deadline(&self, state: &State) -> Option<Duration> {
        // Uptimes move by the second, as long as one of them is short enough to show seconds.
        let now = state.now;
        let counts =
            |vm: &crate::domain::VmView| vm.phase.is_up() && now.wall.since(vm.since) < 3_600_000;
        let rows = layout::rows(state.size, self.browser.open);
        let shown = self.list.iter(&state.fleet).skip(self.browser.top).take(rows);
        let second = shown.map(AsRef::as_ref).any(counts);
        let next = if second { 1_000 - now.wall.0 % 1_000 } else { 60_000 - now.wall.0 % 60_000 };
        let clock = now.mono + Duration::from_millis(next);
        Some(self.peek.as_ref().map_or(clock, |(_, at)| clock.min(*at)))
    }
}
