//! The whole UI in one process, for tests: real layers, real panes, a fake supervisor, a fake
//! clock, and named waits instead of sleeps.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Read, Write},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    layout::Position,
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, mpsc, watch},
};

use super::{
    app::App,
    event::UiEvent,
    keymap::KeyMap,
    outside::{Left, Outside},
    state::{Now, State},
};
use crate::{
    config::{Config, keymap::Keys, keymap::Overrides, theme::Theme},
    domain::{
        Admission, BuildPreview, CommandBody, Fleet, ImageFacts, JobId, Notice, Problem, Recipe,
        UnixMs, VmId, is_same_draft,
    },
    supervisor::{Command, ConsoleKind, ImageDesk, OpenSession, SupervisorHandle},
    term::{Control, Session, Size},
};

/// How long a named wait waits: far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session whose other end is the test.
#[derive(Clone, Default)]
pub struct FakeGuest(Arc<(Mutex<GuestState>, Condvar)>);

#[derive(Default)]
struct GuestState {
    to_read: VecDeque<u8>,
    closed: bool,
    typed: Vec<u8>,
    size: Option<Size>,
    /// How it ended, if not by hanging up.
    end: Option<String>,
}

impl FakeGuest {
    /// The guest prints.
    pub fn output(&self, text: &str) {
        self.0.0.lock().unwrap().to_read.extend(text.bytes());
        self.0.1.notify_all();
    }

    /// The guest ends the session.
    pub fn hang_up(&self) {
        self.0.0.lock().unwrap().closed = true;
        self.0.1.notify_all();
    }

    /// The session ends, and says this of it.
    pub fn end_with(&self, how: &str) {
        self.0.0.lock().unwrap().end = Some(how.to_owned());
        self.hang_up();
    }

    /// What was typed so far.
    pub fn typed(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().typed).into_owned()
    }

    /// The size it was last told.
    pub fn size(&self) -> Option<Size> {
        self.0.0.lock().unwrap().size
    }
}

impl Read for FakeGuest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        while state.to_read.is_empty() && !state.closed {
            state = self.0.1.wait(state).unwrap();
        }
        let count = state.to_read.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(state.to_read.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

impl Write for FakeGuest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().unwrap().typed.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Control for FakeGuest {
    fn resize(&mut self, size: Size) -> io::Result<()> {
        self.0.0.lock().unwrap().size = Some(size);
        Ok(())
    }

    fn close(&mut self) {
        self.hang_up();
    }

    fn end(&mut self) -> String {
        let end = self.0.0.lock().unwrap().end.clone();
        end.unwrap_or_else(|| "the guest hung up".to_owned())
    }
}

/// Opens fake sessions and tells the test of each.
struct FakeSessions(
    Mutex<std_mpsc::Sender<(VmId, ConsoleKind, FakeGuest)>>,
    Mutex<std_mpsc::Sender<(Vec<String>, FakeGuest)>>,
);

impl OpenSession for FakeSessions {
    fn open(&self, vm: &VmId, kind: ConsoleKind, size: Size) -> Result<Session, Problem> {
        let guest = FakeGuest::default();
        guest.0.0.lock().unwrap().size = Some(size);
        self.0.lock().unwrap().send((vm.clone(), kind, guest.clone())).unwrap();
        let end = || Box::new(guest.clone());
        Ok(Session { reader: end(), writer: end(), control: end() })
    }

    fn run(&self, arguments: &[OsString], size: Size) -> Result<Session, Problem> {
        let guest = FakeGuest::default();
        guest.0.0.lock().unwrap().size = Some(size);
        let words = arguments.iter().map(|word| word.to_str().unwrap().to_owned()).collect();
        self.1.lock().unwrap().send((words, guest.clone())).unwrap();
        let end = || Box::new(guest.clone());
        Ok(Session { reader: end(), writer: end(), control: end() })
    }
}

/// A desk whose drawers the test looks into.
#[derive(Default)]
pub struct FakeDesk {
    /// The draft that was kept last.
    pub draft: Mutex<Option<String>>,
    /// The recipes that were written.
    pub recipes: Mutex<Vec<Recipe>>,
    /// What is known of every image.
    pub facts: Mutex<ImageFacts>,
    /// What a build would do.
    pub preview: Mutex<BuildPreview>,
    /// Whether a preview goes on until it is ended.
    pub slow: Mutex<bool>,
    /// What was done meanwhile, in order.
    pub said: Mutex<Vec<&'static str>>,
    /// Why nothing can be written.
    pub full: Mutex<Option<Problem>>,
}

impl ImageDesk for FakeDesk {
    fn draft(&self) -> Result<Option<String>, Problem> {
        Ok(self.draft.lock().unwrap().clone())
    }

    fn keep_draft(&self, text: Option<&str>) -> Result<(), Problem> {
        if let Some(problem) = &*self.full.lock().unwrap() {
            return Err(problem.clone());
        }
        *self.draft.lock().unwrap() = text.map(ToOwned::to_owned);
        Ok(())
    }

    fn save_recipe(&self, recipe: &Recipe) -> Result<PathBuf, Problem> {
        if let Some(problem) = &*self.full.lock().unwrap() {
            return Err(problem.clone());
        }
        self.recipes.lock().unwrap().push(recipe.clone());
        self.said.lock().unwrap().push("a recipe is written");
        Ok(format!("/state/recipes/{}.toml", recipe.name).into())
    }

    fn facts(&self, _: &str) -> Result<ImageFacts, Problem> {
        Ok(self.facts.lock().unwrap().clone())
    }

    fn preview(&self, _: &Recipe, ended: &AtomicBool) -> Result<BuildPreview, Problem> {
        if *self.slow.lock().unwrap() {
            self.said.lock().unwrap().push("a preview begins");
            for _ in 0..PATIENCE.as_millis() {
                if ended.load(Ordering::Relaxed) {
                    self.said.lock().unwrap().push("it is ended");
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            return Err(Problem::new("nothing is known", "nobody waits for it", ""));
        }
        Ok(self.preview.lock().unwrap().clone())
    }

    fn built(&self, _: &str, draft: &str) -> Result<(), Problem> {
        if self.draft()?.is_some_and(|kept| is_same_draft(&kept, draft)) {
            self.keep_draft(None)?;
        }
        Ok(())
    }
}

/// The UI under test.
pub struct Ui {
    /// The UI itself.
    pub app: App,
    outside: Outside,
    answers: mpsc::UnboundedReceiver<UiEvent>,
    terminal: Terminal<TestBackend>,
    fleet: watch::Sender<Arc<Fleet>>,
    /// Kept open; notices are given as events.
    _notices: mpsc::Sender<Notice>,
    commands: Option<mpsc::Receiver<Command>>,
    sessions: std_mpsc::Receiver<(VmId, ConsoleKind, FakeGuest)>,
    runs: std_mpsc::Receiver<(Vec<String>, FakeGuest)>,
    /// What is kept and written for the UI.
    pub desk: Arc<FakeDesk>,
    runtime: Runtime,
    now: Now,
    /// What was put on the clipboard.
    pub copied: Vec<String>,
    /// What was left to the owner of the terminal.
    pub left: Vec<Left>,
    jobs: u64,
}

impl Ui {
    /// A UI of this size with this picture.
    pub fn new(columns: u16, rows: u16, fleet: Fleet) -> Self {
        Self::with_config(columns, rows, fleet, &Config::default())
    }

    /// The same with settings of the user's.
    pub fn with_config(columns: u16, rows: u16, fleet: Fleet, config: &Config) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (commands_in, commands) = mpsc::channel(64);
        let (fleet_in, fleet_out) = watch::channel(Arc::new(fleet));
        let (notices_in, notices) = mpsc::channel(256);
        let (opened, sessions) = std_mpsc::channel();
        let (ran, runs) = std_mpsc::channel();
        let desk = Arc::new(FakeDesk::default());
        let handle = SupervisorHandle {
            commands: commands_in,
            fleet: fleet_out,
            notices,
            sessions: Arc::new(FakeSessions(Mutex::new(opened), Mutex::new(ran))),
            images: Arc::clone(&desk) as Arc<dyn ImageDesk>,
        };
        let (answers_in, answers) = mpsc::unbounded_channel();
        let now = Now { mono: Duration::from_secs(10), wall: UnixMs(100_000_000) };
        let keys = KeyMap::new(&Overrides::default()).unwrap();
        let mut state = State::new(Theme::default(), keys, (columns, rows), now);
        state.configure(config);
        let outside = Outside::new(handle, Arc::new(Notify::new()), answers_in).unwrap();
        let terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        let mut ui = Self {
            app: App::new(state),
            outside,
            answers,
            terminal,
            fleet: fleet_in,
            _notices: notices_in,
            commands: Some(commands),
            sessions,
            runs,
            desk,
            runtime,
            now,
            copied: Vec::new(),
            left: Vec::new(),
            jobs: 0,
        };
        let picture = Arc::clone(&ui.fleet.borrow());
        ui.event(UiEvent::Fleet(picture));
        ui
    }

    /// Gives the UI an event and does what comes of it.
    pub fn event(&mut self, event: UiEvent) {
        let update = self.app.update(event, self.now);
        let _inside = self.runtime.enter();
        for effect in update.effects {
            match self.outside.run(effect, &mut self.app) {
                Left::Nothing => {}
                Left::Copy(text) => self.copied.push(text),
                left => self.left.push(left),
            }
        }
        self.draw();
    }

    fn draw(&mut self) {
        let app = &self.app;
        let mut drawn = None;
        self.terminal.draw(|frame| drawn = Some(app.draw(frame))).unwrap();
        self.app.drawn(drawn.unwrap());
    }

    /// Presses keys: characters as they are, others as `<enter>`, `<ctrl-]>`, `<lt>`.
    pub fn send_keys(&mut self, keys: &str) {
        let mut rest = keys;
        while let Some(c) = rest.chars().next() {
            let word = match rest.find('>') {
                Some(end) if c == '<' => {
                    let word = &rest[1..end];
                    rest = &rest[end + 1..];
                    if word == "lt" { "<" } else { word }
                }
                _ => {
                    let (word, more) = rest.split_at(c.len_utf8());
                    rest = more;
                    if word == " " { "space" } else { word }
                }
            };
            let keys: Keys = word.parse().unwrap_or_else(|e| panic!("{word}: {e}"));
            for chord in keys.chords() {
                self.event(UiEvent::Key(chord.event()));
            }
        }
    }

    /// Clicks on the first place where `text` is seen.
    pub fn click(&mut self, text: &str) {
        let at = self.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{}", self.screen()));
        self.mouse(MouseEventKind::Down(MouseButton::Left), at, KeyModifiers::NONE);
        self.mouse(MouseEventKind::Up(MouseButton::Left), at, KeyModifiers::NONE);
    }

    /// Does something with the mouse.
    pub fn mouse(&mut self, kind: MouseEventKind, at: Position, modifiers: KeyModifiers) {
        let event = MouseEvent { kind, column: at.x, row: at.y, modifiers };
        self.event(UiEvent::Mouse(event));
    }

    /// Where a text is first seen.
    pub fn find(&self, text: &str) -> Option<Position> {
        self.screen().lines().enumerate().find_map(|(y, line)| {
            let x = line[..line.find(text)?].chars().count();
            Some(Position::new(x as u16, y as u16))
        })
    }

    /// Shows the UI a new picture.
    pub fn picture(&mut self, change: impl FnOnce(&mut Fleet)) {
        let mut fleet = Fleet::clone(&self.fleet.borrow());
        fleet.generation += 1;
        change(&mut fleet);
        let fleet = Arc::new(fleet);
        self.fleet.send_replace(Arc::clone(&fleet));
        self.event(UiEvent::Fleet(fleet));
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall.0 += u64::try_from(time.as_millis()).unwrap();
        self.event(UiEvent::Tick);
    }

    /// The outer terminal gets another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.terminal.backend_mut().resize(columns, rows);
        self.event(UiEvent::Resize(columns, rows));
    }

    /// What is on the screen, a line per row.
    pub fn screen(&self) -> String {
        let buffer = self.buffer();
        let row = |y| {
            let mut skip = 0;
            let mut line = String::new();
            for x in 0..buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                if skip == 0 {
                    line.push_str(symbol);
                    skip = super::text::width(symbol).saturating_sub(1);
                } else {
                    skip -= 1;
                }
            }
            line.trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect::<Vec<_>>().join("\n")
    }

    /// The cells.
    pub fn buffer(&self) -> &Buffer {
        self.terminal.backend().buffer()
    }

    /// Where the cursor is, if it is shown.
    pub fn cursor(&self) -> Option<Position> {
        let backend = self.terminal.backend();
        backend.cursor_visible().then(|| backend.cursor_position())
    }

    /// The next command the UI sent; answers it as queued.
    pub fn command(&mut self) -> CommandBody {
        self.jobs += 1;
        let job = JobId(self.jobs);
        self.answer(Admission::Queued(job))
    }

    /// The next command the UI sent; answers it like this.
    pub fn answer(&mut self, admission: Admission) -> CommandBody {
        let commands = self.commands.as_mut().expect("the supervisor is there");
        let command = commands.try_recv().expect("a command was sent");
        command.reply.send(admission).expect("the UI waits for the answer");
        loop {
            let answer = self.runtime.block_on(self.answers.recv()).expect("an answer");
            let is_it = matches!(answer, UiEvent::Answer(..));
            self.event(answer);
            if is_it {
                return command.body;
            }
        }
    }

    /// Waits for what became of an errand.
    pub fn errand(&mut self) {
        let answer = async { tokio::time::timeout(PATIENCE, self.answers.recv()).await };
        let answer = self.runtime.block_on(answer).expect("an errand was sent").expect("an answer");
        assert!(matches!(answer, UiEvent::Desk(..)), "{answer:?}");
        self.event(answer);
    }

    /// The next verb that is run in a pane.
    pub fn ran(&mut self) -> (String, FakeGuest) {
        let (words, guest) = self.runs.recv_timeout(PATIENCE).expect("a verb is run");
        (words.join(" "), guest)
    }

    /// Whether the UI sent nothing that was not looked at.
    pub fn is_quiet(&mut self) -> bool {
        self.commands.as_mut().is_none_or(|commands| commands.try_recv().is_err())
    }

    /// The supervisor dies.
    pub fn kill_supervisor(&mut self) {
        self.commands = None;
        self.event(UiEvent::SupervisorGone);
    }

    /// The answers that come without anybody giving them: busy, gone.
    pub fn own_answers(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.event(answer);
        }
    }

    /// The next session the UI opened.
    pub fn session(&mut self) -> (VmId, ConsoleKind, FakeGuest) {
        self.sessions.recv_timeout(PATIENCE).expect("a session is opened")
    }

    /// Whether the UI opened no session that was not looked at.
    pub fn no_session(&self) -> bool {
        self.sessions.try_recv().is_err()
    }

    /// Waits until the screen fits, woken by the panes.
    pub fn wait_until(&mut self, name: &str, fits: impl Fn(&str) -> bool) {
        self.wait_for(name, |ui| fits(&ui.screen()));
    }

    /// Waits until something is so, woken by the panes.
    pub fn wait_for(&mut self, name: &str, fits: impl Fn(&Self) -> bool) {
        // Looks again now and then: what a guest was sent wakes nobody here.
        for _ in 0..PATIENCE.as_millis() / 20 {
            if fits(self) {
                return;
            }
            let wake = Arc::clone(&self.outside.wake);
            let woken =
                async { tokio::time::timeout(Duration::from_millis(20), wake.notified()).await };
            if self.runtime.block_on(woken).is_ok() {
                self.event(UiEvent::PaneDirty);
            }
        }
        panic!("{name} did not come:\n{}", self.screen());
    }
}
