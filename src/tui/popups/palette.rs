//! Find and run any command, or go to any machine, by some of its letters.

use nucleo_matcher::{
    Config, Matcher, Utf32Str,
    pattern::{CaseMatching, Normalization, Pattern},
};
use ratatui::{
    crossterm::event::{MouseButton, MouseEventKind},
    layout::Rect,
};

use crate::{
    config::theme::Slot,
    domain::{CommandBody, VmId},
    tui::{
        action::{ALL, Action, Context},
        available::{Availability, availability},
        event::{Handled, LayerEvent},
        forms::TextLine,
        layers::{Cx, Draw, Hit, Layer},
        state::{Screen, State},
        text::width,
        widgets::{popup, put, put_right, scrolled},
    },
};

/// What can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Action(Action),
    Vm(VmId),
}

/// Something that was found.
struct Found {
    target: Target,
    text: String,
    /// The characters of `text` that the query matched.
    matched: Vec<u32>,
    /// Its keys, or what a machine is doing.
    aside: String,
    /// Why it cannot be chosen now.
    why_not: Option<String>,
}

/// The popup.
pub struct Palette {
    /// The contexts below, the most special first: whose keys are shown.
    contexts: Vec<Context>,
    query: TextLine,
    found: Vec<Found>,
    at: usize,
    /// Why what was chosen last cannot be done.
    refused: Option<String>,
}

impl Palette {
    /// The palette over a screen with these contexts, the most special first.
    #[must_use]
    pub fn open(state: &State, contexts: &[Context]) -> Self {
        let mut this = Self {
            contexts: contexts.to_vec(),
            query: TextLine::new(""),
            found: Vec::new(),
            at: 0,
            refused: None,
        };
        this.find(state);
        this
    }

    /// Everything there is: what can be done now before what cannot, then the machines.
    fn all(&self, state: &State) -> Vec<Found> {
        let actions = ALL.iter().filter(|info| info.palette).map(|info| {
            let keys = state.keys.keys_of(&self.contexts, info.action);
            // Keys of elsewhere do not work here, but are worth learning.
            let keys = keys.or_else(|| state.keys.keys_of(info.contexts, info.action));
            Found {
                target: Target::Action(info.action),
                text: format!("{} ({})", info.doc, info.id),
                matched: Vec::new(),
                aside: keys.map(ToString::to_string).unwrap_or_default(),
                why_not: match availability(state, info.action) {
                    Availability::Ready => None,
                    Availability::Disabled(why) => Some(why),
                },
            }
        });
        let mut found: Vec<Found> = actions.collect();
        found.sort_by_key(|f| f.why_not.is_some());
        found.extend(state.fleet.vms.iter().map(|vm| Found {
            target: Target::Vm(vm.id.clone()),
            text: vm.spec.name.to_string(),
            matched: Vec::new(),
            aside: vm.phase.word().to_owned(),
            why_not: None,
        }));
        found
    }

    fn find(&mut self, state: &State) {
        let mut found = self.all(state);
        let query = self.query.text().trim();
        if !query.is_empty() {
            let mut matcher = Matcher::new(Config::DEFAULT);
            let pattern = Pattern::parse(query, CaseMatching::Smart, Normalization::Smart);
            let mut scored: Vec<(u32, Found)> = Vec::new();
            let mut chars = Vec::new();
            for mut one in found {
                let text = Utf32Str::new(&one.text, &mut chars);
                let mut matched = Vec::new();
                if let Some(score) = pattern.indices(text, &mut matcher, &mut matched) {
                    matched.sort_unstable();
                    matched.dedup();
                    one.matched = matched;
                    scored.push((score, one));
                }
            }
            // Stable: of equals, the order above.
            scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
            found = scored.into_iter().map(|(_, one)| one).collect();
        }
        let chosen = self.found.get(self.at).map(|f| f.target.clone());
        self.found = found;
        let same = self.found.iter().position(|f| Some(&f.target) == chosen.as_ref());
        self.at = same.unwrap_or(0);
    }

    fn typed(&mut self, state: &State) {
        self.refused = None;
        self.found.clear();
        self.find(state);
    }

    fn go(&mut self, by: isize) {
        self.refused = None;
        let last = self.found.len().saturating_sub(1);
        self.at = self.at.saturating_add_signed(by).min(last);
    }

    fn accept(&mut self, cx: &mut Cx<'_>) {
        let Some(found) = self.found.get(self.at) else { return };
        if let Some(why) = &found.why_not {
            self.refused = Some(why.clone());
            return;
        }
        cx.close();
        match &found.target {
            Target::Action(action) => self.run(*action, cx),
            Target::Vm(vm) => {
                cx.state.selected = Some(vm.clone());
                cx.go(Screen::Machines);
            }
        }
    }
}

impl Palette {
    /// Runs an action, on the screen that it belongs to if that is another.
    fn run(&self, action: Action, cx: &mut Cx<'_>) {
        let of = action.info().contexts;
        let here = of.iter().any(|context| self.contexts.contains(context));
        match of {
            _ if here || of.contains(&Context::Machines) => cx.run(action),
            // Made from anywhere; the steps are to be seen.
            _ if action == Action::Bootstrap => {
                cx.command(CommandBody::Bootstrap);
                cx.go(Screen::Jobs);
            }
            _ => {
                if of.contains(&Context::Jobs) {
                    cx.go(Screen::Jobs);
                } else if of.contains(&Context::Images) {
                    cx.go(Screen::Images);
                } else if of.contains(&Context::Host) {
                    cx.go(Screen::Host);
                } else if of.contains(&Context::Panes) {
                    cx.go(Screen::Panes);
                }
                cx.run(action);
            }
        }
    }
}

impl Layer for Palette {
    fn title(&self) -> &'static str {
        "Commands"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Palette]
    }

    fn takes_text(&self, _: &State) -> bool {
        true
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        let page = isize::try_from(cx.state.size.1 / 2).unwrap_or(1);
        match event {
            LayerEvent::Action(Action::Back | Action::Cancel) => cx.close(),
            LayerEvent::Action(Action::Accept) => self.accept(cx),
            LayerEvent::Action(Action::Up) => self.go(-1),
            LayerEvent::Action(Action::Down) => self.go(1),
            LayerEvent::Action(Action::PageUp) => self.go(-page),
            LayerEvent::Action(Action::PageDown) => self.go(page),
            LayerEvent::Key(key) => {
                if self.query.key(key) {
                    self.typed(cx.state);
                }
            }
            LayerEvent::Paste(text) => {
                self.query.insert(text);
                self.typed(cx.state);
            }
            LayerEvent::Mouse(mouse, hit) => match (mouse.kind, hit) {
                (MouseEventKind::ScrollUp, _) => self.go(-1),
                (MouseEventKind::ScrollDown, _) => self.go(1),
                (MouseEventKind::Down(MouseButton::Left), Some(Hit::Item(at))) => {
                    self.at = *at;
                    self.accept(cx);
                }
                _ => {}
            },
            LayerEvent::Fleet => {
                self.find(cx.state);
                return Handled::Ignored;
            }
            LayerEvent::Answer(..) | LayerEvent::Desk(..) | LayerEvent::Tick => {
                return Handled::Ignored;
            }
            LayerEvent::Action(_) => {}
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let columns = area.width.saturating_sub(2).min(84);
        let rows = area.height.saturating_sub(2).clamp(6, 20);
        let inner = popup(cx, area, "Commands", columns, rows);
        let (x, room) = (inner.x + 1, inner.width.saturating_sub(2));
        put(cx.buf, x, inner.y, ":", cx.theme.style(Slot::KeyHint), room);
        let line = Rect { x: x + 2, y: inner.y, width: room.saturating_sub(2), height: 1 };
        self.query.draw(line, cx.theme.style(Slot::FieldFocus), true, cx);
        let list = Rect { y: inner.y + 1, height: inner.height.saturating_sub(2), ..inner };
        let top = scrolled(0, self.at, self.found.len(), usize::from(list.height));
        for ((n, found), y) in self.found.iter().enumerate().skip(top).zip(list.y..list.bottom()) {
            let row = Rect { y, height: 1, ..list };
            draw_found(found, n == self.at, row, cx);
            cx.hit(row, Hit::Item(n));
        }
        let foot = inner.bottom().saturating_sub(1);
        let (text, slot) = match (&self.refused, self.found.is_empty()) {
            (Some(why), _) => (format!("✗ not now: {why}"), Slot::FieldProblem),
            (None, true) => ("Nothing has these letters in its name.".to_owned(), Slot::TextDim),
            (None, false) => {
                ("Enter runs it, or goes to the machine · Esc closes".to_owned(), Slot::TextDim)
            }
        };
        put(cx.buf, x, foot, &text, cx.theme.style(slot), room);
    }
}

fn draw_found(found: &Found, chosen: bool, row: Rect, cx: &mut Draw<'_>) {
    if chosen {
        cx.buf.set_style(row, cx.theme.style(Slot::Selection));
    }
    let base = match (chosen, found.why_not.is_some()) {
        (true, _) => cx.theme.style(Slot::Selection),
        (false, true) => cx.theme.style(Slot::TextDim),
        (false, false) => cx.theme.style(Slot::Text),
    };
    let aside = Rect { width: row.width.saturating_sub(1), ..row };
    let key = if chosen { base } else { cx.theme.style(Slot::KeyHint) };
    let key = if found.why_not.is_some() && !chosen { base } else { key };
    put_right(cx.buf, aside, &found.aside, key);
    let room = row.width.saturating_sub(width(&found.aside) as u16 + 4);
    let (mark, text) = match &found.target {
        Target::Action(_) => (" ", found.text.as_str()),
        Target::Vm(_) => ("▸", found.text.as_str()),
    };
    put(cx.buf, row.x, row.y, mark, base, 1);
    let x = row.x + 2;
    let end = put(cx.buf, x, row.y, text, base, room);
    // Names and docs are of single-column characters; what is not matches a cell off at worst.
    for at in &found.matched {
        let column = x.saturating_add(u16::try_from(*at).unwrap_or(u16::MAX));
        if column < end {
            let style = base.patch(cx.theme.style(Slot::Match));
            cx.buf.set_style(Rect { x: column, width: 1, ..row }, style);
        }
    }
}
