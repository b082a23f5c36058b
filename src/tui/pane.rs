//! The open consoles, and how a terminal is painted.

use std::{ffi::OsString, sync::Arc};

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
};

use super::{action::Action, effect::Effect, state::Screen};
use crate::{
    config::theme::{Slot, Theme},
    domain::{JobId, VmId, VmName, VmView},
    supervisor::{ConsoleKind, OpenSession, RUN_DONE},
    term::{self, INPUT_MAX, Modes, NotSent, Options, Pane, PaneState, Size, encode},
};

/// Identifies a pane for as long as the UI runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaneId(pub u64);

/// What a pane shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A stream of a machine.
    Vm(VmId, ConsoleKind),
    /// A verb of banger's own.
    Run(Run),
}

/// A verb of banger's own that is run in a pane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its arguments: `images`, `build`, …
    pub arguments: Vec<OsString>,
    /// What its tab says: `build dev`.
    pub title: String,
    /// The image that is there, or another, when it has ended well.
    pub makes: Option<String>,
    /// Whether a shell can be had in what it makes.
    pub has_shell: bool,
    /// The wizard's draft that becomes what it makes.
    pub draft: Option<String>,
}

impl Run {
    /// Whether it is work that is lost if it is ended before it is done.
    #[must_use]
    pub fn is_work(&self) -> bool {
        let verb = self.arguments.get(1).and_then(|verb| verb.to_str());
        matches!(verb, Some("build" | "rebuild" | "import" | "export"))
    }
}

/// An open console.
pub struct Entry {
    /// Its id.
    pub id: PaneId,
    /// What it shows.
    pub source: Source,
    /// The machine's name when it was opened; what is run.
    pub name: String,
    /// The terminal; `None` until the loop has made it.
    pub pane: Option<Pane>,
    /// Whether the shell takes this place as soon as the machine is ready: the boot is watched
    /// meanwhile.
    pub then_shell: bool,
    /// What was typed for that shell so far.
    pub ahead: Vec<u8>,
    /// Whether the user was told that what it runs has ended.
    pub told: bool,
}

impl Entry {
    /// Whether it takes keys.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.pane
            .as_ref()
            .is_none_or(|pane| matches!(pane.state(), PaneState::Opening | PaneState::Live))
    }

    /// The image that is made by what it runs.
    #[must_use]
    pub fn makes(&self) -> Option<&str> {
        self.run().and_then(|run| run.makes.as_deref())
    }

    /// Whether what it runs has ended and did what it was to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let state = self.pane.as_ref().map(Pane::state);
        self.run().is_some() && state == Some(PaneState::Ended(RUN_DONE.to_owned()))
    }

    /// Whose it is, if it is a machine's.
    #[must_use]
    pub const fn vm(&self) -> Option<&VmId> {
        match &self.source {
            Source::Vm(vm, _) => Some(vm),
            Source::Run(_) => None,
        }
    }

    /// Sends input to what has the keyboard: the session, or the shell that is still to come.
    ///
    /// # Errors
    /// If nothing of it will arrive.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), NotSent> {
        match &self.pane {
            Some(pane) if !self.then_shell => pane.send(bytes),
            _ => keep(&mut self.ahead, bytes),
        }
    }

    /// How the other side wants its input. A shell that is still to come begins with nothing
    /// set.
    #[must_use]
    pub fn modes(&self) -> Modes {
        let pane = self.pane.as_ref().filter(|_| !self.then_shell);
        pane.map(|pane| pane.with_engine(|engine| engine.modes())).unwrap_or_default()
    }

    /// The end of what was typed and waits for a shell to read it; `None` if none is waited for.
    #[must_use]
    pub fn kept(&self) -> Option<Vec<u8>> {
        if self.then_shell {
            return Some(end_of(&self.ahead, MOST));
        }
        let shell = matches!(self.source, Source::Vm(_, ConsoleKind::Ssh));
        self.pane.as_ref().filter(|_| shell).and_then(|pane| pane.kept(MOST))
    }

    /// The verb it runs, if it does.
    #[must_use]
    pub const fn run(&self) -> Option<&Run> {
        match &self.source {
            Source::Run(run) => Some(run),
            Source::Vm(..) => None,
        }
    }

    /// `web`, `web console`, `build dev`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.source {
            Source::Vm(_, ConsoleKind::Serial) if self.then_shell => format!("{} boot", self.name),
            Source::Vm(_, ConsoleKind::Serial) => format!("{} console", self.name),
            Source::Vm(_, ConsoleKind::Ssh) | Source::Run(_) => self.name.clone(),
        }
    }
}

/// More than a line of the widest screen.
const MOST: usize = 1024;

fn end_of(ahead: &[u8], most: usize) -> Vec<u8> {
    ahead[ahead.len().saturating_sub(most)..].to_vec()
}

/// Keeps input for a session that is still to come.
///
/// # Errors
/// If it is more than a session would keep.
pub fn keep(ahead: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NotSent> {
    let waiting = ahead.len();
    if waiting + bytes.len() > INPUT_MAX {
        return Err(NotSent::Full { waiting });
    }
    ahead.extend_from_slice(bytes);
    Ok(())
}

/// A machine that is being made, whose shell is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The name it will have.
    pub name: VmName,
    /// The job that makes it.
    pub job: JobId,
    /// Whether it has the keyboard until its pane is there.
    pub typing: bool,
    /// What was typed for it so far.
    pub ahead: Vec<u8>,
}

impl Awaited {
    /// The end of what was typed for it.
    #[must_use]
    pub fn kept(&self) -> Vec<u8> {
        end_of(&self.ahead, MOST)
    }
}

/// The open consoles, in the order of their tabs.
#[derive(Default)]
pub struct Panes {
    list: Vec<Entry>,
    /// The place of the one that is shown.
    at: usize,
    /// Whether it has the keyboard.
    pub typing: bool,
    /// Whether it is shown alone.
    pub zoom: bool,
    /// Machines whose shell is to open by itself.
    pub awaited: Vec<Awaited>,
    /// The console in the detail of a machine.
    peek: Option<Entry>,
    size: Option<Size>,
    peek_size: Option<Size>,
    ids: u64,
    /// How the emulators are to be.
    pub options: Options,
}

impl Panes {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Entry] {
        &self.list
    }

    /// The one that is shown.
    #[must_use]
    pub fn current(&self) -> Option<&Entry> {
        self.list.get(self.at)
    }

    /// The one that is shown.
    pub fn current_mut(&mut self) -> Option<&mut Entry> {
        self.list.get_mut(self.at)
    }

    /// The one with this id.
    #[must_use]
    pub fn get(&self, id: PaneId) -> Option<&Entry> {
        self.list.iter().chain(&self.peek).find(|entry| entry.id == id)
    }

    fn get_mut(&mut self, id: PaneId) -> Option<&mut Entry> {
        self.list.iter_mut().chain(&mut self.peek).find(|entry| entry.id == id)
    }

    /// Those that can be changed.
    pub fn list_mut(&mut self) -> &mut [Entry] {
        &mut self.list
    }

    /// Why an action on panes is not possible now.
    #[must_use]
    pub fn reason(&self, action: Action) -> Option<String> {
        let Some(entry) = self.current() else {
            return Some("no pane is open; o on a machine opens a shell".to_owned());
        };
        match (action, entry.is_alive()) {
            (Action::PaneFocus | Action::PaneInside | Action::PaneSendEscape, false) => {
                let again = if entry.run().is_some() { "runs it" } else { "connects" };
                Some(format!("the session has ended; r {again} again, w closes the pane"))
            }
            (Action::PaneReopen, true) => Some("the session is open".to_owned()),
            // Its recipe is the image's now.
            (Action::PaneReopen, false) if entry.is_done() && entry.makes().is_some() => {
                Some("it is done; b in Images builds it again".to_owned())
            }
            _ => None,
        }
    }

    /// Adds a pane of a machine, or finds the one there is; shows it. The effect, if any, opens
    /// it.
    pub fn open(&mut self, vm: &VmView, kind: ConsoleKind, then_shell: bool) -> Option<Effect> {
        let name = vm.spec.name.to_string();
        self.open_source(Source::Vm(vm.id.clone(), kind), name, then_shell)
    }

    /// Adds a pane that runs a verb, or finds the one that does; shows it. The effect, if any,
    /// opens it.
    pub fn open_run(&mut self, run: Run) -> Option<Effect> {
        // What the same run said before is of no use beside what it says now.
        let shown = self.current().map(|entry| entry.id);
        let over = |e: &Entry| e.run().is_some_and(|r| r.title == run.title) && !e.is_alive();
        self.list.retain(|entry| !over(entry));
        self.at = self.list.iter().position(|entry| Some(entry.id) == shown).unwrap_or(0);
        let name = run.title.clone();
        self.open_source(Source::Run(run), name, false)
    }

    fn open_source(&mut self, source: Source, name: String, then_shell: bool) -> Option<Effect> {
        let same = |e: &Entry| e.source == source && e.is_alive();
        if let Some(at) = self.list.iter().position(same) {
            self.show(at);
            return None;
        }
        let entry = self.entry(source, name, then_shell);
        let effect = Effect::OpenPane(entry.id);
        self.list.push(entry);
        self.show(self.list.len() - 1);
        Some(effect)
    }

    fn entry(&mut self, source: Source, name: String, then_shell: bool) -> Entry {
        self.ids += 1;
        Entry {
            id: PaneId(self.ids),
            source,
            name,
            pane: None,
            then_shell,
            ahead: Vec::new(),
            told: false,
        }
    }

    /// Verbs that are being run, by their titles: they end with the UI.
    pub fn running(&self) -> impl Iterator<Item = &str> {
        let runs = self.list.iter().filter(|entry| entry.run().is_some() && entry.is_alive());
        runs.map(|entry| entry.name.as_str())
    }

    /// Shows the pane at this place.
    pub fn show(&mut self, at: usize) {
        self.at = at.min(self.list.len().saturating_sub(1));
        for (index, entry) in self.list.iter().enumerate() {
            if let Some(pane) = &entry.pane {
                pane.set_visible(index == self.at);
            }
        }
    }

    /// Shows the pane with this id.
    pub fn show_id(&mut self, id: PaneId) {
        if let Some(at) = self.list.iter().position(|entry| entry.id == id) {
            self.show(at);
        }
    }

    /// Shows the next one, or another that many on.
    pub fn step(&mut self, by: isize) {
        let len = self.list.len() as isize;
        if len > 0 {
            self.show((self.at as isize + by).rem_euclid(len) as usize);
        }
    }

    /// Closes the one with this id.
    pub fn close(&mut self, id: PaneId) {
        let Some(at) = self.list.iter().position(|entry| entry.id == id) else { return };
        self.list.remove(at);
        if at < self.at {
            self.at -= 1;
        }
        self.typing = false;
        if self.list.is_empty() {
            self.zoom = false;
        }
        self.show(self.at);
    }

    /// The screen with the panes has come or gone, or has another size.
    pub fn shown(&mut self, screen: Screen, size: Size) {
        self.typing &= screen == Screen::Panes;
        self.size = Some(size);
        for (index, entry) in self.list.iter().enumerate() {
            if let Some(pane) = &entry.pane {
                pane.set_visible(screen == Screen::Panes && index == self.at);
                pane.resize(size);
            }
        }
    }

    /// The outer terminal got or lost the focus: told to a guest that asked for it.
    pub fn outer_focus(&self, gained: bool) {
        let pane = self.current().and_then(|entry| entry.pane.as_ref()).filter(|_| self.typing);
        if let Some(pane) = pane {
            let modes = pane.with_engine(|engine| engine.modes());
            if let Some(bytes) = encode::focus(gained, &modes) {
                // A guest that does not read can do without.
                let _ = pane.send(bytes);
            }
        }
    }

    /// Waits for a machine that is being made: its shell is to open.
    pub fn await_shell(&mut self, name: VmName, job: JobId) {
        self.awaited.push(Awaited { name, job, typing: false, ahead: Vec::new() });
    }

    /// Gives the machine that this job makes the keyboard, and what was typed for it already.
    pub fn type_ahead(&mut self, job: JobId, ahead: &[u8]) {
        for awaited in &mut self.awaited {
            awaited.typing = awaited.job == job;
            if awaited.typing {
                awaited.ahead.extend_from_slice(ahead);
            }
        }
    }

    /// Takes the keyboard back from a machine that is being made; what was typed stays its. Whether
    /// there was one.
    pub fn stop_typing_ahead(&mut self) -> bool {
        // One at a time has it.
        self.awaited.iter_mut().any(|awaited| std::mem::take(&mut awaited.typing))
    }

    /// The machine that is being made and has the keyboard.
    #[must_use]
    pub fn types_ahead(&self) -> Option<&Awaited> {
        self.awaited.iter().find(|awaited| awaited.typing && !self.typing)
    }

    /// The same, to give it what is typed.
    pub fn types_ahead_mut(&mut self) -> Option<&mut Awaited> {
        self.awaited.iter_mut().find(|awaited| awaited.typing && !self.typing)
    }

    /// Has a console shown in the detail of a machine.
    pub fn peek(&mut self, vm: &VmView, size: Size) -> Effect {
        let source = Source::Vm(vm.id.clone(), ConsoleKind::Serial);
        let entry = self.entry(source, vm.spec.name.to_string(), false);
        let effect = Effect::OpenPane(entry.id);
        self.peek = Some(entry);
        self.resize_peek(size);
        effect
    }

    /// The console in the detail is no longer seen.
    pub fn end_peek(&mut self) {
        self.peek = None;
    }

    /// Whether the console in the detail is this machine's, and still open.
    #[must_use]
    pub fn peeks_at(&self, vm: &VmId) -> bool {
        self.peek.as_ref().is_some_and(|entry| entry.vm() == Some(vm) && entry.is_alive())
    }

    /// The console in the detail, if it is this machine's.
    #[must_use]
    pub fn peek_of(&self, vm: &VmId) -> Option<&Entry> {
        self.peek.as_ref().filter(|entry| entry.vm() == Some(vm))
    }

    /// The console in the detail has another size.
    pub fn resize_peek(&mut self, size: Size) {
        self.peek_size = Some(size);
        if let Some(pane) = self.peek.as_ref().and_then(|entry| entry.pane.as_ref()) {
            pane.resize(size);
        }
    }

    /// Makes the terminal of a pane and opens a stream into it, or another one in place of the
    /// old. `wake` is called from other threads when there is something to see.
    pub fn connect(
        &mut self,
        id: PaneId,
        sessions: Arc<dyn OpenSession>,
        wake: impl Fn() + Send + Sync + 'static,
    ) {
        let is_peek = self.peek.as_ref().is_some_and(|entry| entry.id == id);
        let size = if is_peek { self.peek_size } else { self.size };
        let (size, options) = (size.unwrap_or(Size { cols: 80, rows: 24 }), self.options);
        let Some(entry) = self.get_mut(id) else { return };
        let source = entry.source.clone();
        entry.told = false;
        let marker = match &source {
            Source::Vm(_, ConsoleKind::Ssh) => "-- shell --",
            Source::Vm(_, ConsoleKind::Serial) => "-- console --",
            Source::Run(_) => "-- again --",
        };
        let open = move |size| match &source {
            Source::Vm(vm, kind) => sessions.open(vm, *kind, size),
            Source::Run(run) => sessions.run(&run.arguments, size),
        };
        // What is for the shell is not for the console that shows its boot.
        let ahead = match entry.then_shell {
            true => Vec::new(),
            false => std::mem::take(&mut entry.ahead),
        };
        let pane = match &mut entry.pane {
            Some(pane) => {
                pane.restart(marker, open);
                pane
            }
            none => none.insert(Pane::spawn(open, size, options, wake)),
        };
        if let Err(error) = pane.send(&ahead) {
            // Only if it has failed already, which is on its screen.
            tracing::warn!(%error, "what was typed before the session was there");
        }
    }

    /// Whether what is shown has changed since this was last asked or drawn.
    #[must_use]
    pub fn take_dirty(&self, screen: Screen) -> bool {
        let shown = match screen {
            Screen::Panes => self.current(),
            Screen::Machines => self.peek.as_ref(),
            Screen::Images | Screen::Jobs | Screen::Host => None,
        };
        shown.and_then(|entry| entry.pane.as_ref()).is_some_and(Pane::take_dirty)
    }

    /// Every terminal there is.
    pub fn terminals(&self) -> impl Iterator<Item = (&Entry, &Pane)> {
        self.list.iter().chain(&self.peek).filter_map(|e| Some((e, e.pane.as_ref()?)))
    }

    /// Pastes into a pane, whatever is in the text.
    ///
    /// # Errors
    /// What the user is to be told if it was not taken.
    pub fn paste(&mut self, id: PaneId, text: &str) -> Result<(), String> {
        let Some(entry) = self.get_mut(id) else { return Ok(()) };
        if let Some(pane) = &entry.pane {
            pane.with_engine(term::Engine::scroll_to_bottom);
        }
        let bytes = encode::paste(text, &entry.modes());
        entry.send(&bytes).map_err(|e| e.to_string())
    }
}

/// What [`draw_terminal`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Where the cursor is, if it is to be seen.
    pub cursor: Option<Position>,
    /// How many lines back the user has scrolled.
    pub back: usize,
}

/// Paints what a terminal shows. Takes the emulator once: each time is a wait for a guest that
/// floods.
pub fn draw_terminal(buf: &mut Buffer, area: Rect, pane: &Pane, theme: &Theme) -> Drawn {
    let area = area.intersection(buf.area);
    // What comes from here on wakes the loop again.
    let _ = pane.take_dirty();
    let base = theme.style(Slot::Text);
    let mut symbol = String::new();
    pane.with_engine(|engine| {
        engine.for_each_cell(|x, y, cell| {
            if x >= area.width || y >= area.height || (cell.wide && x + 1 >= area.width) {
                return;
            }
            let at = (area.x + x, area.y + y);
            symbol.clear();
            if cell.attrs.hidden {
                symbol.push(' ');
            } else {
                cell.push_to(&mut symbol);
            }
            let style = cell_style(cell, base);
            buf[at].set_symbol(&symbol).set_style(style);
            if cell.wide {
                // Ratatui passes over what a wide character covers; it must not be stale.
                buf[(at.0 + 1, at.1)].set_symbol(" ").set_style(style);
            }
        });
        let place = |x, y| Position::new(area.x + x, area.y + y);
        let cursor = engine.cursor().map(|cursor| place(cursor.x, cursor.y));
        Drawn { cursor: cursor.filter(|at| area.contains(*at)), back: engine.offset() }
    })
}

fn cell_style(cell: &term::Cell<'_>, base: Style) -> Style {
    let mut style = base;
    if let Some(color) = color(cell.fg) {
        style = style.fg(color);
    }
    if let Some(color) = color(cell.bg) {
        style = style.bg(color);
    }
    let attrs = [
        (cell.attrs.bold, Modifier::BOLD),
        (cell.attrs.dim, Modifier::DIM),
        (cell.attrs.italic, Modifier::ITALIC),
        (cell.attrs.underline, Modifier::UNDERLINED),
        (cell.attrs.inverse != cell.selected, Modifier::REVERSED),
        (cell.attrs.strikeout, Modifier::CROSSED_OUT),
    ];
    attrs.into_iter().filter(|(on, _)| *on).fold(style, |style, (_, m)| style.add_modifier(m))
}

/// The guest's colours are its own: no theme changes them.
const fn color(color: term::Color) -> Option<Color> {
    match color {
        term::Color::Default => None,
        term::Color::Indexed(n) => Some(Color::Indexed(n)),
        term::Color::Rgb(r, g, b) => Some(Color::Rgb(r, g, b)),
    }
}
