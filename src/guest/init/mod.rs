//! The init of the initrd: makes the machine what its parameters say, then makes way for the
//! init of the image.
//!
//! It is the first process of the guest, so an error has nowhere to return to: whatever fails
//! ends in [`halt`], which says why on the console and powers off. No image needs preparation;
//! what of it must be changed ([`identity`]) is changed after its file system is mounted, and
//! only if it is not so already.
//!
//! Everything here is safe code on top of `nix` and `std`. Times are short: a guest's CPU may be
//! an emulated one, where each process and each file costs.

pub mod helper;
pub mod identity;
mod modules;
mod netlink;
mod network;
mod root;
mod uevent;
mod userland;

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot, set_cad_enabled},
        termios::tcdrain,
    },
};

use super::{AuthorizedKey, GuestParams, Marker, NEEDED_MODULES};

pub use network::configure as configure_network;

/// Where the modules are in the initrd, and the list of them.
const MODULES_DIR: &str = "/modules";
/// The list of modules, in the order to load.
const MODULES_ORDER: &str = "/modules/order";

/// The inits of an image, best first; a shell if there is none, as the kernel does it itself.
const INITS: [&str; 6] =
    ["/sbin/init", "/usr/sbin/init", "/etc/init", "/bin/init", "/init", "/bin/sh"];

/// Why the machine cannot go on: what was tried, and what came of it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Fatal {
    what: String,
    why: String,
}

impl Fatal {
    fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// Says what failed: `result.context(|| format!("cannot mount {it}"))?`.
trait Context<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Fatal>;
}

impl<T> Context<T> for nix::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Fatal> {
        self.map_err(|errno| Fatal::new(what(), errno.desc()))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Fatal> {
        self.map_err(|error| Fatal::new(what(), error))
    }
}

/// What the program `banger-init` does: it is the init, or, as `banger-guest`, the helper that
/// the init leaves behind.
pub fn main() {
    if std::env::args().next().is_some_and(|name| name == helper::NAME) {
        helper::run();
    } else if std::process::id() == 1 {
        // Without this a bug would be a kernel panic with no word of ours in it.
        std::panic::set_hook(Box::new(|info| halt(&[format!("a bug in banger-init: {info}")])));
        let problems = match start() {
            Ok(never) => match never {},
            Err(problems) => problems,
        };
        halt(&problems);
    } else {
        eprintln!("banger-init: this is the init of a guest's initrd; it does nothing elsewhere");
        std::process::exit(2);
    }
}

/// All of it, in order; on success another init is in this process.
fn start() -> Result<std::convert::Infallible, Vec<String>> {
    let one = |error: Fatal| vec![error.to_string()];
    say(&Marker::Init);
    mount_kernels(Path::new("/")).map_err(one)?;
    let line = fs::read_to_string("/proc/cmdline")
        .context(|| "cannot read the kernel command line")
        .map_err(one)?;
    let params = GuestParams::parse(&line)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    boot(&params).map_err(one)
}

fn boot(params: &GuestParams) -> Result<std::convert::Infallible, Fatal> {
    // Opened before the drivers come, so that none of their devices is missed.
    let events = uevent::Events::open()?;
    load_modules()?;
    nix::unistd::sethostname(params.hostname.as_str()).context(|| "cannot set the host name")?;
    root::mount_root(&params.root, &events)?;
    if !params.root.read_only
        && let Err(error) = root::fill_disk(&params.root)
    {
        println!("banger: {error}");
    }
    if let Some(network) = &params.network {
        network::wait_for_interface(&events)?;
        network::configure(network, network::INTERFACE)?;
    }
    let more_keys = more_keys(Path::new(super::KEYS_FILE));
    root::enter()?;
    if !params.root.read_only {
        for warning in identity::apply(Path::new("/"), params, &more_keys) {
            println!("banger: {warning}");
        }
    }
    if let Some(device) = &params.modules
        && let Err(error) = modules::mount(device, params.root.read_only)
    {
        println!("banger: {error}");
    }
    helper::spawn()?;
    // Ctrl-Alt-Del is how Firecracker presses the power button. As the kernel starts it would
    // restart at once, with nothing synced; so it is the image's init that hears it, as SIGINT:
    // systemd and busybox shut down and reboot then, which ends that VMM.
    if let Err(errno) = set_cad_enabled(false) {
        println!("banger: Ctrl-Alt-Del restarts without a shutdown: {}", errno.desc());
    }
    say(&Marker::SwitchRoot);
    exec_init()
}

/// Mounts what the kernel shows of itself.
fn mount_kernels(root: &Path) -> Result<(), Fatal> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    for (fstype, name, flags, options) in [
        ("proc", "proc", flags, None),
        ("sysfs", "sys", flags, None),
        ("devtmpfs", "dev", MsFlags::MS_NOSUID, Some("mode=0755")),
    ] {
        let target = root.join(name);
        fs::create_dir_all(&target).context(|| format!("cannot make {}", target.display()))?;
        match mount(Some(fstype), &target, Some(fstype), flags, options) {
            // The kernel has mounted it itself (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => Err(errno).context(|| format!("cannot mount {fstype}"))?,
        }
    }
    Ok(())
}

/// The keys in the initrd, if there are any.
fn more_keys(path: &Path) -> Vec<AuthorizedKey> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut keys = Vec::new();
    for line in text.lines() {
        match line.parse() {
            Ok(key) => keys.push(key),
            Err(why) => println!("banger: a key is left out: {why}"),
        }
    }
    keys
}

fn load_modules() -> Result<(), Fatal> {
    let order =
        fs::read_to_string(MODULES_ORDER).context(|| format!("cannot read {MODULES_ORDER}"))?;
    let names = order.lines().map(str::trim).filter(|name| !name.is_empty());
    for (nth, name) in names.enumerate() {
        match load_module(name) {
            Err(error) if nth >= NEEDED_MODULES => println!("banger: {error}"),
            loaded => loaded?,
        }
    }
    Ok(())
}

fn load_module(name: &str) -> Result<(), Fatal> {
    let path = Path::new(MODULES_DIR).join(name);
    let file = fs::File::open(&path).context(|| format!("cannot open {}", path.display()))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        // It is there, or built in.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).context(|| {
            format!("cannot load the module {name} (are kernel and initrd of one version?)")
        }),
    }
}

/// Makes way for the first init of the image that can be executed.
fn exec_init() -> Result<std::convert::Infallible, Fatal> {
    let mut first = None;
    for (nth, init) in INITS.iter().enumerate() {
        if nth > 0 && !Path::new(init).exists() {
            continue;
        }
        if nth + 1 == INITS.len() {
            println!("banger: the image has no init; here is a shell");
        }
        let error = Command::new(init).exec();
        first.get_or_insert(error);
    }
    let why = first.map_or_else(String::new, |error| error.to_string());
    Err(Fatal::new("the image has neither an init nor a shell: cannot run /sbin/init", why))
}

/// Prints a marker for the host.
fn say(marker: &Marker) {
    let mut out = io::stdout();
    // A console that cannot be written to leaves nobody to tell.
    let _ = write!(out, "{marker}").and_then(|()| out.flush());
}

/// Says why the machine cannot start, in lines for the user and a marker for the host, and
/// powers off.
fn halt(problems: &[String]) -> ! {
    println!("\r\nbanger: this machine cannot start:");
    for problem in problems {
        println!("  {problem}");
    }
    println!("banger: powering off");
    say(&Marker::Halted { reason: problems.join("; ") });
    let _ = tcdrain(io::stdout());
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // A machine without a way to power off: the host has the marker.
    loop {
        nix::unistd::pause();
    }
}
