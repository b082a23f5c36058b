//! Who types before the shell is there, and right after banger has gone, loses no key.

mod common;

use common::{Home, Load, screen::Tui};

/// Letters that are a command each where a pane has not the keyboard, and 200 of them.
fn letters(turn: usize) -> String {
    let all = "qwhoami1x2dKn3?zc4lsbur".chars().cycle();
    all.filter(char::is_ascii_alphanumeric).skip(turn).take(200).collect()
}

/// The end of what the guest has of a file; it is written at once, when the line is entered.
fn arrived(home: &Home, name: &str, file: &str, text: &str) {
    common::until_or(
        "what was typed is in the guest",
        || {
            let said = home.run(&["ssh", name, &format!("cat {file}")]);
            (said.out.trim_end() == text).then_some(())
        },
        || home.run(&["ssh", name, &format!("cat {file}")]).out + &home.report(),
    );
}

#[test]
fn what_is_typed_before_the_shell_is_there_arrives_whole_and_in_order() {
    let test = "what_is_typed_before_the_shell_is_there_arrives_whole_and_in_order";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    home.set("BANGER_NEW_VM_IMAGE", "tiny");
    let mut tui = Tui::start(&home, (100, 30));
    tui.see("n makes one");
    tui.then("n", "Create and start");
    // It is made first, and then its pane is there and it boots: all the same to who types.
    let text = letters(0);
    tui.keys(&format!("\recho {text} >/tmp/0\r"));
    tui.see("Ctrl-] leaves");
    arrived(&home, "tiny-1", "/tmp/0", &text);
    for turn in 1..=10 {
        tui.then("exit\r", "logged out");
        let text = letters(turn);
        // While SSH connects. A Ctrl-C is for the shell, too, and rubs out what is before it.
        tui.keys(&format!("rwrong\x03echo '{text}' >/tmp/{turn}\r"));
        arrived(&home, "tiny-1", &format!("/tmp/{turn}"), &text);
        // The next one is to find its own end.
        tui.then("clear\r", "root@tiny-1:~#");
    }
    tui.then("\x1d", "Enter gives it the keyboard");
    tui.keys("q");
    assert_eq!(tui.end(), 0);
    home.ok(&["kill", "tiny-1"]);
    home.assert_nothing_runs();
}

#[test]
fn what_is_typed_after_banger_has_gone_is_the_shells() {
    let home = Home::new(Load::Light);
    let mut tui = Tui::program(&home, &["bash", "--norc", "--noprofile", "-i"], (100, 30));
    for turn in 1..=10 {
        tui.keys(concat!(env!("CARGO_BIN_EXE_banger"), "\r"));
        tui.wait_taken();
        tui.see("Welcome to banger");
        tui.keys("q");
        tui.wait_left();
        let text = letters(turn);
        tui.keys(&format!("clear; echo $(({turn}+20))-{text}\r"));
        // Lines are as wide as the terminal.
        let whole = format!("{}-{text}", turn + 20);
        tui.wait(&whole, |screen| screen.replace('\n', "").contains(&whole));
    }
    tui.keys("exit 0\r");
    assert_eq!(tui.end(), 0);
}
