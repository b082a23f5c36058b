//! Clearing up from the ledger: what a monitor does at its end, and whoever finds one dead.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{ground::Ground, naming, shared};
use crate::{
    domain::VmId,
    host::{
        ops::Op,
        process::{self, ProcessRef, Signal},
    },
    names,
    store::{LedgerEntry, LedgerKind},
    vmm::Piece,
};

/// How long a VMM may take to be gone after SIGKILL. A process in uninterruptible sleep (a disk
/// that hangs) takes as long as it likes; the entry then stays for the next try.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// How the ledger finds a VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmmDetail {
    /// The process, once it is known.
    pub process: Option<ProcessRef>,
    /// Its control socket's path, which is one of its arguments: finds it if its monitor died
    /// between starting it and writing down who it is.
    pub socket: PathBuf,
}

/// Undoes every entry of the VM, newest first, and strikes out what is gone; then what all VMs
/// share, if this was the last that used it. An error does not stop the rest. The caller holds the
/// VM's lock. Blocks; not for a thread that drives a tokio runtime.
///
/// Returns one line for each thing that is still there.
pub fn clear(ground: &Ground<'_>, vm: &VmId) -> Vec<String> {
    let entries = match ground.store.entries(vm) {
        Ok(entries) => entries,
        Err(problem) => return vec![problem.to_string()],
    };
    let mut left = Vec::new();
    for entry in entries.iter().rev() {
        let why = |why: String| format!("{} {}: {why}", entry.kind, entry.key);
        let undone = match entry.kind {
            // Of what all VMs share in one place: what is written down says who does.
            LedgerKind::DnsRecord => {
                naming::withdraw(ground, vm, entry).map_err(|problem| why(problem.why))
            }
            _ => undo(ground, vm, entry)
                .map_err(|error| why(error.to_string()))
                .and_then(|()| ground.strike_out(entry).map_err(|e| e.to_string())),
        };
        if let Err(line) = undone {
            left.push(line);
        }
    }
    left.extend(shared::release(ground));
    if let Err(error) = names::sweep(&ground.layout.run) {
        left.push(format!("the name server's files: {error}"));
    }
    left
}

fn undo(ground: &Ground<'_>, vm: &VmId, entry: &LedgerEntry) -> io::Result<()> {
    let path = Path::new(&entry.key);
    let run = |op: Op| {
        ground.run(Some(vm), &op, &[]).map(drop).map_err(|problem| io::Error::other(problem.why))
    };
    match entry.kind {
        LedgerKind::Process => end(&serde_json::from_value(entry.detail.clone())?),
        LedgerKind::Socket | LedgerKind::File => Piece::Socket(path.to_owned()).remove(),
        LedgerKind::Directory => Piece::Directory(path.to_owned()).remove(),
        // It goes with the VMM that holds it.
        LedgerKind::PortForward => Ok(()),
        LedgerKind::Tap => run(Op::TapGone { vm: vm.clone() }),
        LedgerKind::Snapshot => run(Op::SnapshotGone { vm: vm.clone() }),
        LedgerKind::Cgroup => Piece::Cgroup(path.to_owned()).remove(),
        kind => Err(io::Error::other(format!("a VM has no {kind} of its own"))),
    }
}

fn end(vmm: &VmmDetail) -> io::Result<()> {
    let found = match vmm.process {
        Some(process) => vec![process],
        None => process::with_argument(vmm.socket.as_os_str())?,
    };
    for process in found {
        process.signal(Signal::SIGKILL)?;
        if !process::wait_gone(process, KILL_PATIENCE)? {
            let pid = process.pid;
            return Err(io::Error::other(format!("process {pid} does not end after SIGKILL")));
        }
    }
    Ok(())
}
