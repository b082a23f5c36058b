//! What a host looks like: everything a VM could leave behind, as lines that can be compared.
//!
//! Two pictures, one before and one after, differ in what was left and in what was taken away.
//! Nothing here knows banger's names: a leftover is found whatever it is called.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
};

use serde_json::Value;

/// What files are looked at. Of the rest of the system nothing is written to.
const TREES: &[&str] = &[
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/home",
    "/opt",
    "/root",
    "/run",
    "/run/lock",
    "/srv",
    "/sys/fs/cgroup",
    "/tmp",
    "/usr/local",
    "/var/lib",
    "/var/tmp",
];

/// What comes and goes without banger, by how its path begins: the book-keeping of systemd and
/// udev, names that udev gives to devices which are looked at by their own names.
const NOT_OURS: &[&str] = &[
    "/dev/block",
    "/dev/char",
    "/dev/disk",
    "/run/log/journal",
    "/run/systemd/journal/streams",
    "/run/systemd/resolve/netif",
    "/run/systemd/units",
    "/run/udev",
    "/tmp/systemd-private-",
    "/var/lib/systemd",
    "/var/tmp/systemd-private-",
];

/// Everything a VM could leave on a host, by kind: lines, and how often each is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture(BTreeMap<(String, String), usize>);

impl Picture {
    /// Looks at the host. Only root sees all of it. What `kept` says may stay - a path - is not
    /// in the picture.
    ///
    /// # Panics
    /// If a program that shows a part of it (`ip`, `nft`, `dmsetup`) cannot be run.
    pub fn take(kept: impl Fn(&Path) -> bool) -> Self {
        let mut picture = Self::default();
        picture.links();
        for line in run("nft", &["-s", "list", "ruleset"]).lines() {
            picture.add("nft", line.trim_end());
        }
        picture.loops();
        for line in run("dmsetup", &["info", "-c", "--noheadings", "-o", "name,open"]).lines() {
            if line != "No devices found" {
                picture.add("device-mapper", line);
            }
        }
        picture.processes();
        picture.mounts();
        picture.sockets();
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            let value = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
            picture.add("sysctl", &format!("{name} = {}", value.trim()));
        }
        for tree in TREES {
            picture.files(Path::new(tree), &kept);
        }
        picture
    }

    /// What is in `after` and not here (`+`), and the other way round (`-`); nothing if they are
    /// alike.
    #[must_use]
    pub fn difference(&self, after: &Self) -> String {
        let mut text = String::new();
        let keys: BTreeSet<_> = self.0.keys().chain(after.0.keys()).collect();
        for key in keys {
            let times = |picture: &Self| picture.0.get(key).copied().unwrap_or(0);
            let (was, is) = (times(self), times(after));
            let sign = if is > was { '+' } else { '-' };
            for _ in 0..is.abs_diff(was) {
                let _ = writeln!(text, "{sign} {}: {}", key.0, key.1);
            }
        }
        text
    }

    /// As text, to be kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |((kind, line), times): (&(String, String), &usize)| {
            format!("{times}\t{kind}\t{line}\n")
        };
        self.0.iter().map(line).collect()
    }

    /// What [`Self::to_text`] has kept.
    ///
    /// # Panics
    /// If it is not that.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let entry = |line: &str| {
            let mut words = line.splitn(3, '\t');
            let mut next = || words.next().expect("three words");
            (next().parse().expect("a number"), next().to_owned(), next().to_owned())
        };
        let entries = text.lines().map(entry);
        Self(entries.map(|(times, kind, line)| ((kind, line), times)).collect())
    }

    fn add(&mut self, kind: &str, line: &str) {
        // One line each, whatever it was called.
        let line = line.escape_default().to_string();
        *self.0.entry((kind.to_owned(), line)).or_default() += 1;
    }

    /// Links, their addresses, and the routes and rules of all tables.
    fn links(&mut self) {
        let word = |value: &Value, name: &str| {
            let value = &value[name];
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        for link in json("ip", &["-j", "-d", "link"]) {
            let line = format!(
                "{} kind {} master {} mtu {}",
                word(&link, "ifname"),
                word(&link["linkinfo"], "info_kind"),
                word(&link, "master"),
                word(&link, "mtu"),
            );
            self.add("link", &line);
        }
        for link in json("ip", &["-j", "addr"]) {
            for address in link["addr_info"].as_array().into_iter().flatten() {
                let (local, length) = (word(address, "local"), word(address, "prefixlen"));
                self.add("address", &format!("{} {local}/{length}", word(&link, "ifname")));
            }
        }
        for family in ["-4", "-6"] {
            for route in json("ip", &[family, "-j", "route", "show", "table", "all"]) {
                let names = ["type", "dst", "gateway", "dev", "table"];
                self.add("route", &names.map(|name| word(&route, name)).join(" "));
            }
            for rule in run("ip", &[family, "rule"]).lines() {
                self.add("rule", rule);
            }
        }
    }

    /// Loop devices that have a file. One that has none is nothing but a number.
    fn loops(&mut self) {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            if let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file")) {
                self.add("loop", file.trim_end());
            }
        }
    }

    fn processes(&mut self) {
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(Ok(pid)) = name.to_str().map(str::parse::<u32>) else { continue };
            // Gone already: it did not stay.
            let Some(process) = Process::read(&entry.path()) else { continue };
            seen.insert(pid, process);
        }
        for (pid, process) in &seen {
            if *pid != std::process::id() && !process.is_udevs(&seen) {
                process.line.iter().for_each(|line| self.add("process", line));
            }
        }
    }

    fn mounts(&mut self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for line in table.lines() {
            // proc(5): the fields up to the mount point, options, a dash, type, source.
            let mut halves = line.split(" - ");
            let point = halves.next().and_then(|half| half.split(' ').nth(4)).unwrap_or("");
            let source: Vec<&str> = halves.next().unwrap_or("").split(' ').take(2).collect();
            self.add("mount", &format!("{point} {}", source.join(" ")));
        }
    }

    /// Sockets with a name, and those that somebody listens on.
    fn sockets(&mut self) {
        let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        for line in table.lines().skip(1) {
            if let Some(path) = line.split_whitespace().nth(7) {
                self.add("socket", path);
            }
        }
        for line in run("ss", &["-H", "-l", "-n", "-t", "-u", "-w"]).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [kind, _, _, _, local, ..] = words[..] {
                self.add("socket", &format!("{kind} {local}"));
            }
        }
    }

    /// What is below a directory, but not what is mounted there: mounts are looked at as such.
    fn files(&mut self, dir: &Path, kept: &impl Fn(&Path) -> bool) {
        let device = dir.metadata().map_or(0, |meta| meta.dev());
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let shown = path.display();
            // Gone already: it did not stay.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if NOT_OURS.iter().any(|begin| shown.to_string().starts_with(begin)) || kept(&path) {
                continue;
            }
            if meta.is_dir() {
                self.add("directory", &shown.to_string());
                if meta.dev() == device {
                    self.files(&path, kept);
                }
            } else if meta.is_symlink() {
                let to = fs::read_link(&path).unwrap_or_default();
                self.add("link to", &format!("{shown} -> {}", to.display()));
            } else if path.starts_with("/etc") {
                // Changed in place is a leftover too.
                let text = fs::read(&path).unwrap_or_default();
                self.add("file", &format!("{shown}, sum {:016x}", sum(&text)));
            } else if !(dir.starts_with("/sys") || is_loop_device(&path)) {
                self.add("file", &shown.to_string());
            }
        }
    }
}

/// A process, as far as a picture needs it.
struct Process {
    parent: u32,
    /// Its first 15 bytes.
    name: String,
    /// What a picture has of it; nothing of a kernel thread.
    line: Option<String>,
}

impl Process {
    /// One whose directory in `/proc` this is; nothing, if it is gone.
    fn read(dir: &Path) -> Option<Self> {
        // proc(5): `PID (NAME) STATE PARENT …`; a name may have brackets, too.
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let mut words = rest.split(' ');
        let is_zombie = words.next() == Some("Z");
        let parent = words.next()?.parse().ok()?;
        let name = head.split_once('(')?.1.to_owned();
        // Kernel threads have no command line; zombies neither, but are somebody's mistake.
        let said = fs::read(dir.join("cmdline")).ok()?;
        let said = String::from_utf8_lossy(&said).replace('\0', " ");
        let owner = fs::metadata(dir).map_or(0, |meta| meta.uid());
        let line = if is_zombie {
            Some(format!("zombie: {name}"))
        } else {
            (!said.is_empty()).then(|| format!("uid {owner}: {}", said.trim_end()))
        };
        Some(Self { parent, name, line })
    }

    /// Whether udev has started it: a worker of its own, or what one runs. That comes with what
    /// happens to devices, whoever did it and whenever, and goes by itself.
    fn is_udevs(&self, all: &BTreeMap<u32, Self>) -> bool {
        let mut parent = all.get(&self.parent);
        while let Some(process) = parent {
            if process.name == "systemd-udevd" {
                return true;
            }
            parent = all.get(&process.parent);
        }
        false
    }
}

/// Tells texts apart that nobody has made alike on purpose. Eight bytes at a time: this runs
/// unoptimized on an emulated CPU.
fn sum(text: &[u8]) -> u64 {
    text.chunks(8).fold(text.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        // An odd number without a pattern: the golden ratio in 64 bits.
        (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// Whether this is the node of a loop device: nothing but a number while it has no file, and
/// [`Picture::loops`] knows whether it has one.
fn is_loop_device(path: &Path) -> bool {
    let number = path.to_str().and_then(|path| path.strip_prefix("/dev/loop"));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

fn run(program: &str, args: &[&str]) -> String {
    let said = Command::new(program).args(args).output();
    let said = said.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(said.status.success(), "{program} {args:?}: {said:?}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn json(program: &str, args: &[&str]) -> Vec<Value> {
    let text = run(program, args);
    // Of nothing at all `ip` says nothing.
    if text.trim().is_empty() {
        return Vec::new();
    }
    let value: Value = serde_json::from_str(&text).expect("JSON");
    // Links that `ip` may not show come as empty objects.
    let list = value.as_array().expect("a list").iter();
    list.filter(|entry| entry.as_object().is_some_and(|o| !o.is_empty())).cloned().collect()
}
