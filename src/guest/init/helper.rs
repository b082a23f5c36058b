//! What stays of the init: a small process beside the init of the image, `banger-guest` in a
//! list of processes.
//!
//! It says on the console when something listens on the SSH port, or that the system is up and
//! nothing does, and hears the power button. Images need neither a daemon for ACPI nor a logind for
//! that: whoever runs the machine is told to power off in the way it understands.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::prctl::set_name,
    time::{ClockId, clock_gettime},
    unistd::setsid,
};

use super::{Context as _, Fatal, userland::Userland};
use crate::guest::Marker;

/// The first argument that makes the program the helper.
pub const NAME: &str = "banger-guest";

/// The port of SSH.
const SSH_PORT: u16 = 22;

/// In how many milliseconds it is said again that SSH listens. A getty that starts at that moment
/// hangs up the console, and what was on its way out is lost: one boot of some sixty on a busy
/// machine was never heard to be ready.
const AGAIN_AFTER: [u16; 2] = [1_000, 5_000];

/// Starts the helper, in the root file system that was entered.
pub(super) fn spawn() -> Result<(), Fatal> {
    Command::new("/proc/self/exe")
        .arg0(NAME)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context(|| "cannot start banger-guest")?;
    Ok(())
}

/// The helper: says when SSH listens, hears the power button. Returns when there is nothing more to wait for.
pub(super) fn run() {
    // It was executed as /proc/self/exe, and would be called "exe".
    let _ = set_name(c"banger-guest");
    // Away from the console: the shell there must not find us in its session.
    let _ = setsid();
    let mut button = open_button(Path::new("/sys/class/input"), Path::new("/dev/input"));
    let console = Path::new("/dev/console");
    let (mut ssh, mut up) = (News::default(), News::default());
    let mut userland = Userland::new(Path::new("/"));
    loop {
        let now = uptime_ms();
        ssh.look(now, ssh_listens, || announce(console, &Marker::SshReady { uptime_ms: now }));
        if ssh.said == 0 {
            let say = || announce(console, &Marker::Up { uptime_ms: now });
            up.look(now, || userland.is_up(now), say);
        }
        let timeout = ssh.pause();
        let Some(file) = &mut button else {
            if ssh.is_out() {
                return;
            }
            let _ = poll(&mut [], timeout);
            continue;
        };
        let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, timeout).is_ok_and(|n| n > 0) {
            match pressed(file) {
                Some(true) => power_off(),
                Some(false) => {}
                None => button = None,
            }
        }
    }
}

/// What there is to say, until it has been said often enough.
#[derive(Debug, Default)]
struct News {
    looks: u32,
    said: usize,
    /// When it may be said again.
    due: u64,
}

impl News {
    fn is_out(&self) -> bool {
        self.said > AGAIN_AFTER.len()
    }

    /// Says it if it `is_so`, unless it is out, or was said a moment before `now`, in milliseconds.
    /// What is so once stays so. `say` tells whether it could be said.
    fn look(&mut self, now: u64, is_so: impl FnOnce() -> bool, say: impl FnOnce() -> bool) {
        if self.is_out() || now < self.due {
            return;
        }
        self.looks += 1;
        if (self.said > 0 || is_so()) && say() {
            self.due = now + AGAIN_AFTER.get(self.said).map_or(0, |after| u64::from(*after));
            self.said += 1;
        }
    }

    /// How long to wait before the next look.
    fn pause(&self) -> PollTimeout {
        match self.said {
            0 => pause_after(self.looks),
            said => AGAIN_AFTER.get(said - 1).map_or(PollTimeout::NONE, |after| (*after).into()),
        }
    }
}

/// How long to wait before the next look for SSH. Often at first, as small images have it in
/// half a second; then so that a large image's start, a few seconds of an emulated CPU, is not
/// slowed by it; rarely when it seems that this image has none.
fn pause_after(looks: u32) -> PollTimeout {
    let milliseconds: u16 = match looks {
        0..30 => 20,
        30..1_200 => 50,
        _ => 2_000,
    };
    milliseconds.into()
}

fn ssh_listens() -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|table| listens(&table, SSH_PORT)))
}

/// Whether a table of `/proc/net/tcp` (proc(5)) has a socket that listens on the port, on an
/// address that is not loopback's.
fn listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    table.lines().skip(1).any(|line| {
        // Number, local address, remote address, state.
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let Some((address, hex)) = local.split_once(':') else { return false };
        let loopback = address.len() == 8 && address.ends_with("7F");
        state == LISTEN && !loopback && u16::from_str_radix(hex, 16) == Ok(port)
    })
}

fn uptime_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|t| u64::try_from(t.tv_sec() * 1_000 + t.tv_nsec() / 1_000_000).ok())
        .unwrap_or_default()
}

/// Says something of the guest; whether the console took it.
fn announce(console: &Path, marker: &Marker) -> bool {
    // Opened only for this: a getty hangs up whoever holds the console.
    let console = fs::OpenOptions::new()
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NOCTTY.bits())
        .open(console);
    // In one write, so that it comes out in one piece.
    let text = marker.to_string();
    console.is_ok_and(|mut console| console.write_all(text.as_bytes()).is_ok())
}

/// Opens the input device of the power button.
fn open_button(class: &Path, dev: &Path) -> Option<File> {
    let named = |entry: PathBuf| {
        let name = fs::read_to_string(entry.join("device/name")).ok()?;
        (name.trim() == "Power Button").then(|| entry.file_name().map(ToOwned::to_owned))?
    };
    fs::read_dir(class)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"event")))
        .filter_map(named)
        .find_map(|name| File::open(dev.join(name)).ok())
}

/// Bytes of a `struct input_event` on 64-bit machines (linux/input.h): a time of 16, then type,
/// code and value.
const EVENT: usize = 24;

/// Reads what the button says: whether it was pressed, or `None` if there is no button any more.
fn pressed(button: &mut File) -> Option<bool> {
    let mut events = [0; 16 * EVENT];
    let length = button.read(&mut events).ok().filter(|&length| length > 0)?;
    Some(events[..length].chunks_exact(EVENT).any(is_press))
}

fn is_press(event: &[u8]) -> bool {
    const EV_KEY: u16 = 1;
    const KEY_POWER: u16 = 116;
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && value == 1
}

/// Has the machine power off, by its own init.
fn power_off() {
    let init = fs::read_link("/proc/1/exe").unwrap_or_default();
    let mut command = if init.file_name().is_some_and(|name| name == "systemd") {
        // SIGRTMIN+4 starts poweroff.target (systemd(1)). A shell has the only safe way to send
        // it, and takes a tenth of the time of systemctl.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "kill -38 1 || exec poweroff"]);
        shell
    } else {
        Command::new("poweroff")
    };
    // If it fails there is nobody to tell; the host goes on with less polite ways.
    let _ = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").status();
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0F02000A:1F90 0202000A:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1
";

    #[test]
    fn what_the_console_did_not_take_is_said_again_and_what_it_took_twice_more() {
        let mut news = News::default();
        let mut waits = Vec::new();
        // Not so yet; so, and the console is being hung up; taken three times.
        for (now, is_so, taken) in [
            (0, false, true),
            (20, true, false),
            (40, true, true),
            (1_040, false, true),
            (6_040, true, true),
        ] {
            assert!(!news.is_out());
            news.look(now, || is_so, || taken);
            waits.push(news.pause());
            if news.said > 0 {
                news.look(now + 9, || true, || panic!("said too soon"));
            }
        }
        let after = |milliseconds: u16| PollTimeout::from(milliseconds);
        assert_eq!(waits, [after(20), after(20), after(1_000), after(5_000), PollTimeout::NONE]);
        assert!(news.is_out());
        news.look(9_999, || panic!("nobody asks any more"), || false);
    }

    #[test]
    fn a_console_that_takes_nothing_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let console = dir.path().join("console");
        let marker = Marker::SshReady { uptime_ms: 1 };
        assert!(!announce(&console, &marker));
        fs::write(&console, "").unwrap();
        assert!(announce(&console, &marker));
        let said = fs::read_to_string(&console).unwrap();
        assert!(said.contains("ssh"), "{said:?}");
    }

    #[test]
    fn a_listener_is_found_in_the_kernels_table() {
        assert!(listens(TABLE, 22));
        assert!(!listens(TABLE, 8080), "a connection is no listener");
        assert!(!listens(TABLE, 53), "loopback cannot be reached from outside");
        assert!(!listens("", 22));
        assert!(!listens("head\ngarbage\n 0: x y 0A\n", 22));
        let six = "head\n 0: 00000000000000000000000000000000:0016 0:0 0A";
        assert!(listens(six, 22));
    }

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![7; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_press_of_the_power_button_counts_and_its_release_does_not() {
        assert!(is_press(&event(1, 116, 1)));
        assert!(!is_press(&event(1, 116, 0)));
        assert!(!is_press(&event(1, 30, 1)));
        assert!(!is_press(&event(0, 0, 0)));
    }

    #[test]
    fn the_button_is_found_by_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let (class, dev) = (dir.path().join("class"), dir.path().join("dev"));
        for (event, name) in [("event0", "AT Keyboard\n"), ("event1", "Power Button\n")] {
            fs::create_dir_all(class.join(event).join("device")).expect("made");
            fs::write(class.join(event).join("device/name"), name).expect("written");
        }
        fs::create_dir_all(&dev).expect("made");
        assert!(open_button(&class, &dev).is_none(), "no device node");
        let press = [event(1, 116, 1), event(0, 0, 0)].concat();
        fs::write(dev.join("event1"), press).expect("written");
        let mut button = open_button(&class, &dev).expect("found");
        assert_eq!(pressed(&mut button), Some(true));
        assert_eq!(pressed(&mut button), None, "gone");
    }
}
