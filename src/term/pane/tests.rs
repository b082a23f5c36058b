//! What cannot be reached from outside: a panic of the emulator.

use std::sync::mpsc;

use super::*;
use crate::session::replay;

#[test]
fn a_panic_of_the_emulator_costs_a_screen_but_not_the_session() {
    let (session, tape) = replay::session();
    let (woken, wait) = mpsc::channel();
    let wake = move || {
        let _ = woken.send(());
    };
    let pane =
        Pane::spawn(move |_| Ok(session), Size { cols: 80, rows: 5 }, Options::default(), wake);
    tape.push(b"before");
    tape.wait_read();
    let until = |text: &str| {
        loop {
            let _ = (pane.take_dirty(), pane.take_noticed());
            let screen = pane.with_engine(|engine| engine.screen_text());
            if screen.contains(text) {
                break screen;
            }
            wait.recv_timeout(std::time::Duration::from_secs(60)).expect(text);
        }
    };
    until("before");
    pane.with_engine(|engine| engine.fail_next = true);
    tape.push(b"what it fails on");
    let screen = until("terminal reset");
    assert!(!screen.contains("before"));
    tape.push(b"after\x1b[5n");
    until("after");
    assert_eq!(tape.wait_written(|all| !all.is_empty()), b"\x1b[0n");
    assert_eq!(pane.state(), PaneState::Live);
    assert!(!panic_is_caught());
}
