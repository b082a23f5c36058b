//! `start`, `stop`, `kill`, `restart`, `pause`, `resume`, `rm`, `rename` and `resize`: what changes VMs by
//! name.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use super::{
    args::{self, Names, Recreate, Rename, Resize, Rm, Start},
    client::{Client, Task, Until, Wait},
    exit::{self, Failure, Outcome},
    find, out,
    setup::Setup,
    ssh,
};
use crate::domain::{
    BundleView, ByteSize, CommandBody, Field, FieldProblem, Problem, VmName, VmView, parse_mib,
};

/// `start`.
///
/// # Errors
/// When the output cannot be written, or banger itself fails.
pub fn start(start: &Start, client: &mut Client, setup: &Setup) -> Outcome {
    let wait = wait(start.wait, setup);
    each(&start.names, client, |vm| {
        task(vm, CommandBody::Start(vm.id.clone()), "started", wait.clone())
    })
}

/// `restart`.
///
/// # Errors
/// As [`start`].
pub fn restart(start: &Start, client: &mut Client, setup: &Setup) -> Outcome {
    let wait = wait(start.wait, setup);
    each(&start.names, client, |vm| {
        task(vm, CommandBody::Restart(vm.id.clone()), "restarted", wait.clone())
    })
}

/// How to wait for a guest, if the user wants to.
pub(super) fn wait(wanted: args::Wait, setup: &Setup) -> Option<Wait> {
    let within = Duration::from_secs(wanted.wait?.get());
    let layout = setup.layout.clone();
    Some(Wait { within, probe: Arc::new(move |vm, left| ssh::probe(&layout, vm, left)) })
}

/// A start that is not waited for is done when the VMM runs.
pub(super) const fn until(wait: Option<&Wait>) -> Until {
    if wait.is_some() { Until::Over } else { Until::Launched }
}

fn task(vm: &VmView, body: CommandBody, done: &'static str, wait: Option<Wait>) -> Task {
    Task { name: vm.spec.name.to_string(), body, done, until: until(wait.as_ref()), wait }
}

/// `stop`.
///
/// # Errors
/// As [`start`].
pub fn stop(names: &Names, client: &mut Client) -> Outcome {
    each(&names.names, client, |vm| now(vm, CommandBody::Stop(vm.id.clone()), "stopped"))
}

/// `pause`.
///
/// # Errors
/// As [`start`].
pub fn pause(names: &Names, client: &mut Client) -> Outcome {
    each(&names.names, client, |vm| now(vm, CommandBody::Pause(vm.id.clone()), "paused"))
}

/// `resume`.
///
/// # Errors
/// As [`start`].
pub fn resume(names: &Names, client: &mut Client) -> Outcome {
    each(&names.names, client, |vm| now(vm, CommandBody::Resume(vm.id.clone()), "resumed"))
}

/// `kill`.
///
/// # Errors
/// As [`start`].
pub fn kill(names: &Names, client: &mut Client) -> Outcome {
    each(&names.names, client, |vm| now(vm, CommandBody::Kill(vm.id.clone()), "killed"))
}

/// Something that is done when its job is over.
fn now(vm: &VmView, body: CommandBody, done: &'static str) -> Task {
    Task { name: vm.spec.name.to_string(), body, done, until: Until::Over, wait: None }
}

fn each(names: &[String], client: &mut Client, task: impl Fn(&VmView) -> Task) -> Outcome {
    let fleet = client.loaded()?;
    let (vms, all_known) = find::many(&fleet, names);
    let tasks = vms.iter().map(|vm| task(vm)).collect();
    let all_well = carry_out(client, tasks)?;
    Ok(if all_known && all_well { exit::OK } else { exit::FAILED })
}

/// Does all tasks and tells of each. Whether all went well.
pub(super) fn carry_out(client: &mut Client, tasks: Vec<Task>) -> Result<bool, Failure> {
    let mut all_well = true;
    client.all(tasks, |name, result| {
        match result {
            Ok(text) => out::line(format!("{name}: {text}"))?,
            Err(problem) => {
                all_well = false;
                out::error(&named(name, problem));
            }
        }
        Ok::<(), Failure>(())
    })?;
    Ok(all_well)
}

/// A problem that says whose it is.
fn named(name: &str, problem: Problem) -> Problem {
    let says = problem.what.split(|c: char| !c.is_alphanumeric() && c != '-').any(|w| w == name);
    let what = if says { problem.what } else { format!("{name}: {}", problem.what) };
    Problem { what, ..problem }
}

/// `rm`.
///
/// # Errors
/// As [`start`]; when it may not ask and was not told not to; when the user says no.
pub fn rm(rm: &Rm, client: &mut Client) -> Outcome {
    let fleet = client.loaded()?;
    let (vms, mut all_well) = find::many(&fleet, &rm.names);
    let (up, off): (Vec<_>, Vec<_>) = vms.into_iter().partition(|vm| vm.phase.is_up());
    let mut doomed = off;
    if rm.force {
        doomed.extend(up.iter().cloned());
    } else {
        for vm in &up {
            all_well = false;
            let name = &vm.spec.name;
            out::error(&Problem::new(
                format!("cannot remove {name}"),
                format!("it is {}", vm.phase.word()),
                format!("`banger stop {name}` first, or `banger rm --force {name}`"),
            ));
        }
    }
    if doomed.is_empty() {
        return Ok(if all_well { exit::OK } else { exit::FAILED });
    }
    if !rm.yes {
        confirm(&doomed)?;
    }
    if rm.force && !up.is_empty() {
        let kills = up.iter().map(|vm| now(vm, CommandBody::Kill(vm.id.clone()), "killed"));
        // One that cannot be killed is not removed either, and the removal says why.
        all_well &= carry_out(client, kills.collect())?;
    }
    let removals = doomed.iter().map(|vm| now(vm, CommandBody::Delete(vm.id.clone()), "removed"));
    all_well &= carry_out(client, removals.collect())?;
    Ok(if all_well { exit::OK } else { exit::FAILED })
}

/// `recreate`.
///
/// # Errors
/// As [`rm`].
pub fn recreate(recreate: &Recreate, client: &mut Client) -> Outcome {
    let fleet = client.loaded()?;
    let (vms, all_known) = find::many(&fleet, &recreate.names);
    if vms.is_empty() {
        return Ok(exit::FAILED);
    }
    if !recreate.yes {
        let names: Vec<&str> = vms.iter().map(|vm| vm.spec.name.as_str()).collect();
        let names = names.join(" ");
        if !can_ask() {
            return Err(Failure::Usage(Problem::new(
                format!("will not make the disks of {names} anew"),
                "there is no terminal to ask on, and all that is on them would be gone",
                format!("banger recreate --yes {names}"),
            )));
        }
        ask(&format!("Make the disk of {names} anew? All that is on it will be gone."))?;
    }
    let tasks =
        vms.iter().map(|vm| now(vm, CommandBody::Recreate(vm.id.clone()), "has a new disk"));
    let all_well = carry_out(client, tasks.collect())?;
    Ok(if all_known && all_well { exit::OK } else { exit::FAILED })
}

/// Asks whether to remove these, on a terminal; elsewhere `--yes` must say so.
fn confirm(vms: &[Arc<VmView>]) -> Result<(), Failure> {
    let names: Vec<&str> = vms.iter().map(|vm| vm.spec.name.as_str()).collect();
    if !can_ask() {
        return Err(Failure::Usage(Problem::new(
            format!("will not remove {}", names.join(", ")),
            "there is no terminal to ask on, and the disks would be gone",
            format!("banger rm --yes {}", names.join(" ")),
        )));
    }
    let disks = if vms.len() == 1 { "its disk" } else { "their disks" };
    ask(&format!("Remove {} and {disks}? This cannot be undone.", names.join(", ")))
}

/// Asks on the terminal.
///
/// # Errors
/// When the answer is not a clear yes: nothing is to be removed then, and the user was told so.
pub(super) fn ask(question: &str) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{} [y/N] ", out::printable(question))?;
    stderr.flush()?;
    drop(stderr);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if is_yes(&answer) {
        return Ok(());
    }
    out::note("nothing was removed");
    Err(Failure::Said(exit::FAILED))
}

/// Whether there is a terminal to ask on.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// `rename`.
///
/// # Errors
/// When there is no such VM, or the new name is none or taken.
pub fn rename(rename: &Rename, client: &mut Client) -> Outcome {
    let fleet = client.loaded()?;
    let vm = find::one(&fleet, &rename.name)?;
    let new = rename.new.parse::<VmName>().map_err(|e| {
        Failure::Fields(vec![FieldProblem { field: Field::Name, message: e.to_string() }])
    })?;
    if let Some(other) = fleet.vms.iter().find(|other| other.spec.name == new) {
        if other.id == vm.id {
            out::line(format!("{new}: has that name already"))?;
            return Ok(exit::OK);
        }
        let message = format!("there is a VM {new} already: it is {}", other.phase.word());
        return Err(Failure::Fields(vec![FieldProblem { field: Field::Name, message }]));
    }
    client.ask(&rename.name, CommandBody::Rename(vm.id.clone(), new.clone()))?;
    let later = if vm.phase.is_up() { " (the guest takes it at its next start)" } else { "" };
    out::line(format!("{}: is {new} now{later}", vm.spec.name))?;
    Ok(exit::OK)
}

/// `resize`.
///
/// # Errors
/// When there is no such VM, or its disk cannot have that size.
pub fn resize(resize: &Resize, client: &mut Client) -> Outcome {
    let size = parse_mib(&resize.size)
        .map_err(|message| Failure::Fields(vec![FieldProblem { field: Field::Disk, message }]))?;
    // How large a disk is that nobody resized yet, its image says.
    client.wait(|fleet| fleet.host.bundle != BundleView::Unknown)?;
    let fleet = client.loaded()?;
    let vm = find::one(&fleet, &resize.name)?;
    client.ask(&resize.name, CommandBody::Resize(vm.id.clone(), size))?;
    let later = if vm.phase.is_up() { " (the guest has it at its next start)" } else { "" };
    out::line(format!("{}: its disk has {} now{later}", vm.spec.name, ByteSize(size << 20)))?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        for yes in ["y\n", "Y\n", " yes \n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yep\n", "web\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
