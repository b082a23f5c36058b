//! For tests: network namespaces of their own.
//!
//! A namespace belongs to a thread here, so that tests of one process do not meet. What is read
//! from `/proc/net` is nevertheless the process's; from `/proc/thread-self/net` and
//! `/proc/sys/net` it is the thread's, and so it is for programs that the thread starts.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::fd::AsRawFd,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nix::{
    libc,
    sched::{CloneFlags, unshare},
};

/// Does `work` on a thread with a network namespace of its own, where nothing is but loopback,
/// up. What it panics with, this panics with.
///
/// # Errors
/// If no namespace can be made: as a user other than root, or in a container that forbids it.
pub fn in_own_netns<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            enter_new()?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The same for a test, which is skipped loudly where no namespace can be made: on standard error,
/// and in the file that `BANGER_SKIP_FILE` names.
///
/// # Panics
/// With what `work` panics with.
pub fn alone(test: &str, work: impl FnOnce() + Send) {
    let Err(error) = in_own_netns(work) else { return };
    let line = format!("{test}: no network namespace: {error}\n");
    eprint!("skipped: {line}");
    if let Some(path) = env::var_os("BANGER_SKIP_FILE") {
        let file = File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip file");
    }
}

fn enter_new() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    loopback_up()
}

/// `ip link set lo up`, by ioctl (netdevice(7)).
fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
    // SAFETY: all of ifreq may be zero: a name, and a union of numbers and addresses.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives for the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    nix::errno::Errno::result(done)?;
    Ok(())
}

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it that does what it is told, until this is dropped.
#[derive(Debug)]
pub struct Netns {
    tell: Option<mpsc::Sender<Work>>,
    worker: Option<JoinHandle<()>>,
    tid: u32,
}

impl Netns {
    /// Makes one, with loopback up.
    ///
    /// # Errors
    /// As of [`in_own_netns`].
    pub fn new() -> io::Result<Self> {
        let (tell, told) = mpsc::channel::<Work>();
        let (ready, is_ready) = mpsc::channel();
        let worker = thread::spawn(move || {
            let made = enter_new().and_then(|()| thread_id());
            let go_on = made.is_ok();
            let heard = ready.send(made).is_ok();
            while let Ok(work) = told.recv()
                && go_on
                && heard
            {
                work();
            }
        });
        let tid = is_ready.recv().map_err(io::Error::other)??;
        Ok(Self { tell: Some(tell), worker: Some(worker), tid })
    }

    /// The id of its thread, by which others find the namespace: `/proc/TID/ns/net`.
    #[must_use]
    pub const fn tid(&self) -> u32 {
        self.tid
    }

    /// The namespace.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn file(&self) -> io::Result<File> {
        File::open(format!("/proc/{}/ns/net", self.tid))
    }

    /// Does something there, and waits for it.
    ///
    /// # Panics
    /// If that panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = mpsc::channel();
        let work: Work = Box::new(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // Nobody waits any more: then nobody wants to know.
            let _unwanted = done.send(result);
        });
        let tell = self.tell.as_ref().expect("taken only when dropped");
        tell.send(work).expect("the thread ends only when this is dropped");
        let result = is_done.recv().expect("the thread answers");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.tell = None;
        // What it panicked with was told where it was waited for.
        let _told = self.worker.take().map(JoinHandle::join);
    }
}

fn thread_id() -> io::Result<u32> {
    // A link: `PID/task/TID`.
    let path = fs::read_link("/proc/thread-self")?;
    let tid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
    tid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
