//! What will be done, before it is: the last step of the wizard.

use ratatui::layout::Rect;

use super::{Preview, Wizard};
use crate::{
    config::theme::Slot,
    domain::{BuildPreview, ByteSize, Recipe},
    supervisor::read_packages,
    tui::{
        action::Action,
        layers::{Draw, Hit},
        widgets::{put, spinner, wrap},
    },
};

/// A package of a manifest's line: its name, and whether the line removes it.
fn package(line: &str) -> (&str, bool) {
    let name = line.split(['=', '/']).next().unwrap_or(line);
    let (name, removes) = match name.strip_suffix('-').filter(|_| name.len() == line.len()) {
        Some(name) => (name, true),
        None => (name, false),
    };
    (name.split(':').next().unwrap_or(name), removes)
}

/// `1 file`, `2 files`.
fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

impl Wizard {
    /// What the manifest changes of the base: what comes, what goes, what is there.
    pub(super) fn difference(&self) -> Vec<(String, Slot)> {
        let dim = |text: &str| vec![(text.to_owned(), Slot::TextDim)];
        let Ok(lines) = read_packages(&self.draft.packages) else {
            return dim("once every line can be read");
        };
        if lines.is_empty() {
            return dim("no change");
        }
        let known = self.facts.as_ref().filter(|(of, _)| *of == self.draft.base);
        let installed: &[String] = known.map_or(&[], |(_, facts)| facts.packages.as_slice());
        let has = |name: &str| installed.binary_search_by(|have| have.as_str().cmp(name)).is_ok();
        let (mut comes, mut goes, mut there) = (Vec::new(), Vec::new(), Vec::new());
        for line in &lines {
            let (name, removes) = package(line);
            match (removes, has(name) || (removes && installed.is_empty())) {
                (true, true) => goes.push((format!("- {name}"), Slot::StateCrashed)),
                (true, false) => there.push((format!("  {name}: not there"), Slot::TextDim)),
                (false, false) => comes.push((format!("+ {line}"), Slot::StateRunning)),
                (false, true) => there.push((format!("= {name}: there"), Slot::TextDim)),
            }
        }
        comes.append(&mut goes);
        comes.append(&mut there);
        if installed.is_empty() {
            comes.push(("what the base has is not known".to_owned(), Slot::TextDim));
        }
        comes
    }

    pub(super) fn draw_review(&self, area: Rect, cx: &mut Draw<'_>) {
        let mut lines: Vec<(String, Slot)> = Vec::new();
        // Above all else, as it came last.
        if let Some(problem) = &self.problem {
            lines.push((format!("✗ {}: {}", problem.what, problem.why), Slot::FieldProblem));
            lines.push((problem.hint.clone(), Slot::Text));
            lines.push((String::new(), Slot::Text));
        }
        match &self.recipe {
            None => {
                let text =
                    format!("{} to be set right first:", count(self.troubles.len(), "thing"));
                lines.push((text, Slot::Text));
                for trouble in &self.troubles {
                    let line = match trouble.line {
                        0 => String::new(),
                        n => format!(", line {n}"),
                    };
                    let text = format!("✗ {}{line}: {}", trouble.place.label(), trouble.why);
                    lines.push((text, Slot::FieldProblem));
                }
            }
            Some(recipe) => {
                lines.push((format!("{} is made from {}:", recipe.name, recipe.base), Slot::Text));
                lines.extend(steps(recipe).into_iter().map(|line| (line, Slot::Text)));
                lines.push((String::new(), Slot::Text));
                self.preview_lines(&mut lines, cx);
            }
        }
        let rows = area.height.saturating_sub(2);
        let room = usize::from(area.width);
        let wrapped: Vec<(String, Slot)> = lines
            .into_iter()
            .flat_map(|(text, slot)| {
                let parts = if text.is_empty() { vec![text] } else { wrap(&text, room) };
                parts.into_iter().map(move |part| (part, slot))
            })
            .collect();
        let top = self.scroll.min(wrapped.len().saturating_sub(usize::from(rows)));
        let shown = wrapped.iter().skip(top).zip(area.y..area.y + rows);
        for ((text, slot), y) in shown {
            put(cx.buf, area.x, y, text, cx.theme.style(*slot), area.width);
        }
        let button = match (&self.recipe, self.running.is_some()) {
            (None, _) => "[ Go to the first · Enter ]",
            (Some(_), true) => "[ Starting … ]",
            (Some(_), false) => "[ Build · Enter ]",
        };
        let row = Rect { y: area.bottom() - 1, height: 1, ..area };
        let mut x = row.x;
        for (text, slot, action) in [
            (button, Slot::ButtonFocus, Action::Submit),
            ("[ Back · Ctrl-p ]", Slot::Button, Action::StepPrev),
            ("[ Later · Esc ]", Slot::Button, Action::Back),
        ] {
            let room = row.right().saturating_sub(x);
            let end = put(cx.buf, x, row.y, text, cx.theme.style(slot), room);
            cx.hit(Rect { x, width: end - x, ..row }, Hit::Action(action));
            x = end + 2;
        }
    }

    /// What the build itself says that it would do.
    fn preview_lines(&self, lines: &mut Vec<(String, Slot)>, cx: &Draw<'_>) {
        match &self.preview {
            Preview::None => {}
            Preview::Asked(..) => {
                let turns = spinner(cx.state.now.mono);
                let text = format!("{turns} working out what is fetched …");
                lines.push((text, Slot::TextDim));
            }
            Preview::Failed(problem, _) => {
                lines.push((format!("! {}: {}", problem.what, problem.why), Slot::Warning));
                lines.push((problem.hint.clone(), Slot::TextDim));
            }
            Preview::Known(known, _) => lines.extend(said(known)),
        }
    }
}

/// What a build would change, as it says itself.
fn said(known: &BuildPreview) -> Vec<(String, Slot)> {
    let mut lines = Vec::new();
    let names: Vec<&str> = known.install.iter().map(|change| change.name.as_str()).collect();
    if !names.is_empty() {
        let with = if known.dependencies { ", with what they need" } else { "" };
        let text = format!("+ {}{with}: {}", count(names.len(), "package"), names.join(" "));
        lines.push((text, Slot::StateRunning));
    }
    if !known.remove.is_empty() {
        let gone = known.remove.join(" ");
        let text = format!("- {}: {gone}", count(known.remove.len(), "package"));
        lines.push((text, Slot::StateCrashed));
    }
    if lines.is_empty() {
        lines.push(("No package comes or goes.".to_owned(), Slot::TextDim));
    }
    if let Some(bytes) = known.download_bytes.filter(|bytes| *bytes > 0) {
        lines.push((format!("{} are fetched.", ByteSize(bytes)), Slot::Text));
    }
    if let Some(bytes) = known.installed_bytes.filter(|bytes| *bytes != 0) {
        let size = ByteSize(bytes.unsigned_abs());
        let more = if bytes > 0 { "more" } else { "less" };
        lines.push((format!("The packages take {size} {more} than now."), Slot::Text));
    }
    lines
}

/// What is done, in order.
fn steps(recipe: &Recipe) -> Vec<String> {
    let mut steps = Vec::new();
    let mut add = |text: String| steps.push(format!("  · {text}"));
    match recipe.size_mib {
        Some(mib) => add(format!("a copy of {}, grown to {}", recipe.base, ByteSize(mib << 20))),
        None => add(format!("a copy of {}", recipe.base)),
    }
    let packages = read_packages(&recipe.packages).unwrap_or_default();
    if !packages.is_empty() {
        add(format!("packages: {}", packages.join(" ")));
    }
    for preset in &recipe.presets {
        add(preset.label().to_owned());
    }
    for file in &recipe.files {
        add(format!("{} -> {}", file.from.display(), file.to));
    }
    for user in &recipe.users {
        let sudo = if user.sudo { ", may sudo" } else { "" };
        let keys = match user.keys.len() {
            0 => String::new(),
            n => format!(", {}", count(n, "key")),
        };
        add(format!("user {}{sudo}{keys}", user.name));
    }
    if !recipe.keys.is_empty() {
        add(format!("{} more for root", count(recipe.keys.len(), "key")));
    }
    if !recipe.script.is_empty() {
        add(format!("your script, {}", count(recipe.script.lines().count(), "line")));
    }
    if let Some(mib) = recipe.memory_mib {
        add(format!("machines get {} by default", ByteSize(mib << 20)));
    }
    add("cleaned, booted once as a test, and published if that went well".to_owned());
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_manifest_name_packages() {
        for (line, name, removes) in [
            ("git", "git", false),
            ("nano-", "nano", true),
            ("vim=2:9.0-1", "vim", false),
            ("libc6:amd64", "libc6", false),
            ("linux/bookworm-backports", "linux", false),
            ("x=1-", "x", false),
        ] {
            assert_eq!(package(line), (name, removes), "{line}");
        }
    }

    #[test]
    fn things_are_counted_as_one_says_it() {
        assert_eq!((count(1, "key"), count(2, "key")), ("1 key".into(), "2 keys".into()));
    }
}
