//! The New VM form: everything is filled in, so that Enter at once makes a good machine.

use ratatui::{crossterm::event::KeyCode, layout::Rect};

use super::{Choice, Field, Form, Kind, Outcome, TextLine, advanced};
use crate::{
    config::{self, theme::Slot},
    domain::{
        self, Admission, BundleView, ByteSize, CommandBody, Fleet, ImageView, NoticeLevel, Problem,
        VmDraft, VmSpec, parse_mib,
    },
    tui::{
        action::{Action, Context},
        event::{Answer, Handled, LayerEvent, Ticket},
        layers::{Cx, Draw, Hit, Layer},
        screens::{images::STALE, panes::input},
        state::State,
        widgets::{popup, put, wrap},
    },
};

/// A field of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// One of the spec.
    Spec(domain::Field),
    /// Whether it is to be started when it is made.
    Start,
    /// See [`VmSpec::restore`].
    Restore,
    /// Whether the fields are shown that the host fills in well by itself.
    Advanced,
}

const NAME: Item = Item::Spec(domain::Field::Name);
const IMAGE: Item = Item::Spec(domain::Field::Image);
const VCPUS: Item = Item::Spec(domain::Field::Vcpus);
const MEMORY: Item = Item::Spec(domain::Field::Memory);
const DISK: Item = Item::Spec(domain::Field::Disk);
pub(super) const VMM: Item = Item::Spec(domain::Field::Vmm);
pub(super) const NETWORK: Item = Item::Spec(domain::Field::Network);
pub(super) const OVERLAY: Item = Item::Spec(domain::Field::Overlay);
pub(super) const KEY: Item = Item::Spec(domain::Field::Key);
pub(super) const USER_DATA: Item = Item::Spec(domain::Field::UserData);

/// What the form begins with.
#[derive(Default)]
pub struct Remembered {
    /// The user's defaults.
    pub defaults: config::NewVm,
    /// The image that was chosen before the form was opened.
    pub image: Option<String>,
    /// What was typed when the form was left.
    draft: Option<Form<Item>>,
}

/// The form as a popup.
pub struct NewVm {
    form: Form<Item>,
    /// The answer that is awaited.
    sent: Option<Ticket>,
    /// It was accepted before it was known what there is: it is sent once that is.
    eager: bool,
    /// Why the supervisor would not do it.
    denied: Option<Problem>,
    /// What was typed since Enter, for the machine's shell.
    ahead: Vec<u8>,
}

impl NewVm {
    /// The form, with what was typed before if it was left with Esc.
    #[must_use]
    pub fn open(state: &mut State) -> Self {
        let form = state.new_vm.draft.take();
        let form = form.unwrap_or_else(|| blank(&state.new_vm.defaults, &state.fleet));
        let mut this = Self { form, sent: None, eager: false, denied: None, ahead: Vec::new() };
        if let Some(image) = state.new_vm.image.take() {
            this.form.field_mut(IMAGE).set(&image);
        }
        this.follow(state);
        this
    }

    /// Brings everything that depends on something else in line: after a change here or of the
    /// fleet.
    fn follow(&mut self, state: &State) {
        let fleet = &state.fleet;
        if let Kind::Choice { options, at } = &mut self.form.field_mut(IMAGE).kind {
            let chosen = options.get(*at).map(|o| o.value.clone());
            let chosen = chosen.or_else(|| state.new_vm.defaults.image.clone());
            *options = fleet.images.iter().map(choice).collect();
            *at = options.iter().position(|o| Some(&o.value) == chosen.as_ref()).unwrap_or(0);
        }
        let image = self.image(fleet).cloned();
        if let Some(image) = &image {
            let memory = state.new_vm.defaults.memory_mib.unwrap_or(image.default_memory_mib);
            let size = size_text(memory);
            let name = suggest(&image.name, fleet);
            for (item, value) in [(MEMORY, size), (NAME, name)] {
                let field = self.form.field_mut(item);
                if !field.touched {
                    field.set(&value);
                }
            }
            let size = format!("{}, as the image has it", ByteSize(image.size));
            self.form.field_mut(DISK).placeholder = size;
        }
        self.notes(fleet);
        advanced::follow(&mut self.form, &fleet.host);
        if self.form.tried {
            self.check(fleet);
        }
    }

    fn image<'a>(&self, fleet: &'a Fleet) -> Option<&'a ImageView> {
        let name = self.form.field(IMAGE).value();
        fleet.images.iter().find(|image| image.name == name)
    }

    /// What is possible, but worth a thought.
    fn notes(&mut self, fleet: &Fleet) {
        let host = &fleet.host;
        let memory = parse_mib(self.form.field(MEMORY).value()).ok();
        let bytes = memory.and_then(|mib| mib.checked_mul(1 << 20));
        self.form.field_mut(MEMORY).note = bytes.and_then(|bytes| {
            let (all, free) = (ByteSize(host.memory_total), ByteSize(host.memory_available));
            if all.0 > 0 && bytes > all.0 {
                Some(format!("more than this host has: {all}"))
            } else if free.0 > 0 && bytes > free.0 {
                Some(format!("more than is free on this host now: {free}"))
            } else {
                None
            }
        });
        let vcpus = self.form.field(VCPUS).value().trim().parse::<u32>().ok();
        let more = |n: &u32| host.cpus > 0 && *n > host.cpus;
        self.form.field_mut(VCPUS).note =
            vcpus.filter(more).map(|_| format!("more than the {} CPUs of this host", host.cpus));
    }

    /// Notes all problems at their fields; the spec if there are none.
    fn check(&mut self, fleet: &Fleet) -> Option<VmSpec> {
        let value = |item| self.form.field(item).value().to_owned();
        let draft = VmDraft {
            name: value(NAME),
            image: value(IMAGE),
            vcpus: value(VCPUS),
            memory: value(MEMORY),
            disk: value(DISK),
            restore: value(Item::Restore) == "true",
            vmm: value(VMM),
            network: value(NETWORK),
            overlay: value(OVERLAY),
            keys: value(KEY),
            user_data: value(USER_DATA),
        };
        let spec = draft.validate();
        let mut problems: Vec<(Item, String)> = match &spec {
            Ok(_) => Vec::new(),
            Err(problems) => {
                problems.iter().map(|p| (Item::Spec(p.field), p.message.clone())).collect()
            }
        };
        if fleet.vms.iter().any(|vm| vm.spec.name.as_str() == draft.name.trim()) {
            problems.push((NAME, "this name is taken".to_owned()));
        }
        let disk = parse_mib(&draft.disk).ok().and_then(|mib| mib.checked_mul(1 << 20));
        if let (Some(disk), Some(image)) = (disk, self.image(fleet))
            && disk < image.size
        {
            let size = ByteSize(image.size);
            problems.push((DISK, format!("the image is {size}; a disk cannot be smaller")));
        }
        for field in &mut self.form.fields {
            let of_field = problems.iter().find(|(item, _)| *item == field.id);
            field.problem = of_field.map(|(_, message)| message.clone());
        }
        spec.ok().filter(|_| problems.is_empty())
    }

    fn submit(&mut self, cx: &mut Cx<'_>) {
        if self.sent.is_some() {
            return;
        }
        let fleet = cx.state.fleet.clone();
        self.eager = !is_known(&fleet);
        if self.eager {
            return;
        }
        self.form.tried = true;
        self.denied = None;
        match self.check(&fleet) {
            Some(spec) => {
                let start = self.form.field(Item::Start).value() == "true";
                self.sent = Some(cx.command(CommandBody::Create { spec, start }));
            }
            None => {
                self.form.focus_problem();
                self.forget("the machine was not made", cx);
            }
        }
    }

    /// Whether its pane is on its way: then what is typed is for that.
    fn waits(&self) -> bool {
        (self.sent.is_some() || self.eager) && self.form.field(Item::Start).value() == "true"
    }

    /// No shell will get what was typed.
    fn forget(&mut self, why: &str, cx: &mut Cx<'_>) {
        if !std::mem::take(&mut self.ahead).is_empty() {
            let text = format!("what was typed for the shell is lost: {why}");
            cx.toast(NoticeLevel::Warning, text, "");
        }
    }

    fn answered(&mut self, answer: &Answer, cx: &mut Cx<'_>) {
        let waits = self.waits();
        self.sent = None;
        self.denied = match answer {
            Answer::Admission(Admission::Queued(job)) => {
                if waits {
                    cx.state.panes.type_ahead(*job, &std::mem::take(&mut self.ahead));
                }
                None
            }
            Answer::Admission(Admission::Denied(denied)) => Some(denied.0.clone()),
            Answer::Admission(Admission::Ignored(why)) => {
                Some(Problem::new("nothing was done", why.as_str(), ""))
            }
            Answer::Busy => Some(Problem::new(
                "the machine was not made",
                "the supervisor has more to do than it can queue",
                "press Enter again in a moment",
            )),
            Answer::Gone => Some(Problem::new(
                "the machine was not made",
                "the supervisor has ended",
                "quit and start banger again",
            )),
        };
        if self.denied.is_none() {
            cx.close();
        } else {
            self.forget("the machine was not made", cx);
        }
    }
}

impl Layer for NewVm {
    fn title(&self) -> &'static str {
        "New machine"
    }

    fn contexts(&self, _: &State) -> &'static [Context] {
        if self.waits() { &[Context::Terminal] } else { &[Context::Form] }
    }

    fn takes_all_keys(&self, _: &State) -> bool {
        self.waits()
    }

    fn takes_text(&self, _: &State) -> bool {
        true
    }

    fn handle_event(&mut self, event: &LayerEvent<'_>, cx: &mut Cx<'_>) -> Handled {
        match event {
            LayerEvent::Fleet => {
                self.follow(cx.state);
                if self.eager && is_known(&cx.state.fleet) {
                    self.submit(cx);
                }
                return Handled::Ignored;
            }
            LayerEvent::Answer(ticket, answer) if self.sent == Some(*ticket) => {
                self.answered(answer, cx);
                return Handled::Consumed;
            }
            LayerEvent::Answer(..) | LayerEvent::Desk(..) | LayerEvent::Tick => {
                return Handled::Ignored;
            }
            _ => {}
        }
        // Esc, and what takes the keyboard from a pane, leave the form, as they do before.
        let leave = LayerEvent::Action(Action::Back);
        let event = match event {
            LayerEvent::Action(Action::PaneLeave) => &leave,
            LayerEvent::Key(key) if self.waits() && key.code == KeyCode::Esc => &leave,
            LayerEvent::Key(_) | LayerEvent::Paste(_) if self.waits() => {
                if let Err(why) = input::keep_ahead(&mut self.ahead, event) {
                    cx.toast(NoticeLevel::Warning, why, "");
                }
                return Handled::Consumed;
            }
            event => event,
        };
        match self.form.handle(event) {
            Outcome::Changed => {
                self.eager = false;
                self.denied = None;
                self.follow(cx.state);
            }
            Outcome::Submit => self.submit(cx),
            Outcome::Leave => {
                self.forget("the form was left", cx);
                let blank = Form::new(Vec::new());
                cx.state.new_vm.draft = Some(std::mem::replace(&mut self.form, blank));
                cx.close();
            }
            Outcome::Stayed | Outcome::Ignored => {}
        }
        Handled::Consumed
    }

    fn draw(&self, area: Rect, cx: &mut Draw<'_>) {
        let columns = area.width.saturating_sub(2).min(72);
        let width = columns.saturating_sub(4);
        let denied: Vec<String> = self.denied.iter().flat_map(|p| said(p, width)).collect();
        let below = 3 + denied.len() as u16;
        let rows = self.form.rows(width) + below + 3;
        let inner = popup(cx, area, "New machine", columns, rows);
        let inner = Rect {
            x: inner.x + 1,
            y: inner.y + 1,
            width: inner.width.saturating_sub(2),
            height: inner.height.saturating_sub(1),
        };
        let below = below.min(inner.height.saturating_sub(1));
        let fields = Rect { height: inner.height - below, ..inner };
        self.form.draw(fields, cx);
        let free = fields.bottom() + 1..inner.bottom().saturating_sub(1);
        for (y, line) in free.zip(&denied) {
            put(cx.buf, inner.x, y, line, cx.theme.style(Slot::FieldProblem), inner.width);
        }
        self.draw_buttons(Rect { y: inner.bottom().saturating_sub(1), height: 1, ..inner }, cx);
    }
}

impl NewVm {
    fn draw_buttons(&self, row: Rect, cx: &mut Draw<'_>) {
        let start = self.form.field(Item::Start).value() == "true";
        let create = match (self.sent.is_some() || self.eager, start) {
            (true, _) => "[ Creating… ]",
            (false, true) => "[ Create and start · Enter ]",
            (false, false) => "[ Create · Enter ]",
        };
        let mut x = row.x;
        for (text, slot, action) in [
            (create, Slot::ButtonFocus, Action::Submit),
            ("[ Later · Esc ]", Slot::Button, Action::Back),
        ] {
            let room = row.right().saturating_sub(x);
            let end = put(cx.buf, x, row.y, text, cx.theme.style(slot), room);
            cx.hit(Rect { x, width: end - x, ..row }, Hit::Action(action));
            x = end + 2;
        }
    }
}

/// Whether it is known which machines and images there are.
fn is_known(fleet: &Fleet) -> bool {
    fleet.loaded && fleet.host.bundle != BundleView::Unknown
}

/// A problem in as many lines as it needs.
fn said(problem: &Problem, width: u16) -> Vec<String> {
    let text = format!("✗ {}: {}\n{}", problem.what, problem.why, problem.hint);
    wrap(text.trim_end(), usize::from(width))
}

fn blank(defaults: &config::NewVm, fleet: &Fleet) -> Form<Item> {
    let options: Vec<Choice> = fleet.images.iter().map(choice).collect();
    let wanted = defaults.image.as_ref();
    let at = options.iter().position(|o| Some(&o.value) == wanted).unwrap_or(0);
    let number = |text: &str, step| Kind::Number { line: TextLine::new(text), step };
    let mut image = Field::new(
        IMAGE,
        "Image",
        Kind::Choice { options, at },
        "What its disk begins with. ← → choose",
    );
    image.placeholder = "there is no image yet".to_owned();
    let fields = [
        Field::new(
            NAME,
            "Name",
            Kind::Text(TextLine::new("")),
            "Its host name too: a-z, 0-9 and -, at most 63 characters",
        ),
        image,
        Field::new(
            VCPUS,
            "vCPUs",
            number(&defaults.vcpus.to_string(), step_vcpus),
            "1 to 32. + and - step",
        ),
        Field::new(MEMORY, "Memory", number("", step_size), "512M, 2G, … + doubles, - halves"),
        Field::new(
            DISK,
            "Disk",
            number("", step_size),
            "Empty for the image's size, or larger: 4G. It takes only what is written",
        ),
        Field::new(Item::Start, "Start now", Kind::Toggle(true), "Space changes it"),
        Field::new(
            Item::Restore,
            "At login",
            Kind::Toggle(false),
            "Start it with `banger --restore`, even if it was off. Space changes it",
        ),
    ];
    Form::new(fields.into_iter().chain(advanced::fields()).collect())
}

fn choice(image: &ImageView) -> Choice {
    let note = match image.stale.first() {
        Some(reason) => format!("{STALE} stale ({reason}) · {}", image.about),
        None => image.about.clone(),
    };
    Choice { value: image.name.clone(), note }
}

fn step_vcpus(text: &str, up: bool) -> Option<String> {
    let n: u32 = text.trim().parse().ok()?;
    let next = if up { n.saturating_add(1) } else { n.saturating_sub(1) };
    Some(next.clamp(*VmSpec::VCPUS.start(), *VmSpec::VCPUS.end()).to_string())
}

fn step_size(text: &str, up: bool) -> Option<String> {
    let mib = parse_mib(text).ok()?;
    let next = if up { mib.saturating_mul(2) } else { mib / 2 };
    let next = next.clamp(*VmSpec::DISK_MIB.start(), *VmSpec::DISK_MIB.end());
    Some(size_text(next))
}

/// An amount as the form writes it: exact, which [`ByteSize`] is not.
fn size_text(mib: u64) -> String {
    if mib > 0 && mib.is_multiple_of(1024) {
        format!("{} GiB", mib / 1024)
    } else {
        format!("{mib} MiB")
    }
}

/// The first free name of the image's: `tiny-1`, `tiny-2`, …
fn suggest(image: &str, fleet: &Fleet) -> String {
    let legal = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let stem: String = image.to_ascii_lowercase().chars().filter(legal).take(40).collect();
    let stem = match stem.trim_matches('-') {
        "" => "vm",
        stem => stem,
    };
    // One more candidate than there are machines: one of them is free.
    let mut names = (1..=fleet.vms.len() + 1).map(|n| format!("{stem}-{n}"));
    let free = |name: &String| fleet.vms.iter().all(|vm| vm.spec.name.as_str() != name);
    names.find(free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_step_within_their_ranges() {
        assert_eq!(step_size("512 MiB", true).as_deref(), Some("1 GiB"));
        assert_eq!(step_size("1G", false).as_deref(), Some("512 MiB"));
        assert_eq!(step_size("16", false).as_deref(), Some("16 MiB"));
        assert_eq!(step_size("lots", true), None);
        assert_eq!(step_vcpus("1", false).as_deref(), Some("1"));
        assert_eq!(step_vcpus("32", true).as_deref(), Some("32"));
        assert_eq!(step_vcpus("x", true), None);
        // What a step writes is what the form reads.
        for mib in [16, 512, 1024, 1280, 1536, 16 * 1024 * 1024] {
            assert_eq!(parse_mib(&size_text(mib)), Ok(mib));
        }
    }

    #[test]
    fn a_name_is_suggested_whatever_the_image_is_called() {
        let fleet = Fleet::default();
        for (image, name) in
            [("tiny", "tiny-1"), ("My Image_2", "myimage2-1"), ("-_-", "vm-1"), ("ü", "vm-1")]
        {
            assert_eq!(suggest(image, &fleet), name);
        }
    }
}
