//! The root helper: lets a normal user have what needs privileges, one [`Op`] at a time.
//!
//! `banger host-helper` runs as root, started by systemd when somebody connects to its socket and
//! gone again soon after the last has left. A request is one packet with one operation; the files
//! an operation needs come with it as open descriptors, so that no path is ever looked up with
//! root's rights on a user's word. Before anything is done the helper makes sure who asks
//! (`SO_PEERCRED` and an allow-list), that the tag is the asker's (`claims`), that what is asked
//! touches nothing else (`guard`) and that the files are the asker's own (`files`). Whatever comes
//! of it, it is one line in the journal (`journal`).
//!
//! [`HelperOps`] is the client's side. `docs/helper.md` says all this to users.
//!
//! [`Op`]: super::ops::Op

mod activation;
mod allow;
mod claims;
mod client;
mod files;
mod guard;
mod install;
mod journal;
mod keeper;
mod packet;
mod run;
mod server;
mod surroundings;
mod wire;

pub use client::{Hello, HelperOps, available, hello, socket_path};
pub use install::{Installation, Person, Step, user_to_allow};
pub use run::Service;

/// Where the helper listens: only root can put something there.
pub const SOCKET: &str = "/run/banger-helper.sock";

/// Names another socket for the client, for a helper that was started by hand elsewhere.
pub const SOCKET_VAR: &str = "BANGER_HELPER_SOCKET";

/// Who may ask: a user's name or number on each line. It and its directory are root's.
pub const ALLOW_FILE: &str = "/etc/banger/helper.allow";

/// Where the helper remembers whose things are whose.
pub const STATE_DIR: &str = "/var/lib/banger-helper";

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::{as_user, is_root};
