//! Consoles and shells.

use std::time::Duration;

use ratatui::{
    crossterm::event::{KeyModifiers, MouseButton, MouseEventKind},
    layout::Position,
};

use super::screens::{job, some};
use crate::{
    config::Config,
    domain::{
        Admission, BootMark, BootTimes, CommandBody, Denied, JobId, JobState, Phase, Problem,
        SshEndpoint,
    },
    supervisor::ConsoleKind,
    tui::{
        event::UiEvent,
        harness::{FakeGuest, Ui},
        state::Screen,
        testing::vm,
    },
};

fn shell(ui: &mut Ui) -> FakeGuest {
    ui.send_keys("Go");
    let (_, kind, guest) = ui.session();
    assert_eq!(kind, ConsoleKind::Ssh);
    guest.output("\x1b]0;root@web\x07root@web:~# ");
    ui.wait_until("the prompt", |screen| screen.contains("root@web:~#"));
    guest
}

#[test]
fn a_shell_gets_every_key_but_the_escape_chord() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    ui.wait_until("the title", |screen| screen.contains("web · root@web"));
    insta::assert_snapshot!(ui.screen());
    ui.send_keys("q?:1<esc><tab><ctrl-c><up><enter>");
    ui.wait_for("the keys", |_| guest.typed() == "q?:1\x1b\t\x03\x1b[A\r");
    assert!(ui.left.is_empty());
    ui.send_keys("<ctrl-]>");
    assert!(!ui.app.state.panes.typing);
    ui.send_keys("<ctrl-]>");
    ui.wait_for("the chord itself", |_| guest.typed().ends_with('\x1d'));
    assert!(ui.app.state.panes.typing);
    ui.send_keys("<ctrl-]>1");
    assert_eq!(ui.app.state.screen, Screen::Machines);
    // The same shell is found again, not opened twice.
    ui.send_keys("o");
    assert!(ui.no_session());
    assert!(ui.screen().contains("root@web:~#"));
}

#[test]
fn the_escape_chord_can_be_another() {
    let config = Config { escape_chord: "ctrl-g".parse().unwrap(), ..Config::default() };
    let mut ui = Ui::with_config(80, 24, some(), &config);
    let guest = shell(&mut ui);
    assert!(ui.screen().contains("Ctrl-g leaves"), "{}", ui.screen());
    ui.send_keys("<ctrl-]>");
    ui.wait_for("the old chord", |_| guest.typed() == "\x1d");
    ui.send_keys("<ctrl-g>");
    assert!(!ui.app.state.panes.typing);
}

#[test]
fn creating_ends_in_the_shell() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("n");
    ui.send_keys("<enter>");
    let CommandBody::Create { spec, start } = ui.answer(Admission::Queued(JobId(7))) else {
        panic!("a machine is made")
    };
    assert!(start);
    let name = spec.name.to_string();
    assert!(ui.no_session());
    ui.picture(|fleet| fleet.vms.push(vm(50, &name, Phase::Creating).into()));
    ui.picture(|fleet| *fleet.vms.last_mut().unwrap() = vm(50, &name, Phase::Starting).into());
    assert_eq!(ui.app.state.screen, Screen::Machines);
    // Its boot is watched as soon as there is something to see ...
    ui.picture(|fleet| *fleet.vms.last_mut().unwrap() = vm(50, &name, Phase::Booting).into());
    assert_eq!(ui.app.state.screen, Screen::Panes);
    let (_, kind, console) = ui.session();
    assert_eq!(kind, ConsoleKind::Serial);
    // As long as it says nothing, how far it is is told for it.
    let mut booting = vm(50, &name, Phase::Booting);
    booting.boot = BootTimes(vec![(BootMark::Vmm, 60), (BootMark::Init, 1_660)]);
    ui.picture(|fleet| *fleet.vms.last_mut().unwrap() = booting.into());
    ui.wait_until("how far it is", |screen| {
        screen.contains("✓ kernel   1.6 s") && !screen.contains("✓ init")
    });
    console.output("Linux version 6.1\r\n");
    ui.wait_until("the boot", |screen| {
        screen.contains("Linux version 6.1") && !screen.contains("is booting")
    });
    // What is typed meanwhile is kept for the shell, and shown; nothing of it is a command.
    ui.send_keys("q1w<backspace>?<up><enter>");
    let kept = "typed for the shell: q1w^??^[[A↵";
    assert!(ui.screen().contains(kept), "{}", ui.screen());
    assert!(ui.screen().contains("Ctrl-] leaves · booting"), "{}", ui.screen());
    ui.event(UiEvent::Paste("pasted ".into()));
    // ... and its shell takes the place of the console when SSH answers.
    ui.picture(|fleet| *fleet.vms.last_mut().unwrap() = vm(50, &name, Phase::Running).into());
    let (_, kind, shell) = ui.session();
    assert_eq!(kind, ConsoleKind::Ssh);
    shell.output("root@new:~# ");
    ui.wait_until("the shell", |screen| screen.contains("root@new:~#"));
    assert!(ui.app.state.panes.typing);
    assert_eq!(ui.app.state.panes.len(), 1);
    ui.send_keys("id<enter>");
    ui.wait_for("the keys", |_| shell.typed() == "q1w\x7f?\x1b[A\rpasted id\r");
    assert_eq!(console.typed(), "");
    ui.wait_until("nothing waits", |screen| !screen.contains("typed for the shell"));
}

#[test]
fn what_was_typed_for_a_shell_that_never_comes_is_told_to_be_lost() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jjo");
    let (_, kind, console) = ui.session();
    assert_eq!(kind, ConsoleKind::Serial);
    ui.send_keys("id<enter>");
    ui.picture(|fleet| {
        let queue = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == "queue").unwrap();
        std::sync::Arc::make_mut(queue).phase = Phase::Crashed;
    });
    assert!(ui.screen().contains("what was typed for the shell of queue is lost"));
    assert_eq!(console.typed(), "");
}

#[test]
fn who_leaves_a_booting_machine_is_left_alone() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jjo");
    let (_, _, _console) = ui.session();
    ui.send_keys("id<ctrl-]>");
    ui.picture(|fleet| {
        let queue = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == "queue").unwrap();
        let queue = std::sync::Arc::make_mut(queue);
        queue.phase = Phase::Running;
        queue.ssh = Some(SshEndpoint { host: "127.0.0.1".into(), port: 40_022 });
    });
    let (_, kind, shell) = ui.session();
    assert_eq!(kind, ConsoleKind::Ssh);
    ui.wait_for("what was typed", |_| shell.typed() == "id");
    assert!(!ui.app.state.panes.typing);
}

#[test]
fn a_machine_without_an_ssh_server_keeps_its_console() {
    let mut ui = Ui::new(120, 30, some());
    ui.send_keys("n");
    ui.send_keys("<enter>");
    let CommandBody::Create { spec, .. } = ui.answer(Admission::Queued(JobId(7))) else {
        panic!("a machine is made")
    };
    let name = spec.name.to_string();
    ui.picture(|fleet| fleet.vms.push(vm(50, &name, Phase::Booting).into()));
    let (_, kind, console) = ui.session();
    assert_eq!(kind, ConsoleKind::Serial);
    let mut deaf = vm(50, &name, Phase::Running);
    deaf.ssh = None;
    deaf.problem = Some(Problem::new("no SSH server answers", "its system is up", "press c"));
    ui.picture(|fleet| *fleet.vms.last_mut().unwrap() = deaf.into());
    ui.wait_until("the note", |screen| screen.contains("no SSH server answers"));
    assert!(ui.no_session(), "the console stays what it is");
    ui.send_keys("root<enter>");
    ui.wait_for("the keys", |_| console.typed() == "root\r");
    // The list says where it is to be reached; a shell of it is that console.
    ui.send_keys("<ctrl-]>1");
    ui.wait_until("the row", |screen| screen.contains("serial only: c"));
    ui.send_keys("o");
    assert!(ui.no_session());
    assert_eq!(ui.app.state.panes.len(), 1);
}

#[test]
fn the_escape_chord_works_right_after_esc() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    ui.send_keys("<alt-x>");
    ui.wait_for("Alt for the guest", |_| guest.typed() == "\x1bx");
    ui.send_keys("<ctrl-alt-]>");
    ui.wait_for("Esc for the guest", |_| guest.typed() == "\x1bx\x1b");
    assert!(!ui.app.state.panes.typing);
}

#[test]
fn a_pane_of_a_paused_machine_says_so() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    ui.picture(|fleet| {
        let web = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == "web").unwrap();
        std::sync::Arc::make_mut(web).phase = Phase::Paused;
    });
    assert!(ui.screen().contains("‖ paused: Ctrl-] leaves; p in Machines"), "{}", ui.screen());
    // What is typed meanwhile is not lost: the guest reads it when it goes on.
    ui.send_keys("id<enter>");
    ui.wait_for("the keys", |_| guest.typed() == "id\r");
    ui.send_keys("<ctrl-]>");
    assert!(ui.screen().contains("‖ paused: p in Machines"), "{}", ui.screen());
    // What goes on when there is room is not told to be let go on.
    ui.picture(|fleet| {
        let web = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == "web").unwrap();
        let full = Problem::new("the VM is paused: the disk is full", "", "make room");
        std::sync::Arc::make_mut(web).problem = Some(full);
    });
    assert!(ui.screen().contains("‖ the VM is paused: the disk is full"), "{}", ui.screen());
}

#[test]
fn a_boot_that_fails_stays_to_be_read() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jjo");
    let (_, kind, console) = ui.session();
    assert_eq!(kind, ConsoleKind::Serial);
    console.output("Kernel panic - not syncing");
    ui.wait_until("the panic", |screen| screen.contains("Kernel panic"));
    console.hang_up();
    ui.picture(|fleet| {
        let queue = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == "queue").unwrap();
        std::sync::Arc::make_mut(queue).phase = Phase::Crashed;
    });
    ui.wait_until("the end", |screen| screen.contains("the guest hung up"));
    assert!(ui.screen().contains("Kernel panic"), "{}", ui.screen());
    ui.send_keys("w");
    assert!(ui.app.state.panes.is_empty());
}

#[test]
fn an_ended_shell_takes_no_keys_and_can_be_opened_again() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    guest.hang_up();
    ui.wait_until("the end", |screen| screen.contains("r connects again"));
    assert!(!ui.app.state.panes.typing);
    ui.send_keys("r");
    let (_, kind, again) = ui.session();
    assert_eq!(kind, ConsoleKind::Ssh);
    again.output("back# ");
    ui.wait_until("the new prompt", |screen| screen.contains("back#"));
    assert!(ui.screen().contains("root@web:~#"), "what was there stays");
    ui.send_keys("x");
    ui.wait_for("the key", |_| again.typed() == "x");
}

#[test]
fn a_paste_of_lines_is_asked_about_unless_the_guest_can_tell() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    ui.event(UiEvent::Paste("one line".into()));
    ui.wait_for("the line", |_| guest.typed() == "one line");
    ui.event(UiEvent::Paste("a\nb\n".into()));
    assert!(ui.screen().contains("Paste 2 lines into web?"), "{}", ui.screen());
    ui.send_keys("n");
    ui.event(UiEvent::Paste("a\nb\n".into()));
    ui.send_keys("y");
    ui.wait_for("the lines", |_| guest.typed() == "one linea\rb\r");
    guest.output("\x1b[?2004hready");
    ui.wait_until("ready", |screen| screen.contains("ready"));
    ui.event(UiEvent::Paste("c\nd\n".into()));
    ui.wait_for("the bracketed lines", |_| guest.typed().ends_with("\x1b[200~c\rd\r\x1b[201~"));
    let before = guest.typed().len();
    ui.event(UiEvent::Paste("x".repeat(1 << 20)));
    ui.wait_for("a megabyte", |_| guest.typed().len() == before + (1 << 20) + 12);
}

#[test]
fn nothing_of_a_guest_gets_past_its_cells() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    guest.output("\x1b]52;c;aGk=\x07\x1b]0;evil\u{202e}\x1b]8;;http://x\x07title\x07\x1b[2Jafter");
    ui.wait_until("the text", |screen| screen.contains("after"));
    ui.wait_until("the refusal", |screen| screen.contains("wanted to write to the clipboard"));
    assert!(ui.copied.is_empty(), "{:?}", ui.copied);
    let bad = |c: char| c != '\n' && crate::tui::text::is_harmful(c);
    assert!(!ui.screen().contains(bad), "{:?}", ui.screen());
}

#[test]
fn the_mouse_selects_and_copies_unless_the_guest_wants_it() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    let at = ui.find("root@web:~#").expect("the prompt");
    let left = MouseButton::Left;
    let none = KeyModifiers::NONE;
    ui.mouse(MouseEventKind::Down(left), at, none);
    ui.mouse(MouseEventKind::Drag(left), Position::new(at.x + 7, at.y), none);
    ui.mouse(MouseEventKind::Up(left), Position::new(at.x + 7, at.y), none);
    assert_eq!(ui.copied, ["root@web"]);
    assert_eq!(guest.typed(), "");
    guest.output("\x1b[?1000;1006hmouse");
    ui.wait_until("the mode", |screen| screen.contains("mouse"));
    ui.mouse(MouseEventKind::Down(left), at, none);
    ui.wait_for("the click", |_| guest.typed() == "\x1b[<0;1;1M");
    ui.mouse(MouseEventKind::Down(left), at, KeyModifiers::SHIFT);
    ui.mouse(MouseEventKind::Drag(left), Position::new(at.x + 3, at.y), KeyModifiers::SHIFT);
    ui.mouse(MouseEventKind::Up(left), Position::new(at.x + 3, at.y), KeyModifiers::SHIFT);
    assert_eq!(ui.copied.last().map(String::as_str), Some("root"));
}

#[test]
fn scrollback_is_reached_while_typing() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    for n in 0..100 {
        guest.output(&format!("line {n}\r\n"));
    }
    ui.wait_until("the last line", |screen| screen.contains("line 99"));
    ui.send_keys("<shift-pgup>");
    assert!(!ui.screen().contains("line 99") && ui.screen().contains("lines back"));
    assert_eq!(guest.typed(), "");
    ui.send_keys("<shift-pgdn>");
    assert!(ui.screen().contains("line 99"), "{}", ui.screen());
}

#[test]
fn the_guest_is_told_its_size() {
    let mut ui = Ui::new(80, 24, some());
    let guest = shell(&mut ui);
    let size = |guest: &FakeGuest| guest.size().map(|s| (s.cols, s.rows));
    assert_eq!(size(&guest), Some((78, 19)));
    ui.resize(100, 30);
    ui.wait_for("the size", |_| size(&guest) == Some((98, 25)));
    ui.send_keys("<ctrl-]>z");
    ui.wait_for("the whole", |_| size(&guest) == Some((98, 28)));
    assert!(!ui.screen().contains("banger"), "{}", ui.screen());
    ui.resize(3, 2);
    ui.resize(100, 30);
    assert!(ui.screen().contains("root@web"), "{}", ui.screen());
}

#[test]
fn the_detail_shows_the_console_once_the_cursor_rests() {
    let mut ui = Ui::new(160, 40, some());
    ui.send_keys("Gl");
    assert!(ui.no_session());
    ui.pass(Duration::from_millis(200));
    let (_, kind, guest) = ui.session();
    assert_eq!(kind, ConsoleKind::Serial);
    guest.output("web login: ");
    ui.wait_until("the console", |screen| screen.contains("web login:"));
    insta::assert_snapshot!(ui.screen());
    ui.send_keys("k");
    ui.send_keys("k");
    ui.pass(Duration::from_millis(50));
    assert!(ui.no_session(), "passing over machines attaches to none");
    ui.send_keys("2");
    assert!(!ui.screen().contains("web login:"));
}

#[test]
fn a_machine_that_could_not_be_made_opens_nothing() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("n");
    ui.send_keys("<enter>");
    let CommandBody::Create { spec, .. } = ui.answer(Admission::Queued(JobId(7))) else {
        panic!("a machine is made")
    };
    let problem = Problem::new("cannot make it", "the disk is full", "delete something");
    ui.picture(|fleet| fleet.jobs.push(job(7, JobState::Failed { problem })));
    assert!(ui.app.state.panes.awaited.is_empty());
    // Made by another hand later: no shell of it opens by itself.
    ui.picture(|fleet| fleet.vms.push(vm(50, spec.name.as_str(), Phase::Running).into()));
    assert!(ui.no_session());
    assert_eq!(ui.app.state.screen, Screen::Machines);
}

#[test]
fn what_is_typed_between_enter_and_the_pane_is_the_shells() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("n");
    ui.send_keys("<enter>");
    // The supervisor has not said yes yet.
    ui.send_keys("q1");
    assert!(ui.screen().contains("Creating…"), "{}", ui.screen());
    let CommandBody::Create { spec, .. } = ui.answer(Admission::Queued(JobId(7))) else {
        panic!("a machine is made")
    };
    // There is no pane yet: s would stop the machine under the cursor, q would quit, 2 go elsewhere.
    ui.send_keys("s2<up>dq?");
    ui.event(UiEvent::Paste("pa".into()));
    ui.picture(|fleet| fleet.vms.push(vm(50, spec.name.as_str(), Phase::Creating).into()));
    ui.send_keys("<alt-b><enter>");
    assert!(ui.is_quiet() && ui.left.is_empty() && ui.no_session());
    assert_eq!(ui.app.state.screen, Screen::Machines);
    assert!(ui.screen().contains("typed for the shell: q1s2^[[Adq?pa^[b↵"), "{}", ui.screen());
    // Several lines would be run unseen.
    ui.event(UiEvent::Paste("a\nb\n".into()));
    assert!(ui.screen().contains("several lines are not pasted"), "{}", ui.screen());
    ui.picture(|fleet| {
        *fleet.vms.last_mut().unwrap() = vm(50, spec.name.as_str(), Phase::Booting).into();
    });
    let (_, kind, console) = ui.session();
    assert_eq!(kind, ConsoleKind::Serial);
    ui.send_keys("id");
    ui.picture(|fleet| {
        *fleet.vms.last_mut().unwrap() = vm(50, spec.name.as_str(), Phase::Running).into();
    });
    let (_, kind, shell) = ui.session();
    assert_eq!(kind, ConsoleKind::Ssh);
    ui.wait_for("the keys", |_| shell.typed() == "q1s2\x1b[Adq?pa\x1bb\rid");
    assert_eq!(console.typed(), "", "nothing of it is the console's");
}

#[test]
fn what_was_typed_for_a_machine_that_is_not_made_is_told_to_be_lost() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("n");
    ui.send_keys("<enter>");
    ui.send_keys("ls");
    let full = Problem::new("cannot make it", "the disk is full", "make room");
    ui.answer(Admission::Denied(Denied(full)));
    let screen = ui.screen();
    assert!(screen.contains("the disk is full") && screen.contains("typed for the shell is lost"));
    // The form has its keys again.
    ui.send_keys("<ctrl-u>web9<enter>");
    let CommandBody::Create { spec, .. } = ui.answer(Admission::Queued(JobId(7))) else {
        panic!("a machine is made")
    };
    assert_eq!(spec.name.as_str(), "web9");
    ui.send_keys("ls");
    let problem = Problem::new("cannot make it", "the disk is full", "delete something");
    ui.picture(|fleet| fleet.jobs.push(job(7, JobState::Failed { problem })));
    assert!(
        ui.screen().contains("what was typed for the shell of web9 is lost"),
        "{}",
        ui.screen()
    );
    // And so has the list.
    ui.send_keys("4");
    assert_eq!(ui.app.state.screen, Screen::Jobs);
}

#[test]
fn the_keyboard_is_taken_back_before_the_pane_is_there() {
    for (keys, typed) in [("id<esc>4", "id"), ("id<ctrl-]>4", "id"), ("<ctrl-alt-]>4", "")] {
        let mut ui = Ui::new(80, 24, some());
        ui.send_keys("n");
        ui.send_keys("<enter>");
        let CommandBody::Create { spec, .. } = ui.answer(Admission::Queued(JobId(7))) else {
            panic!("a machine is made")
        };
        ui.send_keys(keys);
        assert_eq!(ui.app.state.screen, Screen::Jobs, "{keys}");
        ui.picture(|fleet| fleet.vms.push(vm(50, spec.name.as_str(), Phase::Running).into()));
        let (_, _, shell) = ui.session();
        ui.wait_for("what was typed before", |_| shell.typed() == typed);
    }
}

#[test]
fn nobody_is_taken_away_from_what_they_are_typing() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("n");
    ui.send_keys("<enter>");
    let CommandBody::Create { spec, .. } = ui.answer(Admission::Queued(JobId(7))) else {
        panic!("a machine is made")
    };
    // Esc: what comes now is for banger again.
    ui.send_keys("<esc>jR");
    ui.picture(|fleet| fleet.vms.push(vm(50, spec.name.as_str(), Phase::Booting).into()));
    assert!(ui.screen().contains("New name"), "{}", ui.screen());
    assert!(ui.screen().contains("o on it opens a shell"), "{}", ui.screen());
    assert!(ui.no_session());
}

#[test]
fn who_types_at_the_console_of_a_booting_machine_keeps_it() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jjo");
    let (_, _, console) = ui.session();
    ui.send_keys("<ctrl-]>1c");
    assert!(ui.no_session(), "it is the same console");
    ui.send_keys("root");
    ui.wait_for("the keys", |_| console.typed() == "root");
    ui.picture(|fleet| {
        let queue = fleet.vms.iter_mut().find(|vm| vm.spec.name.as_str() == "queue").unwrap();
        std::sync::Arc::make_mut(queue).phase = Phase::Running;
    });
    assert!(ui.no_session());
    assert!(ui.screen().contains("queue console"), "{}", ui.screen());
}
