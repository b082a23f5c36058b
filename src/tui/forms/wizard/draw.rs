//! How the wizard looks: the bar of its steps, and the step below it.

use ratatui::layout::Rect;

use super::{CONTENTS, PARTS, Place, STEPS, Step, Wizard, draft::Trouble};
use crate::{
    config::theme::Slot,
    domain::{Preset, StaleReason},
    tui::{
        chrome,
        layers::{Draw, Hit},
        text::width,
        widgets::{panel, put, wrap},
    },
};

/// Rows below an editor that say what is wrong in it, at most.
const SAID: usize = 3;

/// What an editor takes, in one line.
const fn help(place: Place) -> &'static str {
    match place {
        Place::Packages => "a package a line; # begins a comment; name- removes",
        Place::Files => "a file a line: /on/this/host -> /in/the/image",
        Place::Users => "a user a line: name, sudo if it may, its public key",
        Place::Keys => "lines of authorized_keys, beside the key that banger made",
        Place::Script => "POSIX sh, run as root in the image when all else is done",
        _ => "",
    }
}

impl Wizard {
    pub(super) fn draw_all(&self, area: Rect, cx: &mut Draw<'_>) {
        let body = chrome::body(area);
        cx.hit(body, Hit::Surface);
        let title = match &self.draft.replaces {
            Some(name) => format!("The recipe of {name}"),
            None => format!("A new image: {}", self.draft.name),
        };
        let inner = panel(cx.buf, body, &title, cx.theme, true);
        let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
        if inner.height < 4 {
            return;
        }
        self.draw_bar(Rect { height: 1, ..inner }, cx);
        let step = Rect { y: inner.y + 2, height: inner.height - 2, ..inner };
        match self.draft.step {
            Step::Base => self.draw_base(step, cx),
            Step::Packages => self.draw_packages(step, cx),
            Step::Contents => self.draw_contents(step, cx),
            Step::Name => self.name.draw(step, cx),
            Step::Review => self.draw_review(step, cx),
        }
    }

    fn draw_bar(&self, row: Rect, cx: &mut Draw<'_>) {
        let mut x = row.x;
        for (n, step) in Step::ALL.into_iter().enumerate() {
            let mut wrong = self.troubles.iter().filter(|trouble| trouble.place.step() == step);
            // What was not come to yet is no mistake.
            let wrong = wrong.any(|trouble| self.tried || trouble.line > 0);
            let here = step == self.draft.step;
            let slot = match (here, wrong) {
                (true, _) => Slot::Selection,
                (false, true) => Slot::FieldProblem,
                (false, false) => Slot::TextDim,
            };
            let sign = if wrong { "✗" } else { " " };
            let text = format!("{sign}{} {} ", n + 1, step.title());
            let room = row.right().saturating_sub(x);
            let end = put(cx.buf, x, row.y, &text, cx.theme.style(slot), room);
            cx.hit(Rect { x, width: end - x, ..row }, Hit::Item(STEPS + n));
            let room = row.right().saturating_sub(end);
            x = match n + 1 < Step::ALL.len() {
                true => put(cx.buf, end, row.y, "›", cx.theme.style(Slot::TextDim), room),
                false => end,
            };
        }
    }

    fn draw_base(&self, area: Rect, cx: &mut Draw<'_>) {
        let form = Rect { height: area.height.min(4), ..area };
        self.base.draw(form, cx);
        let mut lines: Vec<(String, Slot)> = Vec::new();
        if let Some(base) = self.draft.base_of(&cx.state.fleet) {
            let size = crate::domain::ByteSize(base.size);
            let memory = crate::domain::ByteSize(base.default_memory_mib << 20);
            lines.push((format!("{} · disk {size}, memory {memory}", base.about), Slot::Text));
            let stale: Vec<String> = base.stale.iter().map(StaleReason::to_string).collect();
            if !stale.is_empty() {
                let text = format!(
                    "It is stale ({}): build it again first, or go on with it as it is.",
                    stale.join("; ")
                );
                lines.push((text, Slot::Warning));
            }
        }
        if let Some((_, facts)) = &self.facts {
            let text = match facts.packages.len() {
                0 => "Which packages it has is not known.".to_owned(),
                1 if facts.asked_for => {
                    format!("It was built with {} and what it needs.", facts.packages[0])
                }
                n if facts.asked_for => {
                    format!("It was built with {n} packages and what they need.")
                }
                n => format!("{n} packages are installed in it."),
            };
            lines.push((text, Slot::TextDim));
        }
        let room = usize::from(area.width);
        let mut y = form.bottom() + 1;
        for (text, slot) in lines {
            for line in wrap(&text, room) {
                if y < area.bottom() {
                    put(cx.buf, area.x, y, &line, cx.theme.style(slot), area.width);
                }
                y += 1;
            }
        }
    }

    fn draw_packages(&self, area: Rect, cx: &mut Draw<'_>) {
        let presets = Preset::ALL.len() as u16;
        let top = Rect { height: area.height.saturating_sub(presets + 1), ..area };
        let focused = self.part == 0;
        // Its label has the whole row.
        draw_label(Place::Packages, top, focused, cx);
        let top = Rect { y: top.y + 1, height: top.height.saturating_sub(1), ..top };
        let left = Rect { width: (top.width * 3 / 5).saturating_sub(1), ..top };
        let right =
            Rect { x: left.right() + 2, width: top.width.saturating_sub(left.width + 2), ..top };
        self.draw_editor(Place::Packages, &self.packages, left, focused, PARTS, cx);
        self.draw_difference(right, cx);
        for (n, preset) in Preset::ALL.into_iter().enumerate() {
            let y = top.bottom() + 1 + n as u16;
            if y >= area.bottom() {
                break;
            }
            let focused = self.part == n + 1;
            let on = self.draft.presets.contains(&preset);
            let mark = if focused { "›" } else { " " };
            let slot = if focused { Slot::KeyHint } else { Slot::FieldLabel };
            let label = format!("{mark} {} ", preset.label());
            let x = put(cx.buf, area.x, y, &label, cx.theme.style(slot), area.width);
            let slot = if focused { Slot::FieldFocus } else { Slot::FieldValue };
            let text = if on { "[x] yes" } else { "[ ] no" };
            let room = area.right().saturating_sub(x);
            let x = put(cx.buf, x, y, text, cx.theme.style(slot), room);
            let what = match preset {
                Preset::Docker => "Docker Engine of Debian's, which works in the machine",
            };
            let room = area.right().saturating_sub(x + 2);
            put(cx.buf, x + 2, y, what, cx.theme.style(Slot::TextDim), room);
            cx.hit(Rect { y, height: 1, ..area }, Hit::Item(PARTS + 1 + n));
        }
    }

    /// What the manifest changes of the base.
    fn draw_difference(&self, area: Rect, cx: &mut Draw<'_>) {
        let title = format!("Against {}", self.draft.base);
        put(cx.buf, area.x, area.y, &title, cx.theme.style(Slot::FieldLabel), area.width);
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let rows = self.difference();
        let shown = usize::from(below.height);
        let hidden = rows.len().saturating_sub(shown);
        let shown = if hidden > 0 { shown.saturating_sub(1) } else { shown };
        for ((text, slot), y) in rows.iter().take(shown).zip(below.y..below.bottom()) {
            put(cx.buf, below.x, y, text, cx.theme.style(*slot), below.width);
        }
        if hidden > 0 && below.height > 0 {
            let text = format!("… {} more", rows.len() - shown);
            let y = below.bottom() - 1;
            put(cx.buf, below.x, y, &text, cx.theme.style(Slot::TextDim), below.width);
        }
    }

    fn draw_contents(&self, area: Rect, cx: &mut Draw<'_>) {
        let mut y = area.y;
        let folded = CONTENTS.len() as u16 - 1;
        for (n, (place, editor)) in CONTENTS.into_iter().zip(&self.contents).enumerate() {
            let hit = PARTS + n;
            if n == self.content {
                let height = area.height.saturating_sub(folded);
                let at = Rect { y, height, ..area };
                draw_label(place, at, true, cx);
                let at = Rect { y: y + 1, height: height.saturating_sub(1), ..at };
                self.draw_editor(place, editor, at, true, hit, cx);
                y += height;
                continue;
            }
            if y >= area.bottom() {
                break;
            }
            let wrong = self.of(place).count();
            let lines = editor.lines().iter().filter(|line| !line.trim().is_empty()).count();
            let (text, slot) = match (wrong, lines) {
                (0, 0) => ("–".to_owned(), Slot::TextDim),
                (0, 1) => ("1 line".to_owned(), Slot::FieldValue),
                (0, n) => (format!("{n} lines"), Slot::FieldValue),
                (n, _) => (format!("✗ {n} wrong"), Slot::FieldProblem),
            };
            let label = cx.theme.style(Slot::FieldLabel);
            put(cx.buf, area.x, y, &format!("  {}", place.label()), label, 14);
            let room = area.width.saturating_sub(15);
            put(cx.buf, area.x + 15, y, &text, cx.theme.style(slot), room);
            cx.hit(Rect { y, height: 1, ..area }, Hit::Item(hit));
            y += 1;
        }
    }

    fn of(&self, place: Place) -> impl Iterator<Item = &Trouble> {
        self.troubles.iter().filter(move |trouble| trouble.place == place)
    }

    /// An editor above what is wrong in it.
    fn draw_editor(
        &self,
        place: Place,
        editor: &super::Editor,
        area: Rect,
        focused: bool,
        hit: usize,
        cx: &mut Draw<'_>,
    ) {
        if area.height == 0 {
            return;
        }
        let wrong: Vec<&Trouble> = self.of(place).collect();
        let lines: Vec<usize> = wrong.iter().map(|trouble| trouble.line).collect();
        let mut said = Vec::new();
        for trouble in wrong.iter().take(SAID) {
            said.push(format!("✗ line {}: {}", trouble.line, trouble.why));
        }
        if wrong.len() > SAID {
            said.push(format!("✗ … and {} more", wrong.len() - SAID));
        }
        let room = usize::from(area.width);
        let said: Vec<String> = said.iter().flat_map(|line| wrap(line, room)).collect();
        let below = (said.len() as u16).min(area.height / 2);
        let text = Rect { height: area.height - below, ..area };
        cx.hit(text, Hit::Item(hit));
        editor.draw(text, focused, &lines, cx);
        for (line, y) in said.iter().zip(text.bottom()..area.bottom()) {
            let style = cx.theme.style(Slot::FieldProblem);
            put(cx.buf, area.x, y, line, style, width(line) as u16);
        }
    }
}

/// What an editor is called and takes, in the first row of `area`.
fn draw_label(place: Place, area: Rect, focused: bool, cx: &mut Draw<'_>) {
    let slot = if focused { Slot::KeyHint } else { Slot::FieldLabel };
    let mark = if focused { "›" } else { " " };
    let label = format!("{mark} {} ", place.label());
    let x = put(cx.buf, area.x, area.y, &label, cx.theme.style(slot), area.width);
    let room = area.right().saturating_sub(x);
    put(cx.buf, x + 1, area.y, help(place), cx.theme.style(Slot::TextDim), room);
}
