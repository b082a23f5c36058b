//! `banger host-helper`: the process.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::stat::{Mode, umask},
    unistd::geteuid,
};

use super::{
    ALLOW_FILE, STATE_DIR, activation,
    allow::Allowed,
    claims::{Claims, boot_id},
    journal::Journal,
    keeper::Keeper,
    server::{Limits, Server},
    surroundings::LinuxSurroundings,
};
use crate::{domain::Problem, host::ops::LinuxOps};

/// How long systemd's helper stays when nobody needs it.
const IDLE: Duration = Duration::from_secs(60);

/// Where programs of the system are, whoever has started us.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How a helper is run.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Where to listen; `None` is the socket that systemd has passed.
    pub socket: Option<PathBuf>,
    /// The users who may ask; none are those in [`ALLOW_FILE`].
    pub allow: Vec<u32>,
    /// Where it is remembered whose tags are whose; `None` is in [`STATE_DIR`].
    pub state: Option<PathBuf>,
}

impl Service {
    /// Answers until nobody has been there for a while; at a socket of its own for ever.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn run(self) -> Result<(), Problem> {
        if !geteuid().is_root() {
            return Err(Problem::new(
                "the root helper cannot work",
                "it is not run by root",
                "sudo banger helper install has systemd run it; `sudo banger host-helper \
                 --socket /run/banger-helper.sock` runs it by hand",
            ));
        }
        // Programs that it runs are those of the system, and no path means a user's directory.
        // SAFETY: no other thread runs yet.
        unsafe { env::set_var("PATH", PATH) };
        // The directory of the users' devices must be open to them, whatever sudo or a unit says;
        // what is the helper's own says so itself.
        umask(Mode::from_bits_truncate(0o022));
        let failed = |what: &str, error: &std::io::Error| {
            let what = format!("the root helper cannot {what}");
            Problem::new(what, error.to_string(), "sudo banger helper install")
        };
        env::set_current_dir("/").map_err(|e| failed("go to /", &e))?;
        let (listener, idle) = match &self.socket {
            Some(path) => (activation::own(path)?, None),
            None => match activation::passed()? {
                Some(socket) => (socket, Some(IDLE)),
                None => {
                    return Err(Problem::new(
                        "the root helper has no socket to listen at",
                        "systemd has passed none",
                        "by hand: sudo banger host-helper --socket /run/banger-helper.sock",
                    ));
                }
            },
        };
        let state = self.state.unwrap_or_else(|| Path::new(STATE_DIR).join("tags"));
        let boot = boot_id().map_err(|e| failed("tell whether the host was restarted", &e))?;
        let claims = Claims::open(&state, &boot)
            .map_err(|e| failed("remember whose things are whose", &e))?;
        let allowed = if self.allow.is_empty() {
            Allowed::File(ALLOW_FILE.into())
        } else {
            Allowed::Users(self.allow)
        };
        let operators = Box::new(|tag: &_, uid| {
            Box::new(LinuxOps::new(Clone::clone(tag), uid)) as Box<dyn crate::host::ops::Operate>
        });
        let keeper = Keeper::new(claims, operators, Box::new(LinuxSurroundings));
        let server = Server::new(allowed, keeper, Journal::stderr(), Limits::default());
        server.serve(&listener, idle).map_err(|e| failed("wait for requests", &e))
    }
}
