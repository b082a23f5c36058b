//! `banger --restore`: bring back what ran, and say what happened to each VM.

use std::{sync::Arc, time::Duration};

use super::{
    client::Client,
    exit::{self, Outcome},
    out,
};
use crate::domain::{CommandBody, Fleet, Phase, VmView, Wanted};

/// How long VMs may take to come up, all together: a slow machine starts them one by one.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Brings back what should run.
///
/// # Errors
/// When the state cannot be read or the output not be written.
pub fn run(client: &mut Client) -> Outcome {
    let before = client.loaded()?;
    client.ask("restore", CommandBody::Restore)?;
    let (after, in_time) = client.wait_within(PATIENCE, |fleet| fleet.vms.iter().all(settled))?;
    let mut all_back = true;
    for vm in &after.vms {
        let line = line(&before, vm);
        all_back &= line.back;
        out::line(format!("{}: {}", vm.spec.name, line.text))?;
    }
    if !in_time {
        out::note("error: not all VMs were up in time");
    }
    if after.vms.is_empty() {
        out::progress("there are no VMs");
    }
    Ok(if all_back && in_time { exit::OK } else { exit::FAILED })
}

/// Whether a VM will not change any more by itself.
fn settled(vm: &Arc<VmView>) -> bool {
    match vm.phase {
        Phase::Running | Phase::Crashed => true,
        Phase::Stopped => vm.problem.is_some() || !should_run(vm) || vm.last_exit.is_some(),
        Phase::Creating | Phase::Starting | Phase::Booting | Phase::Stopping | Phase::Deleting => {
            false
        }
    }
}

fn should_run(vm: &VmView) -> bool {
    vm.wanted == Wanted::Running || vm.spec.restore
}

struct Line {
    text: String,
    /// Whether the VM is as it should be.
    back: bool,
}

fn line(before: &Fleet, vm: &VmView) -> Line {
    let good = |text: String| Line { text, back: true };
    let earlier = before.vms.iter().find(|earlier| earlier.id == vm.id);
    let ran = earlier.is_some_and(|earlier| earlier.phase.is_up());
    let last = earlier.and_then(|earlier| earlier.last_exit.as_ref());
    match vm.phase {
        Phase::Running if ran => good("adopted, it went on running".to_owned()),
        Phase::Running => match last {
            Some(exit) if !exit.reason.is_clean() => {
                good(format!("started; before, it crashed: {}", exit.reason.sentence()))
            }
            Some(_) => good("started; before, it was shut down cleanly".to_owned()),
            None => good("started".to_owned()),
        },
        _ if should_run(vm) => {
            let why = match (&vm.problem, &vm.last_exit) {
                (Some(problem), _) => problem.to_string(),
                (None, Some(exit)) => exit.reason.sentence(),
                (None, None) => format!("it is {}", vm.phase.word()),
            };
            Line { text: format!("failed: {why}"), back: false }
        }
        Phase::Starting | Phase::Booting | Phase::Stopping => {
            good(format!("is {}", vm.phase.word()))
        }
        _ => match &vm.last_exit {
            Some(exit) if !exit.reason.is_clean() => {
                good(format!("off; it crashed: {}", exit.reason.sentence()))
            }
            Some(_) => good("off; it was shut down cleanly".to_owned()),
            None => good("off".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::testing::{fleet, vm},
        domain::{ExitReason, ExitRecord, Method, Problem, UnixMs},
    };

    fn with(phase: Phase, wanted: Wanted, exit: Option<ExitReason>) -> VmView {
        let last_exit = exit.map(|reason| ExitRecord { at: UnixMs(1), reason });
        VmView { phase, wanted, last_exit, ..vm("web") }
    }

    fn told(before: VmView, after: &VmView) -> (String, bool) {
        let line = line(&fleet([before]), after);
        (line.text, line.back)
    }

    #[test]
    fn each_fate_has_its_line() {
        use Phase::{Crashed, Running, Stopped};
        let up = with(Running, Wanted::Running, None);
        assert_eq!(told(up.clone(), &up), ("adopted, it went on running".into(), true));

        let killed = with(Crashed, Wanted::Running, Some(ExitReason::MonitorLost));
        let (text, back) = told(killed.clone(), &up);
        assert!(text.starts_with("started; before, it crashed: its monitor"), "{text}");
        assert!(back);
        let (text, back) = told(killed.clone(), &killed);
        assert!(text.starts_with("failed: its monitor"), "{text}");
        assert!(!back);

        let clean = Some(ExitReason::Stopped { by: Method::PowerButton });
        let off = with(Stopped, Wanted::Stopped, clean);
        assert_eq!(told(off.clone(), &off), ("off; it was shut down cleanly".into(), true));

        let problem = Some(Problem::new("cannot start web", "no kernel", "bootstrap"));
        let failed = VmView { problem, ..with(Stopped, Wanted::Running, None) };
        let (text, back) = told(off, &failed);
        assert!(text.starts_with("failed: cannot start web: no kernel"), "{text}");
        assert!(!back);
    }

    #[test]
    fn what_still_changes_is_waited_for() {
        let settled = |phase, wanted| settled(&Arc::new(with(phase, wanted, None)));
        assert!(!settled(Phase::Booting, Wanted::Running));
        assert!(!settled(Phase::Stopped, Wanted::Running));
        assert!(settled(Phase::Stopped, Wanted::Stopped));
        assert!(settled(Phase::Running, Wanted::Running));
    }
}
