//! A layer on its own: pictures of the fleet go in, keys go in, text and effects come out.

#![allow(dead_code)] // Each test file uses a part of it.

use std::{sync::Arc, time::Duration};

use banger::{
    config::{
        keymap::{Chord, Lookup, Overrides},
        theme::Theme,
    },
    domain::{
        Admission, BootTimes, BundleView, CommandBody, Denied, Fleet, HostView, ImageView, JobId,
        JobState, JobView, OverlayKind, Phase, Problem, Progress, StepState, StepView, UnixMs,
        VmId, VmSpec, VmView, Wanted, Wishes,
    },
    tui::{
        effect::Effect,
        event::{Answer, LayerEvent, Ticket},
        keymap::KeyMap,
        layers::{Cx, Deferred, Draw, Layer, Region},
        state::{Now, State},
    },
};
use ratatui::{buffer::Buffer, crossterm::event::KeyModifiers, layout::Rect, style::Style};

/// The time of all tests: ten minutes after the UI began.
pub const NOW: Now = Now { mono: Duration::from_secs(600), wall: UnixMs(100_000_000) };

pub fn image(name: &str, about: &str, gib: u64, memory: u64) -> ImageView {
    ImageView {
        name: name.into(),
        about: about.into(),
        size: gib << 30,
        default_memory_mib: memory,
        ..ImageView::default()
    }
}

pub fn vm(n: u32, name: &str, phase: Phase) -> VmView {
    VmView {
        id: VmId::from_bytes(n.to_be_bytes()),
        spec: VmSpec {
            name: name.parse().expect("a name"),
            image: "tiny".into(),
            vcpus: 1,
            memory_mib: 128,
            disk_mib: None,
            restore: false,
            wishes: Wishes::default(),
            extras: Default::default(),
        },
        phase,
        wanted: Wanted::Stopped,
        created: UnixMs(1),
        since: UnixMs(1),
        up_since: phase.is_up().then_some(UnixMs(1)),
        ssh: None,
        vmm: None,
        overlay: OverlayKind::SparseCopy,
        made_from: None,
        disk_used: None,
        fill: None,
        network: None,
        address: None,
        dns_name: None,
        boot: BootTimes::default(),
        last_exit: None,
        problem: None,
    }
}

/// Two images, one machine called `debian-1`, 4 CPUs, 8 GiB of which 5 are free.
pub fn fleet() -> Fleet {
    Fleet {
        generation: 1,
        loaded: true,
        vms: vec![Arc::new(vm(1, "debian-1", Phase::Running))],
        images: vec![
            image("debian", "Debian 12, systemd, SSH", 1, 512),
            image("tiny", "busybox and dropbear", 0, 128),
        ],
        jobs: Vec::new(),
        host: HostView {
            bundle: BundleView::Ready { dir: "/srv/runtime".into() },
            vmm: None,
            vmm_reason: String::new(),
            overlay: None,
            overlay_reason: String::new(),
            network: None,
            network_reason: String::new(),
            cpus: 4,
            memory_total: 8 << 30,
            memory_available: 5 << 30,
            disk_total: 0,
            disk_available: 0,
        },
        report: None,
    }
}

/// A step; `progress` is done and total.
pub fn step(name: &str, state: StepState, detail: &str, progress: Option<(u64, u64)>) -> StepView {
    let progress = progress.map(|(done, total)| Progress { done, total });
    StepView { name: name.into(), state, detail: detail.into(), progress }
}

/// A job that began 90 s ago.
pub fn job(id: u64, title: &str, state: JobState, steps: Vec<StepView>) -> JobView {
    let ended = state.is_over().then_some(UnixMs(NOW.wall.0 - 30_000));
    JobView {
        id: JobId(id),
        title: title.into(),
        vm: None,
        cancellable: !state.is_over(),
        state,
        steps,
        log: Vec::new(),
        started: UnixMs(NOW.wall.0 - 90_000),
        ended,
    }
}

pub fn denied(what: &str, why: &str, hint: &str) -> Answer {
    Answer::Admission(Admission::Denied(Denied(Problem::new(what, why, hint))))
}

pub fn state(fleet: Fleet) -> State {
    let keys = KeyMap::new(&Overrides::default()).expect("the defaults agree");
    let mut state = State::new(Theme::default(), keys, (80, 24), NOW);
    state.fleet = Arc::new(fleet);
    state
}

/// A layer with the state around it.
pub struct Kit<L> {
    pub layer: L,
    pub state: State,
    pub effects: Vec<Effect>,
    /// What the layer wanted of the stack so far: `close`, `push Question`, `run Quit`, `go Jobs`.
    pub wishes: Vec<String>,
}

impl<L: Layer> Kit<L> {
    pub fn new(layer: L, state: State) -> Self {
        Self { layer, state, effects: Vec::new(), wishes: Vec::new() }
    }

    pub fn send(&mut self, event: &LayerEvent<'_>) {
        let mut cx = Cx::new(&mut self.state, &mut self.effects);
        self.layer.handle_event(event, &mut cx);
        for wish in cx.into_deferred() {
            self.wishes.push(match wish {
                Deferred::Push(layer) => format!("push {}", layer.title()),
                Deferred::Close => "close".to_owned(),
                Deferred::Run(action) => format!("run {action:?}"),
                Deferred::Go(screen) => format!("go {screen:?}"),
            });
        }
    }

    /// Presses keys, written as in `keymap.toml`, as the frame does: actions where the layer's
    /// contexts have them, unless the layer takes text.
    pub fn keys(&mut self, keys: &str) {
        for text in keys.split_whitespace() {
            let chord: Chord = text.parse().expect(text);
            let plain = !chord.mods().intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
            let printable = plain && text.chars().count() == 1 || text == "space";
            let contexts = self.layer.contexts(&self.state);
            let found = if printable && self.layer.takes_text(&self.state) {
                Lookup::NotFound
            } else {
                self.state.keys.lookup(contexts, &[chord])
            };
            match found {
                Lookup::Matched(action) => self.send(&LayerEvent::Action(action)),
                _ => self.send(&LayerEvent::Key(chord.event())),
            }
        }
    }

    /// Types text, character by character.
    pub fn text(&mut self, text: &str) {
        for c in text.chars() {
            self.keys(if c == ' ' { "space".to_owned() } else { c.to_string() }.as_str());
        }
    }

    pub fn fleet(&mut self, fleet: Fleet) {
        self.state.fleet = Arc::new(fleet);
        self.send(&LayerEvent::Fleet);
    }

    /// Answers the last command.
    pub fn answer(&mut self, answer: &Answer) {
        let ticket = self.tickets().last().expect("a command was sent").0;
        self.send(&LayerEvent::Answer(ticket, answer));
    }

    fn tickets(&self) -> impl DoubleEndedIterator<Item = (Ticket, &CommandBody)> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Command(ticket, body) => Some((*ticket, body)),
            _ => None,
        })
    }

    /// The commands sent so far.
    pub fn commands(&self) -> Vec<CommandBody> {
        self.tickets().map(|(_, body)| body.clone()).collect()
    }

    /// The layer on a screen of this size, and what the mouse would find.
    pub fn draw(&self, columns: u16, rows: u16) -> (Buffer, Vec<Region>) {
        let area = Rect::new(0, 0, columns, rows);
        let mut buf = Buffer::empty(area);
        let theme = &self.state.theme;
        let mut cx = Draw {
            buf: &mut buf,
            state: &self.state,
            theme,
            cursor: None,
            regions: Vec::new(),
            layer: 1,
        };
        self.layer.draw(area, &mut cx);
        let (cursor, regions) = (cx.cursor, cx.regions);
        if let Some(cursor) = cursor {
            assert!(area.contains(cursor), "the cursor is off the screen: {cursor}");
            buf[cursor].set_style(Style::new().reversed());
        }
        (buf, regions)
    }

    /// The same as text, the cursor's cell shown as `▏` if it is blank.
    pub fn screen(&self, columns: u16, rows: u16) -> String {
        text(&self.draw(columns, rows).0)
    }
}

pub fn text(buf: &Buffer) -> String {
    let reversed = ratatui::style::Modifier::REVERSED;
    let mut out = String::new();
    for y in buf.area.top()..buf.area.bottom() {
        let mut line = String::new();
        for x in buf.area.left()..buf.area.right() {
            let cell = &buf[(x, y)];
            let cursor = cell.modifier.contains(reversed) && cell.symbol() == " ";
            line.push_str(if cursor { "▏" } else { cell.symbol() });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
