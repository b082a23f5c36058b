//! Making a VM's name known, in pieces that a ledger can name.

use std::{net::SocketAddrV4, path::Path, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Record, Way, mapdns};
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
    /// The pieces of the home's other VMs that run, as they are written down now. Not who runs alone:
    /// one that is ending runs until all is cleared up, and has had its own removed.
    pub others: &'a dyn Fn() -> Result<Vec<Piece>, Problem>,
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
                let mut names = context.lines(&line.name)?;
                names.push(line.clone());
                context.run(&Op::Hosts { names })
            }
            Self::DataFile { file, line } => mapdns::enter(file, &line.name, line.address),
            Self::Command { publish, line, .. } => publish
                .as_ref()
                .map_or(Ok(()), |command| mapdns::command(command, &line.name, line.address)),
        }
    }

    /// Removes it, for a VM that runs no more; content if it is gone. Blocks. `strike_out` is called
    /// when it is gone, while no other VM of the home looks at what is written down: two that end at
    /// the same time would each take the other for one that goes on.
    ///
    /// # Errors
    /// What failed, why, and what to do. It may be there still.
    pub fn remove(
        &self,
        context: &Context<'_>,
        strike_out: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let turn = match self {
            Self::Resolver { .. } => {
                let turn = context.turn()?;
                let others = (context.others)()?;
                if !others.iter().any(|piece| matches!(piece, Self::Resolver { .. })) {
                    context.run(&Op::ResolveGone)?;
                }
                Some(turn)
            }
            Self::Hosts { line } => {
                let turn = context.turn()?;
                context.run(&Op::Hosts { names: context.lines(&line.name)? })?;
                Some(turn)
            }
            Self::DataFile { file, line } => {
                mapdns::leave(file, &line.name, line.address)?;
                None
            }
            Self::Command { withdraw, line, .. } => {
                if let Some(command) = withdraw {
                    mapdns::command(command, &line.name, line.address)?;
                }
                None
            }
        };
        let struck = strike_out();
        drop(turn);
        struck
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

    /// The lines of all but this one.
    fn lines(&self, name: &VmName) -> Result<Vec<HostsName>, Problem> {
        let line = |piece| match piece {
            Piece::Hosts { line } if line.name != *name => Some(line),
            _ => None,
        };
        Ok((self.others)()?.into_iter().filter_map(line).collect())
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
    use std::{cell::RefCell, net::Ipv4Addr, os::fd::BorrowedFd, sync::Mutex};

    use super::*;
    use crate::{
        host::ops::Done,
        names::testing::{record, subnet},
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
        of("web", 2, way)
    }

    fn of(name: &str, last: u8, way: &Way) -> Piece {
        let plan = plan(&NamesSettings::default(), way, &record(name, last), SERVER, subnet());
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
        let ops = Ops::default();
        // Another home's way, or an older setting's, is no line of the block.
        let others = || Ok(vec![of("db", 3, &Way::Hosts), of("dev", 4, &Way::Resolved)]);
        let context = Context { ops: Some(&ops), others: &others, run: dir.path() };
        let piece = only(&Way::Hosts);
        piece.make(&context).expect("made");
        assert_eq!(ops.done(), [lines(&[("db", 3), ("web", 2)])]);
        piece.remove(&context, || Ok(())).expect("removed");
        assert_eq!(ops.done(), [lines(&[("db", 3)])]);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let blind = || Err(Problem::new("cannot look", "no database", ""));
        let context = Context { others: &blind, ..context };
        piece.remove(&context, || panic!("it is there")).expect_err("who else is there?");
        assert_eq!(ops.done(), []);
    }

    #[test]
    fn two_that_end_at_the_same_time_leave_nothing() {
        for (way, gone) in [(Way::Hosts, lines(&[])), (Way::Resolved, Op::ResolveGone)] {
            let dir = tempfile::tempdir().expect("temp");
            let ops = Ops::default();
            // Both run until their monitors have cleared up everything.
            let written = RefCell::new(vec![of("db", 3, &way), of("web", 2, &way)]);
            for name in ["web", "db"] {
                let is_own = |piece: &Piece| match piece {
                    Piece::Hosts { line } => line.name.as_str() == name,
                    Piece::Resolver { name: own, .. } => own.as_str() == name,
                    Piece::DataFile { .. } | Piece::Command { .. } => false,
                };
                let others = || {
                    let mut all = written.borrow().clone();
                    all.retain(|piece| !is_own(piece));
                    Ok(all)
                };
                let own = written.borrow().iter().find(|piece| is_own(piece)).cloned();
                let context = Context { ops: Some(&ops), others: &others, run: dir.path() };
                let strike_out = || {
                    // Nobody else looks meanwhile.
                    assert!(dir.path().join("names.turn").exists());
                    written.borrow_mut().retain(|piece| !is_own(piece));
                    Ok(())
                };
                own.expect("written").remove(&context, strike_out).expect("removed");
            }
            assert_eq!(ops.done().last(), Some(&gone));
        }
    }

    #[test]
    fn the_route_goes_with_the_last() {
        let dir = tempfile::tempdir().expect("temp");
        let (ops, other) = (Ops::default(), RefCell::new(vec![of("db", 3, &Way::Resolved)]));
        let others = || Ok(other.borrow().clone());
        let context = Context { ops: Some(&ops), others: &others, run: dir.path() };
        let piece = only(&Way::Resolved);
        piece.make(&context).expect("made");
        assert_eq!(ops.done(), [Op::Resolve { server: SERVER, subnet: subnet() }]);
        piece.remove(&context, || Ok(())).expect("another needs it");
        assert_eq!(ops.done(), []);
        other.borrow_mut().clear();
        piece.remove(&context, || Ok(())).expect("removed");
        assert_eq!(ops.done(), [Op::ResolveGone]);
        let nobody = Context { ops: None, ..context };
        let left = piece.remove(&nobody, || panic!("it is there"));
        assert_eq!(left.expect_err("nobody can").why, "it takes root");
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
        let context = Context { ops: None, others: &|| Ok(Vec::new()), run: dir.path() };
        for piece in &plan.pieces {
            piece.make(&context).expect("made");
        }
        assert!(file.exists() && dir.path().join("web").exists());
        for piece in plan.pieces.iter().rev() {
            piece.remove(&context, || Ok(())).expect("removed");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "{}\n");
        assert!(!dir.path().join("web").exists());
    }
}
