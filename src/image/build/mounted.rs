//! The root that the steps work in, mounted by root in namespaces of its own; and the note by
//! which another terminal finds a build.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use super::{Host, Step, parts::step_path};
use crate::{
    domain::Problem,
    host::{
        own_root::{OwnRoot, WORK_INSIDE, command_in},
        process::ProcessRef,
    },
};

/// The hidden verb of banger that holds a mounted root.
pub const HOLDER: &str = "own-root";

/// The note in the directory of a build.
const NOTE: &str = "session.json";

/// The root of a build, mounted.
#[derive(Debug)]
pub struct Mounted(OwnRoot);

impl Mounted {
    /// Mounts `disk`; `root`, an empty directory, is its place, and `work` is that of the parts.
    /// `banger` is this program.
    ///
    /// # Errors
    /// Without the rights of root, or loop devices.
    pub fn open(banger: &Path, disk: &Path, root: &Path, work: &Path) -> Result<Self, Problem> {
        let fail = |error: io::Error| {
            let hint = "try `--engine vm`, which needs neither root nor loop devices";
            Problem::new(format!("cannot mount {}", disk.display()), error.to_string(), hint)
        };
        fs::create_dir_all(root).map_err(fail)?;
        let mut holder = Command::new(banger);
        holder.arg(HOLDER);
        OwnRoot::open(holder, disk, root, work).map(Self).map_err(fail)
    }

    /// The command that runs a step in it.
    #[must_use]
    pub fn step(&self, step: Step, host: &Host) -> Command {
        let mut command = command_in(self.0.pid(), self.0.at(), "/bin/sh");
        command.arg(step_path(WORK_INSIDE, step));
        command.env("ROOT", "/").env("WORK", WORK_INSIDE).env("HOME", "/root").env("TERM", "dumb");
        command.envs(host.proxies.iter().cloned());
        command
    }

    /// What leads into it from elsewhere.
    ///
    /// # Errors
    /// If it is gone.
    pub fn session(&self) -> io::Result<Session> {
        let holder = ProcessRef::of(self.0.pid())?;
        Ok(Session::Mounted { holder, at: self.0.at().to_owned() })
    }

    /// Unmounts it: all that was written is on the disk then.
    ///
    /// # Errors
    /// If something in it cannot be ended.
    pub fn close(self) -> Result<(), Problem> {
        self.0.close().map_err(|error| {
            Problem::new("cannot unmount the image", error.to_string(), "build it again")
        })
    }
}

/// Where the root of a build is, for who wants a shell in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "engine")]
pub enum Session {
    /// Mounted, in the namespaces of a process.
    Mounted {
        /// The process.
        holder: ProcessRef,
        /// Where it is mounted, in there.
        at: PathBuf,
    },
    /// The disk of a VM that is up.
    Vm {
        /// Its name.
        name: String,
    },
}

impl Session {
    /// Notes it in the directory of the build of `image`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&self, dir: &Path, image: &str) -> io::Result<()> {
        let note = Note { image: image.to_owned(), session: self.clone() };
        fs::write(dir.join(NOTE), serde_json::to_vec(&note)?)
    }

    /// Takes the note away: nobody can come in any more.
    pub fn forget(dir: &Path) {
        // If it stays, it leads to a process that is gone, which is noticed.
        let _ = fs::remove_file(dir.join(NOTE));
    }

    /// The note in a directory, if there is one and it leads anywhere: the image that is built,
    /// and where.
    #[must_use]
    pub fn find(dir: &Path) -> Option<(String, Self)> {
        let note: Note = serde_json::from_slice(&fs::read(dir.join(NOTE)).ok()?).ok()?;
        match &note.session {
            Self::Mounted { holder, .. } if !holder.alive() => None,
            _ => Some((note.image, note.session)),
        }
    }
}

/// What is noted of a build.
#[derive(Serialize, Deserialize)]
struct Note {
    image: String,
    session: Session,
}

/// The command of an interactive shell in a mounted root, that of `image`: its prompt says so, as the
/// host's name and root's home look like the host's own.
#[must_use]
pub fn shell_in(holder: ProcessRef, at: &Path, image: &str) -> Command {
    let script = "cd /root 2>/dev/null; [ -x /bin/bash ] && exec /bin/bash; exec /bin/sh";
    let mut command = command_in(holder.pid, at, "/bin/sh");
    let term = std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned());
    command.args(["-c", script]).env("HOME", "/root").env("TERM", term);
    // Debian's bashrc shows the one, other shells the other.
    command.env("debian_chroot", format!("image {image}"));
    command.env("PS1", format!("(image {image}) \\w \\$ "));
    command.env("LANG", "C.UTF-8").env("WORK", WORK_INSIDE);
    command
}
