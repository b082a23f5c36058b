//! Help and palette on their own.

mod forms_kit;

use banger::{
    domain::{CommandBody, JobState, Phase},
    tui::{
        action::Context,
        popups::{help::Help, palette::Palette},
    },
};
use forms_kit::{Kit, fleet, job, state, text, vm};
use ratatui::style::Modifier;

const HERE: &[Context] = &[Context::Machines, Context::List, Context::Global];

fn palette() -> Kit<Palette> {
    let mut fleet = fleet();
    fleet.vms.push(vm(2, "web-server", Phase::Stopped).into());
    fleet.jobs.push(job(1, "start web", JobState::Running, Vec::new()));
    let mut state = state(fleet);
    state.selected = state.fleet.vms.first().map(|vm| vm.id.clone());
    let palette = Palette::open(&state, HERE);
    Kit::new(palette, state)
}

#[test]
fn the_palette_offers_commands_with_their_keys_and_machines() {
    let kit = palette();
    insta::assert_snapshot!("palette_80x24", kit.screen(80, 24));
    insta::assert_snapshot!("palette_200x50", kit.screen(200, 50));
}

#[test]
fn letters_in_order_find_a_command_and_enter_runs_it() {
    let mut kit = palette();
    kit.text("stppolfrst");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("Stop, politely first") && !screen.contains("Rename"), "{screen}");
    kit.keys("enter");
    assert_eq!(kit.wishes, ["close", "run VmStop"]);
}

#[test]
fn what_was_matched_is_marked() {
    let mut kit = palette();
    kit.text("rename");
    let (buf, _) = kit.draw(80, 24);
    let screen = text(&buf);
    let y = screen.lines().position(|l| l.contains("vm-rename")).expect("found") as u16;
    let marked: String = (0..80)
        .filter(|x| buf[(*x, y)].modifier.contains(Modifier::UNDERLINED))
        .map(|x| buf[(x, y)].symbol().to_owned())
        .collect();
    assert_eq!(marked, "rename", "{screen}");
}

#[test]
fn a_machine_is_found_by_name_and_gone_to() {
    let mut kit = palette();
    kit.text("webs");
    kit.keys("enter");
    assert_eq!(kit.wishes, ["close", "go Machines"]);
    let selected = kit.state.selected_vm().expect("selected");
    assert_eq!(selected.spec.name.as_str(), "web-server");
}

#[test]
fn what_cannot_be_done_now_says_why_and_leaves_the_palette_open() {
    let mut kit = palette();
    kit.text("vm-delete");
    kit.keys("enter");
    assert!(kit.wishes.is_empty());
    let screen = kit.screen(80, 24);
    assert!(screen.contains("✗ not now: debian-1 is running; stop it first with x"), "{screen}");
    kit.keys("backspace");
    assert!(!kit.screen(80, 24).contains("not now"));
}

#[test]
fn commands_of_another_screen_go_there_first() {
    let mut kit = palette();
    kit.state.job = kit.state.fleet.jobs.first().map(|job| job.id);
    kit.text("job-cancel");
    kit.keys("enter");
    assert_eq!(kit.wishes, ["close", "go Jobs", "run JobCancel"]);
    let mut kit = palette();
    kit.text("bootstrap");
    kit.keys("enter");
    assert_eq!(kit.wishes, ["close", "go Jobs"]);
    assert_eq!(kit.commands(), [CommandBody::Bootstrap]);
}

#[test]
fn nothing_found_and_strange_queries_do_no_harm() {
    let mut kit = palette();
    kit.text("zzzzqqq");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("Nothing has these letters"), "{screen}");
    kit.keys("enter down up pgdn pgup");
    assert!(kit.wishes.is_empty());
    for query in ["!", "^", "$", "'", "\\ ", "日本", "^vm !del$"] {
        kit.keys("ctrl-u");
        kit.text(query);
        for (columns, rows) in [(80, 24), (60, 15), (20, 6), (1, 1)] {
            kit.screen(columns, rows);
        }
    }
    kit.keys("esc");
    assert_eq!(kit.wishes, ["close"]);
}

#[test]
fn the_choice_stays_when_the_fleet_changes() {
    let mut kit = palette();
    kit.text("web");
    let before = kit.screen(80, 24);
    assert!(before.contains("stopped"), "{before}");
    let mut newer = fleet();
    newer.vms.insert(0, vm(3, "a-web", Phase::Running).into());
    newer.vms.push(vm(2, "web-server", Phase::Booting).into());
    kit.fleet(newer);
    kit.keys("enter");
    assert_eq!(kit.state.selected_vm().expect("selected").spec.name.as_str(), "web-server");
}

fn help() -> Kit<Help> {
    let mut state = state(fleet());
    state.selected = state.fleet.vms.first().map(|vm| vm.id.clone());
    Kit::new(Help::new(HERE), state)
}

#[test]
fn help_lists_what_works_here_and_greys_what_does_not_with_the_reason() {
    let kit = help();
    insta::assert_snapshot!("help_80x24", kit.screen(80, 24));
    insta::assert_snapshot!("help_200x50", kit.screen(200, 50));
    let (buf, _) = kit.draw(200, 60);
    let screen = text(&buf);
    assert!(screen.contains("Start - debian-1 is running already"), "{screen}");
    assert!(!screen.contains("Cancel the job"), "that is on another screen: {screen}");
}

#[test]
fn help_is_filtered_and_escape_goes_back_one_step_at_a_time() {
    let mut kit = help();
    kit.keys("/");
    kit.text("sort by");
    let screen = kit.screen(80, 24);
    assert!(screen.contains("Sort by image") && !screen.contains("Quit"), "{screen}");
    kit.keys("enter");
    assert!(kit.wishes.is_empty(), "Enter keeps the filter");
    assert!(kit.screen(80, 24).contains("Sort by image"));
    kit.keys("esc");
    assert!(kit.wishes.is_empty() && kit.screen(80, 24).contains("Make a new machine"));
    kit.keys("/ z z q");
    assert!(kit.screen(80, 24).contains("Nothing here has that in its name."));
    kit.keys("esc esc");
    assert_eq!(kit.wishes, ["close"]);
}

#[test]
fn help_scrolls_to_its_end_and_no_further() {
    let mut kit = help();
    kit.keys("end");
    let end = kit.screen(80, 24);
    assert!(end.contains("Quit banger"), "{end}");
    kit.keys("pgdn down");
    assert_eq!(kit.screen(80, 24), end);
    kit.keys("k");
    kit.keys("home");
    assert!(kit.screen(80, 24).contains("Make a new machine"));
    for (columns, rows) in [(60, 15), (20, 6), (3, 3), (1, 1)] {
        kit.screen(columns, rows);
    }
}
