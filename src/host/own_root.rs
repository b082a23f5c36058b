//! A disk image, mounted for a while where nobody else sees it, and programs that run in it.
//!
//! A process of its own holds it: the first of a namespace of processes, in a namespace of
//! mounts. When it is gone, however it went, the kernel ends all that was started in there, takes
//! the mounts away, and with them the loop device. It ends with whoever started it, so that not
//! even `kill -9` leaves anything behind.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::{PermissionsExt, symlink},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigHandler, Signal, kill, signal},
        stat::{Mode, SFlag, makedev, mknod, umask},
    },
    unistd::{Pid, setsid},
};

use super::dm::loops::Loop;

/// Where the directory of work is, seen from inside.
pub const WORK_INSIDE: &str = "/run/banger-build";

/// How long what runs inside may take to end by itself when the disk is to be unmounted.
const POLITE: Duration = Duration::from_secs(3);
/// How long it may take after SIGKILL.
const FORCED: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What the holder says when all is mounted, and what it is told to unmount.
const READY: &str = "ready";
const CLOSE: &str = "close";
const CLOSED: &str = "closed";

/// A mounted disk image. Dropped, it is taken away as it is, and what runs in it is killed.
#[derive(Debug)]
pub struct OwnRoot {
    pid: u32,
    at: PathBuf,
    tell: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
    keeper: Option<JoinHandle<()>>,
}

impl OwnRoot {
    /// Mounts `disk`, an ext4 file system in a file, at the empty directory `at`, with `work` in
    /// it at [`WORK_INSIDE`]. `holder` is a program that calls [`hold`] with its arguments,
    /// the three paths in this order.
    ///
    /// # Errors
    /// Without the rights of root, loop devices, or a file system that can be mounted.
    pub fn open(mut holder: Command, disk: &Path, at: &Path, work: &Path) -> io::Result<Self> {
        holder.args([disk, at, work]).stdin(Stdio::piped()).stdout(Stdio::piped());
        holder.stderr(Stdio::piped());
        // SAFETY: between fork and exec only async-signal-safe calls are made: setsid(2), prctl(2)
        // and close_range(2).
        unsafe {
            holder.pre_exec(|| {
                // Signals meant for our terminal do not reach it.
                setsid()?;
                Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                close_others()
            });
        }
        let (sent, got) = mpsc::channel();
        // The signal comes when the thread that started it ends, and only a thread's own children
        // are in the new namespace: so this one lives as long as the holder.
        let keeper = thread::Builder::new().name("own-root".to_owned()).spawn(move || {
            let started = unshare(CloneFlags::CLONE_NEWPID)
                .map_err(io::Error::from)
                .and_then(|()| holder.spawn());
            match started {
                Ok(mut child) => {
                    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
                    let _nobody_waits = sent.send(Ok((child.id(), pipes)));
                    let _gone = child.wait();
                }
                Err(error) => {
                    let _nobody_waits = sent.send(Err(error));
                }
            }
        })?;
        let (pid, pipes) = got.recv().map_err(io::Error::other)??;
        let (Some(tell), Some(said), Some(mut complaint)) = pipes else {
            return Err(io::Error::other("its pipes are missing"));
        };
        let (tell, said) = (Some(tell), BufReader::new(said));
        let mut root = Self { pid, at: at.to_owned(), tell, said, keeper: Some(keeper) };
        if root.line()? != READY {
            let mut why = String::new();
            let _ = io::Read::read_to_string(&mut complaint, &mut why);
            return Err(io::Error::other(why.trim().to_owned()));
        }
        Ok(root)
    }

    /// The id of the process that holds it: who enters its namespaces is in there too.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it is mounted, in there.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Unmounts the disk: all that was written is in its file then, which nobody has synced.
    ///
    /// # Errors
    /// If something in it cannot be ended, or it cannot be unmounted.
    pub fn close(mut self) -> io::Result<()> {
        if let Some(tell) = &mut self.tell {
            writeln!(tell, "{CLOSE}")?;
        }
        let line = self.line()?;
        if line == CLOSED { Ok(()) } else { Err(io::Error::other(line)) }
    }

    /// The next line of what the holder says; empty if it is gone.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for OwnRoot {
    fn drop(&mut self) {
        // It ends when nobody can tell it anything any more.
        self.tell = None;
        if let Some(keeper) = self.keeper.take() {
            let _gone = keeper.join();
        }
    }
}

/// A command in the root that the process `pid` holds, mounted at `at`: with this program, as
/// root, and nothing in the environment but what is added to it.
#[must_use]
pub fn command_in(pid: u32, at: &Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--mount", "--uts", "--ipc", "--pid", "--"]);
    command.arg("chroot").arg(at).arg(program);
    command.env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Starts a program in a process group of its own, so that it and all its children can be ended
/// at once; it is killed when the thread that starts it ends.
///
/// # Errors
/// If it cannot be started.
pub fn spawn_in_group(command: &mut Command) -> io::Result<Child> {
    command.process_group(0);
    // SAFETY: between fork and exec only prctl(2), which is async-signal-safe, is called.
    unsafe {
        command.pre_exec(|| {
            Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            Ok(())
        });
    }
    command.spawn()
}

fn close_others() -> io::Result<()> {
    // SAFETY: close_range(2) takes three numbers.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    match Errno::result(done) {
        // Older than Linux 5.11: all descriptors that std and we open are close-on-exec anyway.
        Ok(_) | Err(Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What the holder does: mounts, says so, waits until it is told to unmount, or nobody can tell
/// it any more.
///
/// # Errors
/// What cannot be mounted, or not unmounted.
pub fn hold(disk: &Path, at: &Path, work: &Path) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::Error::other("this is started by banger itself, of no use by hand"));
    }
    // SAFETY: no handler of ours is installed; children are reaped by the kernel.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let mut mounts = Mounts::default();
    mounts.root(disk, at)?;
    mounts.kernels(at, work)?;
    let mut out = io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()?;
    let mut order = String::new();
    io::stdin().read_line(&mut order)?;
    if order.trim_end() != CLOSE {
        return Ok(());
    }
    let closed = end_all().and_then(|()| mounts.unmount());
    let words = closed.as_ref().map_or_else(ToString::to_string, |()| CLOSED.to_owned());
    writeln!(out, "{words}")?;
    closed
}

/// What is mounted, in this order.
#[derive(Default)]
struct Mounts(Vec<PathBuf>);

impl Mounts {
    fn root(&mut self, disk: &Path, at: &Path) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(disk)?;
        let device = Loop::of_work(file.as_fd())?;
        // Without barriers: what programs in there want to be on the host's disk at once, such as each
        // file of dpkg's, need not be. A file that is to outlive a power cut is synced when it is whole.
        let options = Some("errors=remount-ro,barrier=0");
        mount(Some(&device.path()), at, Some("ext4"), MsFlags::MS_NOATIME, options).map_err(
            |errno| io::Error::other(format!("cannot mount {}: {}", disk.display(), errno.desc())),
        )?;
        self.0.push(at.to_owned());
        Ok(())
    }

    /// What programs expect, of the kernel and for a while. `/proc/sys` cannot be written to: it
    /// is the host's.
    fn kernels(&mut self, at: &Path, work: &Path) -> io::Result<()> {
        umask(Mode::empty());
        let (suid, exec, dev) = (MsFlags::MS_NOSUID, MsFlags::MS_NOEXEC, MsFlags::MS_NODEV);
        let all = suid | exec | dev;
        for name in ["proc", "sys", "dev", "run", "tmp"] {
            real_directory(&at.join(name))?;
        }
        self.add("proc", &at.join("proc"), all, None)?;
        for read_only in ["proc/sys", "proc/sysrq-trigger"] {
            let path = at.join(read_only);
            // Not every kernel has them.
            if path.exists() {
                self.bind_read_only(&path)?;
            }
        }
        self.add("sysfs", &at.join("sys"), all | MsFlags::MS_RDONLY, None)?;
        self.add("tmpfs", &at.join("run"), suid | dev, Some("mode=0755"))?;
        self.add("tmpfs", &at.join("tmp"), suid | dev, Some("mode=1777"))?;
        let devices = at.join("dev");
        self.add("tmpfs", &devices, suid | exec, Some("mode=0755"))?;
        for (name, major, minor) in [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("full", 1, 7),
            ("random", 1, 8),
            ("urandom", 1, 9),
            ("tty", 5, 0),
        ] {
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&devices.join(name), SFlag::S_IFCHR, mode, makedev(major, minor))?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            symlink(target, devices.join(name))?;
        }
        for name in ["pts", "shm"] {
            fs::create_dir(devices.join(name))?;
        }
        let options = Some("newinstance,gid=5,mode=0620,ptmxmode=0666");
        self.add("devpts", &devices.join("pts"), suid | exec, options)?;
        self.add("tmpfs", &devices.join("shm"), suid | dev, Some("mode=1777"))?;
        fs::create_dir(at.join("run/lock"))?;
        fs::set_permissions(at.join("run/lock"), fs::Permissions::from_mode(0o1777))?;
        let inside = at.join(WORK_INSIDE.trim_start_matches('/'));
        fs::create_dir(&inside)?;
        mount(Some(work), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        self.0.push(inside);
        umask(Mode::from_bits_truncate(0o022));
        Ok(())
    }

    fn add(
        &mut self,
        kind: &str,
        at: &Path,
        flags: MsFlags,
        options: Option<&str>,
    ) -> io::Result<()> {
        mount(Some(kind), at, Some(kind), flags, options).map_err(|errno| {
            io::Error::other(format!("cannot mount {kind} at {}: {}", at.display(), errno.desc()))
        })?;
        self.0.push(at.to_owned());
        Ok(())
    }

    fn bind_read_only(&mut self, at: &Path) -> io::Result<()> {
        mount(Some(at), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        self.0.push(at.to_owned());
        let flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NOEXEC
            | MsFlags::MS_NODEV;
        mount(None::<&str>, at, None::<&str>, flags, None::<&str>)?;
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        while let Some(at) = self.0.pop() {
            let last = self.0.is_empty();
            // What was mounted in there meanwhile must not keep the disk: it goes with us. The
            // disk itself must be unmounted whole.
            let flags = if last { MntFlags::empty() } else { MntFlags::MNT_DETACH };
            umount2(&at, flags).map_err(|errno| {
                io::Error::other(format!("cannot unmount {}: {}", at.display(), errno.desc()))
            })?;
        }
        Ok(())
    }
}

/// A directory below the root that is no link: one in somebody else's image may lead anywhere.
fn real_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other(format!("/{} of the image is no directory", name_of(path)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        }
        Err(error) => Err(error),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Ends all other processes of this namespace.
fn end_all() -> io::Result<()> {
    let everyone = Pid::from_raw(-1);
    for (signal, patience) in [(Signal::SIGTERM, POLITE), (Signal::SIGKILL, FORCED)] {
        let deadline = Instant::now() + patience;
        if kill(everyone, signal) == Err(Errno::ESRCH) {
            return Ok(());
        }
        while Instant::now() < deadline {
            if kill(everyone, None) == Err(Errno::ESRCH) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }
    Err(io::Error::other("a program in the image cannot be ended"))
}
