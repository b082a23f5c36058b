//! The home: all machines, and one of them closely.

mod detail;
mod filter;
mod layout;
mod list;
mod table;

use std::time::Duration;

use ratatui::{
    crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEventKind},
    layout::Rect,
};

pub use self::filter::Filter;
use self::list::List;
use crate::{
    domain::VmId,
    tui::{
        action::{Action, Context},
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Hit, Layer},
        state::{Screen, Sort, State},
        widgets::scrolled,
    },
};

/// How long the cursor rests on a machine before its console is attached: passing over a
/// hundred machines attaches to none.
const REST: Duration = Duration::from_millis(150);

/// The most characters a filter has.
const FILTER_MAX: usize = 200;

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
#[derive(Debug, Default)]
pub struct Machines {
    list: List,
    filter: Filter,
    /// Whether the filter is being typed.
    editing: bool,
    sort: Sort,
    reverse: bool,
    /// The row of the cursor, kept when its machine goes away.
    row: usize,
    top: usize,
    /// Whether the detail was asked for; then moving scrolls it.
    open: bool,
    tab: Tab,
    scroll: usize,
    /// The console to attach to, and from when on.
    peek: Option<(VmId, Duration)>,
}

impl Machines {
    fn refresh(&mut self, state: &mut State) {
        self.list.refresh(&state.fleet, &self.filter, self.sort, self.reverse);
        let row = state.selected.as_ref().and_then(|id| self.list.row_of(&state.fleet, id));
        self.go_to(row.unwrap_or(self.row), state);
    }

    fn go_to(&mut self, row: usize, state: &mut State) {
        self.row = row.min(self.list.len().saturating_sub(1));
        let rows = layout::rows(state.size, self.open);
        self.top = scrolled(self.top, self.row, self.list.len(), rows);
        let selected = self.list.get(&state.fleet, self.row).map(|vm| vm.id.clone());
        if selected != state.selected {
            self.scroll = 0;
        }
        state.selected = selected;
    }

    /// Goes to the machine that another layer chose, such as the palette; a filter that hides it
    /// is taken away.
    fn follow_choice(&mut self, state: &mut State) {
        let Some(chosen) = state.selected.clone() else { return };
        if self.list.get(&state.fleet, self.row).is_some_and(|vm| vm.id == chosen) {
            return;
        }
        if self.list.row_of(&state.fleet, &chosen).is_none() && state.vm(&chosen).is_some() {
            self.set_filter("", state);
        }
        if let Some(row) = self.list.row_of(&state.fleet, &chosen) {
            self.go_to(row, state);
        }
    }

    fn go_by(&mut self, by: isize, state: &mut State) {
        if self.open {
            self.scroll = self.scroll.saturating_add_signed(by).min(200);
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
        let page = layout::rows(state.size, self.open) as isize;
        match action {
            Action::Up => self.go_by(-1, state),
            Action::Down => self.go_by(1, state),
            Action::HalfUp => self.go_by(-(page / 2).max(1), state),
            Action::HalfDown => self.go_by((page / 2).max(1), state),
            Action::PageUp => self.go_by(-page, state),
            Action::PageDown => self.go_by(page, state),
            Action::Top => self.go_by(isize::MIN + 1, state),
            Action::Bottom => self.go_by(isize::MAX, state),
            Action::Mark => {
                if let Some(id) = state.selected.clone() {
                    if !state.marks.remove(&id) {
                        state.marks.insert(id);
                    }
                    self.go_to(self.row + 1, state);
                }
            }
            Action::MarkAll => {
                let shown = self.list.iter(&state.fleet).map(|vm| vm.id.clone());
                state.marks.extend(shown);
            }
            Action::Unmark => state.marks.clear(),
            Action::Filter => self.editing = true,
            Action::FilterAccept => self.editing = false,
            Action::SortName => self.sort_by(Sort::Name, state),
            Action::SortState => self.sort_by(Sort::State, state),
            Action::SortImage => self.sort_by(Sort::Image, state),
            Action::SortVcpus => self.sort_by(Sort::Vcpus, state),
            Action::SortMemory => self.sort_by(Sort::Memory, state),
            Action::SortDisk => self.sort_by(Sort::Disk, state),
            Action::SortUptime => self.sort_by(Sort::Uptime, state),
            Action::VmDetail => self.open = !self.open,
            Action::TabNext | Action::TabPrev => {
                self.tab = match self.tab {
                    Tab::Overview => Tab::Console,
                    Tab::Console => Tab::Overview,
                };
                self.scroll = 0;
                if layout::parts_of(state.size, self.open).detail.is_none() {
                    self.open = true;
                }
            }
            Action::Back if self.editing => {
                self.editing = false;
                self.set_filter("", state);
            }
            Action::Back if self.open => self.open = false,
            Action::Back if !self.filter.text.is_empty() => self.set_filter("", state),
            _ => return Handled::Ignored,
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
            (MouseEventKind::Down(MouseButton::Left), Some(Hit::Column(sort))) => {
                self.sort_by(sort, state);
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }

    /// Sees to it that the console that is shown is the selected machine's, once the cursor
    /// rests.
    fn follow_console(&mut self, cx: &mut Cx<'_>) {
        let state = &mut *cx.state;
        let detail = layout::parts_of(state.size, self.open).detail;
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
        if self.editing {
            &[Context::Filter]
        } else {
            &[Context::Machines, Context::List, Context::Global]
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
            LayerEvent::Tick
            | LayerEvent::Key(_)
            | LayerEvent::Paste(_)
            | LayerEvent::Answer(..)
            | LayerEvent::Desk(..) => Handled::Ignored,
        };
        self.go_to(self.row, cx.state);
        self.follow_console(cx);
        handled
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let parts = layout::parts(area, self.open);
        table::header(parts.header, cx);
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
        let rows = layout::rows(state.size, self.open);
        let shown = self.list.iter(&state.fleet).skip(self.top).take(rows);
        let second = shown.map(AsRef::as_ref).any(counts);
        let next = if second { 1_000 - now.wall.0 % 1_000 } else { 60_000 - now.wall.0 % 60_000 };
        let clock = now.mono + Duration::from_millis(next);
        Some(self.peek.as_ref().map_or(clock, |(_, at)| clock.min(*at)))
    }
}
