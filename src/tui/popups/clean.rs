//! What is left over on the host and would be removed: exactly that, before it is done.

use std::cell::Cell;

use ratatui::{crossterm::event::MouseEventKind, layout::Rect};

use super::whole::{copy, scrolled_by};
use crate::{
    config::theme::Slot,
    domain::{CommandBody, NoticeLevel, OrphanView},
    tui::{
        action::{Action, Context},
        event::{Handled, LayerEvent},
        layers::{Cx, Draw, Hit, Layer},
        state::State,
        widgets::{popup, put, wrap},
    },
};

/// The preview.
pub struct Clean {
    orphans: Vec<OrphanView>,
    /// The first row that is shown. Only drawing knows how many there is room for.
    top: Cell<usize>,
    /// Whether the list became another one while it was shown.
    changed: bool,
}

impl Clean {
    /// What the last look at the host found.
    #[must_use]
    pub fn open(state: &State) -> Self {
        Self { orphans: orphans(state).to_vec(), top: Cell::new(0), changed: false }
    }

    /// Each thing: what it is, whose it was, and the command; blank between.
    fn rows(&self, columns: u16) -> Vec<(String, Slot)> {
        let room = usize::from(columns).saturating_sub(4).max(1);
        let mut rows = Vec::new();
        for orphan in &self.orphans {
            let parts = [
                ("", &orphan.what, Slot::Title),
                ("  ", &orphan.whose, Slot::TextDim),
                ("  $ ", &orphan.command, Slot::KeyHint),
            ];
            for (before, text, slot) in parts.into_iter().filter(|(_, text, _)| !text.is_empty()) {
                for (n, line) in wrap(text, room).into_iter().enumerate() {
                    let before = if n == 0 { before } else { "    " };
                    rows.push((format!("{before}{line}"), slot));
                }
            }
        }
        rows
    }

    /// The supervisor removes what its newest report lists: so that has to be what is shown.
    fn follow(&mut self, cx: &mut Cx<'_>) {
        if orphans(cx.state) == self.orphans {
            return;
        }
        self.orphans = orphans(cx.state).to_vec();
        self.changed = true;
        if self.orphans.is_empty() {
            cx.close();
            cx.toast(NoticeLevel::Info, "nothing is left over any more", "");
        }
    }

    fn scroll(&self, action: Action, state: &State) {
        let rows = self.rows(inner_columns(state.size.0)).len();
        self.top.set(scrolled_by(action, self.top.get(), rows, state));
    }
}

fn orphans(state: &State) -> &[OrphanView] {
    state.fleet.report.as_ref().map_or(&[], |report| report.orphans.as_slice())
}

/// Columns of the popup's inside on a screen of this width.
fn inner_columns(columns: u16) -> u16 {
    columns.saturating_sub(4).min(100).saturating_sub(4)
}

impl Layer for Clean {
    fn title(&self) -> &'static str {
        "Clean"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Prompt, Context::View]
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Action(Action::Accept) => {
                cx.command(CommandBody::CleanHost);
                cx.close();
            }
            LayerEvent::Action(Action::Back | Action::Cancel | Action::CloseView) => cx.close(),
            LayerEvent::Action(Action::HostCopy) => {
                let commands: Vec<_> = self.orphans.iter().map(|o| o.command.as_str()).collect();
                copy(&commands.join("\n"), cx);
            }
            LayerEvent::Action(action) => self.scroll(*action, cx.state),
            LayerEvent::Mouse(mouse, _) => match mouse.kind {
                MouseEventKind::ScrollUp => self.scroll(Action::Up, cx.state),
                MouseEventKind::ScrollDown => self.scroll(Action::Down, cx.state),
                _ => {}
            },
            LayerEvent::Fleet => {
                self.follow(cx);
                return Handled::Ignored;
            }
            LayerEvent::Answer(..) | LayerEvent::Desk(..) | LayerEvent::Tick => {
                return Handled::Ignored;
            }
            _ => {}
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let columns = inner_columns(area.width);
        let rows = self.rows(columns);
        let height = u16::try_from(rows.len() + 6).unwrap_or(u16::MAX).min(area.height);
        let title = match self.orphans.len() {
            1 => "Remove this from the host?".to_owned(),
            n => format!("Remove these {n} things from the host?"),
        };
        let inner = popup(cx, area, &title, columns + 4, height);
        let (x, room) = (inner.x + 1, inner.width.saturating_sub(2));
        let list = inner.height.saturating_sub(4);
        let top = self.top.get().min(rows.len().saturating_sub(usize::from(list)));
        self.top.set(top);
        for ((text, slot), y) in rows.iter().skip(top).zip(inner.y..inner.y + list) {
            put(cx.buf, x, y, text, cx.theme.style(*slot), room);
        }
        let note = match (self.changed, top + usize::from(list) < rows.len()) {
            (true, _) => "! the host was looked at again: this list is another now",
            (false, true) => "↓ more · y copies the commands",
            (false, false) => "Just this, each after another look at it. y copies the commands",
        };
        let slot = if self.changed { Slot::Warning } else { Slot::TextDim };
        let y = inner.bottom().saturating_sub(3);
        put(cx.buf, x, y, note, cx.theme.style(slot), room);
        let (mut x, y) = (x, inner.bottom().saturating_sub(1));
        for (text, slot, action) in [
            ("[ Remove · Enter ]", Slot::ButtonFocus, Action::Accept),
            ("[ Leave it · Esc ]", Slot::Button, Action::Back),
        ] {
            let end =
                put(cx.buf, x, y, text, cx.theme.style(slot), inner.right().saturating_sub(x));
            cx.hit(Rect::new(x, y, end - x, 1), Hit::Action(action));
            x = end + 2;
        }
    }
}
