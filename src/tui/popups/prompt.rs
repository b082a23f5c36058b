//! A question that is answered by typing one line.

use ratatui::{
    crossterm::event::{KeyCode, KeyModifiers},
    layout::{Position, Rect},
};

use crate::{
    config::theme::Slot,
    domain::{
        Admission, ByteSize, CommandBody, ImageName, NoticeLevel, VmId, VmName, VmView, parse_mib,
    },
    tui::{
        action::{Action, Context},
        event::{Answer, Handled, LayerEvent, Ticket},
        layers::{Cx, Draw, Layer},
        screens::images::{builds, verb},
        state::State,
        text::width,
        widgets::{popup, put, wrap},
    },
};

/// The most characters a line takes: more than any name, so that what is too long is said.
const MAX: usize = 400;

enum Kind {
    /// A new name for this machine.
    Rename(VmId),
    /// A larger disk for this machine.
    Resize(VmId),
    /// A new name for this image.
    RenameImage(ImageName),
    /// What is imported, and under which name.
    Import,
    /// Where this image is written to.
    Export(String),
    /// The text has to be typed before these are done.
    Delete { expect: String, commands: Vec<CommandBody> },
}

/// The question.
pub struct Prompt {
    title: String,
    lines: Vec<String>,
    label: String,
    kind: Kind,
    text: String,
    problem: Option<String>,
    sent: Option<Ticket>,
}

impl Prompt {
    /// Asks for a new name.
    #[must_use]
    pub fn rename(vm: &VmView) -> Self {
        let name = vm.spec.name.to_string();
        let mut lines = Vec::new();
        if vm.phase.is_up() {
            lines.push("The guest takes the new name at its next start.".to_owned());
        }
        Self {
            title: format!("Rename {name}"),
            lines,
            label: "New name".to_owned(),
            kind: Kind::Rename(vm.id.clone()),
            text: name,
            problem: None,
            sent: None,
        }
    }

    /// Asks how large the disk is to be; `now` is its size in MiB, if that is known.
    #[must_use]
    pub fn resize(vm: &VmView, now: Option<u64>) -> Self {
        let name = vm.spec.name.to_string();
        let has =
            now.map_or_else(String::new, |mib| format!("Its disk has {}. ", ByteSize(mib << 20)));
        let mut lines = vec![format!("{has}It can become larger, never smaller.")];
        if vm.phase.is_up() {
            lines.push("The guest has the larger disk at its next start.".to_owned());
        }
        Self {
            title: format!("Resize the disk of {name}"),
            lines,
            label: "New size, such as 8G".to_owned(),
            kind: Kind::Resize(vm.id.clone()),
            text: String::new(),
            problem: None,
            sent: None,
        }
    }

    /// Asks for an image's new name.
    #[must_use]
    pub fn rename_image(name: ImageName) -> Self {
        Self {
            title: format!("Rename the image {name}"),
            lines: vec!["Machines on it, and images that were made from it, follow.".to_owned()],
            label: "New name".to_owned(),
            text: name.to_string(),
            kind: Kind::RenameImage(name),
            problem: None,
            sent: None,
        }
    }

    /// Asks what to import.
    #[must_use]
    pub fn import() -> Self {
        let lines = [
            "A disk (raw, qcow2), an archive of a root file system, a cloud image, or a container \
             image (OCI directory or archive, docker save).",
            "“PATH as NAME” names the image; else its name follows the file's.",
        ];
        Self::path("Import an image", &lines, Kind::Import)
    }

    /// Asks where to write an image to.
    #[must_use]
    pub fn export(name: &str) -> Self {
        let lines = ["All that makes the image goes into one file; i imports it elsewhere."];
        let mut prompt = Self::path("", &lines, Kind::Export(name.to_owned()));
        prompt.title = format!("Export {name}");
        prompt.text = format!("~/{name}.tar.zst");
        prompt
    }

    fn path(title: &str, lines: &[&str], kind: Kind) -> Self {
        Self {
            title: title.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            label: "Path, from / or ~/".to_owned(),
            kind,
            text: String::new(),
            problem: None,
            sent: None,
        }
    }

    /// Asks to type `expect` before `commands` are done.
    #[must_use]
    pub fn type_to_delete(
        title: String,
        lines: Vec<String>,
        expect: String,
        commands: Vec<CommandBody>,
    ) -> Self {
        Self {
            title,
            lines,
            label: format!("Type “{expect}”"),
            kind: Kind::Delete { expect, commands },
            text: String::new(),
            problem: None,
            sent: None,
        }
    }

    fn accept(&mut self, cx: &mut Cx<'_>) {
        if self.sent.is_some() {
            return;
        }
        match &self.kind {
            Kind::Rename(id) => match self.text.trim().parse::<VmName>() {
                Err(why) => self.problem = Some(why.to_string()),
                Ok(name) => {
                    let taken = |vm: &VmView| vm.spec.name == name && vm.id != *id;
                    if cx.state.fleet.vms.iter().any(|vm| taken(vm)) {
                        self.problem = Some(format!("{name} is taken"));
                    } else if cx.state.vm(id).is_some_and(|vm| vm.spec.name == name) {
                        cx.close();
                    } else {
                        self.sent = Some(cx.command(CommandBody::Rename(id.clone(), name)));
                    }
                }
            },
            Kind::Resize(id) => match parse_mib(&self.text) {
                Err(why) => self.problem = Some(why),
                Ok(mib) => self.sent = Some(cx.command(CommandBody::Resize(id.clone(), mib))),
            },
            Kind::RenameImage(old) => match self.text.trim().parse::<ImageName>() {
                Err(why) => self.problem = Some(why.to_string()),
                Ok(name) if name == *old => cx.close(),
                Ok(name) => {
                    let body = CommandBody::RenameImage(old.clone(), name);
                    self.sent = Some(cx.command(body));
                }
            },
            Kind::Import | Kind::Export(_) => self.accept_path(cx),
            Kind::Delete { expect, .. } if self.text.trim() != expect => {
                self.problem = Some(format!("type “{expect}” to go on, Esc to leave it"));
            }
            Kind::Delete { commands, .. } => {
                for body in commands {
                    cx.command(body.clone());
                }
                cx.state.marks.clear();
                cx.close();
            }
        }
    }

    fn accept_path(&mut self, cx: &mut Cx<'_>) {
        let text = self.text.trim();
        let (path, name) = match (&self.kind, text.rsplit_once(" as ")) {
            // A path may have such words in it, but then the file is in another directory.
            (Kind::Import, Some((path, name))) if !name.contains('/') => (path.trim(), Some(name)),
            _ => (text, None),
        };
        if let Some(Err(why)) = name.map(str::parse::<ImageName>) {
            self.problem = Some(why.to_string());
            return;
        }
        let path = match (path.strip_prefix("~/"), &cx.state.home) {
            (Some(rest), Some(home)) => home.join(rest).to_string_lossy().into_owned(),
            _ => path.to_owned(),
        };
        if !path.starts_with('/') {
            self.problem = Some("begin the path with / or ~/".to_owned());
            return;
        }
        let run = match &self.kind {
            Kind::Export(image) => verb(format!("export {image}"), &["export", image, &path], None),
            _ => match name {
                Some(name) => {
                    let arguments = ["import", &path, "--name", name];
                    verb(format!("import {name}"), &arguments, Some(name))
                }
                None => {
                    let file = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("/");
                    verb(format!("import {file}"), &["import", &path], None)
                }
            },
        };
        builds::run(run, cx);
        cx.close();
    }

    fn type_in(&mut self, text: &str) {
        // Only the first line of a paste: a name has no second one.
        let room = MAX.saturating_sub(self.text.chars().count());
        let line = text.trim_start().lines().next().unwrap_or_default();
        self.text.extend(line.chars().filter(|c| !c.is_control()).take(room));
        self.problem = None;
    }
}

impl Layer for Prompt {
    fn title(&self) -> &'static str {
        "Prompt"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        &[Context::Prompt]
    }

    fn takes_text(&self, _: &State) -> bool {
        true
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Action(Action::Accept) => self.accept(cx),
            LayerEvent::Action(Action::Back | Action::Cancel) => cx.close(),
            LayerEvent::Paste(text) => self.type_in(text),
            LayerEvent::Key(key) => match key.code {
                KeyCode::Backspace => {
                    self.text.pop();
                    self.problem = None;
                }
                KeyCode::Char('u' | 'w') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    self.text.clear();
                }
                KeyCode::Char(c)
                    if !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) =>
                {
                    let mut buffer = [0; 4];
                    if c == ' ' {
                        self.text.push(' ');
                    } else {
                        self.type_in(c.encode_utf8(&mut buffer));
                    }
                }
                _ => {}
            },
            LayerEvent::Answer(ticket, answer) if self.sent == Some(*ticket) => {
                self.sent = None;
                self.problem = match answer {
                    Answer::Admission(Admission::Denied(denied)) => {
                        Some(format!("{}: {}", denied.0.what, denied.0.why))
                    }
                    Answer::Admission(_) => None,
                    Answer::Busy => Some("banger is busy; press Enter again".to_owned()),
                    Answer::Gone => Some("the supervisor has ended".to_owned()),
                };
                if self.problem.is_none() {
                    if let (Kind::Resize(id), Ok(mib)) = (&self.kind, parse_mib(&self.text))
                        && let Some(vm) = cx.state.vm(id)
                    {
                        let size = ByteSize(mib << 20);
                        let text = format!("{} has {size} from its next start on", vm.spec.name);
                        cx.toast(NoticeLevel::Info, text, "its file system grows by itself");
                    }
                    cx.close();
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
        let problem = self.problem.as_deref().map(|p| wrap(p, room)).unwrap_or_default();
        let rows = (lines.len() + problem.len().max(1) + 6) as u16;
        let inner = popup(cx, area, &self.title, columns, rows);
        let (x, width_in) = (inner.x + 1, inner.width.saturating_sub(2));
        let mut y = inner.y;
        for line in &lines {
            put(cx.buf, x, y, line, cx.theme.style(Slot::Text), width_in);
            y += 1;
        }
        if !lines.is_empty() {
            y += 1;
        }
        put(cx.buf, x, y, &self.label, cx.theme.style(Slot::FieldLabel), width_in);
        y += 1;
        let style = cx.theme.style(Slot::FieldFocus);
        cx.buf.set_style(Rect::new(x, y, width_in, 1).intersection(cx.buf.area), style);
        // The end of what is typed stays in sight.
        let mut shown: &str = &self.text;
        while width(shown) + 1 > usize::from(width_in) {
            let Some((first, _)) = shown.char_indices().nth(1) else { break };
            shown = &shown[first..];
        }
        let end = put(cx.buf, x, y, shown, style, width_in);
        cx.cursor = Some(Position::new(end.min(inner.right().saturating_sub(1)), y));
        y += 1;
        for line in &problem {
            put(cx.buf, x, y, line, cx.theme.style(Slot::FieldProblem), width_in);
            y += 1;
        }
        let hint = "Enter does it · Esc leaves it";
        let y = inner.bottom().saturating_sub(1);
        put(cx.buf, x, y, hint, cx.theme.style(Slot::TextDim), width_in);
    }
}
