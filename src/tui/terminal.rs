//! The outer terminal: taken, given back, whatever happens.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ratatui::crossterm::{
    Command,
    cursor::{Hide, Show},
    event::{
        DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste,
        EnableFocusChange, EnableMouseCapture,
    },
    style::ResetColor,
    terminal::{
        EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};

use crate::domain::Problem;

/// Whether the terminal is ours at the moment.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether both ends are a terminal.
///
/// # Errors
/// What the user is told otherwise.
pub fn check() -> Result<(), Problem> {
    let problem = |which: &str| {
        Problem::new(
            "banger needs a terminal",
            format!("its standard {which} is none"),
            "in scripts use banger ls, banger start NAME, … (banger --help lists them)",
        )
    };
    if !io::stdout().is_terminal() {
        Err(problem("output"))
    } else if !io::stdin().is_terminal() {
        Err(problem("input"))
    } else {
        Ok(())
    }
}

/// What takes the terminal.
#[must_use]
pub fn enter_sequence(mouse: bool) -> Vec<u8> {
    let mut out = String::new();
    push(&mut out, EnterAlternateScreen);
    push(&mut out, EnableBracketedPaste);
    push(&mut out, EnableFocusChange);
    if mouse {
        push(&mut out, EnableMouseCapture);
    }
    push(&mut out, Hide);
    out.into_bytes()
}

/// What gives it back, from whatever state it is in.
#[must_use]
pub fn leave_sequence() -> Vec<u8> {
    let mut out = String::new();
    push(&mut out, EndSynchronizedUpdate);
    push(&mut out, DisableMouseCapture);
    push(&mut out, DisableFocusChange);
    push(&mut out, DisableBracketedPaste);
    push(&mut out, ResetColor);
    push(&mut out, LeaveAlternateScreen);
    push(&mut out, Show);
    out.into_bytes()
}

fn push(out: &mut String, command: impl Command) {
    // Writing into a text cannot fail.
    let _ = command.write_ansi(out);
}

/// Takes the terminal: raw mode first, then the screen.
///
/// # Errors
/// If the terminal cannot be set up.
pub fn enter(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let mut out = io::stdout();
    out.write_all(&enter_sequence(mouse))?;
    out.flush()
}

/// Gives it back, if it is taken. `write` is false if the leave sequence was written already or
/// cannot be.
pub fn leave(write: bool) {
    if TAKEN.swap(false, Ordering::SeqCst) {
        if write {
            let mut out = io::stdout();
            // There is nobody to tell if this fails.
            let _ = out.write_all(&leave_sequence());
            let _ = out.flush();
        }
        let _ = disable_raw_mode();
    }
}

/// Gives the terminal back when it is dropped.
pub struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        leave(true);
    }
}

/// Makes a panic of this thread give the terminal back before it is reported.
///
/// Panics of the terminal emulator are caught and cost a pane its screen only: they are passed
/// over. Those of other threads end these threads, not the UI: while the screen is ours they go
/// to the log.
pub fn install_panic_hook(log: Option<PathBuf>) {
    let ui = thread::current().id();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if crate::term::panic_is_caught() {
            return;
        }
        let was_taken = TAKEN.load(Ordering::SeqCst);
        if was_taken && thread::current().id() != ui {
            let thread = thread::current().name().unwrap_or("unnamed").to_owned();
            tracing::error!(thread, "a thread panicked: {info}");
            return;
        }
        leave(true);
        report(info);
        if was_taken {
            let log = log.as_ref().map(|path| format!(" Its log is {}.", path.display()));
            let log = log.unwrap_or_default();
            // Not eprintln: it would panic if standard error is gone.
            let _ = writeln!(
                io::stderr(),
                "\nbanger failed; this is a bug of it.{log} Machines keep running."
            );
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_switched_on_is_switched_off() {
        let enter = String::from_utf8(enter_sequence(true)).expect("ASCII");
        let leave = String::from_utf8(leave_sequence()).expect("ASCII");
        let modes = |text: &str, end: char| -> Vec<String> {
            let parts = text.split("\x1b[?").skip(1);
            let number = |part: &str| part.split_once(end).map(|(n, _)| n.to_owned());
            parts.filter_map(number).filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect()
        };
        let on = modes(&enter, 'h');
        let off = modes(&leave, 'l');
        assert!(on.len() >= 6, "{on:?}");
        for mode in &on {
            assert!(off.contains(mode), "{mode} stays on: {off:?}");
        }
        assert!(enter.contains("\x1b[?25l") && leave.ends_with("\x1b[?25h"));
        assert!(!String::from_utf8_lossy(&enter_sequence(false)).contains("?1000h"));
    }

    #[test]
    fn without_a_terminal_the_user_is_told_what_else_there_is() {
        // Under a test runner standard output may or may not be one; the words are the point.
        if let Err(problem) = check() {
            assert!(problem.hint.contains("banger ls"), "{problem}");
        }
    }
}
