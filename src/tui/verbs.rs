//! The verbs on machines, whichever way they were asked for.

use std::{path::Path, sync::Arc};

use super::{
    action::Action,
    available::verb_of,
    layers::Cx,
    popups::{
        confirm::{Confirm, Then},
        prompt::Prompt,
    },
    text::clean,
};
use crate::{
    domain::{CommandBody, NoticeLevel, Phase, VmView, shell_word},
    supervisor::ConsoleKind,
};

/// Does `action` to the targets, or asks first. False if it is no verb on machines.
pub fn run(action: Action, cx: &mut Cx<'_>) -> bool {
    match action {
        Action::VmStart => {
            for vm in able(action, cx) {
                cx.command(CommandBody::Start(vm.id.clone()));
            }
            cx.state.marks.clear();
        }
        Action::VmStop | Action::VmKill | Action::VmRestart => ask(action, cx),
        Action::VmPause => pause(cx),
        Action::VmDelete => ask_to_delete(cx),
        Action::VmRecreate => ask_to_recreate(cx),
        Action::VmRename => {
            if let Some(vm) = cx.state.targets().first() {
                cx.push(Box::new(Prompt::rename(vm)));
            }
        }
        Action::VmResize => {
            if let Some(vm) = cx.state.targets().first() {
                let images = &cx.state.fleet.images;
                let of_image = || images.iter().find(|image| image.name == vm.spec.image);
                let now = vm.spec.disk_mib.or_else(|| of_image().map(|image| image.size >> 20));
                cx.push(Box::new(Prompt::resize(vm, now)));
            }
        }
        Action::VmShell | Action::VmConsole => {
            if let Some(vm) = cx.state.targets().first() {
                let kind = match action {
                    Action::VmShell => ConsoleKind::Ssh,
                    _ => ConsoleKind::Serial,
                };
                super::screens::panes::open(vm, kind, cx);
            }
        }
        Action::CopySsh => {
            if let Some(vm) = cx.state.targets().first()
                && let Some(command) = ssh_command(vm, cx.state.ssh_key.as_deref())
            {
                cx.toast(NoticeLevel::Info, format!("copied: {command}"), "");
                cx.effect(super::effect::Effect::Copy(command));
            }
        }
        _ => return false,
    }
    true
}

/// Pauses those that run; if none does, lets the paused go on.
fn pause(cx: &mut Cx<'_>) {
    let vms = able(Action::VmPause, cx);
    let any_runs = vms.iter().any(|vm| vm.phase == Phase::Running);
    for vm in vms {
        match (any_runs, vm.phase) {
            (true, Phase::Running) => drop(cx.command(CommandBody::Pause(vm.id.clone()))),
            (false, _) => drop(cx.command(CommandBody::Resume(vm.id.clone()))),
            (true, _) => {}
        }
    }
    cx.state.marks.clear();
}

/// The targets a verb is possible for.
fn able(action: Action, cx: &Cx<'_>) -> Vec<Arc<VmView>> {
    let targets = cx.state.targets();
    targets.into_iter().filter(|vm| verb_of(vm, action).is_none()).collect()
}

/// `web`, or `web, db and 3 more`.
fn names(vms: &[Arc<VmView>]) -> String {
    let name = |vm: &VmView| vm.spec.name.to_string();
    match vms {
        [] => String::new(),
        [one] => name(one),
        [a, b] => format!("{} and {}", name(a), name(b)),
        [a, b, c] => format!("{}, {} and {}", name(a), name(b), name(c)),
        [a, b, rest @ ..] => format!("{}, {} and {} more", name(a), name(b), rest.len()),
    }
}

fn ask(action: Action, cx: &mut Cx<'_>) {
    let vms = able(action, cx);
    let all = cx.state.targets().len();
    let (verb, effect) = match action {
        Action::VmKill => ("Kill", "At once: what the guest has not written to its disk is lost."),
        Action::VmRestart => ("Restart", "The guest is asked to shut down; then it starts again."),
        _ => ("Stop", "The guest is asked to shut down; its disk stays as it is."),
    };
    let mut lines = vec![effect.to_owned()];
    // It could not write what it has to: it is not let go on for that.
    let held = vms.iter().filter(|vm| vm.phase == Phase::Paused && vm.problem.is_some()).count();
    if held > 0 && action != Action::VmKill {
        let which = match (held == vms.len(), held) {
            (true, 1) => {
                lines.clear();
                "It".to_owned()
            }
            _ => format!("{held} of them"),
        };
        lines.push(format!(
            "{which} cannot shut down for want of room: turned off as it is, what is not on disk yet is \
             lost. Make room first to keep that."
        ));
    }
    if vms.len() < all {
        lines.push(format!("{} of the {all} marked cannot and are left alone.", all - vms.len()));
    }
    let commands = vms
        .iter()
        .map(|vm| match action {
            Action::VmKill => CommandBody::Kill(vm.id.clone()),
            Action::VmRestart => CommandBody::Restart(vm.id.clone()),
            _ => CommandBody::Stop(vm.id.clone()),
        })
        .collect();
    let question = format!("{verb} {}?", names(&vms));
    cx.push(Box::new(Confirm::new(question, lines, verb, Then::Commands(commands))));
}

fn ask_to_delete(cx: &mut Cx<'_>) {
    let vms = able(Action::VmDelete, cx);
    let expect = match vms.as_slice() {
        [one] => one.spec.name.to_string(),
        many => format!("delete {}", many.len()),
    };
    let mut lines = vec!["Its disk and its records are removed. This cannot be undone.".to_owned()];
    if vms.len() > 1 {
        lines[0] = "Their disks and records are removed. This cannot be undone.".to_owned();
    }
    let all = cx.state.targets().len();
    if vms.len() < all {
        lines.push(format!("{} of the {all} marked run and are left alone.", all - vms.len()));
    }
    let commands = vms.iter().map(|vm| CommandBody::Delete(vm.id.clone())).collect();
    let title = format!("Delete {}?", names(&vms));
    cx.push(Box::new(Prompt::type_to_delete(title, lines, expect, commands)));
}

/// What is on a disk is as gone as if its machine was deleted, so it is asked as then.
fn ask_to_recreate(cx: &mut Cx<'_>) {
    let vms = able(Action::VmRecreate, cx);
    let (expect, disks) = match vms.as_slice() {
        [one] => (one.spec.name.to_string(), "Its disk is"),
        many => (format!("recreate {}", many.len()), "Their disks are"),
    };
    let mut lines = vec![
        format!("{disks} made anew from the image as it is now: all that is there is lost."),
        "Names, settings and addresses stay. This cannot be undone.".to_owned(),
    ];
    let all = cx.state.targets().len();
    if vms.len() < all {
        lines.push(format!("{} of the {all} marked run and are left alone.", all - vms.len()));
    }
    let commands = vms.iter().map(|vm| CommandBody::Recreate(vm.id.clone())).collect();
    let title = format!("Recreate {}?", names(&vms));
    cx.push(Box::new(Prompt::type_to_delete(title, lines, expect, commands)));
}

/// How a user reaches the machine from any shell, with the key that banger made.
#[must_use]
pub fn ssh_command(vm: &VmView, key: Option<&Path>) -> Option<String> {
    let ssh = vm.ssh.as_ref()?;
    // Its name where it has one: that stays right when its address changes.
    let host = match &vm.dns_name {
        Some(name) if ssh.port == 22 => clean(name, 255),
        _ => clean(&ssh.host, 255),
    };
    let port = if ssh.port == 22 { String::new() } else { format!(" -p {}", ssh.port) };
    let key =
        key.map_or_else(String::new, |key| format!(" -i {}", shell_word(&key.to_string_lossy())));
    Some(format!("ssh{key}{port} root@{host}"))
}
