//! Images and the wizard as a user has them: the real binary in a real terminal.

mod common;

use common::{Home, Load, screen::Tui, until};
use nix::sys::signal::Signal;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);
const ESC: &str = "\x1b";
const ENTER: &str = "\r";
/// Ctrl-n, the next step.
const NEXT: &str = "\x0e";

/// Waits until the draft on the disk has a text.
fn kept(home: &Home, text: &str) {
    let draft = home.layout().draft();
    until(&format!("“{text}” in the draft"), || {
        std::fs::read_to_string(&draft).is_ok_and(|draft| draft.contains(text))
    });
}

/// From the first screen to the wizard on `tiny`.
fn on_tiny(home: &Home, size: (u16, u16)) -> Tui {
    let mut tui = Tui::start(home, size);
    tui.see("n makes one");
    tui.then("3", "Images 2");
    tui.then("/tiny", "Images 1 of 2");
    tui.keys(ENTER);
    tui
}

#[test]
fn a_draft_survives_esc_and_a_kill_and_leads_to_a_review() {
    let test = "a_draft_survives_esc_and_a_kill_and_leads_to_a_review";
    for size in [SMALL, LARGE] {
        let Some(home) = Home::with_runtime(test, Load::Light) else { return };
        let mut tui = on_tiny(&home, size);
        tui.then("c", "A new image: tiny-dev");
        tui.then(ENTER, "Against tiny");
        tui.then(NEXT, "/on/this/host -> /in/the/image");
        tui.keys("/etc/hosts -> /etc/from-host\r");
        tui.then(ESC, "the draft is kept");
        kept(&home, "from-host");
        tui.keys(ESC);
        tui.gone("the draft is kept");
        tui.then("c", "A draft was left");
        tui.then(ENTER, "/etc/from-host");
        tui.keys("nonsense\r");
        tui.see("“nonsense” is no absolute path");
        kept(&home, "nonsense");

        // It is killed, and the next one has it all.
        tui.signal(Signal::SIGKILL);
        tui.end();
        let mut tui = on_tiny(&home, size);
        tui.then("c", "A draft was left");
        tui.then(ENTER, "nonsense");
        tui.then(NEXT, "› Name");
        tui.then(NEXT, "1 thing to be set right first");
        // Enter leads there; Backspace takes it away.
        tui.then(ENTER, "› Files");
        tui.keys(&"\x7f".repeat("nonsense".len()));
        tui.gone("no absolute path");
        tui.then(NEXT, "› Name");
        tui.then(NEXT, "tiny-dev is made from tiny");
        tui.see("/etc/hosts -> /etc/from-host");
        tui.see("Build · Enter");
        tui.then(ESC, "the draft is kept");
        tui.keys(ESC);
        tui.keys("q");
        assert_eq!(tui.end(), 0, "{}", tui.screen());
        tui.assert_given_back();
        home.assert_nothing_runs();
    }
}

#[test]
fn a_wizards_answers_become_an_image_that_machines_are_made_from() {
    let test = "a_wizards_answers_become_an_image_that_machines_are_made_from";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let from = home.path().join("motd");
    std::fs::write(&from, "from the host\n").expect("a file");
    let mut tui = on_tiny(&home, LARGE);
    tui.then("c", "A new image: tiny-dev");
    tui.then(ENTER, "Against tiny");
    tui.then(NEXT, "/on/this/host -> /in/the/image");
    tui.keys(&format!("{} -> /etc/from-host\r", from.display()));
    // Past users and keys.
    tui.then("\t\t\t", "› Script");
    tui.keys("set -e\recho $((6*7))-by-script > /etc/by-script\r");
    tui.then(NEXT, "› Name");
    tui.then(NEXT, "tiny-dev is made from tiny");
    tui.see("Build · Enter");
    tui.then(ENTER, "build tiny-dev");
    // It is built, booted as a test, published; then the new image is shown.
    tui.see("the image tiny-dev is ready");
    let screen = tui.see("└ tiny-dev");
    assert!(screen.contains("customized"), "{screen}");
    let draft = home.layout().draft();
    until("the draft is gone", || !draft.exists());
    tui.keys(ESC);
    tui.gone("is ready");
    tui.then("n", "tiny-dev-1");
    tui.keys(ENTER);
    tui.wait("a root shell with the keyboard", |screen| {
        screen.contains("root@tiny-dev-1:~#") && screen.contains("Ctrl-] leaves")
    });
    tui.then("cat /etc/from-host /etc/by-script\r", "42-by-script");
    tui.see("from the host");
    tui.then("\x1d", "Enter gives it the keyboard");
    tui.then("1", "● running");
    tui.then("x", "Stop tiny-dev-1?");
    tui.then("y", "○ stopped");
    tui.keys("q");
    assert_eq!(tui.end(), 0, "{}", tui.screen());
    home.assert_nothing_runs();
}
