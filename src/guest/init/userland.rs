//! Whether the image's own system is up, of those that nobody reaches by SSH.
//!
//! No init says so in a way that all have in common. What all have is somebody on the console: a
//! login, or a shell, which the init starts when the rest is there. So that is looked for, and has
//! to stay for a while, as scripts of a boot have the console, too. systemd, which may have nobody
//! there, is asked.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Programs that answer on the SSH port.
const SERVERS: [&str; 8] = [
    "usr/sbin/sshd",
    "usr/bin/sshd",
    "usr/local/sbin/sshd",
    "sbin/sshd",
    "usr/sbin/dropbear",
    "usr/bin/dropbear",
    "sbin/dropbear",
    "bin/dropbear",
];

/// How long somebody is on the console, in milliseconds, before the system counts as up.
const STAYS: u64 = 5_000;
/// The same if there is an SSH server, which may make its keys yet, or wait for something.
const STAYS_BEFORE_SSH: u64 = 60_000;
/// Milliseconds between looks at all processes: a hundred small files, which an emulated CPU feels.
const LOOK_EVERY: u64 = 1_000;
/// The same if there is an SSH server, and so no hurry.
const LOOK_EVERY_BEFORE_SSH: u64 = 5_000;
/// When systemd is asked first, and how often, in milliseconds: each time it takes a process.
const ASK_AFTER: u64 = 60_000;
const ASK_EVERY: u64 = 30_000;
/// What it answers if it has begun all that it was to begin (systemctl(1), is-system-running).
const UP: [&str; 3] = ["running", "degraded", "maintenance"];

/// A process: its id, and when it began.
type Process = (u32, u64);

/// Looks for signs that the system is up.
pub(super) struct Userland {
    /// The console's device, as processes have it.
    console: Option<u64>,
    has_server: bool,
    /// When the next look is due.
    next: u64,
    next_question: u64,
    question: Option<Child>,
    /// Since when each of these was there.
    there: BTreeMap<Process, u64>,
    /// Since when systemd says that it is up.
    said_up: Option<u64>,
}

impl Userland {
    /// Looks at the system that has its files below `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            console: console(&root.join("sys/class/tty")),
            has_server: SERVERS.iter().any(|path| root.join(path).exists()),
            next: 0,
            next_question: ASK_AFTER,
            question: None,
            there: BTreeMap::new(),
            said_up: None,
        }
    }

    /// Whether it is up, as of now: milliseconds on any clock that does not stop.
    pub(super) fn is_up(&mut self, now: u64) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + if self.has_server { LOOK_EVERY_BEFORE_SSH } else { LOOK_EVERY };
        if let Some(console) = self.console {
            self.see(now, &holders(Path::new("/proc"), console));
        }
        if self.said_up.is_none() && self.ask_systemd(now) {
            self.said_up = Some(now);
        }
        self.judge(now)
    }

    fn see(&mut self, now: u64, holders: &[Process]) {
        self.there.retain(|process, _| holders.contains(process));
        for process in holders {
            self.there.entry(*process).or_insert(now);
        }
    }

    fn judge(&self, now: u64) -> bool {
        let stays = if self.has_server { STAYS_BEFORE_SSH } else { STAYS };
        let mut since = self.there.values().chain(&self.said_up);
        since.any(|since| now.saturating_sub(*since) >= stays)
    }

    /// Asks systemd now and then; the answer is taken at a later look, as nothing may hold up who
    /// hears the power button.
    fn ask_systemd(&mut self, now: u64) -> bool {
        if let Some(child) = &mut self.question {
            if !matches!(child.try_wait(), Ok(None)) {
                let mut answer = String::new();
                let out = self.question.take().and_then(|child| child.stdout);
                let read = out.map(|mut out| out.read_to_string(&mut answer));
                return matches!(read, Some(Ok(_))) && UP.contains(&answer.trim());
            }
        } else if now >= self.next_question {
            self.next_question = now + ASK_EVERY;
            let init = fs::read_link("/proc/1/exe").unwrap_or_default();
            if init.file_name().is_some_and(|name| name == "systemd") {
                let mut command = Command::new("systemctl");
                command.arg("is-system-running").env("PATH", "/usr/bin:/bin");
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
                self.question = command.spawn().ok();
            }
        }
        false
    }
}

/// The number of the console's device, as `/proc/PID/stat` has it (proc(5), `tty_nr`).
fn console(class: &Path) -> Option<u64> {
    let active = fs::read_to_string(class.join("console/active")).ok()?;
    // The last of them is behind /dev/console.
    let name = active.split_ascii_whitespace().last()?;
    let device = fs::read_to_string(class.join(name).join("dev")).ok()?;
    let (major, minor) = device.trim().split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    Some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Who has a terminal to itself.
fn holders(proc: &Path, tty: u64) -> Vec<Process> {
    let names = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
        let (of, began) = terminal(&stat)?;
        (of == tty).then_some((pid, began))
    })
    .collect()
}

/// The terminal and the beginning of a process, from its `stat`.
fn terminal(stat: &str) -> Option<(u64, u64)> {
    // A name may have anything in it, and ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields 7 and 22 of proc(5), where the state is field 3.
    Some((fields.get(4)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn userland(has_server: bool) -> Userland {
        let dir = tempfile::tempdir().unwrap();
        if has_server {
            fs::create_dir_all(dir.path().join("usr/sbin")).unwrap();
            fs::write(dir.path().join("usr/sbin/dropbear"), "").unwrap();
        }
        Userland::new(dir.path())
    }

    #[test]
    fn who_stays_on_the_console_makes_it_up_and_who_passes_does_not() {
        let mut system = userland(false);
        let (script, login) = ((80, 100), (90, 900));
        let up = |system: &mut Userland, now, holders: &[Process]| {
            system.see(now, holders);
            system.judge(now)
        };
        assert!(!up(&mut system, 1_000, &[]));
        assert!(!up(&mut system, 2_000, &[script]));
        assert!(!up(&mut system, 6_500, &[login]), "the script is gone");
        assert!(!up(&mut system, 7_500, &[(90, 950)]), "another of the same number");
        assert!(!up(&mut system, 12_000, &[(90, 950)]));
        assert!(up(&mut system, 12_500, &[(90, 950), script]));
    }

    #[test]
    fn an_ssh_server_is_given_a_minute_and_systemds_word_counts_as_much() {
        let mut system = userland(true);
        system.see(0, &[(7, 7)]);
        assert!(!system.judge(59_999) && system.judge(60_000));
        let mut system = userland(false);
        system.said_up = Some(61_000);
        assert!(!system.judge(65_000) && system.judge(66_000));
    }

    #[test]
    fn looks_are_rare() {
        let mut system = userland(false);
        assert!(!system.is_up(0));
        assert_eq!(system.next, LOOK_EVERY);
        system.there.insert((1, 1), 0);
        system.console = None;
        assert!(!system.is_up(LOOK_EVERY - 1));
        assert!(system.is_up(STAYS));
    }

    #[test]
    fn the_console_is_the_last_that_the_kernel_names() {
        let dir = tempfile::tempdir().unwrap();
        for (name, file, text) in [
            ("console", "active", "tty0 ttyS0\n"),
            ("ttyS0", "dev", "4:64\n"),
            ("ttyAMA0", "dev", "204:320\n"),
        ] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join(file), text).unwrap();
        }
        assert_eq!(console(dir.path()), Some(0x440));
        fs::write(dir.path().join("console/active"), "ttyAMA0\n").unwrap();
        assert_eq!(console(dir.path()), Some(0x10_cc40));
        assert_eq!(console(&dir.path().join("none")), None);
    }

    #[test]
    fn processes_of_a_terminal_are_found_whatever_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let stat = |name: &str, tty: u64, began: u64| {
            format!("9 ({name}) S 1 9 9 {tty} 9 0 0 0 0 0 0 0 0 0 20 0 1 0 {began} 0 0\n")
        };
        for (pid, text) in [
            ("1", stat("init", 0, 1)),
            ("80", stat("a) S 1 (b", 1088, 80)),
            ("90", stat("agetty", 1088, 90)),
            ("91", "garbage".to_owned()),
            ("self", stat("me", 1088, 1)),
        ] {
            fs::create_dir(dir.path().join(pid)).unwrap();
            fs::write(dir.path().join(pid).join("stat"), text).unwrap();
        }
        let mut found = holders(dir.path(), 1088);
        found.sort_unstable();
        assert_eq!(found, [(80, 80), (90, 90)]);
    }
}
