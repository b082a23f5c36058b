//! Whether to go on with a draft that was left.

use ratatui::{crossterm::event::MouseEventKind, layout::Rect};

use super::{Draft, Wizard};
use crate::{
    config::theme::Slot,
    tui::{
        action::{Action, Context},
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Hit, Layer},
        state::State,
        widgets::{buttons, popup, put, wrap},
    },
};

/// The question. Esc answers nothing; the draft stays as it is until a new one is begun and
/// something typed.
pub struct Ask {
    left: Draft,
    new: Draft,
    /// Whether the focus is on the new one.
    on_new: bool,
}

impl Ask {
    /// Asks which of the two it is to be.
    #[must_use]
    pub const fn new(left: Draft, new: Draft) -> Self {
        Self { left, new, on_new: false }
    }

    fn open(&mut self, new: bool, cx: &mut Cx<'_>) {
        cx.close();
        let draft = std::mem::take(if new { &mut self.new } else { &mut self.left });
        let wizard = Wizard::open(draft, cx);
        cx.push(Box::new(wizard));
    }
}

impl Layer for Ask {
    fn title(&self) -> &'static str {
        "Draft"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Confirm]
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Action(Action::Yes) => self.open(false, cx),
            LayerEvent::Action(Action::No) => self.open(true, cx),
            LayerEvent::Action(Action::Back | Action::Cancel) => cx.close(),
            LayerEvent::Action(Action::OtherButton) => self.on_new = !self.on_new,
            LayerEvent::Action(Action::Accept) => self.open(self.on_new, cx),
            LayerEvent::Mouse(mouse, Some(Hit::Item(index)))
                if matches!(mouse.kind, MouseEventKind::Down(_)) =>
            {
                self.open(*index == 1, cx);
            }
            LayerEvent::Fleet
            | LayerEvent::Answer(..)
            | LayerEvent::Desk(..)
            | LayerEvent::Tick => return Handled::Ignored,
            _ => {}
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let columns = area.width.min(64);
        let room = usize::from(columns.saturating_sub(4));
        let what = |draft: &Draft| match &draft.replaces {
            Some(name) => format!("the recipe of {name}"),
            None => format!("{} from {}", draft.name, draft.base),
        };
        let lines = [
            format!("A draft was left: {}, at “{}”.", what(&self.left), self.left.step.title()),
            format!("A new one, {}, takes its place once you type.", what(&self.new)),
        ];
        let lines: Vec<String> = lines.iter().flat_map(|line| wrap(line, room)).collect();
        let inner = popup(cx, area, "Customize an image", columns, lines.len() as u16 + 5);
        let (x, width) = (inner.x + 1, inner.width.saturating_sub(2));
        for (line, y) in lines.iter().zip(inner.y + 1..inner.bottom()) {
            put(cx.buf, x, y, line, cx.theme.style(Slot::Text), width);
        }
        let row = Rect::new(x, inner.bottom().saturating_sub(1), width, 1);
        buttons(cx, row, &["Go on (y)", "New one (n)"], usize::from(self.on_new));
    }
}
