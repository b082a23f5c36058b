//! Consoles and shells, one at a time, as tabs.
//!
//! The pane with the keyboard gets every key but the escape chord and what scrolls it.

pub mod input;

use ratatui::{
    crossterm::event::{MouseButton, MouseEvent, MouseEventKind},
    layout::{Position, Rect},
};

use crate::{
    config::theme::Slot,
    domain::{JobState, NoticeLevel, Phase, VmView},
    supervisor::ConsoleKind,
    term::{PaneState, Select, Size, encode},
    tui::{
        action::{Action, Context},
        boot::progress,
        chrome,
        effect::Effect,
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Hit, Layer},
        pane::{Awaited, Entry, PaneId, Run, Source, draw_terminal},
        popups::confirm::{Confirm, Then},
        screens::images::verb,
        state::{Screen, State},
        text::{is_harmful, width},
        widgets::{panel, put, put_right, wrap},
    },
};

/// Lines the wheel scrolls by.
const WHEEL: i32 = 3;

/// The screen.
#[derive(Debug, Default)]
pub struct PanesScreen {
    /// The pane in which the mouse is selecting.
    selecting: Option<PaneId>,
}

/// The place of the terminal within the screen's area.
fn terminal_area(area: Rect, zoomed: bool) -> Rect {
    let tabs = u16::from(!zoomed);
    Rect {
        x: area.x + 1,
        y: area.y + 1 + tabs,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2 + tabs),
    }
}

/// The terminal's size when the outer terminal has this one.
#[must_use]
pub fn terminal_size(size: (u16, u16), zoomed: bool) -> Size {
    let area = Rect::new(0, 0, size.0, size.1);
    let body = if zoomed || size.1 < 2 { area } else { chrome::body(area) };
    let inner = terminal_area(body, zoomed);
    Size { cols: inner.width.max(2), rows: inner.height.max(1) }
}

/// Opens a console or a shell of a machine and goes there.
///
/// A shell of a machine that still boots is its serial console first, and the shell takes its
/// place once SSH answers: the wait is watched, a boot that fails is seen failing, and no dead
/// tab stays behind.
pub fn open(vm: &VmView, kind: ConsoleKind, cx: &mut Cx<'_>) {
    let boots = kind == ConsoleKind::Ssh && vm.phase != Phase::Running;
    let deaf = kind == ConsoleKind::Ssh && is_deaf(vm);
    if deaf {
        tell_deaf(vm, cx);
    }
    let kind = if boots || deaf { ConsoleKind::Serial } else { kind };
    let size = terminal_size(cx.state.size, cx.state.panes.zoom);
    cx.state.panes.shown(Screen::Panes, size);
    if let Some(effect) = cx.state.panes.open(vm, kind, boots) {
        cx.effect(effect);
    } else if let Some(entry) = cx.state.panes.current_mut() {
        // Who asks for the console of a machine that boots wants to type there.
        entry.then_shell = boots;
        if !boots {
            entry.ahead.clear();
        }
    }
    // What is typed while it boots is kept for the shell.
    cx.state.panes.typing = true;
    cx.go(Screen::Panes);
}

/// Whether it runs, and no SSH server answers in it.
pub fn is_deaf(vm: &VmView) -> bool {
    vm.phase == Phase::Running && vm.ssh.is_none()
}

fn tell_deaf(vm: &VmView, cx: &mut Cx<'_>) {
    let text = format!("{}: no SSH server answers", vm.spec.name);
    cx.toast(NoticeLevel::Warning, text, "this is its serial console");
}

/// Runs a verb of banger's own in a pane, and goes there.
pub fn run(run: Run, cx: &mut Cx<'_>) {
    let size = terminal_size(cx.state.size, cx.state.panes.zoom);
    cx.state.panes.shown(Screen::Panes, size);
    if let Some(effect) = cx.state.panes.open_run(run) {
        cx.effect(effect);
    }
    cx.state.panes.typing = true;
    cx.go(Screen::Panes);
}

/// Opens what the user waits for, now that the picture has changed. `busy` is whether a popup is
/// open: then nobody is taken elsewhere.
pub fn follow_fleet(busy: bool, cx: &mut Cx<'_>) {
    let fleet = cx.state.fleet.clone();
    let awaited = std::mem::take(&mut cx.state.panes.awaited);
    let (mut unsent, mut deaf) = (Vec::new(), None);
    for wish in awaited {
        let vm = fleet.vms.iter().find(|vm| vm.spec.name == wish.name);
        let job = fleet.jobs.iter().find(|job| job.id == wish.job).map(|job| &job.state);
        match vm {
            // Before that there is no console to watch.
            Some(vm) if matches!(vm.phase, Phase::Booting | Phase::Running) => {
                let elsewhere = cx.state.screen == Screen::Panes && !wish.typing;
                if busy || cx.state.panes.typing || elsewhere {
                    let text = format!("{} is starting", vm.spec.name);
                    cx.toast(NoticeLevel::Info, text, "o on it opens a shell");
                    lost(&wish, &mut unsent);
                } else {
                    cx.state.selected = Some(vm.id.clone());
                    open(vm, ConsoleKind::Ssh, cx);
                    let entry = cx.state.panes.current_mut();
                    if let Some(Err(why)) = entry.map(|entry| entry.send(&wish.ahead)) {
                        cx.toast(NoticeLevel::Warning, why.to_string(), "");
                    }
                }
            }
            // It will not come; the job, or the machine's own line, says why.
            Some(vm) if matches!(vm.phase, Phase::Crashed | Phase::Deleting) => {
                lost(&wish, &mut unsent);
            }
            _ if matches!(job, Some(JobState::Failed { .. } | JobState::Cancelled)) => {
                lost(&wish, &mut unsent);
            }
            None if matches!(job, Some(JobState::Done)) => lost(&wish, &mut unsent),
            _ => cx.state.panes.awaited.push(wish),
        }
    }
    for entry in cx.state.panes.list_mut().iter_mut().filter(|entry| entry.then_shell) {
        let Some(vm) = fleet.vms.iter().find(|vm| Some(&vm.id) == entry.vm()) else { continue };
        match vm.phase {
            // What is shown is all there is.
            Phase::Running if is_deaf(vm) => {
                entry.then_shell = false;
                // What was typed is its too.
                let ahead = std::mem::take(&mut entry.ahead);
                if entry.send(&ahead).is_err() {
                    unsent.push(entry.name.clone());
                }
                deaf = Some(vm.clone());
            }
            Phase::Running => {
                entry.then_shell = false;
                let pane = entry.id;
                entry.source = Source::Vm(vm.id.clone(), ConsoleKind::Ssh);
                cx.effects.push(Effect::OpenPane(pane));
            }
            // It will not get there; what it said stays to be read.
            Phase::Stopped | Phase::Crashed | Phase::Stopping | Phase::Deleting => {
                entry.then_shell = false;
                if !std::mem::take(&mut entry.ahead).is_empty() {
                    unsent.push(entry.name.clone());
                }
            }
            Phase::Creating | Phase::Starting | Phase::Booting | Phase::Paused => {}
        }
    }
    if let Some(vm) = deaf {
        tell_deaf(&vm, cx);
    }
    for name in unsent {
        let text = format!("what was typed for the shell of {name} is lost: it did not start");
        cx.toast(NoticeLevel::Warning, text, "");
    }
}

/// Notes whose shell will not get what was typed for it.
fn lost(wish: &Awaited, unsent: &mut Vec<String>) {
    if !wish.ahead.is_empty() {
        unsent.push(wish.name.to_string());
    }
}

/// Looks after what panes report; true if one that is shown has changed.
pub fn follow_panes(cx: &mut Cx<'_>) -> bool {
    let mut denied = Vec::new();
    let mut copied = Vec::new();
    let mut noticed = false;
    for (entry, pane) in cx.state.panes.terminals() {
        if pane.take_noticed() {
            noticed = true;
            let news = pane.take_news();
            copied.extend(news.clipboard);
            if news.clipboard_denied {
                denied.push(entry.name.clone());
            }
        }
    }
    for text in copied {
        cx.effect(Effect::Copy(text));
    }
    for name in denied {
        cx.toast(
            NoticeLevel::Warning,
            format!("{name} wanted to write to the clipboard and may not"),
            "guest_clipboard = \"allow\" in config.toml lets it",
        );
    }
    if !cx.state.panes.current().is_some_and(Entry::is_alive) {
        cx.state.panes.typing = false;
    }
    let dirty = cx.state.panes.take_dirty(cx.state.screen);
    dirty || noticed
}

impl PanesScreen {
    fn action(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        let panes = &mut cx.state.panes;
        match action {
            Action::PaneFocus => panes.typing = true,
            Action::PaneInside => {
                let builds = panes.current().filter(|entry| entry.is_alive());
                let builds = builds.and_then(Entry::run).filter(|run| run.has_shell);
                match builds.and_then(|run| run.makes.clone()) {
                    Some(name) => {
                        run(verb(format!("shell {name}"), &["shell", &name], None), cx);
                    }
                    None => panes.typing = true,
                }
            }
            Action::PaneLeave => panes.typing = false,
            Action::PaneSendEscape => {
                panes.typing = true;
                let key = cx.state.keys.escape().event();
                input::key(&key, cx);
            }
            Action::PaneZoom => panes.zoom = !panes.zoom,
            Action::PaneClose => match panes.current() {
                Some(entry) if entry.is_alive() && entry.run().is_some_and(Run::is_work) => {
                    let title = format!("End “{}”?", entry.name);
                    let lines = vec!["It is not done yet, and nothing of it will be left.".into()];
                    let then = Then::Close(entry.id);
                    cx.push(Box::new(Confirm::new(title, lines, "End it", then)));
                }
                Some(entry) => {
                    let id = entry.id;
                    panes.close(id);
                }
                None => {}
            },
            Action::PaneReopen => {
                if let Some(entry) = panes.current() {
                    let pane = entry.id;
                    panes.typing = true;
                    cx.effect(Effect::OpenPane(pane));
                }
            }
            Action::PaneScrollUp => scroll(1, cx),
            Action::PaneScrollDown => scroll(-1, cx),
            Action::TabNext => panes.step(1),
            Action::TabPrev => panes.step(-1),
            Action::Back if panes.zoom => panes.zoom = false,
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }

    fn mouse(&mut self, mouse: &MouseEvent, hit: Option<Hit>, cx: &mut Cx<'_>) -> Handled {
        let (id, origin) = match hit {
            Some(Hit::PaneTab(id)) if matches!(mouse.kind, MouseEventKind::Down(_)) => {
                cx.state.panes.show_id(id);
                return Handled::Consumed;
            }
            Some(Hit::Terminal(id, origin)) => (id, origin),
            _ => return Handled::Ignored,
        };
        let at = Position::new(
            mouse.column.saturating_sub(origin.x),
            mouse.row.saturating_sub(origin.y),
        );
        if cx.state.panes.typing && input::mouse(mouse, at, cx) {
            return Handled::Consumed;
        }
        let Some(entry) = cx.state.panes.get(id) else { return Handled::Ignored };
        let (alive, typing) = (entry.is_alive(), cx.state.panes.typing);
        let Some(pane) = &entry.pane else { return Handled::Ignored };
        match mouse.kind {
            MouseEventKind::ScrollUp | MouseEventKind::ScrollDown => {
                let up = mouse.kind == MouseEventKind::ScrollUp;
                let modes = pane.with_engine(|engine| engine.modes());
                let keys = encode::wheel_keys(up, WHEEL as usize, &modes);
                if typing && !keys.is_empty() {
                    let sent = pane.send(&keys);
                    input::tell(sent, cx);
                } else {
                    pane.with_engine(|engine| engine.scroll(if up { WHEEL } else { -WHEEL }));
                }
            }
            MouseEventKind::Down(MouseButton::Left) => {
                pane.with_engine(|engine| engine.select(at.x, at.y, Select::Cells));
                self.selecting = Some(id);
                if alive {
                    cx.state.panes.typing = true;
                }
            }
            MouseEventKind::Drag(MouseButton::Left) if self.selecting == Some(id) => {
                pane.with_engine(|engine| {
                    let size = engine.size();
                    engine.select_to(at.x.min(size.cols - 1), at.y.min(size.rows - 1));
                });
            }
            MouseEventKind::Up(MouseButton::Left) if self.selecting == Some(id) => {
                self.selecting = None;
                if let Some(text) = pane.with_engine(|engine| engine.selected_text()) {
                    let count = text.chars().count();
                    cx.toast(NoticeLevel::Info, format!("copied {count} characters"), "");
                    cx.effect(Effect::Copy(text));
                } else {
                    pane.with_engine(|engine| engine.select_none());
                }
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }

    /// A paste: several lines at once into a guest that cannot tell them from typed ones would
    /// be run as they come, so that is asked first.
    fn paste(text: &str, cx: &mut Cx<'_>) -> Handled {
        if !cx.state.panes.typing {
            let keys = "Enter gives the pane the keyboard";
            cx.toast(NoticeLevel::Info, "nothing was pasted: no pane has the keyboard", keys);
            return Handled::Consumed;
        }
        let Some(entry) = cx.state.panes.current() else { return Handled::Ignored };
        let (id, name) = (entry.id, entry.name.clone());
        let lines = text.trim_end_matches(['\n', '\r']).lines().count();
        let bracketed = entry.modes().bracketed_paste;
        if lines > 1 && !bracketed {
            let title = format!("Paste {lines} lines into {name}?");
            let effect = "It takes a paste as typed: each line is run at once.";
            let then = Then::Paste(id, text.to_owned());
            cx.push(Box::new(Confirm::new(title, vec![effect.to_owned()], "Paste", then)));
        } else if let Err(why) = cx.state.panes.paste(id, text) {
            cx.toast(NoticeLevel::Warning, why, "");
        }
        Handled::Consumed
    }
}

fn scroll(pages: i32, cx: &mut Cx<'_>) {
    if let Some(pane) = cx.state.panes.current().and_then(|entry| entry.pane.as_ref()) {
        pane.with_engine(|engine| {
            let page = i32::from(engine.size().rows).max(2) - 1;
            engine.scroll(pages * page);
        });
    }
}

impl Layer for PanesScreen {
    fn title(&self) -> &'static str {
        "Panes"
    }

    fn contexts(&self, state: &State) -> &'static [Context] {
        if self.takes_all_keys(state) {
            &[Context::Terminal]
        } else {
            &[Context::Panes, Context::Global]
        }
    }

    fn takes_all_keys(&self, state: &State) -> bool {
        state.panes.typing && state.panes.current().is_some_and(Entry::is_alive)
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        let handled = match event {
            LayerEvent::Action(action) => self.action(*action, cx),
            LayerEvent::Key(key) if self.takes_all_keys(cx.state) => {
                input::key(key, cx);
                Handled::Consumed
            }
            LayerEvent::Paste(text) => Self::paste(text, cx),
            LayerEvent::Mouse(mouse, hit) => self.mouse(mouse, *hit, cx),
            _ => Handled::Ignored,
        };
        let size = terminal_size(cx.state.size, cx.state.panes.zoom);
        cx.state.panes.shown(cx.state.screen, size);
        handled
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let state = cx.state;
        let zoomed = state.is_zoomed();
        let Some(entry) = state.panes.current() else {
            let inner = panel(cx.buf, area, "Panes", cx.theme, false);
            let text = "No pane is open. On a machine, o opens a shell and c its console.";
            let lines = wrap(text, usize::from(inner.width.saturating_sub(4)));
            for (row, line) in lines.iter().enumerate() {
                let x = inner.x + inner.width.saturating_sub(width(line) as u16) / 2;
                let y = inner.y + inner.height / 2 + row as u16;
                put(cx.buf, x, y, line, cx.theme.style(Slot::TextDim), inner.right() - x);
            }
            return;
        };
        let frame = if zoomed { area } else { tabs(area, cx) };
        let typing = self.takes_all_keys(state);
        let escape = state.keys.escape();
        let mut title = entry.label();
        if let Some(pane) = &entry.pane {
            let of_guest = pane.title();
            if !of_guest.is_empty() {
                title.push_str(&format!(" · {of_guest}"));
            }
        }
        panel(cx.buf, frame, &title, cx.theme, typing);
        let place = terminal_area(area, zoomed);
        let (note, slot) = self.note(typing, &escape.to_string(), cx.state);
        let row = Rect { y: frame.bottom() - 1, height: 1, width: frame.width - 2, ..frame };
        put_right(cx.buf, row, &format!(" {note} "), cx.theme.style(slot));
        let Some(pane) = &entry.pane else { return };
        let drawn = draw_terminal(cx.buf, place, pane, cx.theme);
        if typing {
            cx.cursor = drawn.cursor;
        }
        if drawn.back > 0 {
            let row = Rect { height: 1, width: frame.width - 2, ..frame };
            let text = format!(" {} lines back ", drawn.back);
            put_right(cx.buf, row, &text, cx.theme.style(Slot::KeyHint));
        }
        cx.hit(place, Hit::Terminal(entry.id, place.as_position()));
        let boots = entry.vm().and_then(|vm| state.vm(vm));
        let boots = boots.filter(|vm| entry.then_shell && vm.phase.is_up());
        if let Some(vm) = boots
            && pane.with_engine(|engine| engine.screen_text().trim().is_empty())
        {
            progress(place, vm, cx);
        }
        end_note(place, &pane.state(), cx);
        if let Some(kept) = entry.kept().filter(|kept| !kept.is_empty()) {
            kept_note(place, &kept, cx);
        }
    }
}

impl PanesScreen {
    /// What the lower border says.
    fn note(&self, typing: bool, escape: &str, state: &State) -> (String, Slot) {
        let entry = state.panes.current();
        let vm = entry.and_then(Entry::vm).and_then(|vm| state.vm(vm));
        match entry {
            // It would seem to hang.
            Some(entry) if entry.is_alive() && vm.is_some_and(|vm| vm.phase == Phase::Paused) => {
                let leaves = if typing { format!("{escape} leaves; ") } else { String::new() };
                let text = match vm.and_then(|vm| vm.problem.as_ref()) {
                    Some(problem) => format!("‖ {leaves}{}", problem.what),
                    None => format!("‖ paused: {leaves}p in Machines lets it go on"),
                };
                (text, Slot::StatePaused)
            }
            Some(entry) if entry.is_alive() && entry.then_shell => {
                let leaves = if typing { format!("{escape} leaves · ") } else { String::new() };
                (format!("{leaves}booting; the shell opens by itself"), Slot::StateBooting)
            }
            Some(entry) if typing && entry.kept().is_some() => {
                (format!("{escape} leaves · connecting …"), Slot::StateBooting)
            }
            _ if typing => (format!("{escape} leaves · twice sends it"), Slot::KeyHint),
            Some(entry) if entry.is_done() && entry.makes().is_some() => {
                ("done · 3 shows it · w closes".to_owned(), Slot::KeyHint)
            }
            Some(entry) if !entry.is_alive() && entry.run().is_some() => {
                // Most often what was asked for is to be another: that is the wizard's.
                let change = entry.run().is_some_and(|run| run.draft.is_some());
                let change = if change { "3 c changes what is asked for · " } else { "" };
                (format!("r runs it again · {change}w closes"), Slot::KeyHint)
            }
            Some(entry) if entry.run().is_some_and(|run| run.has_shell) && !typing => {
                ("Enter gives it the keyboard · i opens a shell in it".to_owned(), Slot::KeyHint)
            }
            Some(entry) if !entry.is_alive() => {
                ("r connects again · w closes".to_owned(), Slot::KeyHint)
            }
            _ => ("Enter gives it the keyboard".to_owned(), Slot::KeyHint),
        }
    }
}

/// The line of tabs; returns what is below.
fn tabs(area: Rect, cx: &mut Draw<'_>) -> Rect {
    let state = cx.state;
    let mut x = area.x + 1;
    let current = state.panes.current().map(|entry| entry.id);
    for entry in state.panes.list() {
        let here = current == Some(entry.id);
        let sign = match (entry.is_alive(), entry.is_done()) {
            (true, _) => "",
            (false, true) => "✓ ",
            (false, false) => "✗ ",
        };
        let slot = if here { Slot::Selection } else { Slot::TextDim };
        let text = format!(" {sign}{} ", entry.label());
        let room = area.right().saturating_sub(x);
        let end = put(cx.buf, x, area.y, &text, cx.theme.style(slot), room);
        cx.hit(Rect::new(x, area.y, end - x, 1), Hit::PaneTab(entry.id));
        x = end + 1;
    }
    Rect { y: area.y + 1, height: area.height - 1, ..area }
}

/// Shows in the last line what was typed and waits for the shell.
pub fn kept_note(area: Rect, kept: &[u8], cx: &mut Draw<'_>) {
    let says = " typed for the shell: ";
    let text = visible(&String::from_utf8_lossy(kept));
    let room = usize::from(area.width).saturating_sub(width(says) + 1);
    let mut end = text.as_str();
    while width(end) > room {
        let mut rest = end.chars();
        rest.next();
        end = rest.as_str();
    }
    let y = area.bottom().saturating_sub(1);
    let style = cx.theme.style(Slot::Text).patch(cx.theme.style(Slot::TextDim));
    put(cx.buf, area.x, y, &" ".repeat(usize::from(area.width)), style, area.width);
    let x = put(cx.buf, area.x, y, says, style, area.width);
    put(cx.buf, x, y, end, cx.theme.style(Slot::Text), area.right().saturating_sub(x));
}

/// Keys as they are written down: `ls↵`, `^C`.
fn visible(keys: &str) -> String {
    let mut text = String::new();
    for c in keys.chars() {
        match c {
            '\r' => text.push('↵'),
            '\0'..='\x1f' => text.extend(['^', char::from(c as u8 + b'@')]),
            '\x7f' => text.push_str("^?"),
            _ if is_harmful(c) => text.push('·'),
            _ => text.push(c),
        }
    }
    text
}

/// Says over the terminal why there is no session.
fn end_note(area: Rect, state: &PaneState, cx: &mut Draw<'_>) {
    let lines = match state {
        PaneState::Opening => vec![("connecting …".to_owned(), Slot::TextDim)],
        PaneState::Live => return,
        PaneState::Ended(why) if why.is_empty() => {
            vec![("the session has ended".to_owned(), Slot::ToastWarning)]
        }
        PaneState::Ended(why) => vec![(why.clone(), Slot::ToastWarning)],
        PaneState::Failed(problem) => vec![
            (format!("{}: {}", problem.what, problem.why), Slot::StateCrashed),
            (problem.hint.clone(), Slot::Text),
        ],
    };
    let room = usize::from(area.width.saturating_sub(4));
    let mut rows: Vec<(String, Slot)> = Vec::new();
    for (text, slot) in lines {
        rows.extend(wrap(&text, room).into_iter().map(|line| (line, slot)));
    }
    let height = (rows.len() as u16).min(area.height);
    let top = area.bottom() - height;
    for (row, (line, slot)) in rows.iter().take(usize::from(height)).enumerate() {
        let y = top + row as u16;
        let style = cx.theme.style(Slot::Text).patch(cx.theme.style(*slot));
        let blank = " ".repeat(usize::from(area.width));
        cx.buf.set_stringn(area.x, y, &blank, usize::from(area.width), style);
        put(cx.buf, area.x + 1, y, line, style, area.width.saturating_sub(1));
    }
}
