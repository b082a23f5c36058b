//! Asking the helper.

use std::{
    env, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::getuid;

use super::{
    SOCKET, SOCKET_VAR,
    packet::Connection,
    wire::{Answer, Ask, BadPacket, PACKET_MAX, Reply, Request, SCHEMA},
};
use crate::{
    domain::{Problem, Tag},
    host::ops::{Done, Op, Operate},
};

/// How long to wait for a helper that does not take a connection or a request.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an operation may take: a device that is busy is tried to be removed for a while.
const ANSWER: Duration = Duration::from_secs(90);
/// For how long, and how often, to ask again if there is too much under way.
const BUSY: Duration = Duration::from_secs(20);
const BUSY_STEP: Duration = Duration::from_millis(20);

const INSTALL: &str = "sudo banger helper install";

/// Has the root helper do operations: a connection for each.
#[derive(Clone, Debug)]
pub struct HelperOps {
    socket: PathBuf,
    tag: Tag,
}

impl HelperOps {
    /// For everything that bears `tag`, by the helper at [`socket_path`].
    #[must_use]
    pub fn new(tag: Tag) -> Self {
        Self::at(socket_path(), tag)
    }

    /// As [`HelperOps::new`], by the helper at this socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>, tag: Tag) -> Self {
        Self { socket: socket.into(), tag }
    }
}

impl Operate for HelperOps {
    fn run(&self, op: &Op, files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
        let ask = Ask::Do { tag: self.tag.clone(), op: op.clone() };
        match asked(&self.socket, ask, files)? {
            Reply::Done(done) => Ok(done),
            other => Err(strange(&other)),
        }
    }
}

/// What a helper says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its version: that of the banger it is a copy of.
    pub version: String,
    /// Who it takes us for.
    pub uid: u32,
}

/// Where the client looks for the helper: [`SOCKET_VAR`], else [`SOCKET`].
#[must_use]
pub fn socket_path() -> PathBuf {
    env::var_os(SOCKET_VAR).filter(|path| !path.is_empty()).unwrap_or_else(|| SOCKET.into()).into()
}

/// Whether the helper at [`socket_path`] would do something for us. Takes a millisecond, more if
/// it has to be started first.
///
/// # Errors
/// Why not, and what to do about it.
pub fn available() -> Result<(), Problem> {
    hello(&socket_path()).map(drop)
}

/// What the helper at `socket` says of itself.
///
/// # Errors
/// As [`available`].
pub fn hello(socket: &Path) -> Result<Hello, Problem> {
    match asked(socket, Ask::Hello, &[])? {
        Reply::Hello { version, uid } => Ok(Hello { version, uid }),
        other => Err(strange(&other)),
    }
}

fn asked(socket: &Path, ask: Ask, files: &[BorrowedFd<'_>]) -> Result<Reply, Problem> {
    let request = Request { schema: SCHEMA, ask };
    let packet = request.encode().map_err(|bad| {
        let hint = "this is a bug in banger, or there are too many VMs";
        Problem::new("cannot ask the root helper", bad.to_string(), hint)
    })?;
    let until = Instant::now() + BUSY;
    loop {
        match exchange(socket, &packet, files)? {
            Reply::Problem(problem) => return Err(problem),
            Reply::Busy if Instant::now() < until => thread::sleep(BUSY_STEP),
            Reply::Busy => {
                let why = "it has had too many requests of yours under way for some time";
                let hint = "`journalctl -u banger-helper` tells what it is at";
                return Err(Problem::new("the root helper is busy", why, hint));
            }
            reply => return Ok(reply),
        }
    }
}

fn exchange(socket: &Path, packet: &[u8], files: &[BorrowedFd<'_>]) -> Result<Reply, Problem> {
    let connection = Connection::to(socket, CONNECT).map_err(|e| unreachable(socket, &e))?;
    connection.set_patience(ANSWER, CONNECT).map_err(|e| lost(&e))?;
    // One who is not wanted is told so and hung up on before anything is read: then there is
    // an answer although nothing could be sent.
    let sent = connection.send(packet, files);
    let mut received = connection.receive(PACKET_MAX);
    if received.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset) {
        // That it hung up is told once, before what it had said.
        received = connection.receive(PACKET_MAX);
    }
    let answer = match received {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            return Err(lost(&sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())));
        }
        Err(error) => return Err(lost(&sent.err().unwrap_or(error))),
    };
    if answer.truncated {
        return Err(other_version("its answer is too long"));
    }
    Answer::decode(&answer.bytes).map_err(|bad| match bad {
        BadPacket::Schema(theirs) => {
            let why =
                format!("it speaks version {theirs} of the protocol, and this banger {SCHEMA}");
            other_version(&why)
        }
        BadPacket::Malformed(why) => other_version(&format!("its answer makes no sense: {why}")),
    })
}

fn unreachable(socket: &Path, error: &io::Error) -> Problem {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => Problem::new(
            "there is no root helper",
            format!("nothing listens at {path}"),
            format!("install it: {INSTALL}"),
        ),
        io::ErrorKind::ConnectionRefused => Problem::new(
            "the root helper does not run",
            format!("{path} is there, and nobody listens"),
            "sudo systemctl restart banger-helper.socket, or start it by hand again",
        ),
        io::ErrorKind::PermissionDenied => Problem::new(
            "the root helper cannot be asked",
            format!("we may not connect to {path}"),
            format!("install it anew: {INSTALL}"),
        ),
        _ => Problem::new(
            "the root helper cannot be asked",
            format!("{path}: {error}"),
            "`systemctl status banger-helper.socket` tells more",
        ),
    }
}

fn lost(error: &io::Error) -> Problem {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock => format!("it has not answered for {} s", ANSWER.as_secs()),
        io::ErrorKind::UnexpectedEof => "it hung up without an answer".to_owned(),
        _ => error.to_string(),
    };
    Problem::new(
        "the root helper gave no answer",
        why,
        "`journalctl -u banger-helper` tells what it did",
    )
}

fn other_version(why: &str) -> Problem {
    Problem::new(
        "the root helper is of another version",
        why,
        format!("install the one of this banger: {INSTALL}"),
    )
}

fn strange(reply: &Reply) -> Problem {
    tracing::warn!(?reply, uid = getuid().as_raw(), "the helper answered something else");
    other_version("it answers something else than what was asked")
}
