//! What makes a root file system one that boots: an init, or ours in its place.

use std::{fs, io::Read};

use super::{
    Failure, Job, fstab,
    layers::add_text,
    tree::{Kind, Meta, Tree},
};

/// The init of an image that has none: a shell script.
const SCRIPT: &str = include_str!("container-init.sh");

/// Where it goes; `/sbin/init` leads to it.
const SCRIPT_AT: &str = "/sbin/banger-container-init";

/// The variables of a container image, for its shells.
const ENVIRONMENT: &str = "/etc/banger/environment";

/// What a container image says of how it is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its variables: `NAME=value`.
    pub env: Vec<String>,
    /// What it would run.
    pub command: Vec<String>,
}

/// Makes a tree one that boots, and says what a VM of it will have.
///
/// # Errors
/// If there is nothing in it that could be run.
pub fn make(job: &Job<'_>, tree: &mut Tree, container: Option<&Container>) -> Result<(), Failure> {
    // The kernel's file systems are mounted here before any program of the image runs.
    for (name, mode) in [("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("run", 0o755)] {
        if !is_dir(tree, name) {
            tree.add_dir(job, name.as_bytes(), Meta::plain(mode))?;
        }
    }
    for (name, mode) in [("root", 0o700), ("tmp", 0o1777)] {
        if tree.find(name.as_bytes(), true).is_none() {
            tree.add_dir(job, name.as_bytes(), Meta::plain(mode))?;
        }
    }
    scrub_fstab(job, tree)?;
    if let Some(container) = container {
        environment(job, tree, container)?;
    }
    let ssh = server(tree);
    if has_init(tree) {
        if ssh.is_none() {
            job.note(super::NO_SSH);
        }
        return Ok(());
    }
    if !is_program(tree, "/bin/sh") {
        return Err(Failure::hinted(
            "there is neither an init nor a shell in it, so nothing could be run in a VM",
            "take an image with a shell: one of a distribution, not a distroless one",
        ));
    }
    add_text(job, tree, SCRIPT_AT.as_bytes(), 0o755, SCRIPT)?;
    let link = Kind::Link(SCRIPT_AT.into());
    tree.add(job, b"/sbin/init", link, Meta::plain(0o777))?;
    for (name, signal) in [("poweroff", "USR2"), ("reboot", "TERM"), ("halt", "USR1")] {
        let dirs = ["/sbin/", "/usr/sbin/", "/bin/", "/usr/bin/"];
        if !dirs.iter().any(|dir| is_program(tree, &format!("{dir}{name}"))) {
            let text = format!("#!/bin/sh\nkill -{signal} 1\n");
            add_text(job, tree, format!("/sbin/{name}").as_bytes(), 0o755, &text)?;
        }
    }
    job.note(&match ssh {
        Some(server) => format!(
            "it has no init of its own: a small one was added, which starts {server} and a shell \
             on the console"
        ),
        None => "it has no init and no SSH server: a small init was added, which runs a shell on \
                 the serial console, and that is the only way in"
            .to_owned(),
    });
    Ok(())
}

fn is_dir(tree: &Tree, path: &str) -> bool {
    // A link would do for a program, but not for a mount.
    tree.find(path.as_bytes(), false).is_some_and(|id| tree.dir(id).is_some())
}

fn is_program(tree: &Tree, path: &str) -> bool {
    tree.find(path.as_bytes(), true).is_some_and(|id| tree.dir(id).is_none())
}

/// The SSH server of a tree.
fn server(tree: &Tree) -> Option<&'static str> {
    let places = [
        ("/usr/sbin/sshd", "sshd"),
        ("/usr/bin/sshd", "sshd"),
        ("/usr/sbin/dropbear", "dropbear"),
        ("/usr/bin/dropbear", "dropbear"),
    ];
    places.into_iter().find(|(path, _)| is_program(tree, path)).map(|(_, name)| name)
}

/// Whether there is an init that works: not that of busybox with a table for OpenRC, which
/// Alpine's container images and small root archives have, without OpenRC.
fn has_init(tree: &Tree) -> bool {
    let there = ["/sbin/init", "/usr/sbin/init"].iter().any(|path| is_program(tree, path));
    let table = text(tree, "/etc/inittab").unwrap_or_default();
    let needs_openrc = table.lines().any(|line| {
        let line = line.trim_start();
        !line.starts_with('#') && line.contains("/sbin/openrc")
    });
    there && (!needs_openrc || is_program(tree, "/sbin/openrc"))
}

/// A small file's text.
fn text(tree: &Tree, path: &str) -> Option<String> {
    const MAX: u64 = 64 * 1024;
    let id = tree.find(path.as_bytes(), true)?;
    let Kind::File { data, size, .. } = tree.node(id).kind else { return None };
    if size > MAX {
        return None;
    }
    let mut text = String::new();
    fs::File::open(tree.data(data)).ok()?.take(MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn scrub_fstab(job: &Job<'_>, tree: &mut Tree) -> Result<(), Failure> {
    const PATH: &str = "/etc/fstab";
    let changed = text(tree, PATH).and_then(|text| fstab::without_lost_disks(&text));
    let Some(changed) = changed else { return Ok(()) };
    add_text(job, tree, PATH.as_bytes(), 0o644, &changed.text)?;
    let mounts = changed.mounts.join(", ");
    job.note(&format!("/etc/fstab no longer waits for disks that are not there: {mounts}"));
    Ok(())
}

/// The variables of a container for login shells, as its programs rely on them.
fn environment(job: &Job<'_>, tree: &mut Tree, container: &Container) -> Result<(), Failure> {
    let mut exports = String::from("# The variables of the container image, set at its import.\n");
    for (name, value) in container.env.iter().filter_map(|pair| pair.split_once('=')) {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // In quotes, a shell reads everything as it is, but for the quote itself.
        if first && rest && !value.contains('\0') {
            exports.push_str(&format!("export {name}='{}'\n", value.replace('\'', "'\\''")));
        }
    }
    add_text(job, tree, ENVIRONMENT.as_bytes(), 0o644, &exports)?;
    if is_dir(tree, "/etc/profile.d") {
        let text = format!("[ ! -r {ENVIRONMENT} ] || . {ENVIRONMENT}\n");
        add_text(job, tree, b"/etc/profile.d/banger-container.sh", 0o644, &text)?;
    }
    Ok(())
}
