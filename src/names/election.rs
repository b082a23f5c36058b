//! Who serves: one monitor of a home, and when it is gone the next.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use super::{
    Records, Upstreams,
    serve::{Pair, Server},
    zone::Zones,
};
use crate::{
    domain::{Problem, Subnet, Tag},
    host::lock::{self, FileLock},
};

/// The ports that name servers use: below those that the kernel gives out by itself (32768 and up),
/// and with little that is registered. Where a home begins to look follows from its [`Tag`], so it
/// is the same each time.
pub const PORTS: RangeInclusive<u16> = 21_000..=22_999;

/// How many ports are tried.
const TRIES: u16 = 64;
/// How long the port of the one before us is waited for: the kernel closes what a dead process had
/// one by one, and the lock may come before the sockets.
const HANDOVER: Duration = Duration::from_secs(1);
/// How often something that will be there in a moment is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A home, as its name server needs to know it.
#[derive(Clone)]
pub struct Settings {
    /// Where the home's locks are. Two files are made there while somebody serves: `names.lock` and
    /// `names.port`.
    pub run: PathBuf,
    /// The home's tag.
    pub tag: Tag,
    /// The VMs' addresses. The server listens on the gateway's, which need not be there yet, and
    /// on 127.0.0.1.
    pub subnet: Subnet,
    /// Who is asked what guests want to know beside `.vm`.
    pub upstreams: Upstreams,
}

/// A monitor's part in serving: it serves, or waits for its turn, on a thread of its own.
pub struct NameServer {
    settings: Settings,
    // The port that was last seen in use: where to go on.
    seen: Arc<AtomicU16>,
    serving: watch::Receiver<Option<u16>>,
    failed: watch::Receiver<Option<Problem>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl NameServer {
    /// Begins to wait.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(settings: Settings, records: Arc<dyn Records>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (serving_tx, serving) = watch::channel(None);
        let (failed_tx, failed) = watch::channel(None);
        let seen = Arc::new(AtomicU16::new(0));
        let turn = Turn {
            settings: settings.clone(),
            records,
            seen: Arc::clone(&seen),
            serving: serving_tx,
        };
        let thread = thread::Builder::new().name("names".to_owned()).spawn(move || {
            if let Err(problem) = turn.take(stopped) {
                tracing::warn!(%problem, "names");
                failed_tx.send_replace(Some(problem));
            }
        })?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { settings, seen, serving, failed, stop, thread })
    }

    /// The port while this monitor serves. When it changes, the host must be told: the rules that
    /// bring guests' queries here, and the resolver's route.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<Option<u16>> {
        self.serving.clone()
    }

    /// The port on which this home's server answers, this monitor's or another's. Waits for one that
    /// is just beginning; blocks.
    ///
    /// # Errors
    /// If none begins within `patience`, or this monitor cannot.
    pub fn port_within(&self, patience: Duration) -> Result<u16, Problem> {
        let begin = Instant::now();
        loop {
            if let Some(port) = port(&self.settings.run) {
                self.seen.store(port, Ordering::Relaxed);
                return Ok(port);
            }
            if let Some(problem) = self.failed.borrow().clone() {
                return Err(problem);
            }
            if begin.elapsed() >= patience {
                let why = format!("none began to answer within {} s", patience.as_secs());
                let hint = "look into the monitor's log; restarting the VM tries again";
                return Err(Problem::new("there is no name server", why, hint));
            }
            thread::sleep(LOOK);
        }
    }

    /// Lets another one serve. Waits until the port is free again; blocks.
    pub fn stop(mut self) {
        drop(self.stop.take());
        // One that waits for the lock cannot be woken: it gives the lock back when it gets it, or
        // ends with the process.
        if self.serving.borrow().is_some()
            && let Some(thread) = self.thread.take()
        {
            // A panic in there has been reported by itself.
            let _ = thread.join();
        }
    }
}

/// The port on which this home's server answers now, if one does.
#[must_use]
pub fn port(run: &Path) -> Option<u16> {
    let holder = lock::holder(lock_file(run)).ok()??;
    let text = fs::read_to_string(port_file(run)).ok()?;
    let (pid, port) = text.trim().split_once(' ')?;
    // Of one who is gone the file may still be there.
    (pid == holder.to_string()).then(|| port.parse().ok())?
}

/// Removes what a server that was killed left of itself. While one serves, or waits, this does
/// nothing.
///
/// # Errors
/// If the files are there and cannot be removed.
pub fn sweep(run: &Path) -> io::Result<()> {
    if !lock_file(run).exists() && !port_file(run).exists() {
        return Ok(());
    }
    let Some(lock) = FileLock::try_exclusive(lock_file(run))? else { return Ok(()) };
    match fs::remove_file(port_file(run)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    lock.unlink()
}

fn lock_file(run: &Path) -> PathBuf {
    run.join("names.lock")
}

fn port_file(run: &Path) -> PathBuf {
    run.join("names.port")
}

/// What the thread does.
struct Turn {
    settings: Settings,
    records: Arc<dyn Records>,
    seen: Arc<AtomicU16>,
    serving: watch::Sender<Option<u16>>,
}

impl Turn {
    fn take(&self, mut stopped: oneshot::Receiver<()>) -> Result<(), Problem> {
        let run = &self.settings.run;
        let lock = FileLock::exclusive(lock_file(run)).map_err(|e| problem(&e.to_string()))?;
        let lock = lock.remove_on_drop();
        if !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return Ok(());
        }
        // The thread is the server's alone: a look into the database holds up nothing else.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| problem(&e.to_string()))?;
        let (port, pairs) = self.bind()?;
        let Settings { subnet, upstreams, .. } = &self.settings;
        let server =
            Server::new(Zones::new(*subnet), Arc::clone(&self.records), Arc::clone(upstreams));
        let server = Arc::new(server);
        runtime.block_on(async {
            for pair in pairs {
                server.attend(pair).map_err(|e| problem(&e.to_string()))?;
            }
            let line = format!("{} {port}\n", std::process::id());
            write(&port_file(run), &line).map_err(|e| problem(&e.to_string()))?;
            self.serving.send_replace(Some(port));
            tracing::info!(port, "names are served here");
            // It is dropped to stop us; nothing is ever sent.
            let _ = stopped.await;
            Ok::<(), Problem>(())
        })?;
        // The sockets first: whoever is next finds the port free.
        drop(runtime);
        // The next one writes its own; of the last one nothing is to stay.
        let _ = fs::remove_file(port_file(run));
        drop(lock);
        Ok(())
    }

    /// Takes a port on both addresses: the one that was used before us, or one that follows from the
    /// tag.
    fn bind(&self) -> Result<(u16, [Pair; 2]), Problem> {
        let before = fs::read_to_string(port_file(&self.settings.run)).ok();
        let before = before.and_then(|text| text.trim().split_once(' ')?.1.parse().ok());
        let seen = Some(self.seen.load(Ordering::Relaxed)).filter(|port| *port != 0);
        if let Some(port) = seen.or(before).filter(|port| PORTS.contains(port)) {
            let begin = Instant::now();
            loop {
                match self.pairs(port) {
                    Ok(pairs) => return Ok((port, pairs)),
                    Err(_) if begin.elapsed() < HANDOVER => thread::sleep(LOOK),
                    Err(_) => break,
                }
            }
        }
        let mut last = None;
        for port in candidates(&self.settings.tag) {
            match self.pairs(port) {
                Ok(pairs) => return Ok((port, pairs)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
                Err(error) => return Err(problem(&format!("port {port}: {error}"))),
            }
        }
        let why = last.map_or_else(String::new, |error| format!("{TRIES} ports: {error}"));
        Err(problem(&why))
    }

    fn pairs(&self, port: u16) -> io::Result<[Pair; 2]> {
        let pair = |at: Ipv4Addr| Pair::bind(SocketAddrV4::new(at, port));
        Ok([pair(Ipv4Addr::LOCALHOST)?, pair(self.settings.subnet.gateway())?])
    }
}

/// The ports to try for a home, best first.
fn candidates(tag: &Tag) -> impl Iterator<Item = u16> {
    let (first, count) = (*PORTS.start(), PORTS.end() - PORTS.start() + 1);
    // A tag is hex digits.
    let number = u32::from_str_radix(tag.as_str(), 16).unwrap_or(0);
    let begin = u16::try_from(number % u32::from(count)).unwrap_or(0);
    (0..TRIES).map(move |step| first + (begin + step) % count)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    // Whoever reads it finds all or nothing. We hold the lock: nobody else writes.
    let temp = path.with_extension("port.new");
    fs::write(&temp, text)?;
    fs::rename(temp, path)
}

fn problem(why: &str) -> Problem {
    let hint = "other VMs of this home try too, and so does the next start; VMs answer at their \
                addresses meanwhile";
    Problem::new("cannot serve names", why, hint)
}
