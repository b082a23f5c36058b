//! The host: whether all is in order, what banger made there, what is left over, what it ran.

mod draw;
mod lines;

use std::{sync::Arc, time::Duration};

use ratatui::{
    crossterm::event::{KeyEvent, MouseButton, MouseEvent, MouseEventKind},
    layout::Rect,
};

use self::lines::Line;
use crate::{
    domain::{Admission, CommandBody, HostReport, JobId, JobState, Phase, VmId},
    tui::{
        action::{Action, Context},
        event::{Answer, Handled, LayerEvent, Ticket},
        forms::TextLine,
        layers::{Cx, Draw, Hit, Layer},
        popups::{
            clean::Clean,
            whole::{Whole, copy},
        },
        screens::browser::Filter,
        state::{Screen, State},
        widgets::{scrolled, step},
    },
};

/// A list of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// What was checked.
    #[default]
    Checks,
    /// The ledger against the host.
    Made,
    /// What nobody needs.
    LeftOver,
    /// What was done to the host, the newest first.
    Ran,
}

impl Tab {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Checks, Self::Made, Self::LeftOver, Self::Ran];

    const fn title(self) -> &'static str {
        match self {
            Self::Checks => "Checks",
            Self::Made => "Made",
            Self::LeftOver => "Left over",
            Self::Ran => "What I ran",
        }
    }

    fn count(self, report: &HostReport) -> usize {
        match self {
            Self::Checks => report.checks.len(),
            Self::Made => report.made.len(),
            Self::LeftOver => report.orphans.len(),
            Self::Ran => report.calls.len(),
        }
    }
}

/// How a look at the host stands.
#[derive(Debug, Default)]
enum Look {
    /// None is under way.
    #[default]
    Done,
    /// It was asked for.
    Asked(Ticket),
    /// It is this job, or someone else's.
    UnderWay(Option<JobId>),
    /// It could not be: why.
    Failed(String),
}

/// The screen.
pub struct Host {
    tab: Tab,
    look: Look,
    /// The report that was there when the look was asked for: another one ends it.
    before: Option<Arc<HostReport>>,
    /// The visit that a look was asked for.
    visit: u64,
    /// What the machines did at that time: when they do something else, more was run.
    phases: Vec<(VmId, Phase)>,
    lines: Vec<Line>,
    row: usize,
    top: usize,
    /// The key of the line under the cursor, unless it is the first: then the cursor stays on top.
    at: Option<String>,
    filter: TextLine,
    editing: bool,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            tab: Tab::default(),
            look: Look::default(),
            before: None,
            visit: 0,
            phases: Vec::new(),
            lines: Vec::new(),
            row: 0,
            top: 0,
            at: None,
            filter: TextLine::new(""),
            editing: false,
        }
    }
}

impl Host {
    /// Asks for a look. The supervisor does one at a time.
    fn look(&mut self, cx: &mut Cx<'_>) {
        self.before.clone_from(&cx.state.fleet.report);
        self.phases = phases(cx.state);
        self.look = Look::Asked(cx.command(CommandBody::LookAtHost));
    }

    /// Sees how the look stands, and asks for one when the screen is shown anew or the machines
    /// do something else.
    fn follow(&mut self, cx: &mut Cx<'_>) {
        let fleet = &cx.state.fleet;
        let same = match (&self.before, &fleet.report) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        match &self.look {
            Look::Asked(_) | Look::UnderWay(_) if !same => self.look = Look::Done,
            Look::UnderWay(Some(id)) => {
                let job = fleet.jobs.iter().find(|job| job.id == *id);
                if let Some(JobState::Failed { problem }) = job.map(|job| &job.state) {
                    self.look = Look::Failed(format!("{}: {}", problem.what, problem.why));
                }
            }
            _ => {}
        }
        if cx.state.screen != Screen::Host {
            return;
        }
        let anew = self.visit != cx.state.visits;
        self.visit = cx.state.visits;
        // An answer that came while another screen was shown did not come here.
        if anew || (matches!(self.look, Look::Done) && self.phases != phases(cx.state)) {
            self.look(cx);
        }
        self.refresh(cx.state);
    }

    fn answered(&mut self, answer: &Answer) {
        self.look = match answer {
            Answer::Admission(Admission::Queued(job)) => Look::UnderWay(Some(*job)),
            Answer::Admission(Admission::Ignored(_)) => Look::UnderWay(None),
            Answer::Admission(Admission::Denied(denied)) => {
                Look::Failed(format!("{}: {}", denied.0.what, denied.0.why))
            }
            Answer::Busy => Look::Failed("banger has too much to do".to_owned()),
            Answer::Gone => Look::Failed("the supervisor has ended".to_owned()),
        };
    }

    /// Makes the lines anew and finds the one under the cursor among them.
    fn refresh(&mut self, state: &mut State) {
        let words = Filter::new(&[], self.filter.text());
        let fleet = Arc::clone(&state.fleet);
        let lines = fleet.report.as_ref().map(|report| lines::lines(self.tab, report, &fleet));
        self.lines = lines.unwrap_or_default();
        self.lines.retain(|line| line.fits(&words));
        let at = self.at.as_ref();
        let row = at.map(|key| self.lines.iter().position(|line| line.key == *key));
        self.go_to(row.map_or(0, |row| row.unwrap_or(self.row)), state);
    }

    fn go_to(&mut self, row: usize, state: &mut State) {
        self.row = row.min(self.lines.len().saturating_sub(1));
        let rows = draw::rows(state.size, self.has_filter());
        self.top = scrolled(self.top, self.row, self.lines.len(), rows);
        let line = self.lines.get(self.row);
        self.at = line.filter(|_| self.row > 0).map(|line| line.key.clone());
        state.host_command = line.and_then(|line| line.command.clone());
        state.host_line = line.is_some();
    }

    fn go_by(&mut self, by: isize, state: &mut State) {
        self.go_to(self.row.saturating_add_signed(by), state);
    }

    fn has_filter(&self) -> bool {
        self.editing || !self.filter.text().is_empty()
    }

    fn show(&mut self, tab: Tab, state: &mut State) {
        self.tab = tab;
        (self.row, self.top, self.at) = (0, 0, None);
        self.refresh(state);
    }

    fn turn(&mut self, by: usize, state: &mut State) {
        let at = Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or(0);
        self.show(Tab::ALL[(at + by) % Tab::ALL.len()], state);
    }

    fn set_filter(&mut self, text: &str, state: &mut State) {
        self.filter.set(text);
        self.refresh(state);
    }

    fn action(&mut self, action: Action, cx: &mut Cx<'_>) -> Handled {
        let page = draw::rows(cx.state.size, self.has_filter());
        if let Some(by) = step(action, page) {
            self.go_by(by, cx.state);
            return Handled::Consumed;
        }
        match action {
            Action::TabNext => self.turn(1, cx.state),
            Action::TabPrev => self.turn(Tab::ALL.len() - 1, cx.state),
            Action::HostLook if matches!(self.look, Look::Asked(_)) => {}
            Action::HostLook => self.look(cx),
            Action::HostOpen => {
                if let Some(line) = self.lines.get(self.row) {
                    let title = self.tab.title().to_owned();
                    let whole = Whole::new(title, line.parts.clone(), line.command.clone());
                    cx.push(Box::new(whole));
                }
            }
            Action::HostCopy => {
                if let Some(command) = self.lines.get(self.row).and_then(|l| l.command.as_ref()) {
                    copy(command, cx);
                }
            }
            Action::HostClean => {
                self.set_filter("", cx.state);
                self.show(Tab::LeftOver, cx.state);
                cx.push(Box::new(Clean::open(cx.state)));
            }
            Action::HostFilter => self.editing = true,
            Action::FilterAccept => self.editing = false,
            Action::Back if self.has_filter() => {
                self.editing = false;
                self.set_filter("", cx.state);
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }

    fn type_in(&mut self, key: &KeyEvent, state: &mut State) -> Handled {
        use ratatui::crossterm::event::KeyCode;
        if key.code == KeyCode::Backspace && self.filter.text().is_empty() {
            self.editing = false;
        } else if self.filter.key(key) {
            self.refresh(state);
        }
        Handled::Consumed
    }

    fn mouse(&mut self, mouse: &MouseEvent, hit: Option<Hit>, state: &mut State) -> Handled {
        match (mouse.kind, hit) {
            (MouseEventKind::ScrollUp, _) => self.go_by(-3, state),
            (MouseEventKind::ScrollDown, _) => self.go_by(3, state),
            (MouseEventKind::Down(MouseButton::Left), Some(Hit::Item(row))) => {
                self.go_to(row, state);
            }
            (MouseEventKind::Down(MouseButton::Left), Some(Hit::HostTab(tab))) => {
                self.show(tab, state);
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }
}

fn phases(state: &State) -> Vec<(VmId, Phase)> {
    state.fleet.vms.iter().map(|vm| (vm.id.clone(), vm.phase)).collect()
}

impl Layer for Host {
    fn title(&self) -> &'static str {
        "Host"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        if self.editing {
            &[Context::Filter]
        } else {
            &[Context::Host, Context::List, Context::Global]
        }
    }

    fn takes_text(&self, _: &State) -> bool {
        self.editing
    }

    fn is_modal(&self) -> bool {
        false
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        let handled = match event {
            LayerEvent::Action(action) => self.action(*action, cx),
            LayerEvent::Key(key) if self.editing => self.type_in(key, cx.state),
            LayerEvent::Paste(text) if self.editing => {
                self.filter.insert(text);
                self.refresh(cx.state);
                Handled::Consumed
            }
            LayerEvent::Mouse(mouse, hit) => self.mouse(mouse, *hit, cx.state),
            LayerEvent::Answer(ticket, answer) => match self.look {
                Look::Asked(asked) if asked == *ticket => {
                    self.answered(answer);
                    Handled::Consumed
                }
                _ => Handled::Ignored,
            },
            LayerEvent::Desk(..) => Handled::Ignored,
            LayerEvent::Fleet | LayerEvent::Tick | LayerEvent::Key(_) | LayerEvent::Paste(_) => {
                Handled::Ignored
            }
        };
        if matches!(
            event,
            LayerEvent::Fleet | LayerEvent::Tick | LayerEvent::Answer(..) | LayerEvent::Desk(..)
        ) {
            self.follow(cx);
        }
        cx.state.looking = matches!(self.look, Look::Asked(_) | Look::UnderWay(_));
        handled
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        self.draw_screen(area, cx);
    }

    fn deadline(&self, state: &State) -> Option<Duration> {
        // How long ago things were moves by the second.
        let now = state.now;
        state.fleet.report.as_ref()?;
        Some(now.mono + Duration::from_millis(1_000 - now.wall.0 % 1_000))
    }
}
