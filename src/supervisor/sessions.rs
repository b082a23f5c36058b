//! Opens streams of VMs for panes.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use tokio::sync::watch;

use super::{ConsoleKind, OpenSession};
use crate::{
    domain::{Fleet, Layout, Phase, Problem, SshEndpoint, VmId},
    session::{
        Session, Size,
        pty::{self, Program},
        serial,
        ssh::{self, SshTarget},
    },
};

/// Knows from the latest picture where a VM answers.
pub struct Sessions {
    layout: Layout,
    program: PathBuf,
    fleet: watch::Receiver<Arc<Fleet>>,
}

impl Sessions {
    /// Opens streams of the VMs in the picture; `program` is banger itself.
    pub fn new(layout: Layout, program: PathBuf, fleet: watch::Receiver<Arc<Fleet>>) -> Self {
        Self { layout, program, fleet }
    }

    fn endpoint(&self, vm: &VmId) -> Result<SshEndpoint, Problem> {
        let fail = |why: &str, hint: &str| Err(Problem::new("cannot open a shell", why, hint));
        let fleet = self.fleet.borrow();
        let Some(view) = fleet.vms.iter().find(|view| view.id == *vm) else {
            return fail("there is no such VM any more", "");
        };
        match view.phase {
            Phase::Running => match &view.ssh {
                Some(endpoint) => Ok(endpoint.clone()),
                None => fail("it has no address", "use its serial console"),
            },
            Phase::Starting | Phase::Booting => {
                fail("it is still booting", "watch it on its serial console, or try again soon")
            }
            Phase::Paused => fail("it is paused", "resume it first"),
            Phase::Stopping => fail("it is stopping", "start it again when it is off"),
            Phase::Creating | Phase::Stopped | Phase::Crashed | Phase::Deleting => {
                fail("it is not running", "start it first")
            }
        }
    }
}

impl OpenSession for Sessions {
    fn open(&self, vm: &VmId, kind: ConsoleKind, size: Size) -> Result<Session, Problem> {
        let paths = self.layout.vm(vm);
        match kind {
            ConsoleKind::Serial => serial::open(&paths.monitor_socket()),
            ConsoleKind::Ssh => {
                let target = SshTarget {
                    endpoint: self.endpoint(vm)?,
                    vm: vm.clone(),
                    key: self.layout.ssh_key(),
                    known_hosts: paths.known_hosts(),
                };
                ssh::open(&target, size)
            }
        }
    }

    fn run(&self, arguments: &[OsString], size: Size) -> Result<Session, Problem> {
        let program = std::iter::once(self.program.clone().into_os_string());
        let argv = program.chain(arguments.iter().cloned()).collect();
        pty::open(&Program { argv, ..Program::default() }, size)
    }
}
