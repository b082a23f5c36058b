//! `banger ssh`, and the probe that shows that a VM's SSH answers.

use std::{
    ffi::OsString,
    io::ErrorKind,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use super::{args::Ssh, client::Client, exit::Outcome, find, out, setup::Setup};
use crate::{
    domain::{Layout, Phase, Problem, VmView},
    session::ssh::{SshTarget, Tty, ssh_command},
};

/// How long `banger ssh` waits for a guest that boots.
const BOOT_PATIENCE: Duration = Duration::from_secs(300);

/// Becomes the ssh program, connected to the VM.
///
/// # Errors
/// When the VM is not up, does not become ready, or ssh cannot be run.
pub fn run(args: &Ssh, mut client: Client, setup: &Setup) -> Outcome {
    let fleet = client.loaded()?;
    let vm = find::one(&fleet, &args.name)?;
    let name = &args.name;
    let vm = match vm.phase {
        Phase::Running => vm,
        Phase::Starting | Phase::Booting => {
            out::note(&format!("{name} is {}: waiting until it is ready", vm.phase.word()));
            client.ready(name, BOOT_PATIENCE)?
        }
        phase => return Err(off(name, phase, &vm).into()),
    };
    let mut command = command(&setup.layout, &vm, Tty::Auto, &args.command)?;
    // Nothing of ours is left behind in the process that becomes ssh.
    drop(client);
    Err(cannot_run(&command.exec()).into())
}

fn off(name: &str, phase: Phase, vm: &VmView) -> Problem {
    let why = match (&vm.last_exit, phase) {
        (Some(exit), Phase::Stopped | Phase::Crashed) => {
            format!("it is {}: {}", phase.word(), exit.reason.sentence())
        }
        _ => format!("it is {}", phase.word()),
    };
    if let (Phase::Paused, Some(problem)) = (phase, &vm.problem) {
        return problem.clone();
    }
    let hint = match phase {
        Phase::Paused => format!("`banger resume {name}` lets it go on"),
        Phase::Stopped | Phase::Crashed => format!("`banger start --wait {name}` starts it"),
        _ => "`banger ls` shows when that is over".to_owned(),
    };
    Problem::new(format!("cannot connect to {name}"), why, hint)
}

/// The ssh program with all that leads to the VM, and what to run there.
///
/// # Errors
/// If it has no address.
pub(super) fn command(
    layout: &Layout,
    vm: &VmView,
    tty: Tty,
    command: &[OsString],
) -> Result<Command, Problem> {
    let Some(endpoint) = vm.ssh.clone() else {
        return Err(super::client::unreachable(vm));
    };
    let target = SshTarget {
        endpoint,
        vm: vm.id.clone(),
        key: layout.ssh_key(),
        known_hosts: layout.vm(&vm.id).known_hosts(),
    };
    let mut words = ssh_command(&target, tty, command).into_iter();
    let mut command = Command::new(words.next().unwrap_or_else(|| "ssh".into()));
    command.args(words);
    Ok(command)
}

fn cannot_run(error: &std::io::Error) -> Problem {
    let why = match error.kind() {
        ErrorKind::NotFound => "there is no ssh program in PATH".to_owned(),
        _ => error.to_string(),
    };
    Problem::new("cannot run ssh", why, "install it: sudo apt-get install openssh-client")
}

/// Runs `true` in the VM: one connection, with all the time there is. A guest that boots is not
/// to be hammered: see the facts of user networking in `docs/`.
///
/// # Errors
/// When it does not succeed, with what ssh said.
pub fn probe(layout: &Layout, vm: &VmView, within: Duration) -> Result<(), Problem> {
    let name = vm.spec.name.as_str();
    let mut command = command(layout, vm, Tty::Never, &["true".into()])?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| cannot_run(&e))?;
    let output = runtime.block_on(async {
        let mut command = tokio::process::Command::from(command);
        tokio::time::timeout(within, command.kill_on_drop(true).output()).await
    });
    let output = match output {
        Err(_) => return Err(super::client::late(name)),
        Ok(output) => output.map_err(|e| cannot_run(&e))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(Problem::new(
        format!("{name} runs, and its SSH does not let us in"),
        last.map_or_else(|| output.status.to_string(), str::to_owned),
        format!("see `banger logs {name}`, or type in `banger console {name}`"),
    ))
}
