//! The Jobs and first-start screens on their own.

mod forms_kit;

use banger::{
    domain::{
        Admission, BundleView, CommandBody, Fleet, JobId, JobState, JobView, Problem, StepState,
    },
    tui::{
        event::{Answer, LayerEvent},
        layers::Hit,
        screens::{
            first_start::{FirstStart, PARTS},
            jobs::Jobs,
        },
    },
};
use forms_kit::{Kit, denied, fleet, job, state, step};

fn failed() -> JobState {
    JobState::Failed {
        problem: Problem::new(
            "cannot build the debian image",
            "mmdebstrap ended with exit code 25: E: could not reach the mirror",
            "check the network, then press r",
        ),
    }
}

fn bootstrap(state: JobState) -> JobView {
    let (debian, detail, progress) = match &state {
        JobState::Running => (StepState::Running, "unpacking", Some((120, 245))),
        JobState::Failed { .. } => (StepState::Failed, "exit code 25", None),
        _ => (StepState::Done, "245 MB", None),
    };
    let over = matches!(state, JobState::Done);
    let mut job = job(
        3,
        "make the runtime directory",
        state,
        vec![
            step("kernel", StepState::Cached, "6.1.0-37-cloud-amd64", None),
            step("initrd", StepState::Done, "463 KB", None),
            step("tiny image", StepState::Done, "64 MiB", None),
            step("debian image", debian, detail, progress),
            step(
                "firecracker",
                if over { StepState::Skipped } else { StepState::Pending },
                "",
                None,
            ),
        ],
    );
    job.log = (1..=40).map(|n| format!("I: line {n} of the log")).collect();
    job
}

fn with_jobs() -> Fleet {
    let start = vec![
        step("disk", StepState::Done, "6 MiB", None),
        step("guest", StepState::Running, "booting", None),
    ];
    let mut queued = job(5, "start db", JobState::Queued, Vec::new());
    queued.cancellable = false;
    Fleet {
        jobs: vec![
            job(1, "create web", JobState::Done, Vec::new()),
            job(2, "start old", JobState::Cancelled, Vec::new()),
            bootstrap(failed()),
            job(4, "start web", JobState::Running, start),
            queued,
        ],
        ..fleet()
    }
}

fn jobs(fleet: Fleet) -> Kit<Jobs> {
    let mut kit = Kit::new(Jobs::default(), state(Fleet::default()));
    kit.fleet(fleet);
    kit
}

#[test]
fn jobs_are_listed_newest_first_with_steps_log_and_failure() {
    let mut kit = jobs(with_jobs());
    assert_eq!(kit.state.job, Some(JobId(5)));
    kit.keys("j j");
    insta::assert_snapshot!("jobs_failed_80x24", kit.screen(80, 24));
    insta::assert_snapshot!("jobs_failed_200x50", kit.screen(200, 50));
    let running = Fleet { jobs: vec![bootstrap(JobState::Running)], ..fleet() };
    insta::assert_snapshot!("jobs_running_80x24", jobs(running).screen(80, 24));
    insta::assert_snapshot!("jobs_none_80x24", jobs(fleet()).screen(80, 24));
}

#[test]
fn a_bar_shows_only_where_a_total_is_known_and_is_never_full_before_the_end() {
    let mut running = bootstrap(JobState::Running);
    running.steps[3] = step("debian image", StepState::Running, "", Some((245, 245)));
    let screen = jobs(Fleet { jobs: vec![running.clone()], ..fleet() }).screen(80, 24);
    assert!(screen.contains("99 %") && !screen.contains("100 %"), "{screen}");
    running.steps[3].progress = None;
    let screen = jobs(Fleet { jobs: vec![running], ..fleet() }).screen(80, 24);
    assert!(!screen.contains('%') && !screen.contains('━'), "{screen}");
}

#[test]
fn verbs_are_sent_for_jobs_that_take_them() {
    let mut kit = jobs(with_jobs());
    kit.keys("x r d");
    assert!(kit.commands().is_empty() && kit.wishes.is_empty(), "job 5 takes none");
    kit.keys("j x");
    assert_eq!(kit.wishes, ["push Question"], "cancelling asks first");
    kit.keys("j r");
    assert_eq!(kit.commands(), [CommandBody::RetryJob(JobId(3))]);
    kit.keys("d j d");
    let dismissed = [3, 2].map(|n| CommandBody::DismissJob(JobId(n)));
    assert_eq!(kit.commands()[1..], dismissed);
}

#[test]
fn the_selection_stays_on_its_job_and_moves_when_that_is_gone() {
    let mut kit = jobs(with_jobs());
    kit.keys("end");
    assert_eq!(kit.state.job, Some(JobId(1)));
    let mut newer = with_jobs();
    newer.jobs.push(job(6, "stop web", JobState::Running, Vec::new()));
    kit.fleet(newer.clone());
    assert_eq!(kit.state.job, Some(JobId(1)));
    newer.jobs.remove(0);
    kit.fleet(newer);
    assert_eq!(kit.state.job, Some(JobId(6)));
    kit.fleet(fleet());
    assert_eq!(kit.state.job, None);
    kit.keys("j k end home x r d enter");
    assert!(kit.commands().is_empty());
}

#[test]
fn the_log_scrolls_back_and_the_detail_can_be_hidden() {
    let mut kit = jobs(with_jobs());
    kit.keys("j j");
    assert!(kit.screen(80, 30).contains("line 40 of"));
    kit.keys("ctrl-u ctrl-u");
    let screen = kit.screen(80, 30);
    assert!(!screen.contains("line 40 of") && screen.contains("more below"), "{screen}");
    kit.keys("ctrl-d ctrl-d");
    assert!(kit.screen(80, 30).contains("line 40 of"));
    kit.keys("enter");
    assert!(!kit.screen(80, 30).contains("Log"));
}

#[test]
fn a_click_selects_and_every_size_is_drawn() {
    let mut kit = jobs(with_jobs());
    let (_, regions) = kit.draw(80, 24);
    let third = regions.iter().find(|r| r.hit == Hit::Item(2)).expect("the third job");
    let event = ratatui::crossterm::event::MouseEvent {
        kind: ratatui::crossterm::event::MouseEventKind::Down(
            ratatui::crossterm::event::MouseButton::Left,
        ),
        column: third.area.x,
        row: third.area.y,
        modifiers: ratatui::crossterm::event::KeyModifiers::NONE,
    };
    kit.send(&LayerEvent::Mouse(event, Some(third.hit)));
    assert_eq!(kit.state.job, Some(JobId(3)));
    for (columns, rows) in [(119, 11), (60, 12), (20, 4), (5, 3), (1, 1)] {
        kit.screen(columns, rows);
    }
}

fn bare() -> Fleet {
    let problem = Problem::new(
        "there is no runtime directory: no kernel and no images",
        "no bundle.json in /usr/lib/banger (beside the installed program), nor in \
         /src/banger/runtime (in the checkout banger was built in)",
        "run `banger runtime bootstrap` to make one",
    );
    let mut fleet = Fleet { vms: Vec::new(), images: Vec::new(), ..fleet() };
    fleet.host.bundle = BundleView::Missing { problem };
    fleet
}

fn queued(job: u64) -> Answer {
    Answer::Admission(Admission::Queued(JobId(job)))
}

#[test]
fn the_first_start_says_what_is_missing_and_what_will_be_made() {
    let kit = Kit::new(FirstStart::default(), state(bare()));
    insta::assert_snapshot!("first_start_80x24", kit.screen(80, 24));
    insta::assert_snapshot!("first_start_200x50", kit.screen(200, 50));
}

#[test]
fn enter_sets_up_with_live_steps_and_a_failure_is_retried_from_there() {
    let mut kit = Kit::new(FirstStart::default(), state(bare()));
    kit.keys("enter enter");
    assert_eq!(kit.commands(), [CommandBody::Bootstrap], "once");
    kit.answer(&queued(3));
    kit.fleet(Fleet { jobs: vec![bootstrap(JobState::Running)], ..bare() });
    insta::assert_snapshot!("first_start_running_80x24", kit.screen(80, 24));
    kit.keys("enter");
    assert_eq!(kit.commands().len(), 1, "it is under way");
    kit.fleet(Fleet { jobs: vec![bootstrap(failed())], ..bare() });
    insta::assert_snapshot!("first_start_failed_80x24", kit.screen(80, 24));
    kit.keys("enter");
    assert_eq!(kit.commands()[1..], [CommandBody::RetryJob(JobId(3))]);
    kit.answer(&queued(4));
    let mut again = bootstrap(JobState::Running);
    again.id = JobId(4);
    kit.fleet(Fleet { jobs: vec![again], ..bare() });
    assert!(kit.screen(80, 24).contains("Setting up: running"));
    kit.fleet(fleet());
    let told: Vec<_> = kit.state.toasts.history().map(|toast| toast.text.clone()).collect();
    assert_eq!(told, ["the runtime directory is ready"]);
    kit.fleet(fleet());
    assert_eq!(kit.state.toasts.history().len(), 1, "told once");
}

#[test]
fn what_keeps_it_from_beginning_is_told() {
    let mut kit = Kit::new(FirstStart::default(), state(bare()));
    kit.keys("enter");
    kit.answer(&denied(
        "cannot make the runtime directory",
        "/usr/lib is read-only",
        "set BANGER_RUNTIME_DIR",
    ));
    let screen = kit.screen(80, 24);
    assert!(
        screen.contains("/usr/lib is read-only") && screen.contains("set BANGER_RUNTIME_DIR"),
        "{screen}"
    );
    kit.keys("enter");
    assert_eq!(kit.commands().len(), 2);
    for (columns, rows) in [(60, 13), (30, 8), (3, 2), (1, 1)] {
        kit.screen(columns, rows);
    }
}

#[test]
fn what_will_be_made_is_what_the_bundle_has() {
    let toml = include_str!("../runtime-bundle.toml");
    let table: toml::Table = toml.parse().expect("the bundle is TOML");
    let known = |name: &str| PARTS.iter().find(|(part, ..)| *part == name);
    let images = table["images"].as_array().expect("images");
    for image in images {
        let name = format!("{} image", image["name"].as_str().expect("a name"));
        let (_, cost, _) = known(&name).unwrap_or_else(|| panic!("{name} is not told"));
        let bytes = image["size_mib"].as_integer().expect("a size") as u64 * (1 << 20);
        let size = banger::domain::ByteSize(bytes).to_string();
        assert!(cost.contains(&size), "{name}: {cost} is not {size}");
    }
    for part in ["kernel", "initrd", "firecracker"] {
        assert!(table.contains_key(part), "{part} is no longer in the bundle");
        let told = PARTS.iter().any(|(p, ..)| p.eq_ignore_ascii_case(part));
        assert!(told, "{part} is not told");
    }
    let (_, _, from) = known("Firecracker").expect("told");
    let url = table["firecracker"]["source"]["x86_64"]["url"].as_str().expect("a URL");
    assert!(url.contains("github.com") && from.contains("GitHub"));
    assert_eq!(images.len() + 3, PARTS.len());
}

#[test]
fn without_colour_the_selected_job_and_its_state_still_show() {
    use banger::config::theme::Theme;
    use ratatui::style::{Color, Modifier};
    let mut kit = jobs(with_jobs());
    kit.state.theme = Theme::mono("dark");
    kit.keys("j");
    let (buf, regions) = kit.draw(80, 24);
    for region in &regions {
        let Hit::Item(n) = region.hit else { continue };
        let cell = &buf[(region.area.x + 20, region.area.y)];
        assert_eq!(cell.modifier.contains(Modifier::REVERSED), n == 1, "row {n}");
    }
    assert!(buf.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let screen = forms_kit::text(&buf);
    for sign in ["○ waiting", "running", "✗ failed", "⊘ cancelled", "✓ done"] {
        assert!(screen.contains(sign), "{sign}");
    }
}
