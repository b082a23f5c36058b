//! What a run makes on the host, written to the ledger before it is made.

use serde_json::json;

use super::{
    clear::VmmDetail,
    machine::Stage,
    plan::{Plan, free_port},
};
use crate::{
    domain::{SshEndpoint, VmId},
    host::process::ProcessRef,
    store::{LedgerKind, Store},
    vmm::MachineSpec,
};

/// The ledger's key of the VMM.
const VMM: &str = "vmm";

/// A stage on this host.
pub struct HostStage<'a> {
    /// The record.
    pub store: &'a Store,
    /// The VM.
    pub id: &'a VmId,
    /// What becomes of it.
    pub plan: Plan<'a>,
    /// The port of last time, of this run or the one before.
    pub last_port: Option<u16>,
}

impl HostStage<'_> {
    fn note_vmm(&self, process: Option<ProcessRef>) -> Result<(), String> {
        let socket = self.plan.paths.vmm_socket();
        let detail = json!(VmmDetail { process, socket });
        self.store
            .note(self.id, LedgerKind::Process, VMM, &detail)
            .map(drop)
            .map_err(|e| e.to_string())
    }
}

impl Stage for HostStage<'_> {
    fn set(&mut self) -> Result<(MachineSpec, SshEndpoint), String> {
        let port = free_port(self.last_port)?;
        self.last_port = Some(port);
        let socket = self.plan.paths.vmm_socket();
        let note = |kind, key: &str| self.store.note(self.id, kind, key, &json!(null));
        note(LedgerKind::PortForward, &port.to_string())
            .and_then(|_| note(LedgerKind::Socket, &socket.to_string_lossy()))
            .and_then(|_| self.store.record_ssh_port(self.id, port))
            .map_err(|e| e.to_string())?;
        self.note_vmm(None)?;
        let ssh = SshEndpoint { host: "127.0.0.1".to_owned(), port };
        Ok((self.plan.machine(&ssh)?, ssh))
    }

    fn launched(&mut self, pid: u32) {
        let noted = match ProcessRef::of(pid) {
            Ok(process) => self.note_vmm(Some(process)),
            // Gone already; its end is reported as an event.
            Err(_) => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(error, "the VMM stays in the ledger by its socket alone");
        }
    }
}
