//! What a run makes on the host, written to the ledger before it is made.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    thread::JoinHandle,
};

use serde_json::json;
use tokio::{runtime::Handle, sync::watch};

use super::{
    clear::VmmDetail,
    ground::Ground,
    machine::{Set, Stage},
    naming, network, overlay,
    plan::{Plan, SSH_PORT, Way, free_port},
};
use crate::{
    bundle::Bundle,
    domain::{MonitorStatus, NamesSettings, NetworkKind, Problem, SshEndpoint},
    host::{fault, process::ProcessRef},
    names::{NameServer, Record},
    store::{LedgerKind, Store, VmRow},
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
    /// How its name is made known.
    pub names: &'a NamesSettings,
    /// This monitor's part in answering for names, once it has one.
    pub server: Option<NameServer>,
    /// What everyone may know of the VM.
    pub status: watch::Sender<MonitorStatus>,
    /// Where the monitor's tasks run.
    pub runtime: Handle,
    /// Makes the name known.
    pub publishing: Option<JoinHandle<()>>,
    /// The port of last time, of this run or the one before.
    pub last_port: Option<u16>,
}

impl HostStage<'_> {
    fn note(&self, kind: LedgerKind, key: &str, detail: &serde_json::Value) -> Result<(), Problem> {
        self.ground.note(&self.row.id, kind, key, detail)
    }

    fn note_vmm(&self, process: Option<ProcessRef>) -> Result<(), Problem> {
        let socket = self.plan.paths.vmm_socket();
        self.note(LedgerKind::Process, VMM, &json!(VmmDetail { process, socket }))
    }

    /// The port where guests' questions for names are answered. Without one they have no names,
    /// and are as good otherwise.
    fn dns(&mut self) -> Option<u16> {
        let Ground { layout, tag, .. } = &self.ground;
        if self.server.is_none() {
            let started = network::subnet(&self.ground)
                .and_then(|subnet| naming::serve(layout, tag, subnet))
                .inspect_err(|problem| tracing::warn!(%problem, "no names"));
            self.server = started.ok();
            if let Some(server) = &self.server {
                self.runtime.spawn(naming::follow(server.serving(), (*layout).clone()));
            }
        }
        let port = naming::port(self.server.as_ref()?);
        port.inspect_err(|problem| tracing::warn!(%problem, "no names")).ok()
    }

    fn make(&mut self) -> Result<Set, Problem> {
        let store = self.ground.store;
        // A guest that reboots gets what is there now.
        self.plan.bundle = Bundle::open(self.plan.bundle.dir())?;
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
                let dns = self.dns();
                Way::Bridge(network::attach(&self.ground, id, self.owner, dns)?)
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
        Ok(Set { machine, ssh, address, note: self.plan.note() })
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
        fault::point("the VMM was started");
        let noted = match ProcessRef::of(pid) {
            Ok(process) => self.note_vmm(Some(process)),
            // Gone already; its end is reported as an event.
            Err(_) => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "the VMM stays in the ledger by its socket alone");
        }
        self.announce();
    }

    fn is_whole(&self) -> bool {
        self.plan.bundle.is_as_read()
    }
}

impl HostStage<'_> {
    /// Makes the VM's name known, while it boots.
    fn announce(&mut self) {
        let Some(port) = self.server.as_ref().and_then(|server| naming::port(server).ok()) else {
            return;
        };
        let Some(address) = self.status.borrow().address else { return };
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let record = Record { name: self.row.spec.name.clone(), address };
        let (layout, settings) = (self.ground.layout.clone(), self.names.clone());
        let (id, status) = (self.row.id.clone(), self.status.clone());
        self.published();
        let work = move || {
            let store = Store::open(&layout.database())?;
            let ground = Ground::find(&store, &layout)?;
            let Some(subnet) = store.subnet()? else { return Ok(None) };
            naming::publish(&ground, &settings, (&id, &record), server, subnet)
        };
        self.publishing = Some(std::thread::spawn(move || match work() {
            Ok(name) => status.send_modify(|s| s.dns_name = name),
            Err(problem) => tracing::warn!(%problem, "its name is not known"),
        }));
    }

    /// Waits until the name is known, or that has failed: what is being made cannot be cleared up.
    pub fn published(&mut self) {
        // A panic in there has been reported by itself.
        let _ = self.publishing.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
