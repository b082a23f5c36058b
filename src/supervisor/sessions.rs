//! Opens streams of VMs for panes.

use std::{ffi::OsString, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{ConsoleKind, OpenSession, RUN_DONE};
use crate::{
    domain::{Fleet, Layout, Phase, Problem, SshEndpoint, VmId},
    session::{
        Control, Session, Size,
        pty::{self, Program},
        serial,
        ssh::{self, SshTarget},
    },
};

/// How long a verb of our own has to clear up when its pane is closed: a build has file systems to
/// unmount, VMs to stop and gigabytes to remove.
const CLEARING: Duration = Duration::from_secs(60);

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
                None => fail("no SSH server answers in it", "use its serial console: c"),
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

/// A verb of our own: what counts is whether it did what it was to do.
struct RunControl(Box<dyn Control>);

impl Control for RunControl {
    fn resize(&mut self, size: Size) -> io::Result<()> {
        self.0.resize(size)
    }

    fn close(&mut self) {
        self.0.close();
    }

    fn end(&mut self) -> String {
        let end = self.0.end();
        match end.strip_prefix("the program ended") {
            Some("") => RUN_DONE.to_owned(),
            Some(rest) => format!("not done: it ended{rest}"),
            None => end,
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
        let mut session =
            pty::open(&Program { argv, patience: CLEARING, ..Program::default() }, size)?;
        session.control = Box::new(RunControl(session.control));
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_run_says_whether_it_did_what_it_was_to_do() {
        let (_, fleet) = watch::channel(Arc::default());
        let layout = Layout { state: "/nowhere".into(), run: "/nowhere".into() };
        let sessions = Sessions::new(layout, "/bin/sh".into(), fleet);
        let run = |script: &str| {
            let arguments = ["-c", script].map(OsString::from);
            let size = Size { cols: 80, rows: 24 };
            let mut session = sessions.run(&arguments, size).unwrap();
            let mut said = String::new();
            session.reader.read_to_string(&mut said).unwrap();
            (said, session.control.end())
        };
        assert_eq!(run("echo hi"), ("hi\r\n".into(), RUN_DONE.into()));
        assert_eq!(run("exit 3").1, "not done: it ended with exit code 3");
    }
}
