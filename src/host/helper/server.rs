//! Takes connections, finds out who asks, and gives answers.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{SockFlag, UnixCredentials, accept4},
};

use super::{
    allow::Allowed,
    journal::{self, Entry, Journal, Result as Outcome},
    keeper::{Keeper, Told},
    packet::{Connection, Packet},
    wire::{Answer, Ask, BadPacket, PACKET_MAX, Reply, Request, SCHEMA},
};
use crate::{
    domain::{Problem, Tag},
    host::ops::Op,
};

/// What one may take of the helper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections of a user at a time.
    pub connections: usize,
    /// How long a connection may say nothing.
    pub silence: Duration,
    /// How long an answer waits for somebody to take it.
    pub send: Duration,
    /// How long one who was refused something waits for the answer: so that nobody can fill the
    /// journal.
    pub penalty: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            silence: Duration::from_secs(10),
            send: Duration::from_secs(5),
            penalty: Duration::from_millis(100),
        }
    }
}

/// How often at most the journal hears of users who are not on the list.
const STRANGERS_EVERY: Duration = Duration::from_secs(1);
/// How long to wait when there is no descriptor left for a connection.
const BREATH: Duration = Duration::from_millis(50);

/// The helper.
pub(super) struct Server {
    allowed: Allowed,
    keeper: Keeper,
    journal: Journal,
    limits: Limits,
    live: Mutex<HashMap<u32, usize>>,
    strangers: Mutex<Strangers>,
}

#[derive(Default)]
struct Strangers {
    told: Option<Instant>,
    since: u64,
}

impl Server {
    pub fn new(allowed: Allowed, keeper: Keeper, journal: Journal, limits: Limits) -> Arc<Self> {
        let (live, strangers) = (Mutex::default(), Mutex::default());
        Arc::new(Self { allowed, keeper, journal, limits, live, strangers })
    }

    /// Answers whoever connects to `listener`: until nobody has been there for `idle`, or the
    /// socket is shut down.
    ///
    /// # Errors
    /// If the socket cannot be waited for.
    pub fn serve(self: &Arc<Self>, listener: &OwnedFd, idle: Option<Duration>) -> io::Result<()> {
        let timeout = idle.map_or(PollTimeout::NONE, |idle| {
            PollTimeout::try_from(idle).unwrap_or(PollTimeout::MAX)
        });
        loop {
            let mut waited = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waited, timeout) {
                Ok(0) if self.is_idle() => return Ok(()),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            if waited[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP)) {
                return Ok(());
            }
            match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: the kernel has just made this descriptor for us.
                Ok(fd) => self.take(Connection::of(unsafe { OwnedFd::from_raw_fd(fd) })),
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ECONNABORTED) => {}
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                    thread::sleep(BREATH);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Gives a connection a thread of its own, or an answer at once. Must not wait for anybody.
    fn take(self: &Arc<Self>, connection: Connection) {
        // Without knowing who it is there is nobody to answer.
        let Ok(peer) = connection.peer() else { return };
        let uid = peer.uid();
        let refused = |problem: Problem| {
            let answer = Answer::encode(Reply::Problem(problem));
            // If it does not take the answer, that is how it wants it.
            let _ = answer.map(|answer| connection.send_now(&answer));
        };
        match self.allowed.has(uid) {
            Ok(true) => {}
            Ok(false) => {
                self.stranger(peer);
                return refused(not_allowed(uid));
            }
            Err(error) => {
                self.journal.note(&format!("the list of users cannot be used: {error}"));
                return refused(Problem::new(
                    "the root helper cannot tell who may use it",
                    format!("its list of users: {error}"),
                    "sudo banger helper install",
                ));
            }
        }
        let Some(place) = Place::of(self, uid) else {
            let _ = Answer::encode(Reply::Busy).map(|answer| connection.send_now(&answer));
            return;
        };
        let server = Arc::clone(self);
        let work = move || {
            let _place = place;
            // Its end, whatever it was, is the end of this connection only.
            let _ = server.attend(&connection, peer);
        };
        if let Err(error) = thread::Builder::new().name(format!("uid {uid}")).spawn(work) {
            self.journal.note(&format!("no thread for a connection: {error}"));
        }
    }

    fn attend(&self, connection: &Connection, peer: UnixCredentials) -> io::Result<()> {
        connection.set_patience(self.limits.silence, self.limits.send)?;
        while let Some(packet) = connection.receive(PACKET_MAX)? {
            let (reply, go_on) = self.answer(packet, peer);
            if !go_on {
                thread::sleep(self.limits.penalty);
            }
            let answer = Answer::encode(reply).or_else(|bad| {
                Answer::encode(Reply::Problem(Problem::new(
                    "the root helper cannot answer",
                    bad.to_string(),
                    "banger doctor",
                )))
            });
            connection.send(&answer.map_err(io::Error::other)?, &[])?;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// The answer to a packet, and whether another one may follow.
    fn answer(&self, packet: Packet, peer: UnixCredentials) -> (Reply, bool) {
        let begun = Instant::now();
        let entry = |result, why: &str, of: Option<(&Tag, &Op)>, files: &[(u32, u32, u64)]| {
            self.journal.entry(&Entry {
                uid: peer.uid(),
                pid: peer.pid(),
                tag: of.map(|(tag, _)| tag),
                op: of.map(|(tag, op)| journal::op(tag, op)),
                files,
                result,
                why,
                ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            });
        };
        let Packet { bytes, files, truncated } = packet;
        let request = if truncated {
            Err(BadPacket::Malformed("it is too long, or brings too many descriptors".to_owned()))
        } else {
            Request::decode(&bytes)
        };
        let (tag, op) = match request {
            Ok(Request { ask: Ask::Do { tag, op }, .. }) => (tag, op),
            Ok(Request { ask: Ask::Hello, .. }) if files.is_empty() => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                return (Reply::Hello { version, uid: peer.uid() }, true);
            }
            Ok(_) => {
                let why = "descriptors came, and it takes none";
                entry(Outcome::Refused, why, None, &[]);
                return (Reply::Problem(not_understood(why)), false);
            }
            Err(bad) => {
                entry(Outcome::Refused, &bad.to_string(), None, &[]);
                return (
                    Reply::Problem(match bad {
                        BadPacket::Schema(theirs) => other_version(theirs),
                        BadPacket::Malformed(why) => not_understood(&why),
                    }),
                    false,
                );
            }
        };
        let run = || self.keeper.run(peer.uid(), &tag, &op, &files);
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            let hint = "`journalctl -u banger-helper` tells more";
            Err(Told::Failed(Problem::new("the root helper failed", "this is a bug in it", hint)))
        });
        let of = Some((&tag, &op));
        let ids = file_ids(&files);
        match result {
            Ok(done) => {
                entry(Outcome::Done, "", of, &ids);
                (Reply::Done(done), true)
            }
            Err(Told::Failed(problem)) => {
                entry(Outcome::Failed, &format!("{}: {}", problem.what, problem.why), of, &ids);
                (Reply::Problem(problem), true)
            }
            Err(Told::Refused(problem)) => {
                entry(Outcome::Refused, &problem.why, of, &ids);
                (Reply::Problem(problem), false)
            }
        }
    }

    /// Tells the journal of a user who is not on the list; not each time, as anybody may knock as
    /// often as they please.
    fn stranger(&self, peer: UnixCredentials) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.since += 1;
        if strangers.told.is_some_and(|told| told.elapsed() < STRANGERS_EVERY) {
            return;
        }
        let why = match strangers.since {
            1 => "not on the list of users".to_owned(),
            n => format!("not on the list of users ({n} since the last such line)"),
        };
        *strangers = Strangers { told: Some(Instant::now()), since: 0 };
        self.journal.entry(&Entry {
            uid: peer.uid(),
            pid: peer.pid(),
            tag: None,
            op: None,
            files: &[],
            result: Outcome::Refused,
            why: &why,
            ms: 0,
        });
    }

    fn is_idle(&self) -> bool {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// One of the connections a user may have, for as long as this lives.
struct Place {
    server: Arc<Server>,
    uid: u32,
}

impl Place {
    fn of(server: &Arc<Server>, uid: u32) -> Option<Self> {
        let mut live = server.live.lock().unwrap_or_else(PoisonError::into_inner);
        let count = live.entry(uid).or_default();
        if *count >= server.limits.connections {
            return None;
        }
        *count += 1;
        drop(live);
        Some(Self { server: Arc::clone(server), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.server.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = live.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.uid);
            }
        }
    }
}

/// Which files they are, for the journal. What is asked here is known without asking a file system
/// of somebody's own making, see [`super::files`].
fn file_ids(files: &[OwnedFd]) -> Vec<(u32, u32, u64)> {
    files.iter().filter_map(|file| super::files::id(file.as_fd()).ok()).collect()
}

fn not_allowed(uid: u32) -> Problem {
    Problem::new(
        "the root helper does nothing for you",
        format!("the user {uid} is not on its list"),
        "sudo banger helper install, which puts you there",
    )
}

fn not_understood(why: &str) -> Problem {
    let hint = "this is a bug in banger, or it is not banger that asks";
    Problem::new("the root helper did not understand a request", why, hint)
}

fn other_version(theirs: u32) -> Problem {
    Problem::new(
        "the root helper is of another version",
        format!("it speaks version {SCHEMA} of the protocol, and this banger {theirs}"),
        "install the one of this banger: sudo banger helper install",
    )
}
