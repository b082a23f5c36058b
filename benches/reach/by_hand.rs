//! The floor of a boot: the image copied and QEMU run by hand, without banger.

use std::{
    fs::{self, File},
    io::Read,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use banger::{
    domain::{Layout, MonitorStatus, SshEndpoint, VmId},
    guest::{Marker, Scanner},
    host::pty,
    session::ssh::{SshTarget, Tty, ssh_command},
};

use crate::Outcome;

/// A QEMU command line as banger made it, with the places of what is different each time.
pub struct Recipe {
    argv: Vec<String>,
    disk: String,
    socket: String,
    port: u16,
    image: PathBuf,
    key: PathBuf,
    vm: VmId,
}

/// The moments of one boot, each after the beginning of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// The disk is there.
    pub disk: Duration,
    /// QEMU is started.
    pub vmm: Duration,
    /// The initrd's init runs.
    pub init: Duration,
    /// The root file system is entered.
    pub root: Duration,
    /// The guest says that SSH listens.
    pub ssh: Duration,
    /// `ssh true` is back.
    pub end: Duration,
}

impl Recipe {
    /// Takes it from a VM that runs.
    pub fn of(layout: &Layout, status: &MonitorStatus, image: PathBuf) -> Outcome<Self> {
        let pid = status.vmm_pid.ok_or("the VM has no VMM")?;
        let raw = String::from_utf8(fs::read(format!("/proc/{pid}/cmdline"))?)?;
        let mut argv: Vec<String> = raw.split('\0').map(str::to_owned).collect();
        argv.pop();
        let paths = layout.vm(&status.vm);
        Ok(Self {
            argv,
            disk: text(&paths.disk()),
            socket: text(&paths.vmm_socket()),
            port: status.ssh.as_ref().ok_or("the VM has no address")?.port,
            image,
            key: layout.ssh_key(),
            vm: status.vm.clone(),
        })
    }

    /// Boots once, in an empty directory, to `ssh true`.
    pub fn boot(&self, dir: &Path) -> Outcome<Moments> {
        let disk = dir.join("root.img");
        // As banger would: known before the time is taken.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (from, to) =
            (format!("tcp:127.0.0.1:{}-", self.port), format!("tcp:127.0.0.1:{port}-"));
        let argv = self.argv.iter().map(|arg| {
            arg.replace(&self.disk, &text(&disk))
                .replace(&self.socket, &text(&dir.join("vmm.sock")))
                .replace(&from, &to)
        });
        let argv: Vec<String> = argv.collect();
        let (master, slave) = pty::open_raw()?;

        let begun = Instant::now();
        let mut moments = Moments::default();
        let mut copy = Command::new("cp");
        copy.arg("--reflink=auto").arg(&self.image).arg(&disk);
        if !copy.status()?.success() {
            return Err("cp failed".into());
        }
        moments.disk = begun.elapsed();
        let mut qemu = Command::new(&argv[0]);
        qemu.args(&argv[1..]).stdin(slave.try_clone()?).stdout(slave).stderr(Stdio::null());
        let _qemu = Killed(qemu.spawn()?);
        drop(qemu);
        moments.vmm = begun.elapsed();
        watch(&mut File::from(master), begun, &mut moments)?;

        let target = SshTarget {
            endpoint: SshEndpoint { host: "127.0.0.1".to_owned(), port },
            vm: self.vm.clone(),
            key: self.key.clone(),
            known_hosts: dir.join("known_hosts"),
        };
        let ssh = ssh_command(&target, Tty::Never, &["true".into()]);
        let status = Command::new(&ssh[0]).args(&ssh[1..]).stdin(Stdio::null()).status()?;
        moments.end = begun.elapsed();
        if status.success() { Ok(moments) } else { Err("ssh true failed by hand".into()) }
    }
}

/// Reads the console until the guest says that SSH listens.
fn watch(console: &mut File, begun: Instant, moments: &mut Moments) -> Outcome<()> {
    let mut scanner = Scanner::new();
    let mut buffer = [0; 4096];
    loop {
        let count = console.read(&mut buffer)?;
        for marker in scanner.feed(&buffer[..count]) {
            match marker {
                Marker::Init => moments.init = begun.elapsed(),
                Marker::SwitchRoot => moments.root = begun.elapsed(),
                Marker::SshReady { .. } => {
                    moments.ssh = begun.elapsed();
                    return Ok(());
                }
                other => return Err(format!("the guest ended: {other:?}").into()),
            }
        }
    }
}

/// A process that is killed when it goes out of scope.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
