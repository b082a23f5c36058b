//! `banger self rest`: what the unit that restores at login does when it is stopped.
//!
//! systemd would end the VMMs of its unit together with their monitors, and a guest whose VMM is
//! gone cannot shut down. So the monitors alone are told, as the host tells them when it goes
//! down: each has its guest shut down, and the next restore brings it back.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::exit::{self, Outcome};

/// How often it is looked whether they are gone; systemd limits how long.
const LOOK: Duration = Duration::from_millis(100);

/// Has the VMs of this very control group shut down, and waits until they are off.
///
/// # Errors
/// None.
pub fn run() -> Outcome {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = group(&own) else { return Ok(exit::OK) };
    let there = || monitors(&Path::new("/sys/fs/cgroup").join(&group), Path::new("/proc"));
    for pid in there() {
        // One that has just ended needs no telling.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    while !there().is_empty() {
        thread::sleep(LOOK);
    }
    Ok(exit::OK)
}

/// The control group in the unified hierarchy: cgroups(7), "/proc/pid/cgroup". Never the root:
/// in that all processes of a container may be.
fn group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.is_empty() && !path.contains("..")).then(|| path.into())
}

/// The monitors in a control group.
fn monitors(group: &Path, proc: &Path) -> Vec<i32> {
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let is_monitor = |pid: &i32| {
        let line = fs::read(proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let mut words = line.split(|b| *b == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"banger") && words.next() == Some(b"monitor")
    };
    pids.lines().filter_map(|pid| pid.parse().ok()).filter(is_monitor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_the_unified_hierarchy() {
        let unit = "/user.slice/user-1000.slice/user@1000.service/app.slice/banger-restore.service";
        let text = format!("1:name=systemd:/x\n0::{unit}\n");
        assert_eq!(group(&text), Some(unit.trim_start_matches('/').into()));
        for none in ["", "1:memory:/x\n", "0::/\n", "0::/../x\n"] {
            assert_eq!(group(none), None, "{none}");
        }
    }

    #[test]
    fn monitors_are_told_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let lines: [(&str, &str); 5] = [
            ("10", "/usr/bin/banger\0monitor\x000a1b2c3d\0"),
            ("11", "/usr/bin/qemu-system-x86_64\0-name\0monitor\0"),
            ("12", "/usr/bin/banger\0self\0rest\0"),
            ("13", "/opt/b/bin/banger\0monitor\0ffffffff\0"),
            ("15", "banger\0monitor\0"),
        ];
        for (pid, line) in lines {
            fs::create_dir(dir.path().join(pid)).unwrap();
            fs::write(dir.path().join(pid).join("cmdline"), line).unwrap();
        }
        // 14 has just ended, 15 is elsewhere.
        fs::write(dir.path().join("cgroup.procs"), "10\n11\n12\n13\n14\n").unwrap();
        assert_eq!(monitors(dir.path(), dir.path()), [10, 13]);
        assert!(monitors(&dir.path().join("none"), dir.path()).is_empty());
    }
}
