//! `banger console`: a VM's serial console on this terminal, or as a pipe.

use std::{
    io::{self, ErrorKind, IsTerminal, Read, Write},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::sys::termios::{self, SetArg, Termios};

use super::{
    args::Console,
    exit::{self, Failure, Outcome},
    out,
    sanitize::{Pass, Sanitizer},
    signals,
};
use crate::session::Session;

/// Ctrl-]: leaves, as with telnet and virsh.
const LEAVE: u8 = 0x1d;

/// As a pipe: once the input has ended, the console is left when it has been quiet for this long.
const QUIET: Duration = Duration::from_secs(1);

/// Puts right what a guest may have set: keypad and cursor keys, character set and colours,
/// main screen, mouse reports, focus reports, bracketed paste, the cursor, wrapping.
const RESET: &[u8] = b"\x1b[!p\x1b>\x1b(B\x0f\x1b[0m\x1b[?1047l\x1b[?1000l\x1b[?1002l\x1b[?1003l\
    \x1b[?1004l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[?7h\x1b[r\x1b[999;1H\r\n";

/// What happens while attached.
enum Event {
    /// The console printed.
    Output(Vec<u8>),
    /// The console ended.
    Ended,
    /// The user left, or the input ended.
    InputOver { left: bool },
    /// Asked to end by this signal.
    Signal(i32),
}

/// Joins the console and the terminal until one of them ends.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(console: &Console, open: impl FnOnce() -> Result<Session, Failure>) -> Outcome {
    let on_terminal = io::stdin().is_terminal();
    let Session { reader, writer, mut control } = open()?;
    if on_terminal {
        out::progress(&format!("attached to {}; Ctrl-] leaves", console.name));
    }
    let raw = if on_terminal { Some(RawMode::enter()?) } else { None };

    // Bounded: a console faster than the terminal must wait, not fill the memory.
    let (events, inbox) = mpsc::sync_channel(16);
    let from_console = events.clone();
    thread::spawn(move || read_console(reader, &from_console));
    let from_signals = events.clone();
    // The terminal must be put right before a signal may end us.
    signals::watch(move |signal| {
        let _ = from_signals.send(Event::Signal(signal));
    })?;
    thread::spawn(move || read_input(writer, on_terminal, &events));

    let filter = (!console.raw && io::stdout().is_terminal()).then(|| Sanitizer::new(Pass::Screen));
    let result = show(&inbox, filter);
    if raw.is_some() && io::stdout().is_terminal() {
        let mut stdout = io::stdout().lock();
        // What cannot be written here was not on a terminal that could be put right.
        let _ = stdout.write_all(RESET).and_then(|()| stdout.flush());
    }
    drop(raw);
    control.close();
    match result? {
        Event::Ended => {
            out::note(&format!("{}: {}", console.name, control.end()));
            Ok(exit::OK)
        }
        Event::Signal(signal) => Ok(signals::exit_code(signal)),
        Event::InputOver { .. } | Event::Output(_) => {
            if on_terminal {
                out::progress(&format!("left {}; it goes on running", console.name));
            }
            Ok(exit::OK)
        }
    }
}

/// Prints what comes; gives the event that ends it.
fn show(inbox: &mpsc::Receiver<Event>, mut filter: Option<Sanitizer>) -> io::Result<Event> {
    let mut stdout = io::stdout().lock();
    let mut input_over = false;
    loop {
        let event = if input_over {
            match inbox.recv_timeout(QUIET) {
                Ok(event) => event,
                Err(_) => return Ok(Event::InputOver { left: false }),
            }
        } else {
            inbox.recv().unwrap_or(Event::Ended)
        };
        match event {
            Event::Output(bytes) => {
                match &mut filter {
                    Some(filter) => {
                        let mut seen = Vec::with_capacity(bytes.len());
                        filter.feed(&bytes, &mut seen);
                        stdout.write_all(&seen)?;
                    }
                    None => stdout.write_all(&bytes)?,
                }
                stdout.flush()?;
            }
            Event::InputOver { left: false } => input_over = true,
            Event::Ended | Event::Signal(_) | Event::InputOver { left: true } => return Ok(event),
        }
    }
}

fn read_console(mut reader: Box<dyn Read + Send>, events: &mpsc::SyncSender<Event>) {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                if events.send(Event::Output(chunk[..n].to_vec())).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = events.send(Event::Ended);
}

fn read_input(
    mut writer: Box<dyn Write + Send>,
    on_terminal: bool,
    events: &mpsc::SyncSender<Event>,
) {
    let mut stdin = io::stdin().lock();
    let mut chunk = [0; 4096];
    let left = loop {
        let n = match stdin.read(&mut chunk) {
            Ok(0) => break false,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break false,
        };
        let leave = on_terminal.then(|| chunk[..n].iter().position(|b| *b == LEAVE)).flatten();
        let typed = &chunk[..leave.unwrap_or(n)];
        // A console that is gone ends the other thread, which says so.
        if writer.write_all(typed).and_then(|()| writer.flush()).is_err() {
            return;
        }
        if leave.is_some() {
            break true;
        }
    };
    let _ = events.send(Event::InputOver { left: left || on_terminal });
}

/// The terminal in raw mode; as it was when dropped, also by a panic.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}
