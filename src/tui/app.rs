//! The whole UI as one value: events in, effects out, cells on demand.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use ratatui::{
    Frame,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseEvent, MouseEventKind},
    layout::{Position, Rect},
};

use super::{
    action::{Action, Context},
    available::{Availability, availability},
    chrome,
    effect::{Effect, Errand},
    event::{Answer, DeskAnswer, Handled, LayerEvent, Ticket, UiEvent},
    forms::new_vm::NewVm,
    layers::{Cx, Deferred, Draw, Hit, Layer, Region},
    popups::{
        confirm::{Confirm, Then},
        help::Help,
        history::History,
        palette::Palette,
        which_key,
    },
    screens::{
        first_start::FirstStart,
        host::Host,
        images::{Images, builds},
        jobs::Jobs,
        machines::Machines,
        panes::{self, PanesScreen},
    },
    state::{Now, Screen, State},
    verbs,
    widgets::SPIN,
};
use crate::{
    config::keymap::{Chord, Lookup},
    domain::{Admission, CommandBody, Notice, NoticeLevel, VmName},
};

/// How long after a prefix key its box comes: someone who knows the keys never sees it.
const WHICH_KEY_AFTER: Duration = Duration::from_millis(300);

/// What drawing found out; goes back in with [`App::drawn`].
#[derive(Debug, Default)]
pub struct Drawn {
    regions: Vec<Region>,
}

/// What came of an event.
#[derive(Debug, Default)]
pub struct Update {
    /// What is to be done outside, in order.
    pub effects: Vec<Effect>,
    /// Whether the screen may look different now.
    pub redraw: bool,
    /// Whether the user waits for the change: it was their key.
    pub urgent: bool,
}

/// The UI.
pub struct App {
    /// What the layers share.
    pub state: State,
    machines: Box<dyn Layer>,
    panes: Box<dyn Layer>,
    images: Box<dyn Layer>,
    jobs: Box<dyn Layer>,
    host: Box<dyn Layer>,
    first_start: Box<dyn Layer>,
    popups: Vec<Box<dyn Layer>>,
    pressed: Vec<Chord>,
    pressed_at: Duration,
    regions: Vec<Region>,
    /// Where a mouse button went down: until it is up, the mouse belongs there.
    grab: Option<Region>,
    effects: Vec<Effect>,
    /// Machines that are being made and whose shell is wanted.
    making: HashMap<Ticket, VmName>,
    /// The looks at the host that were asked for.
    looks: HashSet<Ticket>,
}

impl App {
    /// The UI at its start.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            state,
            machines: Box::<Machines>::default(),
            panes: Box::<PanesScreen>::default(),
            images: Box::<Images>::default(),
            jobs: Box::<Jobs>::default(),
            host: Box::<Host>::default(),
            first_start: Box::<FirstStart>::default(),
            popups: Vec::new(),
            pressed: Vec::new(),
            pressed_at: Duration::ZERO,
            regions: Vec::new(),
            grab: None,
            effects: Vec::new(),
            making: HashMap::new(),
            looks: HashSet::new(),
        }
    }

    /// Takes an event in.
    pub fn update(&mut self, event: UiEvent, now: Now) -> Update {
        self.state.now = now;
        let mut update = Update { redraw: true, ..Update::default() };
        match event {
            UiEvent::Key(key) => {
                update.urgent = true;
                self.key(&key);
            }
            UiEvent::Paste(text) => {
                update.urgent = true;
                self.paste(&text);
            }
            UiEvent::Mouse(mouse) => update.redraw = self.mouse(mouse),
            UiEvent::Resize(columns, rows) => {
                update.urgent = true;
                self.state.size = (columns, rows);
                self.resize_panes();
                self.everyone(&LayerEvent::Tick);
            }
            UiEvent::Focus(focused) => {
                self.state.panes.outer_focus(focused);
                update.redraw = false;
            }
            UiEvent::Do(action) => drop(self.perform(action)),
            UiEvent::Fleet(fleet) => {
                self.state.fleet = fleet;
                self.fleet_changed();
            }
            UiEvent::Notice(notice) => self.notice(notice),
            UiEvent::Answer(ticket, answer) => self.answer(ticket, &answer),
            UiEvent::Desk(ticket, answer) => self.errand_done(ticket, &answer),
            UiEvent::PaneDirty => update.redraw = self.panes_changed(),
            UiEvent::Tick => self.everyone(&LayerEvent::Tick),
            UiEvent::SupervisorGone => {
                self.state.gone = true;
                self.toast(
                    NoticeLevel::Error,
                    "the supervisor has ended; what is shown no longer changes",
                    "quit and start banger again; machines keep running",
                );
            }
            UiEvent::Terminate => self.end(),
        }
        update.redraw |= self.state.runs.follow(&self.state.panes, now.wall);
        update.effects = std::mem::take(&mut self.effects);
        for effect in &update.effects {
            match effect {
                Effect::Command(ticket, CommandBody::Create { spec, start: true }) => {
                    self.making.insert(*ticket, spec.name.clone());
                }
                Effect::Command(ticket, CommandBody::LookAtHost) => {
                    self.looks.insert(*ticket);
                }
                _ => {}
            }
        }
        update
    }

    /// When [`UiEvent::Tick`] is wanted at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let mono = self.state.now.mono;
        let spin = || {
            let next = mono.as_millis() / SPIN.as_millis() + 1;
            SPIN * u32::try_from(next).unwrap_or(u32::MAX)
        };
        let layers = std::iter::once(self.base()).chain(self.popups.iter().map(AsRef::as_ref));
        layers
            .filter_map(|layer| layer.deadline(&self.state))
            .chain(self.state.toasts.deadline(self.state.now))
            .chain((!self.pressed.is_empty()).then(|| self.pressed_at + WHICH_KEY_AFTER))
            .chain(self.state.is_busy().then(spin))
            .filter(|at| *at > mono)
            .min()
    }

    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) -> Drawn {
        let area = frame.area();
        let (cursor, regions) = {
            let mut cx = Draw {
                theme: &self.state.theme,
                state: &self.state,
                buf: frame.buffer_mut(),
                cursor: None,
                regions: Vec::new(),
                layer: 0,
            };
            self.draw_layers(area, &mut cx);
            (cx.cursor, cx.regions)
        };
        if let Some(cursor) = cursor.filter(|at| area.contains(*at)) {
            frame.set_cursor_position(cursor);
        }
        Drawn { regions }
    }

    fn draw_layers(&self, area: Rect, cx: &mut Draw<'_>) {
        if chrome::too_small(area, cx) {
            return;
        }
        let zoomed = self.state.is_zoomed();
        let body = if zoomed { area } else { chrome::draw(area, cx, &self.hints()) };
        cx.layer = 1;
        self.base().draw(body, cx);
        for (index, popup) in self.popups.iter().enumerate() {
            cx.layer = index + 2;
            cx.cursor = None;
            popup.draw(area, cx);
        }
        cx.layer = 0;
        if self.popups.is_empty()
            && let Some(wish) = self.state.panes.types_ahead().filter(|w| !w.ahead.is_empty())
        {
            panes::kept_note(body, &wish.kept(), cx);
        }
        chrome::toasts(body, cx);
        if !self.pressed.is_empty()
            && self.state.now.mono >= self.pressed_at + WHICH_KEY_AFTER
            && let Lookup::Pending(next) = self.state.keys.lookup(self.contexts(), &self.pressed)
        {
            which_key::draw(body, &self.pressed, &next, cx);
        }
    }

    /// Takes back what drawing found out.
    pub fn drawn(&mut self, drawn: Drawn) {
        self.regions = drawn.regions;
    }

    /// What the user is told after the screen is theirs again.
    #[must_use]
    pub fn farewell(&self) -> Option<String> {
        let names: Vec<&str> = self
            .state
            .fleet
            .vms
            .iter()
            .filter(|vm| vm.phase.is_up())
            .map(|vm| vm.spec.name.as_str())
            .collect();
        let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        match names.len() {
            0 => None,
            1 => Some(format!("{shown} keeps running; banger shows it again.")),
            n @ 2..=5 => {
                Some(format!("{n} machines keep running: {shown}; banger shows them again."))
            }
            n => Some(format!("{n} machines keep running: {shown}, …; banger shows them again.")),
        }
    }

    /// The screen below the popups.
    fn base(&self) -> &dyn Layer {
        match self.state.screen {
            Screen::Machines if self.state.is_first_start() => self.first_start.as_ref(),
            Screen::Machines => self.machines.as_ref(),
            Screen::Panes => self.panes.as_ref(),
            Screen::Images => self.images.as_ref(),
            Screen::Jobs => self.jobs.as_ref(),
            Screen::Host => self.host.as_ref(),
        }
    }

    fn top(&self) -> &dyn Layer {
        self.popups.last().map_or_else(|| self.base(), AsRef::as_ref)
    }

    /// Whose keys work now.
    fn contexts(&self) -> &'static [Context] {
        if self.types_ahead() { &[Context::Terminal] } else { self.top().contexts(&self.state) }
    }

    /// Whether what is typed is for a machine that is being made, whose pane is still to come.
    fn types_ahead(&self) -> bool {
        self.popups.is_empty() && self.state.panes.types_ahead().is_some()
    }

    fn takes_all_keys(&self) -> bool {
        self.types_ahead() || self.top().takes_all_keys(&self.state)
    }

    /// Keeps a key for the pane that is still to come; Esc says that none is meant for it.
    fn key_ahead(&mut self, key: &KeyEvent) {
        if key.code == KeyCode::Esc {
            self.state.panes.stop_typing_ahead();
        } else {
            self.keep_ahead(&LayerEvent::Key(*key));
        }
    }

    fn keep_ahead(&mut self, event: &LayerEvent<'_>) {
        let Some(wish) = self.state.panes.types_ahead_mut() else { return };
        if let Err(why) = panes::input::keep_ahead(&mut wish.ahead, event) {
            self.toast(NoticeLevel::Warning, why, "");
        }
    }

    fn paste(&mut self, text: &str) {
        self.pressed.clear();
        let event = LayerEvent::Paste(text);
        if self.types_ahead() {
            self.keep_ahead(&event);
        } else {
            self.offer(&event);
        }
    }

    fn hints(&self) -> chrome::Hints {
        let path = self.popups.iter().map(|popup| popup.title()).collect();
        chrome::Hints { contexts: self.contexts(), path, text: self.top().takes_text(&self.state) }
    }

    fn key(&mut self, key: &KeyEvent) {
        let Some(chord) = Chord::from_event(key) else { return };
        if let Some(rest) = self.after_escape(chord) {
            self.escape_then(chord, rest);
            return;
        }
        if self.takes_all_keys() {
            self.pressed.clear();
            let ahead = self.types_ahead();
            match self.state.keys.lookup(self.contexts(), &[chord]) {
                Lookup::Matched(Action::PaneLeave) if ahead => {
                    self.state.panes.stop_typing_ahead();
                }
                Lookup::Matched(action) => drop(self.perform(action)),
                Lookup::Pending(_) | Lookup::NotFound if ahead => self.key_ahead(key),
                Lookup::Pending(_) | Lookup::NotFound => {
                    self.offer(&LayerEvent::Key(*key));
                }
            }
            return;
        }
        let plain = !chord.mods().intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        let printable = plain && matches!(chord.code(), KeyCode::Char(_));
        if self.pressed.is_empty() && printable && self.top().takes_text(&self.state) {
            self.offer(&LayerEvent::Key(*key));
            return;
        }
        if !self.pressed.is_empty() && chord.code() == KeyCode::Esc {
            self.pressed.clear();
            return;
        }
        self.pressed.push(chord);
        match self.state.keys.lookup(self.contexts(), &self.pressed) {
            Lookup::Matched(action) => {
                self.pressed.clear();
                self.perform(action);
            }
            Lookup::Pending(_) => self.pressed_at = self.state.now.mono,
            Lookup::NotFound => {
                let alone = self.pressed.len() == 1;
                let keys: Vec<String> = self.pressed.drain(..).map(|c| c.to_string()).collect();
                let taken = alone && self.offer(&LayerEvent::Key(*key));
                if !taken && self.popups.is_empty() {
                    self.nothing_here(&keys.join(" "));
                }
            }
        }
    }

    fn nothing_here(&mut self, keys: &str) {
        let text = format!("{keys} does nothing here");
        self.toast(NoticeLevel::Info, text, "? shows what does");
    }

    /// What came behind Esc, if the chord may as well be Esc and another key: terminals send the
    /// same bytes for Alt with a key. tmux takes what follows Esc within its `escape-time` (half
    /// a second unless it is set) for such a chord, and slow lines do the same. Alt that means
    /// something here is Alt.
    fn after_escape(&self, chord: Chord) -> Option<Chord> {
        if !chord.mods().contains(KeyModifiers::ALT) {
            return None;
        }
        let keys: Vec<Chord> = self.pressed.iter().copied().chain([chord]).collect();
        let contexts = self.contexts();
        if !matches!(self.state.keys.lookup(contexts, &keys), Lookup::NotFound) {
            return None;
        }
        let rest = Chord::new(chord.code(), chord.mods() - KeyModifiers::ALT);
        if self.takes_all_keys() {
            // The guest gets both anyway, but for the chord that leaves it.
            let leaves = self.state.keys.lookup(contexts, &[rest]);
            return matches!(leaves, Lookup::Matched(_)).then_some(rest);
        }
        // Lines of text know the words' keys of shells.
        let word = matches!(chord.code(), KeyCode::Char('b' | 'd' | 'f') | KeyCode::Backspace);
        let text = [Context::Form, Context::Wizard, Context::Editor];
        let types = text.iter().any(|context| contexts.contains(context));
        (!(word && types)).then_some(rest)
    }

    /// Esc, then another key; if there is nothing to leave, it was no Esc.
    fn escape_then(&mut self, chord: Chord, rest: Chord) {
        let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        // Either of them does that.
        if self.types_ahead() {
            self.state.panes.stop_typing_ahead();
            return;
        }
        let left = if self.top().takes_all_keys(&self.state) {
            self.offer(&LayerEvent::Key(escape))
        } else if self.pressed.is_empty() {
            let keys = [Chord::new(KeyCode::Esc, KeyModifiers::NONE)];
            match self.state.keys.lookup(self.contexts(), &keys) {
                Lookup::Matched(action) => self.perform(action),
                Lookup::Pending(_) | Lookup::NotFound => false,
            }
        } else {
            self.pressed.clear();
            true
        };
        if left {
            self.key(&rest.event());
        } else {
            self.nothing_here(&chord.to_string());
        }
    }

    /// Does an action, or says why not; false if there was nothing to do.
    fn perform(&mut self, action: Action) -> bool {
        if let Availability::Disabled(why) = availability(&self.state, action) {
            self.toast(NoticeLevel::Warning, why, "");
            return false;
        }
        // What lies in the way is taken away first. Who types looks at the line, not at what was
        // said: there Esc does both.
        if action == Action::Back
            && self.popups.is_empty()
            && self.state.toasts.dismiss(self.state.now)
            && !self.top().takes_text(&self.state)
        {
            return true;
        }
        self.offer(&LayerEvent::Action(action)) || self.global(action)
    }

    /// Actions that are the same everywhere; false if there was nothing to do.
    fn global(&mut self, action: Action) -> bool {
        let contexts = self.base().contexts(&self.state);
        match action {
            Action::GoMachines => self.go(Screen::Machines),
            Action::GoPanes => self.go(Screen::Panes),
            Action::GoImages => self.go(Screen::Images),
            Action::GoJobs => self.go(Screen::Jobs),
            Action::GoHost => self.go(Screen::Host),
            Action::NextScreen => self.go_by(1),
            Action::PrevScreen => self.go_by(Screen::ALL.len() - 1),
            Action::History => self.popups.push(Box::<History>::default()),
            Action::Palette => self.popups.push(Box::new(Palette::open(&self.state, contexts))),
            Action::Help => self.popups.push(Box::new(Help::new(contexts))),
            Action::VmNew => {
                let form = NewVm::open(&mut self.state);
                self.popups.push(Box::new(form));
            }
            Action::Back => return self.back(),
            Action::Redraw => self.effects.push(Effect::Redraw),
            Action::Suspend => self.effects.push(Effect::Suspend),
            Action::Quit => self.quit(),
            _ => {
                let mut cx = Cx::new(&mut self.state, &mut self.effects);
                verbs::run(action, &mut cx);
                let deferred = cx.into_deferred();
                self.apply(deferred, None);
            }
        }
        true
    }

    /// One level back; false at the top level, where nothing is left to leave.
    fn back(&mut self) -> bool {
        if self.state.screen == Screen::Machines {
            let any = !self.state.marks.is_empty();
            self.state.marks.clear();
            return any;
        }
        self.go(Screen::Machines);
        true
    }

    fn quit(&mut self) {
        let jobs = self.state.fleet.jobs.iter().filter(|job| !job.state.is_over()).count();
        let runs: Vec<&str> = self.state.panes.running().collect();
        let title = match (jobs, runs.as_slice()) {
            (0, []) => {
                self.end();
                return;
            }
            (0, [one]) => format!("Quit while “{one}” is running?"),
            (0, many) => format!("Quit while {} panes run something?", many.len()),
            (1, _) => "Quit while a job is running?".to_owned(),
            (jobs, _) => format!("Quit while {jobs} jobs are running?"),
        };
        let mut lines = vec!["Machines keep running.".to_owned()];
        if jobs > 0 {
            lines[0].push_str(" What is not done yet of the jobs is left undone.");
        }
        if !runs.is_empty() {
            lines.push(format!("These end with banger, undone: {}.", runs.join(", ")));
        }
        self.popups.push(Box::new(Confirm::new(title, lines, "Quit", Then::Quit)));
    }

    /// Ends the UI; what was typed last is kept first.
    fn end(&mut self) {
        if let Some((text, _)) = self.state.draft.take() {
            let ticket = self.state.next_ticket();
            self.effects.push(Effect::Desk(ticket, Errand::KeepDraft(Some(text))));
        }
        self.effects.push(Effect::Quit);
    }

    fn errand_done(&mut self, ticket: Ticket, answer: &DeskAnswer) {
        if self.offer_all(&LayerEvent::Desk(ticket, answer)) {
            return;
        }
        if let DeskAnswer::Kept(Err(problem)) = answer {
            let text = format!("{}: {}", problem.what, problem.why);
            self.toast(NoticeLevel::Warning, text, problem.hint.as_str());
        }
    }

    fn go(&mut self, screen: Screen) {
        self.state.screen = screen;
        self.state.visits += 1;
        self.resize_panes();
        // What is shown now has its own wishes: a console to attach to.
        self.everyone(&LayerEvent::Tick);
    }

    fn resize_panes(&mut self) {
        let size = panes::terminal_size(self.state.size, self.state.panes.zoom);
        self.state.panes.shown(self.state.screen, size);
    }

    fn go_by(&mut self, steps: usize) {
        let at = Screen::ALL.iter().position(|s| *s == self.state.screen).unwrap_or(0);
        self.go(Screen::ALL[(at + steps) % Screen::ALL.len()]);
    }

    fn toast(&mut self, level: NoticeLevel, text: impl Into<String>, hint: impl Into<String>) {
        self.state.toasts.push(level, text.into(), hint.into(), self.state.now);
    }

    fn notice(&mut self, notice: Notice) {
        self.toast(notice.level, notice.text, notice.hint);
    }

    fn answer(&mut self, ticket: Ticket, answer: &Answer) {
        let name = self.making.remove(&ticket);
        if let (Some(name), Answer::Admission(Admission::Queued(job))) = (name, answer) {
            self.state.panes.await_shell(name, *job);
        }
        let look = self.looks.remove(&ticket);
        if self.offer_all(&LayerEvent::Answer(ticket, answer)) {
            return;
        }
        match answer {
            Answer::Admission(Admission::Queued(_)) => {}
            // That it is looked at is what was wanted, whoever asked for it.
            Answer::Admission(Admission::Ignored(_)) if look => {}
            Answer::Admission(Admission::Ignored(why)) => {
                self.toast(NoticeLevel::Info, why.as_str(), "");
            }
            Answer::Admission(Admission::Denied(denied)) => {
                let problem = &denied.0;
                let text = format!("{}: {}", problem.what, problem.why);
                self.toast(NoticeLevel::Error, text, problem.hint.as_str());
            }
            Answer::Busy => self.toast(
                NoticeLevel::Warning,
                "banger has too much to do; this was not done",
                "try again in a moment",
            ),
            Answer::Gone => self.toast(
                NoticeLevel::Error,
                "the supervisor has ended; this was not done",
                "quit and start banger again; machines keep running",
            ),
        }
    }

    fn fleet_changed(&mut self) {
        let fleet = self.state.fleet.clone();
        let alive = |id: &_| fleet.vms.iter().any(|vm| vm.id == *id);
        if !self.state.marks.is_empty() {
            self.state.marks.retain(alive);
        }
        // Every screen keeps up, also those that are not shown.
        let (machines, panes) = (&mut self.machines, &mut self.panes);
        let images = &mut self.images;
        for layer in
            [machines, panes, images, &mut self.jobs, &mut self.host, &mut self.first_start]
        {
            let mut cx = Cx::new(&mut self.state, &mut self.effects);
            layer.handle_event(&LayerEvent::Fleet, &mut cx);
        }
        for popup in (1..=self.popups.len()).rev() {
            self.give(popup, &LayerEvent::Fleet);
        }
        let busy = !self.popups.is_empty();
        let mut cx = Cx::new(&mut self.state, &mut self.effects);
        panes::follow_fleet(busy, &mut cx);
        builds::follow(busy, &mut cx);
        let deferred = cx.into_deferred();
        self.apply(deferred, None);
    }

    /// Looks after the panes; true if one that is shown has changed.
    fn panes_changed(&mut self) -> bool {
        let busy = !self.popups.is_empty();
        let mut cx = Cx::new(&mut self.state, &mut self.effects);
        let changed = panes::follow_panes(&mut cx);
        builds::follow(busy, &mut cx);
        let deferred = cx.into_deferred();
        self.apply(deferred, None);
        changed
    }

    /// The mouse; false if nothing can have changed.
    fn mouse(&mut self, mouse: MouseEvent) -> bool {
        let at = Position::new(mouse.column, mouse.row);
        let here = self.regions.iter().rev().find(|region| region.area.contains(at)).copied();
        let region = match mouse.kind {
            MouseEventKind::Down(_) => {
                self.grab = here;
                here
            }
            MouseEventKind::Drag(_) => self.grab,
            MouseEventKind::Up(_) => self.grab.take(),
            _ => here,
        };
        let Some(region) = region else { return false };
        if matches!(mouse.kind, MouseEventKind::Down(_)) {
            // Who points at something means that.
            self.state.panes.stop_typing_ahead();
            match region.hit {
                Hit::Screen(screen) => {
                    self.go(screen);
                    return true;
                }
                Hit::Action(action) => {
                    self.pressed.clear();
                    self.perform(action);
                    return true;
                }
                _ => {}
            }
        }
        if region.layer == 0 || region.layer > self.popups.len() + 1 {
            return false;
        }
        let event = LayerEvent::Mouse(mouse, Some(region.hit));
        self.give(region.layer - 1, &event) == Handled::Consumed
    }

    /// Offers an event from the top down; true if a layer consumed it or a popup is in the way.
    fn offer(&mut self, event: &LayerEvent<'_>) -> bool {
        for index in (0..=self.popups.len()).rev() {
            let modal = index > 0 && self.popups[index - 1].is_modal();
            if self.give(index, event) == Handled::Consumed || modal {
                return true;
            }
        }
        false
    }

    /// Offers an event from the top down, through popups.
    fn offer_all(&mut self, event: &LayerEvent<'_>) -> bool {
        (0..=self.popups.len()).rev().any(|index| self.give(index, event) == Handled::Consumed)
    }

    fn everyone(&mut self, event: &LayerEvent<'_>) {
        for index in (0..=self.popups.len()).rev() {
            self.give(index, event);
        }
    }

    /// Gives an event to the screen (0) or the n-th popup, and does what it wants of the stack.
    fn give(&mut self, index: usize, event: &LayerEvent<'_>) -> Handled {
        let layer = match (index.checked_sub(1), self.state.screen) {
            (Some(popup), _) => match self.popups.get_mut(popup) {
                Some(layer) => layer,
                None => return Handled::Ignored,
            },
            (None, Screen::Machines) if self.state.is_first_start() => &mut self.first_start,
            (None, Screen::Machines) => &mut self.machines,
            (None, Screen::Panes) => &mut self.panes,
            (None, Screen::Images) => &mut self.images,
            (None, Screen::Jobs) => &mut self.jobs,
            (None, Screen::Host) => &mut self.host,
        };
        let mut cx = Cx::new(&mut self.state, &mut self.effects);
        let handled = layer.handle_event(event, &mut cx);
        let deferred = cx.into_deferred();
        self.apply(deferred, index.checked_sub(1));
        handled
    }

    /// Does what a layer wanted of the stack; `popup` is which one it was, if it was one.
    fn apply(&mut self, deferred: Vec<Deferred>, popup: Option<usize>) {
        let mut actions = Vec::new();
        for wish in deferred {
            match wish {
                Deferred::Push(layer) => self.popups.push(layer),
                Deferred::Close => {
                    if let Some(index) = popup.filter(|index| *index < self.popups.len()) {
                        self.popups.remove(index);
                    }
                }
                Deferred::Run(action) => actions.push(action),
                Deferred::Go(screen) => self.go(screen),
            }
        }
        for action in actions {
            self.perform(action);
        }
    }
}
