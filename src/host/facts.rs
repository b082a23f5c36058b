//! What machine this is.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io,
    path::Path,
    process::Command,
};

use nix::sys::statvfs::statvfs;

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Logical CPUs that we may use.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes of memory that can be had without swapping: `MemAvailable`, proc_meminfo(5).
    pub memory_available: u64,
    /// Bytes of the file system looked at.
    pub disk_total: u64,
    /// Bytes of it that we may still write.
    pub disk_available: u64,
}

/// Looks at the machine, and at the file system that holds `dir`.
///
/// # Errors
/// If `dir` is not there, or `/proc` is not.
pub fn host_facts(dir: &Path) -> io::Result<HostFacts> {
    let disk = statvfs(dir)?;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let cpus = std::thread::available_parallelism()?.get();
    Ok(HostFacts {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_total: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
        memory_available: meminfo_bytes(&meminfo, "MemAvailable").unwrap_or(0),
        disk_total: disk.blocks() as u64 * disk.fragment_size() as u64,
        disk_available: disk.blocks_available() as u64 * disk.fragment_size() as u64,
    })
}

/// A line of `/proc/meminfo`: `MemTotal:       16384 kB`, where kB is 1024 bytes.
fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Whether KVM runs VMs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmState {
    /// It does.
    Usable,
    /// It does not.
    Unusable {
        /// Which test failed: a clause for the user.
        reason: String,
    },
}

/// Tests whether KVM can be used, or takes the user's word for it.
///
/// That `/dev/kvm` opens is not enough on x86: there are virtual machines whose `/dev/kvm` opens
/// and makes VMs in which no stock kernel boots. They are told by CPU flags that lack both `vmx`
/// and `svm`.
#[must_use]
pub fn kvm(forced: Option<bool>) -> KvmState {
    let unusable = |reason: String| KvmState::Unusable { reason };
    match forced {
        Some(true) => return KvmState::Usable,
        Some(false) => return unusable("switched off by the configuration".to_owned()),
        None => {}
    }
    let opened = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    judge_kvm(opened.err().as_ref(), &cpuinfo, cfg!(target_arch = "x86_64"))
}

fn judge_kvm(not_opened: Option<&io::Error>, cpuinfo: &str, x86: bool) -> KvmState {
    let reason = match not_opened {
        Some(error) if error.kind() == io::ErrorKind::NotFound => {
            "there is no /dev/kvm (no KVM in the kernel, or its module is not loaded)".to_owned()
        }
        Some(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            "/dev/kvm may not be opened (is the user in the group kvm?)".to_owned()
        }
        Some(error) => format!("/dev/kvm cannot be opened ({error})"),
        None if x86 && !has_virtualization_flag(cpuinfo) => {
            "/dev/kvm opens, but the CPU flags show neither vmx nor svm".to_owned()
        }
        None => return KvmState::Usable,
    };
    KvmState::Unusable { reason }
}

fn has_virtualization_flag(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("flags")?.trim_start().strip_prefix(':'))
        .take(1)
        .any(|flags| flags.split_ascii_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

/// Begins what [`tsc_khz`] ends: what is done between the two costs no time of its own.
pub fn tsc_begin() {
    #[cfg(target_arch = "x86_64")]
    tsc::begin();
}

/// How fast the CPU's time stamp counter runs, in kHz; `None` where there is no such thing.
/// Measured once per process, over the 20 ms or more since [`tsc_begin`]; if that was not called,
/// or less long ago, blocks for the rest.
#[must_use]
pub fn tsc_khz() -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    {
        static KHZ: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
        Some(*KHZ.get_or_init(tsc::measure))
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

#[cfg(target_arch = "x86_64")]
mod tsc {
    use std::{
        sync::OnceLock,
        thread,
        time::{Duration, Instant},
    };

    static BEGIN: OnceLock<(u64, Instant)> = OnceLock::new();

    /// Long enough that the error of a reading (far below a microsecond) is nothing.
    const OVER: Duration = Duration::from_millis(20);

    pub(super) fn begin() {
        BEGIN.get_or_init(read_both);
    }

    pub(super) fn measure() -> u32 {
        measure_since(*BEGIN.get_or_init(read_both))
    }

    pub(super) fn measure_since((tsc_before, before): (u64, Instant)) -> u32 {
        thread::sleep(OVER.saturating_sub(before.elapsed()));
        let (tsc_after, after) = read_both();
        let ticks = tsc_after.wrapping_sub(tsc_before) as f64;
        (ticks / (after - before).as_secs_f64() / 1000.0).round() as u32
    }

    /// Counter and clock at one moment: of several readings, the one that was least disturbed.
    pub(super) fn read_both() -> (u64, Instant) {
        let reading = || {
            let before = ticks();
            let now = Instant::now();
            (ticks().wrapping_sub(before), before, now)
        };
        let (gap, before, now) =
            (0..8).map(|_| reading()).min_by_key(|(gap, ..)| *gap).unwrap_or_else(reading);
        (before.wrapping_add(gap / 2), now)
    }

    fn ticks() -> u64 {
        // SAFETY: every x86-64 CPU has the instruction, and Linux lets processes use it.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
}

/// The version a QEMU program says it has: `7.2.22`.
///
/// # Errors
/// If it cannot be run, or says something else.
pub fn qemu_version(program: impl AsRef<OsStr>) -> io::Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_qemu_version(&text).map(str::to_owned).ok_or_else(|| {
        let first: String = text.lines().next().unwrap_or_default().chars().take(80).collect();
        io::Error::new(io::ErrorKind::InvalidData, format!("--version says “{first}”"))
    })
}

/// From `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)`.
fn parse_qemu_version(text: &str) -> Option<&str> {
    let version = text.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_something_of_everything() {
        let facts = host_facts(Path::new("/")).expect("facts");
        assert!(facts.cpus >= 1);
        assert!(facts.memory_total > facts.memory_available && facts.memory_available > 0);
        assert!(facts.disk_total > facts.disk_available);
    }

    #[test]
    fn kvm_is_usable_only_if_it_opens_and_the_cpu_has_it() {
        let with = "processor\t: 0\nflags\t\t: fpu vme vmx sse\n";
        let without = "processor\t: 0\nflags\t\t: fpu vme sse svmx\n";
        let reason = |state| match state {
            KvmState::Usable => String::new(),
            KvmState::Unusable { reason } => reason,
        };
        assert_eq!(judge_kvm(None, with, true), KvmState::Usable);
        assert_eq!(judge_kvm(None, &with.replace("vmx", "svm"), true), KvmState::Usable);
        assert!(reason(judge_kvm(None, without, true)).contains("neither vmx nor svm"));
        assert!(reason(judge_kvm(None, "", true)).contains("neither"));
        assert_eq!(judge_kvm(None, "", false), KvmState::Usable);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(reason(judge_kvm(Some(&denied), with, true)).contains("group kvm"));
        let none = io::Error::from(io::ErrorKind::NotFound);
        assert!(reason(judge_kvm(Some(&none), with, true)).contains("no /dev/kvm"));
        assert_eq!(kvm(Some(true)), KvmState::Usable);
        assert!(matches!(kvm(Some(false)), KvmState::Unusable { .. }));
    }

    #[test]
    fn meminfo_and_versions_are_read() {
        let text = "MemTotal:       24682416 kB\nMemAvailable:   100 kB\n";
        assert_eq!(meminfo_bytes(text, "MemTotal"), Some(24_682_416 * 1024));
        assert_eq!(meminfo_bytes(text, "Mem"), None);
        assert_eq!(meminfo_bytes("MemTotal: x kB", "MemTotal"), None);
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(parse_qemu_version(debian), Some("7.2.22"));
        assert_eq!(parse_qemu_version("QEMU emulator version "), None);
        assert_eq!(parse_qemu_version("bash 5"), None);
        assert!(qemu_version("/nonexistent/qemu").is_err());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_counter_runs_at_a_believable_and_steady_rate() {
        let first = tsc_khz().expect("x86");
        assert!((500_000..10_000_000).contains(&first), "{first} kHz");
        assert_eq!(tsc_khz(), Some(first), "measured once");
        let again = tsc::measure_since(tsc::read_both());
        let off = f64::from(again.abs_diff(first)) / f64::from(first);
        // 1 %: at 20 % a guest's clock is visibly wrong. Usually it is below 0.01 %.
        assert!(off < 0.01, "{first} and {again} kHz");
    }
}
