//! Properties that hold whatever happens, in whatever order.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::{
    restore::is_due,
    world::{World, id, orphan, row, spec},
};
use crate::domain::{Admission, CommandBody, ExitReason, JobId, Phase, Wanted};

/// Something that happens.
#[derive(Clone, Debug)]
enum Op {
    Create(u8, bool),
    Start(u32),
    Stop(u32),
    Kill(u32),
    Restart(u32),
    Still(u32, bool),
    Delete(u32),
    Rename(u32, u8),
    Restore,
    /// The user looks at the host, or has it cleaned.
    Host(bool),
    Cancel(u64),
    Retry(u64),
    Dismiss(u64),
    /// A pending effect ends.
    Effect(usize, bool),
    /// The core hears of a monitor.
    Hear,
    /// A timer goes off.
    Ring,
    /// A monitor gets on.
    Goes(u32),
    /// A monitor is killed.
    Dies(u32),
    /// A guest powers off, or its VMM crashes.
    Ends(u32, bool),
    /// Another banger starts it.
    Elsewhere(u32),
    /// Monitors that are started from now on are stubborn or hang.
    Manners(bool, bool),
    /// The supervisor is killed and another takes its place.
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    let vm = 1..4_u32;
    let job = 1..20_u64;
    prop_oneof![
        1 => (0..4_u8, any::<bool>()).prop_map(|(n, start)| Op::Create(n, start)),
        4 => vm.clone().prop_map(Op::Start),
        3 => vm.clone().prop_map(Op::Stop),
        2 => vm.clone().prop_map(Op::Kill),
        2 => vm.clone().prop_map(Op::Restart),
        1 => (vm.clone(), any::<bool>()).prop_map(|(vm, still)| Op::Still(vm, still)),
        1 => vm.clone().prop_map(Op::Delete),
        1 => (vm.clone(), 0..4_u8).prop_map(|(vm, n)| Op::Rename(vm, n)),
        1 => Just(Op::Restore),
        1 => any::<bool>().prop_map(Op::Host),
        1 => job.clone().prop_map(Op::Cancel),
        1 => job.clone().prop_map(Op::Retry),
        1 => job.prop_map(Op::Dismiss),
        12 => (any::<usize>(), proptest::bool::weighted(0.85)).prop_map(|(n, ok)| Op::Effect(n, ok)),
        8 => Just(Op::Hear),
        2 => Just(Op::Ring),
        6 => vm.clone().prop_map(Op::Goes),
        1 => vm.clone().prop_map(Op::Dies),
        1 => (vm.clone(), any::<bool>()).prop_map(|(vm, clean)| Op::Ends(vm, clean)),
        1 => vm.prop_map(Op::Elsewhere),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Op::Manners(a, b)),
        1 => Just(Op::Reload),
    ]
}

fn happen(world: &mut World, op: &Op) {
    world.now.0 += 10;
    match op {
        Op::Create(n, start) => {
            let spec = spec(&format!("new{n}"));
            world.ask(CommandBody::Create { spec, start: *start });
        }
        Op::Start(vm) => drop(world.ask(CommandBody::Start(id(*vm)))),
        Op::Stop(vm) => drop(world.ask(CommandBody::Stop(id(*vm)))),
        Op::Kill(vm) => drop(world.ask(CommandBody::Kill(id(*vm)))),
        Op::Restart(vm) => drop(world.ask(CommandBody::Restart(id(*vm)))),
        Op::Still(vm, true) => drop(world.ask(CommandBody::Pause(id(*vm)))),
        Op::Still(vm, false) => drop(world.ask(CommandBody::Resume(id(*vm)))),
        Op::Delete(vm) => drop(world.ask(CommandBody::Delete(id(*vm)))),
        Op::Rename(vm, n) => {
            let name = format!("new{n}").parse().expect("name");
            world.ask(CommandBody::Rename(id(*vm), name));
        }
        Op::Restore => drop(world.ask(CommandBody::Restore)),
        Op::Host(true) => drop(world.ask(CommandBody::LookAtHost)),
        Op::Host(false) => drop(world.ask(CommandBody::CleanHost)),
        Op::Cancel(job) => drop(world.ask(CommandBody::CancelJob(JobId(*job)))),
        Op::Retry(job) => drop(world.ask(CommandBody::RetryJob(JobId(*job)))),
        Op::Dismiss(job) => drop(world.ask(CommandBody::DismissJob(JobId(*job)))),
        Op::Effect(n, well) => {
            if !world.pending.is_empty() {
                world.run(n % world.pending.len(), *well);
            }
        }
        Op::Hear => drop(world.hear()),
        Op::Ring => drop(world.ring()),
        Op::Goes(vm) => world.monitor_goes_on(&id(*vm)),
        Op::Dies(vm) => world.monitor_dies(&id(*vm)),
        Op::Ends(vm, clean) => {
            let crash =
                ExitReason::VmmExited { code: Some(1), signal: None, stderr: String::new() };
            let reason = if *clean { ExitReason::GuestPoweroff } else { crash };
            world.monitor_ends(&id(*vm), &reason);
        }
        Op::Elsewhere(vm) => {
            // As that banger would: the intent first, and only what is all there.
            let vm = id(*vm);
            let ready = |row: &crate::store::VmRow| row.state == crate::store::VmState::Ready;
            if !world.monitors.contains_key(&vm) && world.rows.get(&vm).is_some_and(ready) {
                world.start_monitor(&vm);
            }
        }
        Op::Manners(stubborn, hung) => (world.stubborn, world.hung) = (*stubborn, *hung),
        Op::Reload => world.reload(),
    }
}

fn world() -> World {
    let mut world = World::new(vec![row(1, "web"), row(2, "db"), row(3, "ci")]);
    world.orphans.push(orphan("TAP bgt-00000009"));
    world
}

/// All that must hold once everything has come to its end.
fn at_rest(world: &mut World) {
    let fleet = world.core.fleet();
    for job in &fleet.jobs {
        assert!(job.state.is_over(), "{job:?}");
    }
    for view in &fleet.vms {
        let up = world.monitors.contains_key(&view.id);
        assert_eq!(view.phase.is_up(), up, "{view:?}");
        let stored = &world.rows[&view.id];
        assert_eq!((&view.spec, view.wanted), (&stored.spec, stored.wanted));
        let vm = &world.core.vms[&view.id];
        assert!(vm.task.is_none() && vm.queue.is_empty() && vm.gone.is_none(), "{vm:?}");
    }
    assert_eq!(fleet.vms.len(), world.rows.len());
    assert!(world.core.tokens.is_empty(), "{:?}", world.core.tokens);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// The checks of `World` hold at every step, and everything comes to an end.
    #[test]
    fn whatever_happens_comes_to_rest(ops in proptest::collection::vec(op(), 0..120)) {
        let mut world = world();
        for op in &ops {
            happen(&mut world, op);
        }
        world.settle();
        at_rest(&mut world);
    }

    /// A stop that is admitted ends with the VM off, even if the monitor hangs.
    #[test]
    fn a_stop_always_ends(ops in proptest::collection::vec(op(), 0..80), vm in 1..4_u32, kill: bool) {
        let mut world = world();
        // Who starts it elsewhere at the same moment may win.
        for op in ops.iter().filter(|op| !matches!(op, Op::Elsewhere(_))) {
            happen(&mut world, op);
        }
        let body = if kill { CommandBody::Kill(id(vm)) } else { CommandBody::Stop(id(vm)) };
        let answer = world.ask(body);
        world.settle();
        if matches!(answer, Admission::Queued(_)) {
            assert_eq!(world.phase(&id(vm)), Some(Phase::Stopped));
            assert_eq!(world.rows[&id(vm)].wanted, Wanted::Stopped);
        }
        at_rest(&mut world);
    }

    /// Once a restore is through, nothing is due any more, and all that was is in its report.
    #[test]
    fn after_a_restore_nothing_is_due(ops in proptest::collection::vec(op(), 0..80)) {
        let mut world = world();
        for op in &ops {
            happen(&mut world, op);
        }
        world.settle();
        (world.stubborn, world.hung) = (false, false);
        world.reload();
        world.settle();
        let due: Vec<_> =
            world.core.vms.values().filter(|vm| is_due(vm)).map(|vm| vm.row.id.clone()).collect();
        world.queued(CommandBody::Restore);
        world.settle();
        at_rest(&mut world);
        assert!(!world.core.vms.values().any(is_due), "{:?}", world.core);
        let report = world.core.restore_report().expect("a report");
        assert_eq!(report.failed(), 0, "{report:?}");
        for vm in due {
            assert!(world.monitors.contains_key(&vm));
            assert!(report.rows.iter().any(|row| row.vm == vm && row.outcome.is_some()));
        }
    }
}
