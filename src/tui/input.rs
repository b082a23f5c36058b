//! The keys of the outer terminal: read in a thread, until they are not ours any more.

use std::{
    io::{self, stdin},
    os::fd::AsFd,
    sync::mpsc as std_mpsc,
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, raise},
        termios::{SetArg, tcgetattr, tcsetattr},
    },
};
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

use super::event::UiEvent;

/// How long it is waited for the end of the thread. Within a key that has come by half, and at a
/// terminal that is gone, crossterm reads on, and nothing can be done about it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The thread that reads: says when it has ended, by closing this.
pub struct Input(std_mpsc::Receiver<()>);

impl Input {
    /// Begins to read.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(events: mpsc::Sender<UiEvent>) -> io::Result<Self> {
        let (alive, ended) = std_mpsc::channel();
        let read = move || {
            read(&events);
            drop(alive);
        };
        thread::Builder::new().name("terminal-input".to_owned()).spawn(read)?;
        Ok(Self(ended))
    }

    /// Ends it, and waits for that: what is typed from here on is for whoever has the terminal
    /// next. The receiver must be closed before.
    pub fn stop(self) {
        // crossterm waits for a key or a new size, and can be woken by nothing else; whatever
        // comes finds the receiver closed.
        if let Err(error) = raise(Signal::SIGWINCH) {
            tracing::warn!(%error, "the thread that reads keys was not woken");
        }
        // Nothing is ever sent: this is its end, or too late.
        let _ = self.0.recv_timeout(PATIENCE);
    }
}

fn read(events: &mpsc::Sender<UiEvent>) {
    loop {
        let event = match event::read() {
            Ok(Event::Key(key)) => UiEvent::Key(key),
            Ok(Event::Paste(text)) => UiEvent::Paste(text),
            Ok(Event::Mouse(mouse)) => UiEvent::Mouse(mouse),
            Ok(Event::Resize(columns, rows)) => {
                look_again();
                UiEvent::Resize(columns, rows)
            }
            Ok(Event::FocusGained) => UiEvent::Focus(true),
            Ok(Event::FocusLost) => UiEvent::Focus(false),
            Err(error) => {
                tracing::warn!(%error, "the terminal cannot be read any more");
                // If this does not arrive the UI has ended already.
                let _ = events.blocking_send(UiEvent::Terminate);
                return;
            }
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}

/// Has crossterm look at the terminal once more, if something is there.
///
/// It is told of keys only as they come. If one comes at the same moment as a new size, crossterm may tell
/// of the size and forget the key, which would then be read only with the next one. The kernel tells
/// everybody anew when a terminal's modes are set, be it to what they are.
fn look_again() {
    let terminal = stdin();
    let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && let Ok(modes) = tcgetattr(&terminal)
        && let Err(error) = tcsetattr(&terminal, SetArg::TCSANOW, &modes)
    {
        tracing::warn!(%error, "a key may come only with the next one");
    }
}
