//! Making a VM's name known, in pieces that a ledger can name.

use std::{net::SocketAddrV4, path::Path, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Record, Records, Way, mapdns};
use crate::{
    domain::{CommandTemplate, NamesSettings, Problem, Subnet, VmName, ZONE},
    host::{
        lock::FileLock,
        ops::{HostsName, Op, Operate},
    },
};

/// How long another VM's change is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that makes a name known. It is to be written down before [`Piece::make`], and can be
/// removed from what was written alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "piece", deny_unknown_fields)]
pub enum Piece {
    /// systemd-resolved asks our server. All VMs of a home share it: it goes with the last.
    Resolver {
        /// Where the server answers.
        server: SocketAddrV4,
        /// The VMs' addresses.
        subnet: Subnet,
        /// The VM.
        name: VmName,
    },
    /// A line of our block in `/etc/hosts`.
    Hosts {
        /// The line.
        line: HostsName,
    },
    /// An entry of a mapdns's data file.
    DataFile {
        /// The file.
        file: PathBuf,
        /// The entry.
        line: HostsName,
    },
    /// Something a command has told a mapdns.
    Command {
        /// What is run to make it known; `None`: nothing.
        publish: Option<CommandTemplate>,
        /// What is run to have it forgotten; `None`: nothing.
        withdraw: Option<CommandTemplate>,
        /// What is told.
        line: HostsName,
    },
}

/// What is to be made for a VM, in order, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The pieces.
    pub pieces: Vec<Piece>,
    /// Why there is no way for the host's programs, if there is none and no mapdns either.
    pub problem: Option<Problem>,
}

/// What pieces need.
pub struct Context<'a> {
    /// Who does what needs root, if somebody can.
    pub ops: Option<&'a dyn Operate>,
    /// The VMs that run.
    pub records: &'a dyn Records,
    /// Where the home's locks are.
    pub run: &'a Path,
}

/// What is to be made for a VM whose home's server answers at `server`.
#[must_use]
pub fn plan(
    settings: &NamesSettings,
    way: &Way,
    vm: &Record,
    server: SocketAddrV4,
    subnet: Subnet,
) -> Plan {
    let line = || HostsName { name: vm.name.clone(), address: vm.address };
    let mut plan = Plan::default();
    match way {
        Way::Resolved => {
            plan.pieces.push(Piece::Resolver { server, subnet, name: vm.name.clone() });
        }
        Way::Hosts => plan.pieces.push(Piece::Hosts { line: line() }),
        Way::Nothing(_) => {}
    }
    if let Some(file) = settings.mapdns_file.clone() {
        plan.pieces.push(Piece::DataFile { file, line: line() });
    }
    let (publish, withdraw) = (&settings.mapdns_publish, &settings.mapdns_withdraw);
    if publish.is_some() || withdraw.is_some() {
        let (publish, withdraw) = (publish.clone(), withdraw.clone());
        plan.pieces.push(Piece::Command { publish, withdraw, line: line() });
    }
    if let (Way::Nothing(problem), true) = (way, plan.pieces.is_empty()) {
        plan.problem = Some(problem.clone());
    }
    plan
}

impl Piece {
    /// What finds it: unique among a VM's.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Resolver { .. } => "resolver".to_owned(),
            Self::Hosts { line } => format!("hosts {}.{ZONE}", line.name),
            Self::DataFile { file, line } => format!("{} {}.{ZONE}", file.display(), line.name),
            Self::Command { line, .. } => format!("mapdns {}.{ZONE}", line.name),
        }
    }

    /// Makes it; done twice it is as done once. Blocks.
    ///
    /// # Errors
    /// What failed, why, and what to do. The VM is as good without.
    pub fn make(&self, context: &Context<'_>) -> Result<(), Problem> {
        match self {
            Self::Resolver { server, subnet, .. } => {
                let _turn = context.turn()?;
                context.run(&Op::Resolve { server: *server, subnet: *subnet })
            }
            Self::Hosts { line } => {
                let _turn = context.turn()?;
                let mut names = context.others(&line.name);
                names.push(line.clone());
                context.run(&Op::Hosts { names })
            }
            Self::DataFile { file, line } => mapdns::enter(file, &line.name, line.address),
            Self::Command { publish, line, .. } => publish
                .as_ref()
                .map_or(Ok(()), |command| mapdns::command(command, &line.name, line.address)),
        }
    }

    /// Removes it, for a VM that runs no more; content if it is gone. Blocks.
    ///
    /// # Errors
    /// What failed, why, and what to do. It may be there still.
    pub fn remove(&self, context: &Context<'_>) -> Result<(), Problem> {
        match self {
            Self::Resolver { name, .. } => {
                let _turn = context.turn()?;
                if context.others(name).is_empty() { context.run(&Op::ResolveGone) } else { Ok(()) }
            }
            Self::Hosts { line } => {
                let _turn = context.turn()?;
                context.run(&Op::Hosts { names: context.others(&line.name) })
            }
            Self::DataFile { file, line } => mapdns::leave(file, &line.name, line.address),
            Self::Command { withdraw, line, .. } => withdraw
                .as_ref()
                .map_or(Ok(()), |command| mapdns::command(command, &line.name, line.address)),
        }
    }
}

impl Context<'_> {
    /// Between looking who runs and saying so nobody else of this home does the same.
    fn turn(&self) -> Result<FileLock, Problem> {
        let what = "cannot change what this host knows of .vm";
        let lock = FileLock::exclusive_within(self.run.join("names.turn"), PATIENCE)
            .map_err(|e| Problem::new(what, e.to_string(), "look at the run directory"))?;
        let busy = || Problem::new(what, "another VM has been at it for 10 s", "try again");
        lock.map(FileLock::remove_on_drop).ok_or_else(busy)
    }

    fn others(&self, name: &VmName) -> Vec<HostsName> {
        let others = self.records.all().into_iter().filter(|other| other.name != *name);
        others.map(|vm| HostsName { name: vm.name, address: vm.address }).collect()
    }

    fn run(&self, op: &Op) -> Result<(), Problem> {
        let Some(ops) = self.ops else {
            let hint = "start the root helper again, or run this as root";
            return Err(Problem::new(
                "cannot change what this host knows of .vm",
                "it takes root",
                hint,
            ));
        };
        ops.run(op, &[]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::fd::BorrowedFd, sync::Mutex};

    use super::*;
    use crate::{
        host::ops::Done,
        names::testing::{Fake, record, subnet},
    };

    #[derive(Default)]
    struct Ops(Mutex<Vec<Op>>);

    impl Operate for Ops {
        fn run(&self, op: &Op, _files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
            self.0.lock().expect("whole").push(op.clone());
            Ok(Done::So)
        }
    }

    impl Ops {
        /// What was done since the last look.
        fn done(&self) -> Vec<Op> {
            std::mem::take(&mut self.0.lock().expect("whole"))
        }
    }

    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 21_000);

    fn only(way: &Way) -> Piece {
        let plan = plan(&NamesSettings::default(), way, &record("web", 2), SERVER, subnet());
        let [piece] = plan.pieces.as_slice() else { panic!("{plan:?}") };
        // As from a ledger.
        let json = serde_json::to_string(piece).expect("JSON");
        serde_json::from_str(&json).expect("back")
    }

    fn lines(names: &[(&str, u8)]) -> Op {
        let names = names.iter().map(|(name, last)| record(name, *last));
        let line = |vm: Record| HostsName { name: vm.name, address: vm.address };
        Op::Hosts { names: names.map(line).collect() }
    }

    #[test]
    fn the_block_always_has_those_who_run() {
        let dir = tempfile::tempdir().expect("temp");
        let (ops, fake) = (Ops::default(), Fake::with(&[("db", 3), ("web", 2)]));
        let context = Context { ops: Some(&ops), records: &fake, run: dir.path() };
        let piece = only(&Way::Hosts);
        piece.make(&context).expect("made");
        assert_eq!(ops.done(), [lines(&[("db", 3), ("web", 2)])]);
        // After a crash its lock is free, or is held by whoever clears up.
        piece.remove(&context).expect("removed");
        assert_eq!(ops.done(), [lines(&[("db", 3)])]);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn the_route_goes_with_the_last() {
        let dir = tempfile::tempdir().expect("temp");
        let (ops, fake) = (Ops::default(), Fake::with(&[("db", 3), ("web", 2)]));
        let context = Context { ops: Some(&ops), records: &fake, run: dir.path() };
        let piece = only(&Way::Resolved);
        piece.make(&context).expect("made");
        assert_eq!(ops.done(), [Op::Resolve { server: SERVER, subnet: subnet() }]);
        piece.remove(&context).expect("another needs it");
        assert_eq!(ops.done(), []);
        fake.0.lock().expect("whole").remove(0);
        piece.remove(&context).expect("removed");
        assert_eq!(ops.done(), [Op::ResolveGone]);
        let nobody = Context { ops: None, ..context };
        assert_eq!(piece.remove(&nobody).expect_err("nobody can").why, "it takes root");
    }

    #[test]
    fn without_a_way_a_mapdns_is_told_and_without_one_it_is_said_why_not() {
        let nothing = Way::Nothing(Problem::new("no", "because", "do"));
        let vm = record("web", 2);
        let mut settings = NamesSettings::default();
        let none = plan(&settings, &nothing, &vm, SERVER, subnet());
        assert_eq!(
            (none.pieces.len(), none.problem.map(|p| p.why).as_deref()),
            (0, Some("because"))
        );

        let dir = tempfile::tempdir().expect("temp");
        let file = dir.path().join("m.json");
        settings.mapdns_file = Some(file.clone());
        let touch = format!("touch {}/{{name}}", dir.path().display());
        settings.mapdns_publish = Some(touch.parse().expect("good"));
        settings.mapdns_withdraw = Some(touch.replace("touch", "rm").parse().expect("good"));
        let plan = plan(&settings, &nothing, &vm, SERVER, subnet());
        assert_eq!((plan.pieces.len(), &plan.problem), (2, &None));
        assert_ne!(plan.pieces[0].key(), plan.pieces[1].key());
        let fake = Fake::default();
        let context = Context { ops: None, records: &fake, run: dir.path() };
        for piece in &plan.pieces {
            piece.make(&context).expect("made");
        }
        assert!(file.exists() && dir.path().join("web").exists());
        for piece in plan.pieces.iter().rev() {
            piece.remove(&context).expect("removed");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "{}\n");
        assert!(!dir.path().join("web").exists());
    }
}
