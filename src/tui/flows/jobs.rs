//! The Jobs screen with what panes run, through the whole UI.

use std::time::Duration;

use crate::{
    domain::{JobId, JobState, JobView, UnixMs},
    supervisor::RUN_DONE,
    tui::{harness::Ui, state::Screen, testing::fleet},
};

/// Has a disk imported; the pane has the keyboard.
fn import(ui: &mut Ui, path: &str) -> crate::tui::harness::FakeGuest {
    ui.send_keys(&format!("3i{path}<enter>"));
    let (words, guest) = ui.ran();
    assert_eq!(words, format!("images import {path}"));
    guest
}

#[test]
fn what_a_pane_makes_is_a_job_and_enter_leads_there() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    let guest = import(&mut ui, "/tmp/disk.qcow2");
    ui.send_keys("<ctrl-]>4");
    let screen = ui.screen();
    for words in ["4 Jobs 1", "Jobs (1, 1 running)", "import disk.qcow2", "Enter shows its pane"] {
        assert!(screen.contains(words), "no “{words}” in\n{screen}");
    }
    // The newest is on top, whoever does it.
    ui.picture(|fleet| {
        fleet.jobs.push(JobView {
            id: JobId(1),
            title: "start web".into(),
            vm: None,
            state: JobState::Done,
            steps: Vec::new(),
            log: Vec::new(),
            started: UnixMs(1),
            ended: Some(UnixMs(2)),
            cancellable: false,
        });
    });
    let (newer, older) = (ui.find("import disk"), ui.find("start web"));
    assert!(newer.zip(older).is_some_and(|(a, b)| a.y < b.y), "{}", ui.screen());
    ui.send_keys("<enter>");
    assert_eq!(ui.app.state.screen, Screen::Panes);
    ui.send_keys("x");
    ui.wait_for("the key", |_| guest.typed() == "x");

    ui.pass(Duration::from_secs(90));
    guest.end_with(RUN_DONE);
    ui.wait_for("its end", |ui| ui.app.state.running_jobs() == 0);
    ui.send_keys("4");
    assert!(ui.screen().contains("✓ done, 1m 30s · Enter shows its pane"), "{}", ui.screen());
    ui.pass(Duration::from_secs(90));
    assert!(ui.screen().contains("done, 1m 30s"), "{}", ui.screen());
    // Off the list it stays off, although its pane is there.
    ui.send_keys("d");
    ui.pass(Duration::from_secs(1));
    let screen = ui.screen();
    assert!(screen.contains("Jobs (1)") && !screen.contains("import disk"), "{screen}");
    assert!(ui.is_quiet(), "the supervisor is not told");
}

#[test]
fn what_failed_in_a_pane_is_run_again_and_what_runs_can_be_ended() {
    let mut ui = Ui::new(80, 24, fleet(Vec::new()));
    let guest = import(&mut ui, "/tmp/disk.qcow2");
    ui.send_keys("<ctrl-]>4d");
    assert!(ui.screen().contains("the job is not over; x cancels it"), "{}", ui.screen());
    ui.send_keys("<esc>4");
    for n in 0..40 {
        guest.output(&format!("line {n}\r\n"));
    }
    let path = "a-directory/".repeat(8);
    guest.output(&format!("error: {path}: no room\r\n"));
    guest.end_with("exit code 1");
    ui.wait_until("its end", |screen| screen.contains("✗ failed"));
    // The notice of it lies above the end of the log.
    ui.pass(Duration::from_secs(30));
    let screen = ui.screen();
    assert!(screen.contains(": no room"), "what it said stays\n{screen}");
    assert!(screen.contains("Log  Ctrl-u Ctrl-d scroll it"), "{screen}");
    // One step back from the very beginning is seen, however far beyond it was asked for.
    ui.send_keys(&"<ctrl-u>".repeat(30));
    let screen = ui.screen();
    assert!(screen.contains("line 0 ") && !screen.contains("no room"), "{screen}");
    ui.send_keys("<ctrl-d>");
    assert!(!ui.screen().contains("line 0 "), "{}", ui.screen());
    ui.send_keys(&"<ctrl-d>".repeat(30));
    assert!(ui.screen().contains(": no room"), "{}", ui.screen());
    ui.send_keys("<ctrl-u>");
    assert!(!ui.screen().contains(": no room"), "{}", ui.screen());
    assert!(screen.contains("“import disk.qcow2” was not done"), "{screen}");
    assert!(screen.contains("exit code 1"), "{screen}");
    ui.send_keys("r");
    assert_eq!(ui.ran().0, "images import /tmp/disk.qcow2");
    assert_eq!((ui.app.state.screen, ui.app.state.panes.len()), (Screen::Panes, 1));
    ui.send_keys("<ctrl-]>4");
    assert!(ui.screen().contains("Jobs (1, 1 running)"), "{}", ui.screen());
    ui.send_keys("x");
    assert!(ui.screen().contains("End “import disk.qcow2” before it is done?"), "{}", ui.screen());
    ui.send_keys("y");
    let screen = ui.screen();
    assert!(screen.contains("⊘ cancelled") && !screen.contains("shows its pane"), "{screen}");
    assert!(ui.app.state.panes.is_empty());
    ui.send_keys("<enter>");
    assert!(ui.screen().contains("its pane is closed"), "{}", ui.screen());
    assert_eq!(ui.app.state.screen, Screen::Jobs);
    // In a new pane, and as one job.
    ui.send_keys("r");
    assert_eq!(ui.ran().0, "images import /tmp/disk.qcow2");
    ui.send_keys("<ctrl-]>4");
    assert!(ui.screen().contains("Jobs (1, 1 running)"), "{}", ui.screen());
    // It is counted once when all is to end.
    ui.send_keys("q");
    assert!(ui.screen().contains("Quit while “import disk.qcow2” is running?"), "{}", ui.screen());
}
