//! The full-screen program as a user has it: the real binary in a real terminal, and real VMs.

mod common;

use std::fs;

use common::{
    Home, Load,
    screen::Tui,
    {lives, until},
};
use nix::sys::signal::Signal;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);
const ESC: &str = "\x1b";
const ENTER: &str = "\r";
/// Ctrl-], the escape chord.
const CHORD: &str = "\x1d";
/// What the border of a pane says while it has the keyboard, and while it has not.
const TYPING: &str = "Ctrl-] leaves";
const NOT_TYPING: &str = "Enter gives it the keyboard";

/// From the list of no machines to a root shell: two keys.
fn first_machine(home: &mut Home, size: (u16, u16)) -> Tui {
    home.set("BANGER_NEW_VM_IMAGE", "tiny");
    let mut tui = Tui::start(home, size);
    tui.see("n makes one");
    tui.then("n", "Create and start");
    tui.keys(ENTER);
    tui.wait("a root shell with the keyboard", |screen| {
        screen.contains("root@tiny-1:~#") && screen.contains(TYPING)
    });
    tui
}

#[test]
fn two_keys_lead_to_a_root_shell_and_the_serial_pane_answers() {
    let test = "two_keys_lead_to_a_root_shell_and_the_serial_pane_answers";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let mut tui = first_machine(&mut home, SMALL);
    assert!(tui.is_raw());
    // The shell is one over SSH.
    tui.then("echo $((6*7))-${SSH_CONNECTION:+ssh}\r", "42-ssh");
    tui.then(CHORD, NOT_TYPING);

    // The serial console is another, by way of the list.
    tui.then("1", "● running");
    tui.then("c", TYPING);
    tui.see("tiny-1 console");
    tui.then(ENTER, "root@tiny-1:~#");
    tui.then("echo $((6*7))-ok${SSH_CONNECTION:+-not}\r", "42-ok");
    assert!(!tui.screen().contains("42-ok-not"));
    // What begins commands elsewhere is only text here.
    tui.then("echo q:1?n K\r", "\n│q:1?n K");
    // A larger terminal: the guest's is as large when the next command asks.
    tui.then(CHORD, NOT_TYPING);
    tui.keys("h");
    tui.then(ENTER, TYPING);
    tui.resize(LARGE.0, LARGE.1);
    tui.wait("a wide pane", |screen| screen.lines().any(|line| line.chars().count() == 200));
    tui.then("stty size\r", "45 198");
    tui.then(CHORD, NOT_TYPING);

    tui.then("1", "● running");
    tui.keys("q");
    assert_eq!(tui.end(), 0);
    tui.assert_given_back();
    tui.see("tiny-1 keeps running");
    assert_eq!(home.ok(&["ssh", "tiny-1", "echo alive"]), "alive\n");
    home.ok(&["stop", "tiny-1"]);
    home.assert_nothing_runs();
}

#[test]
fn a_killed_tui_leaves_the_vm_and_the_next_one_finds_it_console_and_all() {
    let test = "a_killed_tui_leaves_the_vm_and_the_next_one_finds_it_console_and_all";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let mut tui = first_machine(&mut home, LARGE);
    tui.then(CHORD, NOT_TYPING);
    tui.then("1", "● running");
    tui.then("c", "tiny-1 console");
    tui.see(TYPING);
    tui.then(ENTER, "root@tiny-1:~#");
    tui.then("echo $((1000+234))-before\r", "1234-before");

    let (monitors, vmms) = (home.monitors(), home.vmms());
    tui.signal(Signal::SIGKILL);
    tui.end();
    assert!(monitors.iter().chain(&vmms).all(|pid| lives(*pid)), "{}", home.report());
    assert_eq!(home.state("tiny-1"), "running");

    // Its panes went with it; the console did not.
    let mut tui = Tui::start(&home, LARGE);
    tui.see("● running");
    tui.then("c", TYPING);
    tui.see("1234-before");
    tui.then("echo $((1000+235))-after\r", "1235-after");
    assert_eq!((home.monitors(), home.vmms()), (monitors, vmms), "the same processes");

    // A stop from here, the question answered.
    tui.then(CHORD, NOT_TYPING);
    tui.then("1", "● running");
    tui.then("x", "Stop tiny-1?");
    tui.then(ENTER, "● running");
    tui.gone("Stop tiny-1?");
    assert_eq!(home.state("tiny-1"), "running", "the focus is on Cancel");
    tui.then("x", "Stop tiny-1?");
    tui.then("y", "○ stopped");
    // And its removal, by typing its name.
    tui.then("d", "Type “tiny-1”");
    tui.keys("tiny-\r");
    tui.then("1\r", "n makes one");
    assert!(home.list().is_empty());
    tui.keys("q");
    assert_eq!(tui.end(), 0);
    tui.assert_given_back();
    home.assert_nothing_runs();
}

#[test]
fn a_machine_is_paused_and_goes_on_where_it_was() {
    let test = "a_machine_is_paused_and_goes_on_where_it_was";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let mut tui = first_machine(&mut home, SMALL);
    tui.keys("X=kept-$((40+2))\r");
    tui.then(CHORD, NOT_TYPING);
    tui.then("1", "● running");
    tui.then("p", "‖ paused");
    assert_eq!(home.state("tiny-1"), "paused");
    for key in ["s", "o"] {
        tui.then(key, "tiny-1 is paused; p lets it go on");
        tui.keys(ESC);
        tui.gone("p lets it go on");
    }
    // What is typed meanwhile waits for it.
    tui.then("2", "‖ paused: p in Machines lets it go on");
    tui.then(ENTER, "‖ paused: Ctrl-] leaves");
    tui.keys("echo $X-on\r");
    tui.then(CHORD, "‖ paused: p in Machines");
    assert!(!tui.screen().contains("kept-42-on"), "{}", tui.screen());
    tui.then("1", "‖ paused");
    tui.then("p", "● running");
    tui.then("2", "kept-42-on");
    // A paused one can be stopped.
    tui.then("1", "● running");
    tui.then("p", "‖ paused");
    tui.then("x", "Stop tiny-1?");
    tui.then("y", "○ stopped");
    tui.keys("q");
    assert_eq!(tui.end(), 0);
    home.assert_nothing_runs();
}

#[test]
fn the_host_screen_shows_what_is_checked_and_made_and_cleans_what_is_left_over() {
    let test = "the_host_screen_shows_what_is_checked_and_made_and_cleans_what_is_left_over";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start"]);
    let nobodys = home.layout().state.join("vms/0a1b2c3d");
    std::fs::create_dir(&nobodys).expect("a directory");
    std::fs::write(nobodys.join("root.img"), "x").expect("a file");
    for size in [SMALL, LARGE] {
        let mut tui = Tui::start(&home, size);
        tui.see("Machines 1");
        tui.then("5", "looked at");
        tui.see(" runs VMs");
        // More checks than a small screen has rows.
        tui.then("G", "ssh and ssh-keygen are there");
        // What a running machine has on the host, and whose it is.
        tui.then("l", "there");
        let screen = tui.then("/web vmm.sock", "/web vmm.sock");
        assert!(screen.contains("✓") && !screen.contains("port forward"), "{screen}");
        tui.then(ESC, "port forward");
        // What is nobody's is on a list of its own, and only looked at.
        tui.then("c", "Remove this from the host?");
        tui.see(&format!("$ rm -r {}", nobodys.display()));
        tui.then(ESC, "Whose");
        tui.gone("Remove this");
        // Keys that mean nothing here.
        tui.keys("nxds%&");
        tui.then("q", "");
        assert_eq!(tui.end(), 0, "{}", tui.screen());
        tui.assert_given_back();
        assert!(nobodys.is_dir());
    }
    let mut tui = Tui::start(&home, SMALL);
    tui.see("Machines 1");
    tui.then("5", "looked at");
    tui.then("1", "Machines 1");
    tui.then(":host-clean\r", "Remove this from the host?");
    tui.then(ENTER, "Nothing is left over");
    assert!(!nobodys.exists());
    // The machine is stopped elsewhere, and the screen follows.
    tui.then("h", "port forward");
    home.ok(&["stop", "web"]);
    tui.see("no machine is up");
    tui.keys("q");
    assert_eq!(tui.end(), 0);
    home.assert_nothing_runs();
}

#[test]
fn nothing_a_guest_prints_reaches_the_outer_terminal() {
    let test = "nothing_a_guest_prints_reaches_the_outer_terminal";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let mut tui = first_machine(&mut home, SMALL);
    // Clipboard, title, main screen, reset, a query, a device control string.
    let print = "printf '\\033]52;c;aGFoYQ==\\007\\033]0;ha''ha\\007\\033[?1049l\\033[c\\033P+q544e\\033\\\\\\033c'";
    tui.keys(&format!("{print}; echo $((90+9))-still\r"));
    tui.see("99-still");
    let raw = tui.raw();
    for bad in ["\x1b]52;", "\x1b]0;haha", "\x1b[?1049l", "\x1b[c", "\x1bP+q", "\x1bc"] {
        assert!(!raw.contains(bad), "{bad:?} came through");
    }
    tui.see(TYPING);

    // A terminal that is closed ends banger, and only that.
    tui.hang_up();
    assert_eq!(tui.end(), 0, "{}", home.report());
    assert_eq!(home.ok(&["ssh", "tiny-1", "echo alive"]), "alive\n");
    home.ok(&["kill", "tiny-1"]);
    home.assert_nothing_runs();
}

#[test]
fn two_screens_and_a_script_see_the_same() {
    let test = "two_screens_and_a_script_see_the_same";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let mut one = Tui::start(&home, SMALL);
    let mut two = Tui::start(&home, LARGE);
    one.see("n makes one");
    two.see("n makes one");
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    one.see("● running");
    two.see("● running");
    // One console, two who type at it.
    for (tui, what) in [(&mut one, "1"), (&mut two, "2")] {
        tui.then("c", TYPING);
        tui.then(&format!("\recho $((100+{what}))-by-{what}\r"), &format!("10{what}-by-{what}"));
    }
    one.see("102-by-2");
    two.see("101-by-1");
    home.ok(&["rename", "web", "db"]);
    home.ok(&["stop", "db"]);
    for tui in [&mut one, &mut two] {
        tui.see("r connects again");
        tui.keys("1");
        let screen = tui.see("○ stopped");
        assert!(screen.contains("db") && !screen.contains("web "), "{screen}");
        tui.keys("q");
        assert_eq!(tui.end(), 0);
        tui.assert_given_back();
    }
    home.assert_nothing_runs();
}

#[test]
fn help_palette_filter_and_wrong_keys() {
    let test = "help_palette_filter_and_wrong_keys";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    for name in ["web", "db", "queue"] {
        home.ok(&["create", name, "--image", "tiny"]);
    }
    let before = home.list();
    for size in [SMALL, LARGE] {
        let mut tui = Tui::start(&home, size);
        tui.see("Machines 3");
        tui.then("?", "Help: what works here and now");
        // A key right behind Esc, as tmux and slow lines bring them: in one read.
        tui.then(&format!("{ESC}:"), "Make a new machine (vm-new)");
        assert!(!tui.screen().contains("Help:"), "{}", tui.screen());
        tui.keys("jobs");
        tui.then(ENTER, "jobs");
        tui.gone("Commands");
        tui.then("1", "Machines 3");
        tui.then("/we", "Machines 1 of 3");
        assert!(!tui.screen().contains("queue"), "{}", tui.screen());
        tui.keys(ENTER);
        tui.then(ESC, "queue");

        // Keys that mean nothing, sequences cut short, mouse noise, a paste: no harm.
        tui.keys("\x01\x02@#%^&*~`\x1b[99~\x1b[<0;999;999M\x1b[<64;1;1M\x1bO\u{1F600}é");
        tui.keys("\x1b[200~d\rK\ry\r\x1b[201~");
        tui.keys(ESC);
        tui.then("\x0c", "Machines 3");
        // Too small to be drawn, and large again.
        tui.resize(30, 5);
        tui.see("60x15");
        tui.resize(size.0, size.1);
        tui.see("Machines 3");
        tui.keys("q");
        assert_eq!(tui.end(), 0, "{}", tui.screen());
        tui.assert_given_back();
        let after = home.list();
        let names = |list: &[serde_json::Value]| -> Vec<_> {
            list.iter().map(|vm| (vm["name"].clone(), vm["state"].clone())).collect()
        };
        assert_eq!(names(&before), names(&after));
    }
    home.assert_nothing_runs();
}

#[test]
fn the_terminal_is_given_back_after_signals() {
    let home = Home::new(Load::Light);
    for which in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut tui = Tui::start(&home, SMALL);
        tui.wait_taken();
        tui.see("banger");
        until("raw mode", || tui.is_raw());
        tui.signal(which);
        assert_eq!(tui.end(), 0, "{which}: {}", tui.screen());
        tui.assert_given_back();
    }
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again() {
    let home = Home::new(Load::Light);
    let words = ["bash", "--norc", "--noprofile", "-i"];
    let mut tui = Tui::program(&home, &words, SMALL);
    let at_prompt = |tui: &Tui, with: &str| {
        tui.wait("the shell's prompt", |screen| {
            let last = screen.lines().rfind(|line| !line.is_empty());
            last == Some("shell>") && screen.contains(with)
        });
    };
    tui.keys("PS1='sh''ell> '\r");
    at_prompt(&tui, "");
    tui.keys(concat!(env!("CARGO_BIN_EXE_banger"), "\r"));
    tui.wait_taken();
    tui.see("Welcome to banger");
    for turn in ["23", "24"] {
        tui.keys("\x1a");
        tui.wait_left();
        at_prompt(&tui, "Stopped");
        // What is typed to the shell is the shell's.
        tui.keys(&format!("clear; echo $(({turn}+10))-shell\r"));
        at_prompt(&tui, &format!("{}-shell", turn.parse::<u32>().expect("a number") + 10));
        tui.keys("fg\r");
        tui.wait_taken();
        tui.see("Welcome to banger");
        assert!(tui.is_raw());
    }
    tui.keys("q");
    tui.wait_left();
    at_prompt(&tui, "");
    tui.keys("echo code=$?\r");
    at_prompt(&tui, "\ncode=0");
    tui.keys("exit\r");
    tui.end();
    tui.assert_given_back();
}

#[test]
fn a_key_that_comes_with_a_new_size_does_not_wait_for_the_next_one() {
    let home = Home::new(Load::Light);
    let mut tui = Tui::start(&home, (100, 30));
    tui.see("Welcome to banger");
    // Both are there when it looks, as on a machine with much to do. Which of them it is told of
    // first is the kernel's choice.
    for turn in 0..15 {
        for (keys, help) in [("?", true), ("\x1b", false)] {
            tui.signal(Signal::SIGSTOP);
            let stat = format!("/proc/{}/stat", tui.pid());
            until("it stands still", || {
                let stat = fs::read_to_string(&stat).expect("its state");
                stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
            });
            tui.keys(keys);
            tui.resize(100 + turn % 2 * 2 + u16::from(help), 30);
            tui.signal(Signal::SIGCONT);
            tui.wait(&format!("what {keys:?} does"), |screen| screen.contains("Help:") == help);
        }
    }
    tui.keys("q");
    assert_eq!(tui.end(), 0);
}
