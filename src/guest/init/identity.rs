//! Who the machine is: host name, name servers, the key of its owner.
//!
//! Images are not made for one machine, so this is written into the root file system at each
//! start, where it differs. Only what is ours is touched: the user's own lines stay.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use crate::guest::{AuthorizedKey, GuestNetwork, GuestParams};

/// Stands before each line of ours in `authorized_keys`.
const KEY_NOTE: &str = "# banger: the next line is set at each start";

/// Writes what the parameters say below `root`, where it is not so already. The machine starts
/// without it too, so what could not be written comes back as warnings, one line each. `more_keys`
/// may log in beside that of the parameters.
pub fn apply(root: &Path, params: &GuestParams, more_keys: &[AuthorizedKey]) -> Vec<String> {
    let host = params.hostname.as_str();
    let keys: Vec<&AuthorizedKey> = params.ssh_key.iter().chain(more_keys).collect();
    let mut warnings = Vec::new();
    let mut check = |path: &str, result: io::Result<()>| {
        if let Err(error) = result {
            warnings.push(format!("cannot write {path}: {error}"));
        }
    };
    check("/etc/hostname", edit(root, "etc/hostname", 0o644, |_| Some(format!("{host}\n"))));
    check("/etc/hosts", edit(root, "etc/hosts", 0o644, |old| Some(hosts(old, host))));
    if let Some(network) = params.network.as_ref().filter(|network| !network.dns.is_empty()) {
        check("/etc/resolv.conf", edit(root, "etc/resolv.conf", 0o644, |_| Some(resolv(network))));
    }
    check("/root/.ssh/authorized_keys", authorize(root, &keys));
    warnings
}

fn authorize(root: &Path, keys: &[&AuthorizedKey]) -> io::Result<()> {
    let ssh = root.join("root/.ssh");
    if !ssh.exists() {
        if keys.is_empty() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&ssh)?;
    }
    edit(root, "root/.ssh/authorized_keys", 0o600, |old| {
        let new = authorized_keys(old, keys);
        // No file at all is better than an empty one.
        (!new.is_empty() || !old.is_empty()).then_some(new)
    })
}

/// `/etc/hosts` with the host's name as Debian has it: on 127.0.1.1. The first such line is the
/// one that is replaced.
fn hosts(old: &str, host: &str) -> String {
    let names = |line: &str| -> Option<Vec<String>> {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "127.0.1.1").then(|| words.map(str::to_owned).collect())
    };
    if old.lines().filter_map(names).flatten().any(|name| name == host) {
        return old.to_owned();
    }
    let own = format!("127.0.1.1\t{host}");
    let mut lines: Vec<&str> = old.lines().collect();
    if old.is_empty() {
        lines.push("127.0.0.1\tlocalhost");
    }
    match lines.iter().position(|line| names(line).is_some()) {
        Some(at) => lines[at] = &own,
        None => lines.push(&own),
    }
    lines.join("\n") + "\n"
}

fn resolv(network: &GuestNetwork) -> String {
    network.dns.iter().map(|server| format!("nameserver {server}\n")).collect()
}

/// `authorized_keys` with our keys, or without any of ours; all other lines stay as they are.
fn authorized_keys(old: &str, keys: &[&AuthorizedKey]) -> String {
    let mut new = String::new();
    let mut lines = old.lines();
    while let Some(line) = lines.next() {
        if line == KEY_NOTE {
            // And the key of the last start.
            lines.next();
        } else {
            new.push_str(line);
            new.push('\n');
        }
    }
    for key in keys {
        new.push_str(&format!("{KEY_NOTE}\n{key}\n"));
    }
    new
}

/// Replaces a file by what `change` makes of it, if that differs. Links are followed below
/// `root`, and a directory they lead to is made. What the file held is not lost by a crash: the
/// new one takes its name when it is written.
fn edit(
    root: &Path,
    path: &str,
    mode: u32,
    change: impl FnOnce(&str) -> Option<String>,
) -> io::Result<()> {
    let path = resolve(root, Path::new(path))?;
    let old = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(new) = change("") else { return Ok(()) };
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            return write_new(&path, mode, &new);
        }
        Err(error) => return Err(error),
    };
    let Some(new) = change(&old).filter(|new| *new != old) else { return Ok(()) };
    // Stricter than it must be is the user's wish.
    let mode = mode & fs::metadata(&path)?.permissions().mode();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".banger-new");
    let temporary = path.with_file_name(name);
    let written = write_new(&temporary, mode, &new).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    use io::Write as _;
    let options =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    options?.write_all(text.as_bytes())
}

/// Follows the links of a path, the way they lead inside `root`. What does not exist is kept.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    /// As many as the kernel follows (path_resolution(7)).
    const LINKS_MAX: usize = 40;
    let mut links = 0;
    let mut done = PathBuf::new();
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(next) = left.pop() {
        let mut parts = next.components();
        let Some(part) = parts.next() else { continue };
        if parts.clone().next().is_some() {
            left.push(parts.as_path().to_owned());
        }
        match part {
            Component::RootDir | Component::Prefix(_) => done.clear(),
            Component::CurDir => {}
            Component::ParentDir => {
                done.pop();
            }
            Component::Normal(name) => {
                let here = done.join(name);
                match fs::read_link(root.join(&here)) {
                    Ok(target) => {
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(io::Error::other("too many links"));
                        }
                        left.push(target);
                    }
                    Err(_) => done = here,
                }
            }
        }
    }
    Ok(root.join(done))
}

#[cfg(test)]
mod tests;
