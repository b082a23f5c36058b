//! Verbs, marks, filter, answers.

use std::time::Duration;

use super::screens::{job, some};
use crate::{
    config::theme::Slot,
    domain::{Admission, CommandBody, Denied, JobState, Phase, Problem},
    tui::{
        event::UiEvent,
        harness::Ui,
        outside::Left,
        testing::{fleet, vm},
    },
};

fn selected(ui: &Ui) -> String {
    ui.app.state.selected_vm().map(|vm| vm.spec.name.to_string()).unwrap_or_default()
}

#[test]
fn start_stop_kill_and_delete_ask_as_much_as_they_destroy() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("js");
    let db = ui.app.state.selected.clone().expect("db");
    assert_eq!(ui.command(), CommandBody::Start(db.clone()));
    ui.send_keys("G");
    assert_eq!(selected(&ui), "web");
    let web = ui.app.state.selected.clone().expect("web");
    // The focus is on Cancel: Enter alone stops nothing.
    ui.send_keys("x<enter>");
    assert!(ui.is_quiet());
    ui.send_keys("xn");
    assert!(ui.is_quiet());
    ui.send_keys("xy");
    assert_eq!(ui.command(), CommandBody::Stop(web.clone()));
    ui.send_keys("x<tab><enter>");
    assert_eq!(ui.command(), CommandBody::Stop(web.clone()));
    ui.send_keys("Ky");
    assert_eq!(ui.command(), CommandBody::Kill(web.clone()));
    ui.send_keys("ry");
    assert_eq!(ui.command(), CommandBody::Restart(web));
    // A running one cannot be deleted, and the key says why.
    ui.send_keys("d");
    assert!(ui.screen().contains("stop it first with x"), "{}", ui.screen());
    ui.send_keys("<esc>ggj");
    assert_eq!(selected(&ui), "db");
    ui.send_keys("d<enter>");
    ui.send_keys("d<enter>");
    assert!(ui.is_quiet(), "the name is not typed");
    ui.send_keys("<backspace>b<enter>");
    assert!(ui.is_quiet(), "b is not db");
    ui.send_keys("<ctrl-u>db<enter>");
    assert_eq!(ui.command(), CommandBody::Delete(db));
    assert!(!ui.screen().contains("Type"), "the question is gone");
}

#[test]
fn verbs_act_on_the_marked_that_can() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("<ctrl-a>");
    assert!(ui.screen().contains("4 marked"), "{}", ui.screen());
    ui.send_keys("x");
    assert!(ui.screen().contains("Stop queue and web?"), "{}", ui.screen());
    assert!(ui.screen().contains("2 of the 4 marked cannot"), "{}", ui.screen());
    ui.send_keys("y");
    assert!(matches!(ui.command(), CommandBody::Stop(_)));
    assert!(matches!(ui.command(), CommandBody::Stop(_)));
    assert!(ui.is_quiet());
    assert!(ui.app.state.marks.is_empty());
    ui.send_keys(" j d");
    assert!(ui.app.state.marks.len() == 2, "space marks and moves on");
    ui.send_keys("<esc><esc>");
    assert!(ui.app.state.marks.is_empty(), "Esc takes marks away");
}

#[test]
fn one_key_pauses_and_lets_go_on_and_says_why_not() {
    let mut fleet = some();
    fleet.vms.push(vm(7, "zero", Phase::Paused).into());
    let mut ui = Ui::new(80, 24, fleet);
    let id = |ui: &Ui| ui.app.state.selected.clone().expect("one is selected");
    ui.send_keys("Gp");
    let zero = id(&ui);
    assert_eq!(ui.command(), CommandBody::Resume(zero.clone()));
    for key in ["s", "o"] {
        ui.send_keys(key);
        assert!(ui.screen().contains("zero is paused; p lets it go on"), "{}", ui.screen());
        ui.send_keys("<esc>");
    }
    ui.send_keys("kp");
    let web = id(&ui);
    assert_eq!(ui.command(), CommandBody::Pause(web.clone()));
    for (key, why) in [("k", "it can be paused once it runs"), ("k", "is off; s starts it")] {
        ui.send_keys(key);
        ui.send_keys("p");
        assert!(ui.screen().contains(why), "{}", ui.screen());
        ui.send_keys("<esc>");
    }
    assert!(ui.is_quiet());
    // Of the marked, those that run; only if none does, the paused go on.
    ui.send_keys("<ctrl-a>p");
    assert_eq!(ui.command(), CommandBody::Pause(web));
    assert!(ui.is_quiet() && ui.app.state.marks.is_empty());
    ui.picture(|fleet| fleet.vms.retain(|vm| vm.phase != Phase::Running));
    ui.send_keys("<ctrl-a>p");
    assert_eq!(ui.command(), CommandBody::Resume(zero));
    assert!(ui.is_quiet());
}

#[test]
fn denials_and_a_busy_or_dead_supervisor_are_told() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("js");
    let why = Problem::new("cannot start db", "its image is gone", "make the image again");
    ui.answer(Admission::Denied(Denied(why)));
    assert!(ui.screen().contains("its image is gone"), "{}", ui.screen());
    assert!(ui.screen().contains("make the image again"));
    ui.send_keys("<esc>");
    assert!(!ui.screen().contains("its image is gone"));
    ui.send_keys("H");
    assert!(ui.screen().contains("its image is gone"), "it stays in the notices");
    ui.send_keys("<esc>");
    for _ in 0..65 {
        ui.send_keys("s");
    }
    ui.own_answers();
    assert!(ui.screen().contains("too much to do"), "{}", ui.screen());
    ui.send_keys("<esc>");
    ui.kill_supervisor();
    assert!(ui.screen().contains("the supervisor has ended"), "{}", ui.screen());
    ui.send_keys("<esc>s");
    assert!(ui.screen().contains("the supervisor has ended"), "{}", ui.screen());
}

#[test]
fn the_filter_is_live_and_esc_takes_it_away() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("/we");
    assert!(ui.screen().contains("Machines 1 of 4 · /we"), "{}", ui.screen());
    assert!(ui.cursor().is_some());
    ui.send_keys("<enter>");
    assert_eq!(selected(&ui), "web");
    ui.send_keys("<esc>");
    assert!(ui.screen().contains("Machines 4"), "{}", ui.screen());
    ui.send_keys("/nothing fits");
    assert!(ui.screen().contains("No machine fits"), "{}", ui.screen());
    ui.send_keys("<esc>/");
    let paste = "x".repeat(1 << 20);
    ui.event(UiEvent::Paste(paste));
    assert!(ui.screen().lines().count() == 24);
}

#[test]
fn rename_says_what_is_wrong_with_a_name() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jR<ctrl-u>web<enter>");
    assert!(ui.screen().contains("web is taken"), "{}", ui.screen());
    ui.event(UiEvent::Paste("X".repeat(1 << 20)));
    ui.send_keys("<enter>");
    assert!(ui.screen().contains("at most 63 characters"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>mail<enter>");
    let CommandBody::Rename(_, name) = ui.command() else { panic!("a rename") };
    assert_eq!(name.as_str(), "mail");
    assert!(!ui.screen().contains("New name"), "{}", ui.screen());
}

#[test]
fn a_disk_is_resized_by_a_size_that_is_one() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jDmuch<enter>");
    assert!(ui.screen().contains("is no size"), "{}", ui.screen());
    assert!(ui.screen().contains("never smaller"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>8G<enter>");
    let CommandBody::Resize(_, mib) = ui.command() else { panic!("a resize") };
    assert_eq!(mib, 8192);
    assert!(!ui.screen().contains("New size"), "{}", ui.screen());
    // Nothing else on the screen would tell.
    assert!(ui.screen().contains("has 8 GiB from its next start on"), "{}", ui.screen());
}

#[test]
fn quitting_asks_only_while_jobs_run_and_esc_never_quits() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("<esc><esc><esc>");
    assert!(ui.left.is_empty());
    ui.picture(|fleet| fleet.jobs.push(job(1, JobState::Running)));
    ui.send_keys("q");
    assert!(ui.screen().contains("Machines keep running"), "{}", ui.screen());
    ui.send_keys("<enter>");
    assert!(ui.left.is_empty(), "the focus is on Cancel");
    ui.picture(|fleet| fleet.jobs.clear());
    ui.send_keys("q");
    assert_eq!(ui.left, [Left::Quit]);
    assert_eq!(
        ui.app.farewell().as_deref(),
        Some("2 machines keep running: queue, web; banger shows them again.")
    );
}

#[test]
fn keys_that_do_nothing_say_so() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("Z");
    assert!(ui.screen().contains("Z does nothing here"), "{}", ui.screen());
    ui.send_keys("<esc>gZ");
    assert!(ui.screen().contains("g Z does nothing here"), "{}", ui.screen());
    ui.pass(Duration::from_secs(4));
    assert!(!ui.screen().contains("does nothing here"), "it leaves by itself");
}

#[test]
fn a_key_right_after_esc_is_not_taken_for_alt() {
    // tmux and slow lines make one of the two.
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("?<alt-j>");
    assert!(!ui.screen().contains("Help:"), "{}", ui.screen());
    assert_eq!(selected(&ui), "db", "j was done");
    ui.send_keys("/we<alt-:>");
    assert!(ui.screen().contains("Machines 4 ") && ui.screen().contains("Commands"));
    ui.send_keys("<alt-n>one<alt-x>");
    assert!(!ui.screen().contains("New machine"), "{}", ui.screen());
    // Esc came first: the question is answered with no, whatever follows.
    ui.send_keys("GK<alt-y>");
    assert!(ui.is_quiet() && ui.copied.len() == 1, "y copies the ssh command on Machines");
    ui.send_keys("<esc>,<alt-k>");
    assert_eq!(selected(&ui), "queue", "the prefix is gone, the key is not");
    ui.send_keys("4<alt-k>");
    assert_eq!(selected(&ui), "db");
    // With nothing to leave it is no Esc, and does nothing.
    ui.send_keys("<alt-q>");
    assert!(ui.left.is_empty());
    assert!(ui.screen().contains("Alt-q does nothing here"), "{}", ui.screen());
    // In a line of text, Alt with b, f or d goes by words.
    ui.send_keys("<esc>n<ctrl-u>one-two<alt-b>");
    assert!(ui.screen().contains("New machine"), "{}", ui.screen());
}

#[test]
fn the_mouse_selects_sorts_and_changes_screens() {
    let mut ui = Ui::new(80, 24, some());
    ui.click("queue");
    assert_eq!(selected(&ui), "queue");
    ui.click("Memory");
    let row = |ui: &Ui, name: &str| ui.find(name).expect("seen").y;
    assert!(row(&ui, "web") < row(&ui, "build"));
    ui.click("4 Jobs");
    assert_eq!(ui.app.state.screen, crate::tui::state::Screen::Jobs);
    ui.click("? help");
    assert!(ui.screen().contains("Help"), "{}", ui.screen());
}

#[test]
fn selection_and_focus_have_styles_of_their_own() {
    let mut ui = Ui::new(80, 24, some());
    let theme = ui.app.state.theme.clone();
    let at = ui.find("build").expect("the first machine");
    let selection = theme.style(Slot::Selection);
    assert_eq!(ui.buffer()[at].bg, selection.bg.expect("a background"));
    ui.send_keys("j");
    assert_ne!(ui.buffer()[at].bg, selection.bg.expect("a background"));
    ui.send_keys("Gx");
    let cancel = ui.find("[ Cancel").expect("a button");
    let focus = theme.style(Slot::ButtonFocus);
    assert_eq!(ui.buffer()[cancel].bg, focus.bg.expect("a background"));
}

#[test]
fn the_cursor_stays_on_its_machine_and_finds_another_when_it_goes() {
    let mut ui = Ui::new(80, 24, some());
    ui.send_keys("jj");
    assert_eq!(selected(&ui), "queue");
    ui.picture(|fleet| {
        fleet.vms.insert(0, vm(9, "aaa", Phase::Stopped).into());
    });
    assert_eq!(selected(&ui), "queue");
    ui.picture(|fleet| fleet.vms.retain(|vm| vm.spec.name.as_str() != "queue"));
    assert_eq!(selected(&ui), "web");
    ui.picture(|fleet| fleet.vms.clear());
    assert_eq!(selected(&ui), "");
    ui.send_keys("sxdKrRcoy j");
    assert!(ui.is_quiet());
    let _ = fleet(Vec::new());
}

#[test]
fn the_ssh_command_is_copied() {
    let mut ui = Ui::new(80, 24, some());
    ui.app.state.ssh_key = Some("/home/a b/.key".into());
    ui.send_keys("Gy");
    assert_eq!(ui.copied, ["ssh -i '/home/a b/.key' -p 40001 root@127.0.0.1"]);
    // By name where there is one, else by address.
    ui.app.state.ssh_key = None;
    ui.picture(|fleet| *fleet = super::screens::bridged());
    ui.send_keys("Gyky");
    assert_eq!(ui.copied[1..], ["ssh root@web.vm", "ssh root@172.30.4.2"]);
}

#[test]
fn the_detail_ends_where_its_text_does() {
    let mut db = vm(2, "db", Phase::Stopped);
    db.problem = Some(Problem::new("it did not start", "for some reasons ".repeat(3_000), "look"));
    let mut ui = Ui::new(80, 24, fleet(vec![db]));
    ui.send_keys("<enter>G");
    assert!(ui.screen().contains(" Made "), "{}", ui.screen());
    ui.send_keys("jjjk");
    assert!(!ui.screen().contains(" Made "), "{}", ui.screen());
    // A text that is shorter now leaves nothing to scroll back from.
    ui.send_keys("G");
    ui.picture(|fleet| {
        let mut db = vm(2, "db", Phase::Stopped);
        db.problem = Some(Problem::new("it did not start", "a reason ".repeat(300), "look"));
        fleet.vms = vec![db.into()];
    });
    assert!(ui.screen().contains(" Made "), "{}", ui.screen());
    ui.send_keys("k");
    assert!(!ui.screen().contains(" Made "), "{}", ui.screen());
}

#[test]
fn a_stop_of_what_is_paused_for_want_of_room_says_what_is_lost() {
    let mut held = vm(1, "web", Phase::Paused);
    held.problem = Some(Problem::new("the VM is paused: the disk is full", "", "make room"));
    let mut ui = Ui::new(80, 24, fleet(vec![held, vm(2, "zero", Phase::Paused)]));
    ui.send_keys("gg<space>x");
    assert!(ui.screen().contains("Stop web?"), "{}", ui.screen());
    assert!(ui.screen().contains("Make room first"), "{}", ui.screen());
    assert!(!ui.screen().contains("is asked to shut down"), "{}", ui.screen());
    ui.send_keys("n");
    ui.send_keys("u");
    ui.send_keys("Gx");
    assert!(ui.screen().contains("Stop zero?"), "{}", ui.screen());
    assert!(!ui.screen().contains("Make room first"), "{}", ui.screen());
}
