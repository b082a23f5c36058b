//! Scenes: one thing each.

use super::{
    Before, Effect, Input, Outcome,
    world::{World, id, orphan, row, spec},
};
use crate::domain::{
    Admission, CommandBody, ExitReason, ExitRecord, JobState, MonitorPhase, NoticeLevel, Phase,
    Problem, StepState, UnixMs, Wanted,
};

fn one() -> World {
    World::new(vec![row(1, "web")])
}

fn running() -> World {
    let mut world = one();
    world.queued(CommandBody::Start(id(1)));
    world.settle();
    assert_eq!(world.phase(&id(1)), Some(Phase::Running));
    world
}

fn state(world: &mut World, job: crate::domain::JobId) -> JobState {
    let jobs = world.core.fleet().jobs;
    jobs.into_iter().find(|view| view.id == job).expect("the job").state
}

#[test]
fn a_vm_is_made_and_started() {
    let mut world = World::new(Vec::new());
    let job = world.queued(CommandBody::Create { spec: spec("web"), start: true });
    let vm = world.core.fleet().vms[0].clone();
    assert_eq!(vm.phase, Phase::Creating);
    world.settle();
    assert_eq!(world.phase(&vm.id), Some(Phase::Running));
    let view = world.core.fleet().jobs[0].clone();
    assert_eq!((view.id, &view.state), (job, &JobState::Done));
    assert!(view.steps.iter().all(|step| step.state == StepState::Done), "{view:?}");
    assert_eq!(world.rows[&vm.id].wanted, Wanted::Running);
}

#[test]
fn a_vm_that_cannot_be_made_leaves_nothing() {
    for failing in 0..3 {
        let mut world = World::new(Vec::new());
        let job = world.queued(CommandBody::Create { spec: spec("web"), start: true });
        for n in 0..=failing {
            world.run(0, n < failing);
        }
        world.settle();
        assert!(world.rows.is_empty(), "{failing}");
        assert!(world.core.fleet().vms.is_empty());
        assert!(matches!(state(&mut world, job), JobState::Failed { .. }));
        // And the name is free again.
        world.queued(CommandBody::RetryJob(job));
        world.settle();
        assert_eq!(world.core.fleet().vms[0].phase, Phase::Running);
    }
}

#[test]
fn names_are_taken_once() {
    let mut world = World::new(vec![row(1, "web"), row(2, "db")]);
    let taken = |admission| matches!(admission, Admission::Denied(d) if d.0.why.contains("name"));
    assert!(taken(world.ask(CommandBody::Create { spec: spec("db"), start: false })));
    let db = "db".parse().expect("name");
    assert!(taken(world.ask(CommandBody::Rename(id(1), db))));
    // A name that is about to be given is taken, too.
    let api: crate::domain::VmName = "api".parse().expect("name");
    world.queued(CommandBody::Rename(id(1), api.clone()));
    assert!(taken(world.ask(CommandBody::Rename(id(2), api.clone()))));
    assert!(taken(world.ask(CommandBody::Create { spec: spec("api"), start: false })));
    world.settle();
    assert_eq!(world.rows[&id(1)].spec.name, api);
    assert!(matches!(world.ask(CommandBody::Rename(id(1), api)), Admission::Ignored(_)));
}

#[test]
fn a_kill_hastens_a_stop_and_both_jobs_succeed() {
    let mut world = running();
    world.monitors.get_mut(&id(1)).expect("up").stubborn = true;
    let stop = world.queued(CommandBody::Stop(id(1)));
    assert!(matches!(world.ask(CommandBody::Stop(id(1))), Admission::Ignored(_)));
    world.run(0, true);
    world.run(0, true);
    let kill = world.queued(CommandBody::Kill(id(1)));
    assert!(matches!(world.pending[0], Effect::RequestStop { .. }), "{:?}", world.pending);
    assert!(matches!(world.ask(CommandBody::Kill(id(1))), Admission::Ignored(_)));
    let before = world.now;
    world.settle();
    assert!(world.now.since(before) < 1_000_000);
    assert_eq!(state(&mut world, stop), JobState::Done);
    assert_eq!(state(&mut world, kill), JobState::Done);
    assert_eq!(world.phase(&id(1)), Some(Phase::Stopped));
}

#[test]
fn a_monitor_that_hangs_is_killed_and_cleared_up_after() {
    let mut world = running();
    world.monitors.get_mut(&id(1)).expect("up").hung = true;
    let stop = world.queued(CommandBody::Stop(id(1)));
    world.settle();
    assert_eq!(state(&mut world, stop), JobState::Done);
    assert_eq!(world.phase(&id(1)), Some(Phase::Stopped));
    let exit = world.rows[&id(1)].last_exit.clone().expect("an exit");
    assert_eq!(exit.reason, ExitReason::MonitorLost);
}

#[test]
fn a_start_during_a_stop_follows_it() {
    let mut world = running();
    let stop = world.queued(CommandBody::Stop(id(1)));
    let start = world.queued(CommandBody::Start(id(1)));
    assert!(matches!(world.ask(CommandBody::Start(id(1))), Admission::Ignored(_)));
    world.settle();
    assert_eq!(state(&mut world, stop), JobState::Done);
    assert_eq!(state(&mut world, start), JobState::Done);
    assert_eq!(world.phase(&id(1)), Some(Phase::Running));
}

#[test]
fn a_stop_cuts_a_start_short() {
    for steps in 0..3 {
        let mut world = one();
        let start = world.queued(CommandBody::Start(id(1)));
        for _ in 0..steps {
            world.run(0, true);
        }
        let stop = world.queued(CommandBody::Stop(id(1)));
        world.settle();
        assert_eq!(state(&mut world, start), JobState::Cancelled, "{steps}");
        assert_eq!(state(&mut world, stop), JobState::Done, "{steps}");
        assert_eq!(world.phase(&id(1)), Some(Phase::Stopped));
        assert_eq!(world.rows[&id(1)].wanted, Wanted::Stopped);
    }
}

#[test]
fn a_restart_is_one_job_and_a_kill_overrules_it() {
    let mut world = running();
    let restart = world.queued(CommandBody::Restart(id(1)));
    world.settle();
    assert_eq!(state(&mut world, restart), JobState::Done);
    assert_eq!(world.phase(&id(1)), Some(Phase::Running));

    let restart = world.queued(CommandBody::Restart(id(1)));
    let kill = world.queued(CommandBody::Kill(id(1)));
    world.settle();
    assert_eq!(state(&mut world, restart), JobState::Cancelled);
    assert_eq!(state(&mut world, kill), JobState::Done);
    assert_eq!(world.phase(&id(1)), Some(Phase::Stopped));
    assert_eq!(world.rows[&id(1)].wanted, Wanted::Stopped);
}

#[test]
fn a_lost_monitor_is_a_crash_that_is_cleared_up_and_can_be_started() {
    let mut world = running();
    world.monitor_dies(&id(1));
    assert!(world.hear());
    assert!(matches!(&world.pending[..], [Effect::CleanUp { .. }]));
    assert_eq!(world.phase(&id(1)), Some(Phase::Stopping));
    world.settle();
    assert_eq!(world.phase(&id(1)), Some(Phase::Crashed));
    assert!(
        world.notices.iter().any(|n| n.text.starts_with("web crashed: its monitor was killed"))
    );
    world.queued(CommandBody::Start(id(1)));
    world.settle();
    assert_eq!(world.phase(&id(1)), Some(Phase::Running));
    // Told to stop, a crashed one is not wanted any more.
    world.monitor_dies(&id(1));
    world.settle();
    world.queued(CommandBody::Stop(id(1)));
    world.settle();
    assert_eq!(world.phase(&id(1)), Some(Phase::Stopped));
}

#[test]
fn a_start_that_fails_says_why() {
    let mut world = one();
    let job = world.queued(CommandBody::Start(id(1)));
    world.run(0, true);
    world.run(0, true);
    world.hear();
    world.monitor_ends(&id(1), &ExitReason::StartFailed { why: "no kernel".into() });
    world.settle();
    let JobState::Failed { problem } = state(&mut world, job) else { panic!("not failed") };
    assert_eq!(problem.why, "no kernel");
    let vm = world.core.fleet().vms[0].clone();
    assert_eq!(
        (vm.phase, vm.problem.clone().map(|p| p.why)),
        (Phase::Stopped, Some("no kernel".into()))
    );
}

#[test]
fn a_guest_that_never_gets_ready_is_left_running() {
    let mut world = one();
    let job = world.queued(CommandBody::Start(id(1)));
    world.run(0, true);
    world.run(0, true);
    while world.hear() {}
    assert!(world.ring());
    assert!(matches!(state(&mut world, job), JobState::Failed { .. }));
    let vm = world.core.fleet().vms[0].clone();
    assert!(vm.phase.is_up() && vm.problem.is_some());
    world.settle();
    assert_eq!(world.core.fleet().vms[0].problem, None, "it came up after all");
}

#[test]
fn late_results_and_timers_are_ignored() {
    let mut world = running();
    let fleet = world.core.fleet();
    for token in 0..50 {
        let token = super::Token(token);
        let effects = world.core.step(Input::EffectDone { token, result: Ok(()) }, world.now);
        assert_eq!(effects, [], "{token:?}");
    }
    for epoch in 0..50 {
        let effects = world.core.step(Input::Timer { vm: id(1), epoch }, world.now);
        assert_eq!(effects, [], "{epoch}");
    }
    assert_eq!(world.core.fleet().vms, fleet.vms);
}

#[test]
fn a_delete_removes_files_before_the_row_and_only_when_off() {
    let mut world = running();
    let denied = world.ask(CommandBody::Delete(id(1)));
    assert!(matches!(denied, Admission::Denied(d) if d.0.hint.contains("stop it first")));
    world.queued(CommandBody::Stop(id(1)));
    world.settle();
    let job = world.queued(CommandBody::Delete(id(1)));
    world.run(0, true);
    world.run(0, true);
    world.run(0, false);
    assert!(matches!(state(&mut world, job), JobState::Failed { .. }));
    assert_eq!(world.phase(&id(1)), Some(Phase::Deleting));
    assert!(matches!(world.ask(CommandBody::Start(id(1))), Admission::Denied(_)));
    world.queued(CommandBody::RetryJob(job));
    world.settle();
    assert!(world.rows.is_empty() && world.core.fleet().vms.is_empty());
}

#[test]
fn a_restore_reports_each_vm() {
    let exit = |reason| Some(ExitRecord { at: UnixMs(5), reason });
    let mut rows: Vec<_> = ["adopted", "clean", "crash", "fails", "lost", "off"]
        .iter()
        .zip(1..)
        .map(|(n, i)| row(i, n))
        .collect();
    for row in &mut rows[..5] {
        row.wanted = Wanted::Running;
        row.started = Some(UnixMs(2));
    }
    rows[1].last_exit = exit(ExitReason::Stopped { by: crate::domain::Method::PowerButton });
    rows[2].last_exit = exit(ExitReason::GuestPanic);
    rows[3].last_exit = exit(ExitReason::GuestPanic);
    rows[3].spec.memory_mib = 1 << 20;
    let mut world = World::new(rows);
    world.start_monitor(&id(1));
    world.reload();
    let host = crate::domain::HostView { memory_total: 4 << 30, ..Default::default() };
    world.give(Input::HostFacts(host));
    let job = world.queued(CommandBody::Restore);
    assert!(matches!(world.ask(CommandBody::Restore), Admission::Ignored(_)));
    world.settle();

    let report = world.core.restore_report().expect("report").clone();
    let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["adopted", "clean", "crash", "fails", "lost"]);
    let panic = Before::Crashed(ExitReason::GuestPanic.sentence());
    let lost = Before::Crashed(ExitReason::MonitorLost.sentence());
    let before: Vec<&Before> = report.rows.iter().map(|row| &row.before).collect();
    assert_eq!(before, [&Before::Up, &Before::CleanExit, &panic, &panic, &lost]);
    assert_eq!(report.rows[0].outcome, Some(Outcome::Adopted));
    assert_eq!(report.rows[1].outcome, Some(Outcome::Started));
    assert!(matches!(&report.rows[3].outcome, Some(Outcome::Failed(p)) if p.why.contains("1 TiB")));
    assert_eq!(report.rows[4].outcome, Some(Outcome::Started));
    assert_eq!(report.failed(), 1);
    assert!(matches!(state(&mut world, job), JobState::Failed { .. }));
    assert_eq!(world.phase(&id(6)), Some(Phase::Stopped));
}

#[test]
fn views_that_do_not_change_are_shared() {
    let mut world = World::new((1..=3).map(|n| row(n, &format!("vm{n}"))).collect());
    let before = world.core.fleet();
    world.queued(CommandBody::Start(id(2)));
    let after = world.core.fleet();
    assert!(after.generation > before.generation);
    let same = |n: usize| std::sync::Arc::ptr_eq(&before.vms[n], &after.vms[n]);
    assert_eq!([same(0), same(1), same(2)], [true, false, true]);
}

#[test]
fn jobs_that_succeeded_are_forgotten_and_failed_ones_stay() {
    let mut world = one();
    let failed = world.queued(CommandBody::Start(id(1)));
    world.run(0, false);
    for n in 0..60 {
        let name = format!("name{n}").parse().expect("name");
        world.queued(CommandBody::Rename(id(1), name));
        world.settle();
    }
    let jobs = world.core.fleet().jobs;
    assert_eq!(jobs.len(), 51);
    assert_eq!(jobs[0].id, failed);
    world.now.0 += 11 * 60 * 1000;
    world.queued(CommandBody::DismissJob(failed));
    assert!(world.core.fleet().jobs.is_empty());
}

#[test]
fn commands_before_the_store_is_read_wait_for_it() {
    let mut world = one();
    let mut core = super::Core::new(super::Policy::default());
    let command = super::CommandId(1);
    let body = CommandBody::Start(id(1));
    assert_eq!(core.step(Input::Command { id: command, body, fresh: id(9) }, world.now), []);
    assert!(!core.fleet().loaded);
    let found =
        super::Found { row: row(1, "web"), up: false, ledger: 0, abandoned: false, orphan: false };
    world.now.0 += 1;
    let effects = core.step(Input::Loaded(vec![found]), world.now);
    let reply = |e: &&Effect| matches!(e, Effect::Reply { admission: Admission::Queued(_), .. });
    assert_eq!(effects.iter().filter(reply).count(), 1, "{effects:?}");
}

#[test]
fn what_another_banger_removed_is_gone_here() {
    let mut world = World::new(vec![row(1, "web"), row(2, "db")]);
    let job = world.queued(CommandBody::Start(id(2)));
    world.give(Input::RowsChanged(vec![row(1, "www"), row(3, "new")]));
    let fleet = world.core.fleet();
    let names: Vec<&str> = fleet.vms.iter().map(|vm| vm.spec.name.as_str()).collect();
    assert_eq!(names, ["new", "www"]);
    assert!(matches!(state(&mut world, job), JobState::Failed { .. }));
}

#[test]
fn a_look_at_the_host_leaves_a_report_and_no_job() {
    let mut world = one();
    world.orphans.push(orphan("TAP bgt-00000009"));
    world.queued(CommandBody::LookAtHost);
    // Nobody is asked whether they want to quit while it is under way.
    assert!(world.core.fleet().jobs.is_empty());
    assert!(matches!(world.ask(CommandBody::LookAtHost), Admission::Ignored(_)));
    world.settle();
    let fleet = world.core.fleet();
    assert_eq!(fleet.report.expect("a report").orphans, world.orphans);
    assert!(fleet.jobs.is_empty(), "{:?}", fleet.jobs);

    let failing = world.queued(CommandBody::LookAtHost);
    world.run(0, false);
    assert!(matches!(state(&mut world, failing), JobState::Failed { .. }));
    assert!(world.core.fleet().report.is_some(), "the old report is better than none");
}

#[test]
fn only_what_was_shown_is_cleaned() {
    let mut world = one();
    let denied = world.ask(CommandBody::CleanHost);
    assert!(matches!(&denied, Admission::Denied(d) if d.0.why.contains("looked")), "{denied:?}");
    world.queued(CommandBody::LookAtHost);
    world.settle();
    assert!(matches!(world.ask(CommandBody::CleanHost), Admission::Ignored(_)), "all is clean");

    world.orphans.push(orphan("TAP bgt-00000009"));
    world.queued(CommandBody::LookAtHost);
    world.settle();
    // It turns up after the user looked.
    world.orphans.push(orphan("bridge bgr-000001"));
    let job = world.queued(CommandBody::CleanHost);
    assert!(matches!(world.ask(CommandBody::CleanHost), Admission::Ignored(_)));
    let steps = world.core.fleet().jobs[0].steps.clone();
    assert_eq!(steps.len(), 1, "{steps:?}");
    world.settle();
    assert_eq!(state(&mut world, job), JobState::Done);
    let left = world.core.fleet().report.expect("a report").orphans.clone();
    assert_eq!(left, [orphan("bridge bgr-000001")]);

    let job = world.queued(CommandBody::CleanHost);
    world.run(0, false);
    assert!(matches!(state(&mut world, job), JobState::Failed { .. }));
    assert_eq!(world.core.fleet().report.expect("a report").orphans.len(), 1);
    world.queued(CommandBody::RetryJob(job));
    world.settle();
    assert!(world.core.fleet().report.expect("a report").orphans.is_empty());
}

#[test]
fn what_a_banger_that_was_killed_did_not_make_or_remove_to_the_end_goes() {
    let mut rows = vec![row(1, "web"), row(2, "half"), row(3, "going")];
    rows[1].state = crate::store::VmState::Creating;
    rows[2].state = crate::store::VmState::Deleting;
    let mut world = World::new(rows);
    world.settle();
    let names: Vec<_> = world.rows.values().map(|row| row.spec.name.to_string()).collect();
    assert_eq!(names, ["web"]);
    assert_eq!(world.core.fleet().vms.len(), 1);
    assert!(world.notices.iter().any(|n| n.text == "half was only half there and is removed"));
}

#[test]
fn a_vm_is_up_since_its_start_whatever_it_did_in_between() {
    let mut world = running();
    let up_since = |world: &mut World| world.core.fleet().vms[0].up_since;
    let start = up_since(&mut world).expect("it is up");
    world.now = UnixMs(world.now.0 + 60_000);
    world.queued(CommandBody::Pause(id(1)));
    world.settle();
    world.queued(CommandBody::Resume(id(1)));
    world.settle();
    assert_eq!(up_since(&mut world), Some(start));
    world.queued(CommandBody::Kill(id(1)));
    world.settle();
    assert_eq!(up_since(&mut world), None);
}

#[test]
fn that_a_vm_was_paused_for_want_of_room_is_told_once_and_a_users_pause_is_not() {
    let mut world = running();
    let told = |world: &World| {
        let texts = world.notices.iter().map(|notice| notice.text.as_str());
        texts.filter(|text| text.contains("almost full")).count()
    };
    let mut say = |phase, problem: Option<&Problem>| {
        let monitor = world.monitors.get_mut(&id(1)).expect("it runs");
        (monitor.phase, monitor.problem) = (phase, problem.cloned());
        world.says(&id(1));
        world.settle();
        told(&world)
    };
    let full = Problem::new("the VM is paused: the disk is almost full", "", "make room");
    assert_eq!(say(MonitorPhase::Paused, None), 0);
    assert_eq!(say(MonitorPhase::Ready, None), 0);
    assert_eq!(say(MonitorPhase::Paused, Some(&full)), 1);
    assert_eq!(say(MonitorPhase::Paused, Some(&full)), 1, "that is no news");
    assert_eq!(say(MonitorPhase::Ready, None), 1);
    assert_eq!(say(MonitorPhase::Paused, Some(&full)), 2);
    let last = world.notices.last().expect("one");
    assert_eq!((last.level, last.hint.as_str()), (NoticeLevel::Warning, "make room"));
    assert!(last.text.starts_with("web: "), "{last:?}");
}
