//! What the kernel says of processes: proc(5).

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

use crate::Outcome;

/// `USER_HZ`, fixed on Linux for x86 and ARM.
const TICKS: u64 = 100;

/// The machine's load averages.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let three: Vec<_> = text.split(' ').take(3).collect();
    format!("{} on {cpus} CPUs", three.join(" "))
}

/// CPU time a process has used, in its own code and in the kernel.
pub fn cpu(pid: u32) -> Outcome<Duration> {
    Ok(ticks(field(pid, 14)? + field(pid, 15)?))
}

/// When a process was started, as time since 1970; exact to 10 ms.
pub fn started(pid: u32) -> Outcome<Duration> {
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(now.saturating_sub(since_boot) + ticks(field(pid, 22)?))
}

/// Bytes of a process's memory that are in RAM, whether shared or not.
pub fn rss(pid: u32) -> Outcome<u64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:")
}

/// The same with each shared page divided by the number of those who share it.
pub fn pss(pid: u32) -> Outcome<u64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")
}

/// `5.43 MiB`.
pub fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

fn ticks(n: u64) -> Duration {
    Duration::from_millis(n * 1000 / TICKS)
}

/// A field of `/proc/<pid>/stat`, counted from 1 as in proc(5).
fn field(pid: u32, n: usize) -> Outcome<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second is the name in parentheses and may hold anything.
    let rest = &stat[stat.rfind(')').ok_or("no name in stat")? + 2..];
    Ok(rest.split(' ').nth(n - 3).ok_or("stat is short")?.trim().parse()?)
}

fn kib(text: &str, key: &str) -> Outcome<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
