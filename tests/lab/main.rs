//! The lab: banger on a real host with KVM, device-mapper, TAPs, systemd and resolved - a Debian
//! 12 workstation that `scripts/lab/run.sh` boots in an emulator.
//!
//! This program is on both sides. Outside it boots the lab with itself on board and reports what
//! comes back as ordinary tests. Inside it runs one scenario after the other, as root and as a
//! normal user, and compares what the host looked like before and after each: whatever is left,
//! fails it.
//!
//! Arguments are those of other test programs: parts of names, `--exact`, `--skip`, `--list`.

#[path = "../common/mod.rs"]
mod common;
mod inside;
mod machine;
mod outside;
mod picture;
mod scenarios;

use std::{env, process::ExitCode};

use common::Home;

/// A user of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// Who may do everything.
    Root,
    /// A developer, who may use KVM.
    Dev,
}

impl User {
    const ALL: [Self; 2] = [Self::Root, Self::Dev];

    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Dev => "dev",
        }
    }
}

/// Something that is done in the lab, and must leave no trace.
struct Scenario {
    name: &'static str,
    /// As whom, one after the other.
    users: &'static [User],
    play: Play,
    /// Whether it is about Firecracker, which nobody may have.
    firecracker: bool,
}

/// What is done. It fails by a panic.
#[derive(Clone, Copy)]
enum Play {
    /// From begin to end.
    Whole(fn(&Home)),
    /// The power is cut after the first; the second comes when the machine is up again.
    Cut(fn(&Home), fn(&Home)),
}

impl Scenario {
    const fn new(name: &'static str, users: &'static [User], play: fn(&Home)) -> Self {
        Self { name, users, play: Play::Whole(play), firecracker: false }
    }

    const fn cut(
        name: &'static str,
        users: &'static [User],
        before: fn(&Home),
        after: fn(&Home),
    ) -> Self {
        Self { name, users, play: Play::Cut(before, after), firecracker: false }
    }

    /// The same, where there is a Firecracker.
    const fn with_firecracker(self) -> Self {
        Self { firecracker: true, ..self }
    }

    /// The tests there are of it: name and user.
    fn tests(&'static self) -> impl Iterator<Item = Test> {
        self.users.iter().map(move |user| Test { scenario: self, user: *user })
    }
}

/// A scenario as one user.
#[derive(Clone, Copy)]
struct Test {
    scenario: &'static Scenario,
    user: User,
}

impl Test {
    fn all() -> Vec<Self> {
        scenarios::ALL.into_iter().flatten().flat_map(Scenario::tests).collect()
    }

    fn name(&self) -> String {
        format!("{}::{}", self.scenario.name, self.user.name())
    }

    fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|test| test.name() == name)
    }

    fn is_cut(&self) -> bool {
        matches!(self.scenario.play, Play::Cut(..))
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == inside::WORD => inside::main(rest),
        _ => outside::main(&args),
    }
}
