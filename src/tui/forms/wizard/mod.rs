//! The wizard that makes an image from another, step by step. It asks; `banger images build` does.
//!
//! Whatever is typed is kept as a draft, so that neither Esc nor a crash loses it.

mod ask;
mod draft;
mod draw;
mod editor;
mod review;

use std::time::Duration;

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, MouseButton, MouseEvent, MouseEventKind},
    layout::Rect,
};

pub use self::{
    ask::Ask,
    draft::{Draft, Place, Step, Trouble},
    editor::Editor,
};
use super::{Choice, Field, Form, Kind, Outcome, TextLine};
use crate::{
    domain::{
        BuildPreview, Fleet, ImageFacts, NoticeLevel, Preset, Problem, Recipe, is_same_draft,
    },
    supervisor::read_packages,
    tui::{
        action::{Action, Context},
        effect::{Effect, Errand},
        event::{DeskAnswer, Handled, LayerEvent, Ticket},
        layers::{Cx, Draw, Hit, Layer},
        screens::images::{STALE, builds, verb},
        state::State,
    },
};

/// How long after a change the draft is kept: a crash loses less than this of it.
const KEEP_AFTER: Duration = Duration::from_millis(300);

/// [`Hit::Item`]s of the bar begin here, those of editors and presets at [`PARTS`]; forms have
/// theirs from 0 on.
const STEPS: usize = 100;
const PARTS: usize = 200;

/// The editors of the third step, in the order of Tab.
const CONTENTS: [Place; 4] = [Place::Files, Place::Users, Place::Keys, Place::Script];

/// What is known of what a build would do.
enum Preview {
    /// Nobody asked.
    None,
    /// It is being worked out for this recipe.
    Asked(Ticket, Box<Recipe>),
    /// It is this, for that recipe.
    Known(Box<BuildPreview>, Box<Recipe>),
    /// It could not be worked out.
    Failed(Problem, Box<Recipe>),
}

/// The wizard.
pub struct Wizard {
    draft: Draft,
    base: Form<Place>,
    name: Form<Place>,
    packages: Editor,
    contents: [Editor; 4],
    /// Which part of the second step has the focus: the manifest, or one of the presets.
    part: usize,
    /// Which editor of the third step has it.
    content: usize,
    troubles: Vec<Trouble>,
    recipe: Option<Recipe>,
    /// What is known of the base of this name.
    facts: Option<(String, ImageFacts)>,
    asked: Option<(Ticket, String)>,
    preview: Preview,
    /// The answer that leads to the run.
    running: Option<Ticket>,
    problem: Option<Problem>,
    scroll: usize,
    /// Whether the review was seen: from then on the forms show their problems, too.
    tried: bool,
    /// Whether anything was changed since it was opened.
    typed: bool,
}

impl Wizard {
    /// The wizard with this draft.
    #[must_use]
    pub fn open(draft: Draft, cx: &mut Cx<'_>) -> Self {
        let text = |place, label, value: &str, help: &str| {
            Field::new(place, label, Kind::Text(TextLine::new(value)), help)
        };
        let base = Field::new(
            Place::Base,
            "Base",
            Kind::Choice { options: Vec::new(), at: 0 },
            "The image it begins as; that stays as it is. ← → choose",
        );
        let mut name = text(
            Place::Name,
            "Name",
            &draft.name,
            "What machines are made from: a-z, 0-9, - and ., at most 63 characters",
        );
        name.touched = draft.named;
        let size = "Empty for the base's, or larger: 4G. It takes only what is written";
        let memory = "What machines get by default: 512M, 2G; empty for the base's";
        let fields = vec![
            name,
            text(Place::About, "About", &draft.about, "One line: what it is"),
            text(Place::Size, "Disk", &draft.size, size),
            text(Place::Memory, "Memory", &draft.memory, memory),
        ];
        let contents = [&draft.files, &draft.users, &draft.keys, &draft.script];
        let mut this = Self {
            packages: Editor::new(&draft.packages),
            contents: contents.map(|text| Editor::new(text)),
            base: Form::new(vec![base]),
            name: Form::new(fields),
            part: 0,
            content: 0,
            troubles: Vec::new(),
            recipe: None,
            facts: None,
            asked: None,
            preview: Preview::None,
            running: None,
            problem: None,
            scroll: 0,
            tried: draft.step == Step::Review,
            typed: false,
            draft,
        };
        this.follow(cx);
        this
    }

    /// Brings what depends on something else in line: after a change here or of the fleet.
    fn follow(&mut self, cx: &mut Cx<'_>) {
        let fleet = cx.state.fleet.clone();
        self.offer_bases(&fleet);
        let draft = &mut self.draft;
        self.base.field(Place::Base).value().clone_into(&mut draft.base);
        let name = self.name.field_mut(Place::Name);
        draft.named = name.touched;
        name.value().clone_into(&mut draft.name);
        draft.suggest(&fleet);
        if !draft.named {
            name.set(&draft.name);
        }
        let value = |place| self.name.field(place).value().to_owned();
        draft.about = value(Place::About);
        draft.size = value(Place::Size);
        draft.memory = value(Place::Memory);
        draft.packages = self.packages.text();
        let [files, users, keys, script] = &self.contents;
        draft.files = files.text();
        draft.users = users.text();
        draft.keys = keys.text();
        draft.script = script.text();
        if let Some(base) = draft.base_of(&fleet) {
            let size = crate::domain::ByteSize(base.size);
            let memory = crate::domain::ByteSize(base.default_memory_mib << 20);
            self.name.field_mut(Place::Size).placeholder = format!("{size}, as the base has it");
            self.name.field_mut(Place::Memory).placeholder = format!("{memory}, as the base has");
        }
        self.check(cx.state);
        self.ask_facts(cx);
        self.ask_preview(cx);
    }

    fn offer_bases(&mut self, fleet: &Fleet) {
        let chosen = if self.base.field(Place::Base).value().is_empty() {
            self.draft.base.clone()
        } else {
            self.base.field(Place::Base).value().to_owned()
        };
        if let Kind::Choice { options, at } = &mut self.base.field_mut(Place::Base).kind {
            *options = fleet
                .images
                .iter()
                .map(|image| Choice {
                    value: image.name.clone(),
                    note: match image.stale.is_empty() {
                        true => image.about.clone(),
                        false => format!("{STALE} stale · {}", image.about),
                    },
                })
                .collect();
            // What is gone is still what was chosen: that is said, and nothing else taken.
            if !chosen.is_empty() && options.iter().all(|option| option.value != chosen) {
                options.push(Choice { value: chosen.clone(), note: String::new() });
            }
            *at = options.iter().position(|option| option.value == chosen).unwrap_or(0);
        }
    }

    /// Finds what is wrong, and shows it where it is.
    fn check(&mut self, state: &State) {
        let found = self.draft.recipe(&state.fleet, read_packages, state.home.as_deref());
        (self.recipe, self.troubles) = match found {
            Ok(recipe) => (Some(recipe), Vec::new()),
            Err(troubles) => (None, troubles),
        };
        for form in [&mut self.base, &mut self.name] {
            for field in &mut form.fields {
                let of_field = self.troubles.iter().find(|trouble| trouble.place == field.id);
                let shown = of_field.filter(|_| self.tried || field.touched);
                field.problem = shown.map(|trouble| trouble.why.clone());
            }
        }
        let hidden = state.fleet.images.iter().any(|image| image.name == self.draft.name.trim());
        self.name.field_mut(Place::Name).note = match (self.draft.replaces(), hidden) {
            (true, _) => Some("it takes the place of the one there is".to_owned()),
            (false, true) => Some("it hides the one of the runtime directory".to_owned()),
            (false, false) => None,
        };
    }

    /// Has the base looked at, unless that is known or under way.
    fn ask_facts(&mut self, cx: &mut Cx<'_>) {
        let base = self.draft.base.clone();
        let known = self.facts.as_ref().is_some_and(|(of, _)| *of == base);
        let asked = self.asked.as_ref().is_some_and(|(_, of)| *of == base);
        if !known && !asked && self.draft.base_of(&cx.state.fleet).is_some() {
            let ticket = cx.state.next_ticket();
            cx.effect(Effect::Desk(ticket, Errand::Facts(base.clone())));
            self.asked = Some((ticket, base));
        }
    }

    /// On the review, has it worked out what the build would do.
    fn ask_preview(&mut self, cx: &mut Cx<'_>) {
        let (Step::Review, Some(recipe)) = (self.draft.step, &self.recipe) else { return };
        // The build itself will say it.
        if self.running.is_some() {
            return;
        }
        let of = match &self.preview {
            Preview::None => None,
            Preview::Asked(_, of) | Preview::Known(_, of) | Preview::Failed(_, of) => Some(of),
        };
        if of.is_some_and(|of| **of == *recipe) {
            return;
        }
        let ticket = cx.state.next_ticket();
        let recipe = Box::new(recipe.clone());
        cx.effect(Effect::Desk(ticket, Errand::Preview(recipe.clone())));
        self.preview = Preview::Asked(ticket, recipe);
    }

    /// Sees to it that nothing is worked out for the review any more.
    fn end_preview(&mut self, cx: &mut Cx<'_>) {
        if let Preview::Asked(..) = self.preview {
            self.preview = Preview::None;
            let ticket = cx.state.next_ticket();
            cx.effect(Effect::Desk(ticket, Errand::EndPreview));
        }
    }

    /// Something was changed: it is kept in a moment.
    fn changed(&mut self, cx: &mut Cx<'_>) {
        self.problem = None;
        self.typed = true;
        self.follow(cx);
        cx.state.draft = Some((self.draft.text(), cx.state.now.mono + KEEP_AFTER));
    }

    fn keep_if_due(&self, cx: &mut Cx<'_>, at_once: bool) {
        let due =
            cx.state.draft.as_ref().is_some_and(|(_, at)| at_once || *at <= cx.state.now.mono);
        if due && let Some((text, _)) = cx.state.draft.take() {
            let ticket = cx.state.next_ticket();
            cx.effect(Effect::Desk(ticket, Errand::KeepDraft(Some(text))));
        }
    }

    fn go(&mut self, step: Step, cx: &mut Cx<'_>) {
        if step == self.draft.step {
            return;
        }
        self.draft.step = step;
        self.scroll = 0;
        self.tried |= step == Step::Review;
        self.problem = None;
        self.changed(cx);
    }

    /// Goes to where something is wrong.
    fn go_to_trouble(&mut self, cx: &mut Cx<'_>) {
        let Some(trouble) = self.troubles.first().cloned() else { return };
        self.go(trouble.place.step(), cx);
        match trouble.place {
            Place::Packages => {
                self.part = 0;
                self.packages.go_to_line(trouble.line);
            }
            Place::Base | Place::Preset(_) => {}
            Place::Name | Place::About | Place::Size | Place::Memory => self.name.focus_problem(),
            place => {
                self.content = CONTENTS.iter().position(|of| *of == place).unwrap_or(0);
                self.contents[self.content].go_to_line(trouble.line);
            }
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_>) {
        if self.typed {
            cx.toast(NoticeLevel::Info, "the draft is kept", "c in Images goes on with it");
        }
        self.end_preview(cx);
        self.keep_if_due(cx, true);
        cx.close();
    }

    /// The editor with the focus.
    fn editor(&mut self) -> Option<&mut Editor> {
        match self.draft.step {
            Step::Packages if self.part == 0 => Some(&mut self.packages),
            Step::Contents => Some(&mut self.contents[self.content]),
            _ => None,
        }
    }

    /// The next or previous part of the step.
    fn part_by(&mut self, by: usize) {
        match self.draft.step {
            Step::Packages => self.part = (self.part + by) % (Preset::ALL.len() + 1),
            Step::Contents => self.content = (self.content + by) % CONTENTS.len(),
            _ => {}
        }
    }

    fn toggle(&mut self, preset: Preset, cx: &mut Cx<'_>) {
        let presets = &mut self.draft.presets;
        if presets.contains(&preset) {
            presets.retain(|known| *known != preset);
        } else {
            presets.push(preset);
            presets.sort_unstable();
        }
        self.changed(cx);
    }

    fn submit(&mut self, cx: &mut Cx<'_>) {
        if self.draft.step != Step::Review {
            return self.go(self.draft.step.by(1), cx);
        }
        if self.running.is_some() {
            return;
        }
        let Some(recipe) = self.recipe.clone() else { return self.go_to_trouble(cx) };
        if self.is_built_otherwise(cx.state) {
            let what = format!("{} is being built from an earlier draft", recipe.name);
            let hint = "wait for it, end it in Jobs, or give this one another name (Ctrl-p)";
            self.problem = Some(Problem::new(what, "there can be one image of a name", hint));
            return;
        }
        // The build is begun when the recipe is written, which is behind the end of the preview.
        self.end_preview(cx);
        let ticket = cx.state.next_ticket();
        cx.effect(Effect::Desk(ticket, Errand::SaveRecipe(Box::new(recipe))));
        self.running = Some(ticket);
    }

    /// Whether an image of this name is being made, and not from what is typed here.
    fn is_built_otherwise(&self, state: &State) -> bool {
        let (name, draft) = (self.draft.name.trim(), self.draft.text());
        let runs = state.panes.list().iter().filter(|entry| entry.is_alive());
        let mut runs = runs.filter_map(|entry| entry.run()).filter(|run| run.is_work());
        runs.any(|run| {
            let same = run.draft.as_ref().is_some_and(|other| is_same_draft(other, &draft));
            run.makes.as_deref() == Some(name) && !same
        })
    }

    fn action(&mut self, action: Action, cx: &mut Cx<'_>) {
        match (action, self.draft.step) {
            (Action::Back | Action::Cancel, _) => self.leave(cx),
            (Action::StepNext, Step::Review) => {}
            (Action::StepNext, step) => self.go(step.by(1), cx),
            (Action::StepPrev, step) => self.go(step.by(-1), cx),
            (Action::Submit, _) => self.submit(cx),
            (Action::PartNext, _) => self.part_by(1),
            (Action::PartPrev, Step::Packages) => self.part_by(Preset::ALL.len()),
            (Action::PartPrev, _) => self.part_by(CONTENTS.len() - 1),
            (Action::FieldNext, Step::Packages) => self.part_by(1),
            (Action::FieldPrev, Step::Packages) => self.part_by(Preset::ALL.len()),
            (Action::FieldNext, Step::Review) => self.scroll += 1,
            (Action::FieldPrev, Step::Review) => self.scroll = self.scroll.saturating_sub(1),
            _ => self.give_form(&LayerEvent::Action(action), cx),
        }
    }

    fn give_form(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) {
        let form = match self.draft.step {
            Step::Base => &mut self.base,
            Step::Name => &mut self.name,
            _ => return,
        };
        if form.handle(event) == Outcome::Changed {
            self.changed(cx);
        }
    }

    fn key(&mut self, key: &KeyEvent, cx: &mut Cx<'_>) {
        if let Some(editor) = self.editor() {
            if editor.key(key) {
                self.changed(cx);
            }
            return;
        }
        match (self.draft.step, key.code) {
            (Step::Packages, KeyCode::Char(' ') | KeyCode::Left | KeyCode::Right) => {
                if let Some(preset) = self.part.checked_sub(1).and_then(|n| Preset::ALL.get(n)) {
                    self.toggle(*preset, cx);
                }
            }
            (Step::Review, KeyCode::PageUp) => self.scroll = self.scroll.saturating_sub(10),
            (Step::Review, KeyCode::PageDown) => self.scroll += 10,
            _ => self.give_form(&LayerEvent::Key(*key), cx),
        }
    }

    fn mouse(&mut self, mouse: &MouseEvent, hit: Option<Hit>, cx: &mut Cx<'_>) {
        let wheel = match mouse.kind {
            MouseEventKind::ScrollUp => -3,
            MouseEventKind::ScrollDown => 3,
            _ => 0,
        };
        if wheel != 0 {
            match self.editor() {
                Some(editor) => editor.scroll(wheel),
                None => self.scroll = self.scroll.saturating_add_signed(wheel),
            }
            return;
        }
        let down = mouse.kind == MouseEventKind::Down(MouseButton::Left);
        match hit {
            Some(Hit::Item(n)) if down && n >= PARTS => {
                match (self.draft.step, n - PARTS) {
                    (Step::Packages, part) => {
                        let preset = part.checked_sub(1).and_then(|n| Preset::ALL.get(n));
                        self.part = part.min(Preset::ALL.len());
                        if let Some(preset) = preset {
                            self.toggle(*preset, cx);
                        }
                    }
                    (_, content) => self.content = content.min(CONTENTS.len() - 1),
                }
                if let Some(editor) = self.editor() {
                    editor.click(mouse.column, mouse.row);
                }
            }
            Some(Hit::Item(n)) if down && n >= STEPS => {
                if let Some(step) = Step::ALL.get(n - STEPS) {
                    self.go(*step, cx);
                }
            }
            Some(Hit::Action(action)) if down => self.action(action, cx),
            hit => self.give_form(&LayerEvent::Mouse(*mouse, hit), cx),
        }
    }

    fn errand_done(&mut self, ticket: Ticket, answer: &DeskAnswer, cx: &mut Cx<'_>) -> Handled {
        match answer {
            DeskAnswer::Facts(facts) => {
                let Some((_, of)) = self.asked.take_if(|(asked, _)| *asked == ticket) else {
                    return Handled::Ignored;
                };
                // What is not known is not shown: it keeps nothing from being built.
                self.facts = Some((of, facts.clone().unwrap_or_default()));
            }
            DeskAnswer::Preview(preview) => {
                let before = std::mem::replace(&mut self.preview, Preview::None);
                self.preview = match (before, preview) {
                    (Preview::Asked(asked, of), Ok(known)) if asked == ticket => {
                        Preview::Known(Box::new(known.clone()), of)
                    }
                    (Preview::Asked(asked, of), Err(problem)) if asked == ticket => {
                        Preview::Failed(problem.clone(), of)
                    }
                    (before, _) => before,
                };
            }
            DeskAnswer::Recipe(path) if self.running == Some(ticket) => {
                self.running = None;
                match path {
                    Ok(path) => self.run(path.to_string_lossy().as_ref(), cx),
                    Err(problem) => self.problem = Some(problem.clone()),
                }
            }
            _ => return Handled::Ignored,
        }
        Handled::Consumed
    }

    /// Runs the build in a pane; the draft stays until the image is there.
    fn run(&mut self, recipe: &str, cx: &mut Cx<'_>) {
        let name = self.draft.name.trim().to_owned();
        // It was all shown and said yes to here.
        let mut arguments = vec!["build", recipe, "--yes"];
        if self.draft.replaces() {
            arguments.push("--replace");
        }
        let mut run = verb(format!("build {name}"), &arguments, Some(&name));
        run.has_shell = true;
        let draft = self.draft.text();
        run.draft = Some(draft.clone());
        cx.state.draft = Some((draft, cx.state.now.mono));
        self.keep_if_due(cx, true);
        builds::run(run, cx);
        cx.close();
    }
}

impl Layer for Wizard {
    fn title(&self) -> &'static str {
        "Customize"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        match self.draft.step {
            Step::Packages if self.part == 0 => &[Context::Editor],
            Step::Contents => &[Context::Editor],
            _ => &[Context::Wizard],
        }
    }

    fn takes_text(&self, _: &State) -> bool {
        true
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        self.keep_if_due(cx, false);
        match event {
            LayerEvent::Fleet => {
                self.follow(cx);
                return Handled::Ignored;
            }
            LayerEvent::Desk(ticket, answer) => return self.errand_done(*ticket, answer, cx),
            LayerEvent::Answer(..) | LayerEvent::Tick => return Handled::Ignored,
            LayerEvent::Action(action) => self.action(*action, cx),
            LayerEvent::Key(key) => self.key(key, cx),
            LayerEvent::Paste(text) => match self.editor() {
                Some(editor) => {
                    if editor.insert(text) {
                        self.changed(cx);
                    }
                }
                None => self.give_form(event, cx),
            },
            LayerEvent::Mouse(mouse, hit) => self.mouse(mouse, *hit, cx),
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        self.draw_all(area, cx);
    }

    fn deadline(&self, state: &State) -> Option<Duration> {
        let spin = || state.now.mono + crate::tui::widgets::SPIN;
        let looking = matches!(self.preview, Preview::Asked(..)).then(spin);
        state.draft.as_ref().map(|(_, at)| *at).into_iter().chain(looking).min()
    }
}
