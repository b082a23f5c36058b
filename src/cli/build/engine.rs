//! Where the steps of a build run.

use std::{fs, path::PathBuf, process::Command};

use super::{step::Ended, vm::Builder};
use crate::{
    cli::args::EngineKind,
    domain::Problem,
    image::build::{self, Host, Mounted, Session, Step},
};

/// What this host can: mounting needs root.
pub fn of_host() -> EngineKind {
    if nix::unistd::geteuid().is_root() { EngineKind::Chroot } else { EngineKind::Vm }
}

/// The root that the steps run in.
pub enum Engine {
    /// Mounted by us.
    Chroot {
        /// It.
        mounted: Box<Mounted>,
        /// What the host has of mirrors and proxies.
        host: Host,
        /// The directory of the parts.
        work: PathBuf,
    },
    /// The disk of a VM.
    Vm(Box<Builder>),
}

impl Engine {
    /// The command that runs a step.
    ///
    /// # Errors
    /// If the VM has no address.
    pub fn step(&self, step: Step) -> Result<Command, Problem> {
        match self {
            Self::Chroot { mounted, host, .. } => Ok(mounted.step(step, host)),
            Self::Vm(builder) => builder.step(step),
        }
    }

    /// Sees to it that nothing of a step that did not end well still runs.
    ///
    /// # Errors
    /// If something of it does not end.
    pub fn end_step(&self) -> Result<(), Problem> {
        match self {
            // It was ended with all of its group.
            Self::Chroot { .. } => Ok(()),
            Self::Vm(builder) => builder.end_step(),
        }
    }

    /// What leads into it.
    ///
    /// # Errors
    /// If it is gone.
    pub fn session(&self) -> Result<Session, Problem> {
        match self {
            Self::Chroot { mounted, .. } => mounted.session().map_err(|error| {
                Problem::new("the mounted image is gone", error.to_string(), "build it again")
            }),
            Self::Vm(builder) => Ok(Session::Vm { name: builder.name().to_owned() }),
        }
    }

    /// The command of an interactive shell in it, for the image of this name.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub fn shell(&self, image: &str) -> Result<Command, Problem> {
        match self {
            Self::Chroot { .. } => match self.session()? {
                Session::Mounted { holder, at } => Ok(build::shell_in(holder, &at, image)),
                Session::Vm { .. } => unreachable!("a mounted root has no VM"),
            },
            Self::Vm(builder) => builder.shell(),
        }
    }

    /// What is installed at the end: “name version”, sorted.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub fn packages(&self) -> Result<Vec<String>, Problem> {
        let text = match self {
            Self::Chroot { work, .. } => {
                fs::read_to_string(work.join("out/packages")).unwrap_or_default()
            }
            Self::Vm(builder) => builder.output("out/packages")?,
        };
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Ends it; the staged disk is whole then.
    ///
    /// # Errors
    /// If it cannot be ended cleanly.
    pub fn close(self) -> Result<(), Problem> {
        match self {
            Self::Chroot { mounted, .. } => mounted.close(),
            Self::Vm(builder) => builder.close(),
        }
    }
}

/// A step that went well, or how it did not.
pub fn judge(step: Step, ended: &Ended) -> Result<(), Problem> {
    let what = format!("the step {} failed", step.word());
    let hint = "the log above has all it said";
    match ended {
        Ended::Well => Ok(()),
        Ended::Badly { status, last } if last.is_empty() => {
            Err(Problem::new(what, format!("it ended with {status}"), hint))
        }
        Ended::Badly { last, .. } => Err(Problem::new(what, last.clone(), hint)),
        Ended::Interrupted => Err(Problem::new(what, "it was interrupted", "")),
    }
}
