//! Installing the helper, and removing it.
//!
//! What root will run must not be changeable by anybody else: banger itself is used where it is if
//! its path is root's from the first directory on, else a copy of it is made where that is so.

use std::{
    env, fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{Uid, User, geteuid};

use super::{ALLOW_FILE, STATE_DIR, allow, claims::Claims};
use crate::{
    domain::{Problem, Tag},
    host::{
        dirs::io_problem,
        ops::{Done, Inventory, LinuxOps, Op, Operate},
    },
};

const SOCKET_UNIT: &str = include_str!("units/banger-helper.socket");
const SERVICE_UNIT: &str = include_str!("units/banger-helper.service");
/// Where an administrator's units lie: systemd.unit(5).
const UNITS: &str = "/etc/systemd/system";
/// Where the copy lies.
const PROGRAM: &str = "/usr/local/libexec/banger/banger-helper";
/// Is there if systemd runs the host: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Somebody who is to use the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The user's name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
}

/// A step that was done, in words that can be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step(String);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where things are put.
#[derive(Clone, Debug)]
pub struct Installation {
    /// What every path begins with: empty, but in tests.
    root: PathBuf,
    /// The banger that is run.
    banger: PathBuf,
    /// Runs `systemctl` with these words.
    systemctl: fn(&[&str]) -> io::Result<()>,
}

/// Who is to use the helper: the named user, else the one who called sudo.
///
/// # Errors
/// If there is no such user, or nobody is named.
pub fn user_to_allow(name: Option<&str>) -> Result<Person, Problem> {
    let hint = "sudo banger helper install --user NAME";
    let what = "cannot tell who is to use the root helper";
    let sudo = env::var("SUDO_USER").ok();
    let Some(name) = name.or(sudo.as_deref()).filter(|name| !name.is_empty()) else {
        return Err(Problem::new(what, "no user is named, and sudo was not used", hint));
    };
    let user = User::from_name(name).map_err(|errno| {
        Problem::new(what, format!("{name} cannot be looked up: {errno}"), hint)
    })?;
    let Some(user) = user else {
        return Err(Problem::new(what, format!("there is no user {name}"), hint));
    };
    Ok(Person { name: user.name, uid: user.uid.as_raw() })
}

impl Installation {
    /// Of the host we run on.
    #[must_use]
    pub fn of_this_host() -> Self {
        // The file that runs, even if its name leads to another one by now.
        Self { root: PathBuf::new(), banger: "/proc/self/exe".into(), systemctl }
    }

    fn at(&self, path: &str) -> PathBuf {
        let relative = path.trim_start_matches('/');
        if self.root.as_os_str().is_empty() { path.into() } else { self.root.join(relative) }
    }

    /// Installs the helper and lets `user` use it. What is there is replaced.
    ///
    /// # Errors
    /// What could not be done; what was done before stays, and doing it again goes on from there.
    pub fn install(&self, user: &Person, tell: &mut dyn FnMut(&Step)) -> Result<(), Problem> {
        must_be_root("install")?;
        let program = self.program(tell)?;
        self.allow(user, tell)?;
        if !self.at(BOOTED).is_dir() {
            return Err(Problem::new(
                "the root helper cannot be installed as a service",
                "systemd does not run this host",
                format!(
                    "have this run at the start of the host, or by hand: {} host-helper --socket {}",
                    program.display(),
                    super::SOCKET
                ),
            ));
        }
        let unit = SERVICE_UNIT.replace("@PROGRAM@", &program.display().to_string());
        for (name, text) in [("socket", SOCKET_UNIT), ("service", &unit)] {
            let path = self.at(UNITS).join(format!("banger-helper.{name}"));
            self.write(&path, text.as_bytes(), 0o644, tell)?;
        }
        self.systemctl(&["daemon-reload"], tell)?;
        self.systemctl(&["enable", "--now", "banger-helper.socket"], tell)?;
        // One that runs is of the version before.
        self.systemctl(&["stop", "banger-helper.service"], tell)
    }

    /// Removes the helper, and what it remembers.
    ///
    /// # Errors
    /// If something is on the host that only it can remove for its user; what could not be done.
    pub fn uninstall(&self, force: bool, tell: &mut dyn FnMut(&Step)) -> Result<(), Problem> {
        must_be_root("uninstall")?;
        if !force {
            self.nothing_left()?;
        }
        if self.at(BOOTED).is_dir() && self.at(UNITS).join("banger-helper.socket").exists() {
            self.systemctl(&["disable", "--now", "banger-helper.socket"], tell)?;
            self.systemctl(&["stop", "banger-helper.service"], tell)?;
        }
        for name in ["socket", "service"] {
            self.remove(&self.at(UNITS).join(format!("banger-helper.{name}")), tell)?;
        }
        self.remove(&self.at(PROGRAM), tell)?;
        self.remove(&self.at(ALLOW_FILE), tell)?;
        self.remove(&self.at(STATE_DIR), tell)?;
        for path in [PROGRAM, ALLOW_FILE] {
            if let Some(dir) = self.at(path).parent() {
                // If there is something else in it, it stays; nothing else is wrong with that.
                let _ = fs::remove_dir(dir);
            }
        }
        if self.at(BOOTED).is_dir() {
            self.systemctl(&["daemon-reload"], tell)?;
        }
        Ok(())
    }

    /// What there is of it, a line each.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in ["socket", "service"] {
            let path = self.at(UNITS).join(format!("banger-helper.{name}"));
            let is = if path.exists() { "is there" } else { "is not there" };
            lines.push(format!("{} {is}", path.display()));
        }
        let path = self.at(ALLOW_FILE);
        lines.push(match allow::read(&path) {
            Ok(list) => {
                let users: Vec<_> = allow::words(&list).collect();
                format!("{} lets in: {}", path.display(), users.join(", "))
            }
            Err(error) => format!("{} lets nobody in: {error}", path.display()),
        });
        lines
    }

    /// The program that root is to run.
    fn program(&self, tell: &mut dyn FnMut(&Step)) -> Result<PathBuf, Problem> {
        let running = fs::read_link(&self.banger).unwrap_or_else(|_| self.banger.clone());
        if who_could_change(&running).is_none() {
            tell(&Step(format!("# {} is root's alone: it is the helper", running.display())));
            return Ok(running);
        }
        let path = self.at(PROGRAM);
        let what = format!("cannot make {}", path.display());
        let bytes = fs::read(&self.banger).map_err(|e| io_problem(&what, &e))?;
        tell(&Step(format!("install -D -m 0755 {} {}", running.display(), path.display())));
        self.write_quietly(&path, &bytes, 0o755)?;
        match who_could_change(&path) {
            None => Ok(path),
            Some((changeable, how)) => Err(Problem::new(
                "the root helper has no safe place",
                format!("{} {how}", changeable.display()),
                format!("chown root:root {0}; chmod go-w {0}", changeable.display()),
            )),
        }
    }

    /// Puts a user on the list.
    fn allow(&self, user: &Person, tell: &mut dyn FnMut(&Step)) -> Result<(), Problem> {
        let path = self.at(ALLOW_FILE);
        let mut list = match fs::read_to_string(&path) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "# Who may use the root helper of banger: a user's name or number on each line.\n"
                    .to_owned()
            }
            Err(error) => {
                return Err(io_problem(format!("cannot read {}", path.display()), &error));
            }
        };
        let number = user.uid.to_string();
        if allow::words(&list).any(|word| word == user.name || word == number) {
            tell(&Step(format!("# {} has {} already", path.display(), user.name)));
            return Ok(());
        }
        if !list.is_empty() && !list.ends_with('\n') {
            list.push('\n');
        }
        list.push_str(&user.name);
        list.push('\n');
        tell(&Step(format!("echo {} >> {}", user.name, path.display())));
        self.write_quietly(&path, list.as_bytes(), 0o644)
    }

    fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        tell: &mut dyn FnMut(&Step),
    ) -> Result<(), Problem> {
        tell(&Step(format!("# writes {}", path.display())));
        self.write_quietly(path, bytes, mode)
    }

    /// Puts a file in place as a whole, in directories that are root's.
    fn write_quietly(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Problem> {
        let failed =
            |error: io::Error| io_problem(format!("cannot write {}", path.display()), &error);
        let new = path.with_extension("new");
        let put = || -> io::Result<()> {
            if let Some(dir) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
            }
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            // Whatever the umask is.
            file.set_permissions(PermissionsExt::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        put().map_err(failed)
    }

    fn remove(&self, path: &Path, tell: &mut dyn FnMut(&Step)) -> Result<(), Problem> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        tell(&Step(format!("rm -r {}", path.display())));
        let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(|e| io_problem(format!("cannot remove {}", path.display()), &e))
    }

    fn systemctl(&self, words: &[&str], tell: &mut dyn FnMut(&Step)) -> Result<(), Problem> {
        let command = format!("systemctl {}", words.join(" "));
        tell(&Step(command.clone()));
        (self.systemctl)(words).map_err(|e| {
            let hint = "`journalctl -xe` tells more";
            Problem::new(format!("`{command}` failed"), e.to_string(), hint)
        })
    }

    /// Makes sure that nothing is on the host that was made by the helper.
    fn nothing_left(&self) -> Result<(), Problem> {
        let tags = self.at(STATE_DIR).join("tags");
        if !tags.exists() {
            return Ok(());
        }
        let failed = |e: io::Error| io_problem(format!("cannot read {}", tags.display()), &e);
        let claims = Claims::open(&tags, "").and_then(|claims| claims.all()).map_err(failed)?;
        for (tag, claim) in claims {
            if has_things(&tag, claim.uid)? {
                let name = User::from_uid(Uid::from_raw(claim.uid)).ok().flatten();
                let name = name.map_or_else(|| claim.uid.to_string(), |user| user.name);
                return Err(Problem::new(
                    "the root helper is still needed",
                    format!("{name} has VMs, or what is left of them (tag {tag})"),
                    "have them stopped, or remove the helper all the same with --force",
                ));
            }
        }
        Ok(())
    }
}

fn has_things(tag: &Tag, uid: u32) -> Result<bool, Problem> {
    let done = LinuxOps::new(tag.clone(), uid).run(&Op::Inventory, &[])?;
    Ok(done != Done::Inventory(Inventory::default()))
}

fn must_be_root(verb: &str) -> Result<(), Problem> {
    if geteuid().is_root() {
        return Ok(());
    }
    let hint = format!("sudo banger helper {verb}");
    Err(Problem::new(format!("cannot {verb} the root helper"), "that takes root", hint))
}

/// The part of an absolute path that somebody else than root could change, and how.
fn who_could_change(path: &Path) -> Option<(PathBuf, String)> {
    for part in path.ancestors() {
        let meta = match fs::symlink_metadata(part) {
            Ok(meta) => meta,
            Err(error) => return Some((part.into(), format!("cannot be looked at: {error}"))),
        };
        if meta.is_symlink() {
            return Some((part.into(), "is a link".to_owned()));
        }
        if meta.uid() != 0 {
            return Some((part.into(), format!("belongs to the user {}", meta.uid())));
        }
        if meta.mode() & 0o022 != 0 {
            let mode = meta.mode() & 0o7777;
            return Some((part.into(), format!("may be written to by others (mode {mode:o})")));
        }
    }
    None
}

fn systemctl(words: &[&str]) -> io::Result<()> {
    let output = Command::new("systemctl").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{} ({})", text.trim(), output.status)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An installation below a directory, of a program, that has `systemctl` called.
    pub fn in_directory(
        root: &Path,
        banger: &Path,
        systemctl: fn(&[&str]) -> io::Result<()>,
    ) -> Installation {
        Installation { root: root.into(), banger: banger.into(), systemctl }
    }
}
