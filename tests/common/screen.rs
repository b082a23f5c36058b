//! The real program in a real pseudo-terminal, its screen read by an emulator that is not ours.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use avt::ScreenKind;
use nix::sys::{
    signal::Signal,
    termios::{LocalFlags, Termios, tcgetattr},
};
use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::{Home, PATIENCE, signal, until};

/// What has come out so far.
struct Out {
    terminal: avt::Terminal,
    raw: Vec<u8>,
    /// The beginning of a character whose rest has not come.
    rest: Vec<u8>,
}

/// A program in a pseudo-terminal.
pub struct Tui {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    writer: Box<dyn Write + Send>,
    master: Option<Box<dyn MasterPty + Send>>,
    closing: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    out: Arc<(Mutex<Out>, Condvar)>,
    tty: File,
    before: Termios,
}

impl Tui {
    /// `banger` in a terminal of this size.
    pub fn start(home: &Home, size: (u16, u16)) -> Self {
        Self::program(home, &[env!("CARGO_BIN_EXE_banger")], size)
    }

    /// Any program in a terminal of this size.
    pub fn program(home: &Home, words: &[&str], (cols, rows): (u16, u16)) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a pseudo-terminal");
        let name: PathBuf = pair.master.tty_name().expect("its name");
        let noctty = nix::fcntl::OFlag::O_NOCTTY.bits();
        let tty = OpenOptions::new().read(true).write(true).custom_flags(noctty).open(name);
        let tty = tty.expect("its other end");
        let before = tcgetattr(&tty).expect("its modes");
        let mut command = CommandBuilder::new(words[0]);
        command.args(&words[1..]);
        command.env_clear();
        for (name, value) in home.variables() {
            command.env(name, value);
        }
        command.cwd(home.path());
        let child = pair.slave.spawn_command(command).expect("it runs");
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().expect("reader");
        let writer = pair.master.take_writer().expect("writer");
        let terminal = avt::Terminal::new(cols.into(), rows.into()).expect("a size");
        let out = Out { terminal, raw: Vec::new(), rest: Vec::new() };
        let out = Arc::new((Mutex::new(out), Condvar::new()));
        let shared = Arc::clone(&out);
        let closing = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&closing);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                shared.0.lock().expect("lock").take(&chunk[..n]);
                shared.1.notify_all();
                if closed.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let (master, reader) = (Some(pair.master), Some(reader));
        Self { child, writer, master, closing, reader, out, tty, before }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.process_id().expect("a process").cast_signed()
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).expect("typed");
        self.writer.flush().expect("typed");
    }

    /// The screen as text.
    pub fn screen(&self) -> String {
        self.out.0.lock().expect("lock").screen()
    }

    /// Waits for a screen on which `is` holds, and gives it.
    pub fn wait(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        self.wait_out(what, |out| Some(out.screen()).filter(|screen| is(screen)))
    }

    /// Waits for a text on the screen.
    pub fn see(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Waits until a text has left the screen.
    pub fn gone(&self, text: &str) -> String {
        self.wait(&format!("“{text}” is gone"), |screen| !screen.contains(text))
    }

    /// Types, and waits for a text that this brings up.
    pub fn then(&mut self, keys: &str, text: &str) -> String {
        self.keys(keys);
        self.see(text)
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.out.0.lock().expect("lock").terminal.resize(cols.into(), rows.into());
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let master = self.master.as_ref().expect("it is open");
        master.resize(size).expect("another size");
    }

    /// Sends it a signal.
    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    /// Waits for its end; the exit code.
    pub fn end(&mut self) -> u32 {
        let mut status = None;
        until("the end of banger in the terminal", || {
            status = self.child.try_wait().expect("its status");
            status.is_some()
        });
        status.expect("ended").exit_code()
    }

    /// Waits until the terminal is as it was before: main screen, cursor shown, modes, and
    /// nothing switched on that was not switched off.
    pub fn assert_given_back(&self) {
        self.wait_out("the main screen", |out| {
            let main = out.terminal.active_screen_kind() == ScreenKind::Primary;
            (main && out.terminal.cursor().visible).then_some(())
        });
        let now = tcgetattr(&self.tty).expect("its modes");
        assert_eq!(now, self.before, "the modes of the terminal");
        let raw = self.out.0.lock().expect("lock").raw.clone();
        let raw = String::from_utf8_lossy(&raw);
        for mode in ["1049", "2004", "1000", "1002", "1003", "1004", "1006", "2026"] {
            let on = raw.rfind(&format!("\x1b[?{mode}h"));
            let off = raw.rfind(&format!("\x1b[?{mode}l"));
            assert!(on <= off, "mode {mode} stays on");
        }
    }

    /// Whether the terminal hands over each key at once, without echo.
    pub fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.tty).expect("its modes");
        !now.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// All that came out so far.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.out.0.lock().expect("lock").raw).into_owned()
    }

    /// Closes the terminal, as a closed window does.
    pub fn hang_up(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // What is drawn for the new size wakes the reader, which lets go of its end.
        self.resize(100, 30);
        let reader = self.reader.take().expect("it is closed once");
        until("the reader has let go", || reader.is_finished());
        self.writer = Box::new(std::io::sink());
        self.master = None;
        self.tty = File::open("/dev/null").expect("/dev/null");
    }

    /// Waits until it is in the alternate screen.
    pub fn wait_taken(&self) {
        self.wait_out("the alternate screen", |out| {
            (out.terminal.active_screen_kind() == ScreenKind::Alternate).then_some(())
        });
    }

    /// Waits until it is in the main screen.
    pub fn wait_left(&self) {
        self.wait_out("the main screen", |out| {
            (out.terminal.active_screen_kind() == ScreenKind::Primary).then_some(())
        });
    }

    fn wait_out<T>(&self, what: &str, look: impl Fn(&Out) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let (lock, changed) = &*self.out;
        let mut out = lock.lock().expect("lock");
        loop {
            if let Some(found) = look(&out) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let screen = out.screen();
                // The reader goes on: nothing must be poisoned.
                drop(out);
                panic!("{what}: did not come. The screen is\n{screen}");
            }
            out = changed.wait_timeout(out, left).expect("lock").0;
        }
    }
}

impl Out {
    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend(bytes);
        self.rest.extend(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.rest.len(),
        };
        let text = String::from_utf8_lossy(&self.rest[..whole]).into_owned();
        self.terminal.feed(&text);
        self.rest.drain(..whole);
    }

    fn screen(&self) -> String {
        let lines = self.terminal.screen().visible_lines();
        lines.map(|line| line.text().trim_end().to_owned() + "\n").collect()
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
