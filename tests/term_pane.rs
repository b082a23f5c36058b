//! Panes: their threads, against sessions that are played and against real programs.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use banger::{
    session::{
        Control, Problem, Session,
        pty::{self, Program},
        replay::{self, Tape},
    },
    term::{INPUT_MAX, News, NotSent, Options, Pane, PaneState, Select, Size, Toward},
};

const SIZE: Size = Size { cols: 40, rows: 10 };

/// Longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts the times the UI is woken, and lets a test wait for it.
#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<usize>, Condvar)>);

impl Bell {
    fn wake(&self) -> impl Fn() + Send + Sync + 'static {
        let bell = self.clone();
        move || {
            *bell.0.0.lock().unwrap() += 1;
            bell.0.1.notify_all();
        }
    }

    fn count(&self) -> usize {
        *self.0.0.lock().unwrap()
    }

    /// Does what a UI does: looks at the pane each time it is woken, until it sees what is
    /// waited for.
    fn until<R>(&self, pane: &Pane, what: &str, mut look: impl FnMut(&Pane) -> Option<R>) -> R {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.count();
            let _ = (pane.take_dirty(), pane.take_noticed());
            if let Some(result) = look(pane) {
                return result;
            }
            let mut count = self.0.0.lock().unwrap();
            while *count == seen {
                let left = deadline.saturating_duration_since(Instant::now());
                let screen = || pane.with_engine(|engine| engine.screen_text());
                assert!(
                    !left.is_zero(),
                    "never woken for {what}: {:?}\n{}",
                    pane.state(),
                    screen()
                );
                count = self.0.1.wait_timeout(count, left).unwrap().0;
            }
        }
    }

    fn until_state(&self, pane: &Pane, state: &PaneState) {
        self.until(pane, &format!("{state:?}"), |pane| (pane.state() == *state).then_some(()));
    }

    fn until_text(&self, pane: &Pane, text: &str) -> String {
        self.until(pane, text, |pane| Some(screen(pane)).filter(|screen| screen.contains(text)))
    }
}

fn screen(pane: &Pane) -> String {
    pane.with_engine(|engine| engine.screen_text()).trim_end().to_owned()
}

/// A live pane with a played session.
fn played() -> (Pane, Tape, Bell) {
    let bell = Bell::default();
    let (session, tape) = replay::session();
    let pane = Pane::spawn(move |_| Ok(session), SIZE, Options::default(), bell.wake());
    bell.until_state(&pane, &PaneState::Live);
    (pane, tape, bell)
}

#[test]
fn what_is_printed_is_seen_and_what_is_typed_arrives() {
    let (pane, tape, bell) = played();
    tape.push(b"\x1b]0;web\x07login: ");
    bell.until_text(&pane, "login:");
    bell.until(&pane, "the title", |pane| (pane.title() == "web").then_some(()));
    pane.send(b"root\r").unwrap();
    assert_eq!(tape.wait_written(|all| all.len() == 5), b"root\r");
    tape.finish("the guest powered off");
    bell.until_state(&pane, &PaneState::Ended("the guest powered off".into()));
    assert_eq!(screen(&pane), "login:");
    assert_eq!(pane.send(b"x"), Err(NotSent::NotOpen));
}

#[test]
fn questions_of_the_guest_are_answered_through_the_writer() {
    let (_pane, tape, _) = played();
    tape.push(b"ab\x1b[6n\x1b[c");
    assert_eq!(tape.wait_written(|all| all.ends_with(b"c")), b"\x1b[1;3R\x1b[?6c");
}

#[test]
fn opening_happens_elsewhere_and_may_fail() {
    let bell = Bell::default();
    let (go, wait) = mpsc::channel::<()>();
    let problem = Problem::new("cannot open the console", "the VM is not running", "start it (s)");
    let failing = problem.clone();
    let open = move |size| {
        assert_eq!(size, SIZE);
        wait.recv().unwrap();
        Err(failing)
    };
    let mut pane = Pane::spawn(open, SIZE, Options::default(), bell.wake());
    assert_eq!(pane.state(), PaneState::Opening);
    pane.send(b"typed ahead").unwrap();
    go.send(()).unwrap();
    bell.until_state(&pane, &PaneState::Failed(problem));
    let (session, tape) = replay::session();
    pane.restart("-- again --", move |_| Ok(session));
    bell.until_state(&pane, &PaneState::Live);
    tape.push(b"hello");
    bell.until_text(&pane, "-- again --\nhello");
    assert_eq!(tape.written(), b"", "what was typed for another session is not for this one");
}

#[test]
fn a_restart_keeps_what_was_there_and_forgets_the_old_session() {
    let (mut pane, old, bell) = played();
    old.push(b"\x1b[?1000;2004hold output");
    bell.until_text(&pane, "old output");
    let (session, new) = replay::session();
    pane.restart("-- reconnected --", move |_| Ok(session));
    old.wait_closed();
    old.push(b"too late");
    bell.until_state(&pane, &PaneState::Live);
    new.push(b"new output");
    assert_eq!(bell.until_text(&pane, "new output"), "old output\n-- reconnected --\nnew output");
    assert!(!pane.with_engine(|engine| engine.modes().bracketed_paste));
    assert_eq!(pane.state(), PaneState::Live, "the end of the old one is not shown");
}

#[test]
fn only_the_last_of_many_sizes_is_told_and_the_emulator_has_it_first() {
    let (pane, tape, bell) = played();
    tape.set_stuck(true);
    pane.send(b"x").unwrap();
    for cols in 41..=90 {
        pane.resize(Size { cols, rows: 20 });
    }
    tape.set_stuck(false);
    let last = Size { cols: 90, rows: 20 };
    tape.wait_size(last);
    assert_eq!(pane.with_engine(|engine| engine.size()), last);
    assert!(tape.sizes().len() < 50, "{:?}", tape.sizes().len());
    pane.resize(Size { cols: 0, rows: 0 });
    tape.wait_size(Size { cols: 2, rows: 1 });
    tape.finish("done");
    bell.until_state(&pane, &PaneState::Ended("done".into()));
    pane.resize(SIZE);
    assert_eq!(pane.with_engine(|engine| engine.size()), SIZE, "also without a session");
}

#[test]
fn a_pasted_megabyte_waits_for_a_guest_that_does_not_read() {
    let (pane, tape, _) = played();
    tape.set_stuck(true);
    let paste = vec![b'x'; 1 << 20];
    pane.send(&paste).unwrap();
    match pane.send(&vec![b'y'; INPUT_MAX]) {
        Err(NotSent::Full { waiting }) => assert!(waiting > 0 && waiting <= paste.len()),
        other => panic!("{other:?}"),
    }
    tape.set_stuck(false);
    let all = tape.wait_written(|all| all.len() >= paste.len());
    assert!(all == paste, "all of it arrives, and nothing of what was refused");
    tape.set_stuck(true);
    pane.send(&paste).unwrap();
    assert!(pane.discard_input() > 0);
    assert_eq!(pane.input_waiting(), 0);
}

#[test]
fn a_hidden_pane_reads_on_but_wakes_nobody() {
    let (pane, tape, bell) = played();
    tape.push(b"first");
    bell.until_text(&pane, "first");
    pane.set_visible(false);
    let _ = pane.take_dirty();
    let woken = bell.count();
    for n in 0..1000 {
        tape.push(format!("line {n}\r\n").as_bytes());
    }
    tape.push(b"\x1b[5n");
    let _ = tape.wait_written(|all| !all.is_empty());
    assert_eq!(bell.count(), woken);
    assert!(screen(&pane).contains("line 999"));
    assert!(pane.take_dirty());
    // That it rang, or ended, is told nevertheless.
    tape.push(b"\x07");
    bell.until(&pane, "the bell", |pane| pane.take_news().bell.then_some(()));
    tape.finish("over");
    bell.until_state(&pane, &PaneState::Ended("over".into()));
}

#[test]
fn it_wakes_once_until_it_is_drawn() {
    let (pane, tape, bell) = played();
    tape.push(b"x");
    bell.until_text(&pane, "x");
    // Not drawn any more from here on: one wake at most.
    let woken = bell.count();
    for _ in 0..100 {
        tape.push(b"more");
    }
    tape.push(b"\x1b[5n");
    let _ = tape.wait_written(|all| !all.is_empty());
    assert!(bell.count() <= woken + 1);
}

#[test]
fn the_clipboard_is_news_only_if_allowed() {
    let (pane, tape, bell) = played();
    tape.push(b"\x1b]52;c;aGk=\x07");
    let denied = News { clipboard_denied: true, ..News::default() };
    let news = |pane: &Pane| Some(pane.take_news()).filter(|news| *news != News::default());
    assert_eq!(bell.until(&pane, "the denial", news), denied);
    pane.with_engine(|engine| engine.allow_clipboard(true));
    tape.push(b"\x1b]52;c;aGk=\x07");
    let stored = News { clipboard: Some("hi".into()), ..News::default() };
    assert_eq!(bell.until(&pane, "the text", news), stored);
}

#[test]
fn an_update_whose_end_never_comes_is_shown_all_the_same() {
    let (pane, tape, bell) = played();
    tape.push(b"\x1b[?2026hhalf of it");
    bell.until_text(&pane, "half of it");
}

#[test]
fn the_emulator_can_be_used_while_a_guest_floods_it() {
    let (pane, tape, bell) = played();
    // Expensive for an emulator: each two bytes clear everything.
    let chunk = "\x1bc".repeat(30_000);
    for _ in 0..20 {
        tape.push(chunk.as_bytes());
    }
    tape.push(b"the end");
    bell.until(&pane, "the end", |pane| {
        // What a UI does in a frame, again and again without waiting for the flood.
        for _ in 0..10 {
            let text = pane.with_engine(|engine| {
                engine.search("end", Toward::Older);
                engine.select(0, 0, Select::Lines);
                engine.screen_text()
            });
            if text.contains("the end") {
                return Some(());
            }
        }
        None
    });
}

/// A session that says when its reader and its writer are gone: their threads have ended then.
struct Watched<T> {
    inner: T,
    gone: Arc<AtomicUsize>,
    tell: mpsc::Sender<()>,
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::SeqCst);
        let _ = self.tell.send(());
    }
}

impl<T: std::io::Read> std::io::Read for Watched<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<T: std::io::Write> std::io::Write for Watched<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn watched(session: Session) -> (Session, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let gone = Arc::new(AtomicUsize::new(0));
    let Session { reader, writer, control } = session;
    let reader = Watched { inner: reader, gone: Arc::clone(&gone), tell: tell.clone() };
    let writer = Watched { inner: writer, gone, tell };
    (Session { reader: Box::new(reader), writer: Box::new(writer), control }, told)
}

#[test]
fn the_threads_of_a_dropped_pane_end_even_if_the_guest_is_stuck() {
    for stuck in [false, true] {
        let bell = Bell::default();
        let (session, tape) = replay::session();
        let (session, told) = watched(session);
        let pane = Pane::spawn(move |_| Ok(session), SIZE, Options::default(), bell.wake());
        bell.until_state(&pane, &PaneState::Live);
        tape.set_stuck(stuck);
        pane.send(&[b'x'; 100_000]).unwrap();
        drop(pane);
        tape.wait_closed();
        for _ in 0..2 {
            told.recv_timeout(PATIENCE).unwrap();
        }
    }
}

#[test]
fn a_pane_closed_while_it_is_opened_closes_what_was_opened() {
    let (session, tape) = replay::session();
    let (go, wait) = mpsc::channel::<()>();
    let open = move |_| {
        wait.recv().unwrap();
        Ok(session)
    };
    let pane = Pane::spawn(open, SIZE, Options::default(), || {});
    pane.close();
    drop(pane);
    go.send(()).unwrap();
    tape.wait_closed();
}

#[test]
fn a_session_that_breaks_says_why() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable is cut"))
        }
    }
    struct Nothing;
    impl Control for Nothing {
        fn resize(&mut self, _: Size) -> std::io::Result<()> {
            Ok(())
        }
        fn close(&mut self) {}
        fn end(&mut self) -> String {
            String::new()
        }
    }
    let bell = Bell::default();
    let open = |_| {
        let (reader, writer) = (Box::new(Broken), Box::new(std::io::sink()));
        Ok(Session { reader, writer, control: Box::new(Nothing) })
    };
    let pane = Pane::spawn(open, SIZE, Options::default(), bell.wake());
    let sentence = "the connection broke: the cable is cut".to_owned();
    bell.until_state(&pane, &PaneState::Ended(sentence));
}

#[test]
fn a_real_shell_in_a_pane() {
    let bell = Bell::default();
    let program = Program {
        argv: vec!["sh".into()],
        env: vec![("PS1".into(), "$ ".into()), ("ENV".into(), "".into())],
        cwd: Some("/".into()),
        patience: Duration::ZERO,
    };
    let open = move |size| pty::open(&program, size);
    let pane = Pane::spawn(open, SIZE, Options::default(), bell.wake());
    bell.until_state(&pane, &PaneState::Live);
    bell.until_text(&pane, "$");
    pane.send(b"stty size; echo $((6*7))\r").unwrap();
    bell.until_text(&pane, "10 40\n42\n$");
    pane.resize(Size { cols: 50, rows: 12 });
    pane.send(b"clear; stty size\r").unwrap();
    bell.until_text(&pane, "12 50\n$");
    pane.send(b"exit 3\r").unwrap();
    let ended = PaneState::Ended("the program ended with exit code 3".into());
    bell.until_state(&pane, &ended);
}
