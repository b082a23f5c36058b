//! Making a machine, setting up, jobs, help and palette, through the whole UI.

use crate::{
    config::{Config, NewVm, keymap::Overrides, theme::Theme},
    domain::{
        Admission, BundleView, CommandBody, Denied, Fleet, JobId, JobState, JobView, Phase,
        Problem, StepState, StepView, UnixMs,
    },
    tui::{
        harness::Ui,
        keymap::{KeyMap, action_keys},
        state::{Now, Screen, State},
        testing::{fleet, vm},
    },
};

fn job(id: u64, title: &str, state: JobState, steps: &[(&str, StepState)]) -> JobView {
    let step = |(name, state): &(&str, StepState)| StepView {
        name: (*name).to_owned(),
        state: *state,
        detail: String::new(),
        progress: None,
    };
    JobView {
        id: JobId(id),
        title: title.to_owned(),
        vm: None,
        cancellable: !state.is_over(),
        ended: state.is_over().then_some(UnixMs(99_999_000)),
        state,
        steps: steps.iter().map(step).collect(),
        log: vec!["I: a line of the log".to_owned()],
        started: UnixMs(99_990_000),
    }
}

fn failed() -> JobState {
    let problem = Problem::new("cannot build tiny", "the disk is full", "make room, then r");
    JobState::Failed { problem }
}

fn bare() -> Fleet {
    let mut fleet = Fleet { images: Vec::new(), ..fleet(Vec::new()) };
    let problem = Problem::new("there is no runtime directory", "no bundle.json in /opt", "set up");
    fleet.host.bundle = BundleView::Missing { problem };
    fleet
}

#[test]
fn what_a_field_is_for_is_read_to_its_end() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    ui.send_keys("n<down><down><down><down>");
    let screen = ui.screen();
    assert!(screen.contains("It takes only what is") && screen.contains("│ written "), "{screen}");
}

#[test]
fn n_and_enter_make_a_machine_with_what_was_suggested() {
    let mut ui = Ui::new(80, 24, fleet(vec![vm(1, "debian-1", Phase::Running)]));
    ui.send_keys("n");
    insta::assert_snapshot!("new_vm_80x24", ui.screen());
    assert!(ui.cursor().is_some(), "one can type at once");
    ui.send_keys("<enter>");
    let CommandBody::Create { spec, start: true } = ui.command() else { panic!() };
    assert_eq!(spec.name.as_str(), "debian-2");
    assert!(!ui.screen().contains("New machine"), "{}", ui.screen());
    assert!(ui.is_quiet());
}

#[test]
fn letters_are_text_in_the_form_and_no_commands() {
    let mut ui = Ui::new(80, 24, fleet(vec![vm(1, "web", Phase::Running)]));
    ui.send_keys("n<ctrl-u>qnx-s:?/1<enter>");
    assert!(ui.is_quiet() && ui.left.is_empty());
    assert!(ui.screen().contains("':' cannot be in a name"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>qnx<tab><tab>+<enter>");
    let CommandBody::Create { spec, .. } = ui.command() else { panic!() };
    assert_eq!((spec.name.as_str(), spec.vcpus), ("qnx", 2));
}

#[test]
fn a_denial_stays_in_the_form_and_escape_keeps_what_was_typed() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    ui.send_keys("n<ctrl-u>web<enter>");
    let full = Problem::new("cannot make web", "the disk is full", "make room");
    ui.answer(Admission::Denied(Denied(full)));
    let screen = ui.screen();
    assert!(screen.contains("cannot make web: the disk is full"), "{screen}");
    assert_eq!(screen.matches("the disk is full").count(), 1, "not in a toast as well: {screen}");
    ui.send_keys("<esc>");
    assert!(!ui.screen().contains("New machine"));
    ui.send_keys("n<enter>");
    let CommandBody::Create { spec, .. } = ui.command() else { panic!() };
    assert_eq!(spec.name.as_str(), "web");
}

#[test]
fn the_settings_are_the_forms_defaults() {
    let new_vm = NewVm { image: Some("tiny".into()), vcpus: 3, memory_mib: Some(512) };
    let config = Config { new_vm, ..Config::default() };
    let mut ui = Ui::with_config(80, 24, fleet(Vec::new()), &config);
    ui.send_keys("n<enter>");
    let CommandBody::Create { spec, .. } = ui.command() else { panic!() };
    assert_eq!((spec.image.as_str(), spec.vcpus, spec.memory_mib), ("tiny", 3, 512));
}

#[test]
fn the_escape_chord_is_the_settings_else_the_key_maps() {
    let file = std::path::Path::new("keymap.toml");
    let text = "[terminal]\npane-leave = \"ctrl-g\"\n";
    let own = Overrides::parse(file, text, &action_keys()).unwrap();
    let escape = |overrides: &Overrides, config: &Config| {
        let keys = KeyMap::new(overrides).unwrap();
        let mut state = State::new(Theme::default(), keys, (80, 24), Now::default());
        state.configure(config);
        state.keys.escape().to_string()
    };
    let set = Config { escape_chord: "ctrl-t".parse().unwrap(), ..Config::default() };
    assert_eq!(escape(&Overrides::default(), &Config::default()), "Ctrl-]");
    assert_eq!(escape(&own, &Config::default()), "Ctrl-g");
    assert_eq!(escape(&own, &set), "Ctrl-t");
}

#[test]
fn the_form_works_with_the_mouse() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    ui.send_keys("n");
    ui.click("At login");
    ui.click("At login");
    ui.click("Create and start");
    let CommandBody::Create { spec, .. } = ui.command() else { panic!("{}", ui.screen()) };
    assert!(spec.restore);
    ui.send_keys("<esc>n");
    ui.click("Later");
    assert!(!ui.screen().contains("New machine"), "{}", ui.screen());
}

#[test]
fn a_first_start_leads_from_nothing_to_a_machine_with_two_answers() {
    let mut ui = Ui::new(80, 24, bare());
    insta::assert_snapshot!("first_start_80x24", ui.screen());
    ui.send_keys("<enter>");
    assert_eq!(ui.command(), CommandBody::Bootstrap);
    let steps = [("kernel", StepState::Done), ("tiny image", StepState::Running)];
    ui.picture(|f| f.jobs = vec![job(1, "bootstrap", JobState::Running, &steps)]);
    assert!(ui.screen().contains("Setting up: running"), "{}", ui.screen());
    ui.picture(|f| f.jobs = vec![job(1, "bootstrap", failed(), &steps)]);
    let screen = ui.screen();
    assert!(screen.contains("the disk is full") && screen.contains("make room"), "{screen}");
    ui.send_keys("<enter>");
    assert_eq!(ui.command(), CommandBody::RetryJob(JobId(1)));
    ui.picture(|f| {
        f.jobs = vec![job(2, "bootstrap", JobState::Done, &steps)];
        f.host.bundle = BundleView::Ready { dir: "/opt/runtime".into() };
        f.images = fleet(Vec::new()).images;
    });
    let screen = ui.screen();
    assert!(screen.contains("the runtime directory is ready"), "{screen}");
    ui.send_keys("n<enter>");
    assert!(matches!(ui.command(), CommandBody::Create { .. }));
}

#[test]
fn a_failed_job_is_seen_retried_and_dismissed() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    let jobs = vec![
        job(1, "start db", failed(), &[("disk", StepState::Failed)]),
        job(2, "start web", JobState::Running, &[("guest", StepState::Running)]),
    ];
    ui.picture(|f| f.jobs = jobs);
    ui.send_keys("J");
    insta::assert_snapshot!("jobs_80x24", ui.screen());
    ui.send_keys("r");
    assert!(ui.is_quiet());
    assert!(ui.screen().contains("only a failed or cancelled job"), "{}", ui.screen());
    // Cancelling asks, and Enter is on Cancel.
    ui.send_keys("x<enter>");
    assert!(ui.is_quiet());
    ui.send_keys("xy");
    assert_eq!(ui.command(), CommandBody::CancelJob(JobId(2)));
    ui.send_keys("jr");
    assert_eq!(ui.command(), CommandBody::RetryJob(JobId(1)));
    ui.send_keys("d");
    assert_eq!(ui.command(), CommandBody::DismissJob(JobId(1)));
}

#[test]
fn help_is_about_where_one_is() {
    let mut ui = Ui::new(80, 24, fleet(vec![vm(1, "web", Phase::Stopped)]));
    ui.send_keys("?/root<enter>");
    let screen = ui.screen();
    assert!(screen.contains("Open a root shell") && screen.contains("web is stopped"), "{screen}");
    ui.send_keys("<esc><esc>");
    assert!(!ui.screen().contains("Help:"), "{}", ui.screen());
    ui.send_keys("4?");
    let screen = ui.screen();
    assert!(screen.contains("Do a failed job again") && !screen.contains("root shell"), "{screen}");
}

#[test]
fn the_palette_runs_commands_and_goes_to_machines() {
    let web = vm(2, "web", Phase::Stopped);
    let id = web.id.clone();
    let mut ui = Ui::new(80, 24, fleet(vec![vm(1, "db", Phase::Running), web]));
    ui.send_keys("4:web<enter>");
    assert_eq!(ui.app.state.screen, Screen::Machines);
    assert_eq!(ui.app.state.selected, Some(id.clone()));
    ui.send_keys("<ctrl-p>vm-start<enter>");
    assert_eq!(ui.command(), CommandBody::Start(id));
    ui.send_keys(":quit<enter>");
    assert_eq!(ui.left.len(), 1, "banger ends");
}

#[test]
fn the_palette_finds_a_machine_that_a_filter_hides() {
    let machines = vec![vm(1, "db", Phase::Running), vm(2, "web", Phase::Stopped)];
    let mut ui = Ui::new(80, 24, fleet(machines));
    ui.send_keys("/db<enter>:web<enter>");
    let screen = ui.screen();
    assert!(screen.contains("web") && screen.contains("db"), "{screen}");
    // The cursor is there, and moves from there.
    ui.send_keys("s");
    assert!(
        matches!(ui.command(), CommandBody::Start(id) if id == vm(2, "web", Phase::Stopped).id)
    );
    ui.send_keys("ky");
    assert_eq!(ui.copied.len(), 1, "db has an address: {}", ui.screen());
}

#[test]
fn popups_survive_any_size_of_the_terminal() {
    let mut ui = Ui::new(80, 24, fleet(vec![vm(1, "web", Phase::Running)]));
    for open in ["n", "?", ":", "J"] {
        ui.resize(80, 24);
        ui.send_keys(open);
        for (columns, rows) in [(10, 3), (1, 1), (60, 15), (200, 50)] {
            ui.resize(columns, rows);
        }
        ui.send_keys("<esc>");
    }
    ui.resize(80, 24);
    assert!(ui.screen().contains("web"), "{}", ui.screen());
}
