//! A yes-or-no question. It names the object and the effect; the focus is on Cancel.

use ratatui::{crossterm::event::MouseEventKind, layout::Rect};

use crate::{
    config::theme::Slot,
    domain::{CommandBody, NoticeLevel},
    tui::{
        action::{Action, Context},
        effect::Effect,
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Hit, Layer},
        pane::{PaneId, Run},
        screens::images::builds,
        state::State,
        widgets::{buttons, popup, put, wrap},
    },
};

/// What a yes leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// These are asked of the supervisor, and the marks taken away.
    Commands(Vec<CommandBody>),
    /// This verb on images is run in a pane.
    Run(Run),
    /// The UI ends.
    Quit,
    /// This pane is closed.
    Close(PaneId),
    /// This is pasted into a pane.
    Paste(PaneId, String),
}

/// The question.
pub struct Confirm {
    title: String,
    lines: Vec<String>,
    verb: &'static str,
    then: Then,
    /// Whether the focus is on the verb and not on Cancel.
    on_verb: bool,
}

impl Confirm {
    /// A question such as “Stop web?”, what it means, and the word of the button.
    #[must_use]
    pub const fn new(title: String, lines: Vec<String>, verb: &'static str, then: Then) -> Self {
        Self { title, lines, verb, then, on_verb: false }
    }

    fn yes(&self, cx: &mut Cx<'_>) {
        cx.close();
        match &self.then {
            Then::Commands(commands) => {
                for body in commands {
                    cx.command(body.clone());
                }
                cx.state.marks.clear();
            }
            Then::Run(run) => builds::run(run.clone(), cx),
            Then::Quit => cx.effect(Effect::Quit),
            Then::Close(pane) => cx.state.panes.close(*pane),
            Then::Paste(pane, text) => {
                if let Err(why) = cx.state.panes.paste(*pane, text) {
                    cx.toast(NoticeLevel::Warning, why, "");
                }
            }
        }
    }
}

impl Layer for Confirm {
    fn title(&self) -> &'static str {
        "Question"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Confirm]
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Action(Action::Yes) => self.yes(cx),
            LayerEvent::Action(Action::No | Action::Back | Action::Cancel) => cx.close(),
            LayerEvent::Action(Action::OtherButton) => self.on_verb = !self.on_verb,
            LayerEvent::Action(Action::Accept) if self.on_verb => self.yes(cx),
            LayerEvent::Action(Action::Accept) => cx.close(),
            LayerEvent::Mouse(mouse, Some(Hit::Item(index)))
                if matches!(mouse.kind, MouseEventKind::Down(_)) =>
            {
                if *index == 0 {
                    cx.close();
                } else {
                    self.yes(cx);
                }
            }
            LayerEvent::Fleet
            | LayerEvent::Answer(..)
            | LayerEvent::Desk(..)
            | LayerEvent::Tick => {
                return Handled::Ignored;
            }
            _ => {}
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let columns = area.width.min(64);
        let room = usize::from(columns.saturating_sub(4));
        let lines: Vec<String> = self.lines.iter().flat_map(|line| wrap(line, room)).collect();
        let title = wrap(&self.title, room);
        let rows = (title.len() + lines.len() + 5) as u16;
        let inner = popup(cx, area, "", columns, rows);
        let (x, width) = (inner.x + 1, inner.width.saturating_sub(2));
        let mut y = inner.y;
        for line in &title {
            put(cx.buf, x, y, line, cx.theme.style(Slot::Title), width);
            y += 1;
        }
        y += 1;
        for line in &lines {
            put(cx.buf, x, y, line, cx.theme.style(Slot::Text), width);
            y += 1;
        }
        let row = Rect::new(x, inner.bottom().saturating_sub(1), width, 1);
        let verb = format!("{} (y)", self.verb);
        buttons(cx, row, &["Cancel (n)", &verb], usize::from(self.on_verb));
    }
}
