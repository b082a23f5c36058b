//! What a run makes on the host, written to the ledger before it is made.

use serde_json::json;

use super::{
    clear::VmmDetail,
    ground::Ground,
    machine::{Set, Stage},
    network, overlay,
    plan::{Plan, SSH_PORT, Way, free_port},
};
use crate::{
    domain::{NetworkKind, Problem, SshEndpoint},
    host::process::ProcessRef,
    store::{LedgerKind, VmRow},
    vmm::Piece,
};

/// The ledger's key of the VMM.
const VMM: &str = "vmm";

/// A stage on this host.
pub struct HostStage<'a> {
    /// What makes it.
    pub ground: Ground<'a>,
    /// The VM as stored.
    pub row: &'a VmRow,
    /// What becomes of it.
    pub plan: Plan<'a>,
    /// How it is to reach the world.
    pub network: NetworkKind,
    /// The user as whom its VMM runs.
    pub owner: u32,
    /// The port where guests' questions for names are answered.
    pub dns: Option<u16>,
    /// The port of last time, of this run or the one before.
    pub last_port: Option<u16>,
}

impl HostStage<'_> {
    fn note(&self, kind: LedgerKind, key: &str, detail: &serde_json::Value) -> Result<(), Problem> {
        Ok(self.ground.store.note(&self.row.id, kind, key, detail).map(drop)?)
    }

    fn note_vmm(&self, process: Option<ProcessRef>) -> Result<(), Problem> {
        let socket = self.plan.paths.vmm_socket();
        self.note(LedgerKind::Process, VMM, &json!(VmmDetail { process, socket }))
    }

    fn make(&mut self) -> Result<Set, Problem> {
        let store = self.ground.store;
        let (id, paths) = (&self.row.id, self.plan.paths);
        let disk = overlay::open(&self.ground, self.row, paths)?;
        let way = match self.network {
            NetworkKind::User => {
                let port = free_port(self.last_port)?;
                self.last_port = Some(port);
                self.note(LedgerKind::PortForward, &port.to_string(), &json!(null))?;
                store.record_ssh_port(id, port)?;
                Way::User(port)
            }
            NetworkKind::Tap => {
                Way::Bridge(network::attach(&self.ground, id, self.owner, self.dns)?)
            }
        };
        let (ssh, address) = match &way {
            Way::User(port) => (SshEndpoint { host: "127.0.0.1".to_owned(), port: *port }, None),
            Way::Bridge(at) => {
                let host = at.address.to_string();
                (SshEndpoint { host, port: SSH_PORT }, Some(at.address))
            }
        };
        let machine = self.plan.machine(disk, &way)?;
        self.note(LedgerKind::Socket, &machine.socket.to_string_lossy(), &json!(null))?;
        for piece in self.plan.backend.pieces(&machine) {
            self.note(kind_of(&piece), &piece.path().to_string_lossy(), &json!(null))?;
        }
        self.note_vmm(None)?;
        Ok(Set { machine, ssh, address })
    }
}

const fn kind_of(piece: &Piece) -> LedgerKind {
    match piece {
        Piece::Socket(_) => LedgerKind::Socket,
        Piece::Directory(_) => LedgerKind::Directory,
        Piece::Pipe(_) => LedgerKind::File,
        Piece::Cgroup(_) => LedgerKind::Cgroup,
    }
}

impl Stage for HostStage<'_> {
    fn set(&mut self) -> Result<Set, Problem> {
        // Operations drive a runtime of their own, which the thread of ours must not.
        std::thread::scope(|scope| scope.spawn(|| self.make()).join()).unwrap_or_else(|_| {
            let why = "a part of banger failed";
            Err(Problem::new("cannot start the VM", why, "please report it with the monitor's log"))
        })
    }

    fn launched(&mut self, pid: u32) {
        let noted = match ProcessRef::of(pid) {
            Ok(process) => self.note_vmm(Some(process)),
            // Gone already; its end is reported as an event.
            Err(_) => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "the VMM stays in the ledger by its socket alone");
        }
    }
}

#[cfg(test)]
mod tests;
