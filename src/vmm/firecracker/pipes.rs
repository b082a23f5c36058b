//! What Firecracker says of itself: its log and its metrics, each through a named pipe.
//!
//! Into a file it would write for ever, and into no log at all means onto its standard output,
//! which is the guest's console. Of what comes through the pipes only the end is kept.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::Value;
use tokio::{
    net::unix::pipe::{OpenOptions, Receiver},
    sync::oneshot,
    task::JoinHandle,
};

use crate::vmm::rest::rest;

/// How much of the log is kept: some forty lines.
const LOG_KEPT: usize = 4096;
/// The longest line of metrics that is read; 1.16.1 has 6 KiB with one disk and one interface.
const METRICS_MAX: usize = 64 * 1024;
/// What is read at once.
const CHUNK: usize = 4096;

/// A named pipe that keeps the end of what is written into it. Its file goes with it.
#[derive(Debug)]
pub(super) struct Pipe {
    path: PathBuf,
    kept: Arc<Mutex<Vec<u8>>>,
    reader: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Pipe {
    /// Makes a pipe for a log; only our user can write into it.
    pub(super) fn log(path: &Path) -> io::Result<Self> {
        Self::new(path, LOG_KEPT)
    }

    /// Makes a pipe for metrics.
    pub(super) fn metrics(path: &Path) -> io::Result<Self> {
        // Two lines: one whole one is always among them.
        Self::new(path, 2 * METRICS_MAX)
    }

    fn new(path: &Path, most: usize) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?,
        }
        let kept = Arc::default();
        let mut pipe = Self { path: path.to_owned(), kept, reader: None };
        // With a writing end of our own it has no end before Firecracker has opened it.
        let receiver = OpenOptions::new().read_write(true).open_receiver(path)?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keep(receiver, Arc::clone(&pipe.kept), most, stopped));
        pipe.reader = Some((stop, task));
        Ok(pipe)
    }

    /// Takes what is still in the pipe, once nobody writes any more. Dropping the future loses
    /// at most that.
    pub(super) async fn finish(&mut self) {
        if let Some((stop, task)) = self.reader.take() {
            // It is gone only if it cannot read any more.
            let _ = stop.send(());
            let _ = task.await;
        }
    }

    /// The end of what was written, from the beginning of a line.
    pub(super) fn tail(&self) -> String {
        String::from_utf8_lossy(&lock(&self.kept)).into_owned()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.reader {
            task.abort();
        }
        // One that stays is removed by the next start, or with its directory.
        let _ = fs::remove_file(&self.path);
    }
}

async fn keep(
    pipe: Receiver,
    kept: Arc<Mutex<Vec<u8>>>,
    most: usize,
    mut stop: oneshot::Receiver<()>,
) {
    let mut buffer = [0; CHUNK];
    loop {
        tokio::select! {
            ready = pipe.readable() => if ready.is_err() { return },
            _ = &mut stop => {
                rest(&pipe, |bytes| append(&mut lock(&kept), bytes, most));
                return;
            }
        }
        loop {
            match pipe.try_read(&mut buffer) {
                Ok(n @ 1..) => append(&mut lock(&kept), &buffer[..n], most),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => return,
            }
        }
    }
}

/// Keeps at most `most` bytes, beginning with a line if there is an end of one.
fn append(kept: &mut Vec<u8>, bytes: &[u8], most: usize) {
    kept.extend_from_slice(bytes);
    let excess = kept.len().saturating_sub(most);
    if excess > 0 {
        let line = kept[excess - 1..].iter().position(|b| *b == b'\n');
        kept.drain(..line.map_or(excess, |at| excess + at));
    }
}

/// What went wrong inside, from the metrics' last whole lines: every counter of failures that
/// is not 0, as `vcpu.failures 1`, in alphabetical order. Each line has what came since the one
/// before (Firecracker's `SharedIncMetric`), so they are added up as far as they are kept.
pub(super) fn failures(metrics: &str) -> Vec<String> {
    let mut sums = BTreeMap::<String, u64>::new();
    for line in metrics.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let Ok(Value::Object(groups)) = serde_json::from_str(line) else { continue };
        for (group, counters) in &groups {
            // The sum over all devices of a kind comes beside each device's own.
            let Value::Object(counters) = counters else { continue };
            for (name, count) in counters {
                let fails = ["fail", "fault", "panic"].iter().any(|word| name.contains(word));
                if let (true, Some(count @ 1..)) = (fails, count.as_u64()) {
                    *sums.entry(format!("{group}.{name}")).or_default() += count;
                }
            }
        }
    }
    sums.into_iter().map(|(name, count)| format!("{name} {count}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::unix::fs::MetadataExt};

    use super::*;

    #[tokio::test]
    async fn only_the_end_is_kept_and_it_begins_with_a_line() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("log");
        fs::write(&path, "of an earlier run").expect("stale");
        let mut pipe = Pipe::log(&path).expect("pipe");
        assert_eq!(fs::metadata(&path).expect("pipe").mode() & 0o7777, 0o600);
        let mut writer = File::options().read(true).write(true).open(&path).expect("open");
        // A flood: a writer that blocks is woken by the reader, which never lags behind for good.
        let flood = tokio::task::spawn_blocking(move || {
            for n in 0..20_000 {
                writeln!(writer, "line {n}").expect("write");
            }
            writeln!(writer, "the end").expect("write");
        });
        flood.await.expect("written");
        pipe.finish().await;
        let tail = pipe.tail();
        assert!(tail.len() <= LOG_KEPT && tail.len() > LOG_KEPT - 20, "{}", tail.len());
        assert!(tail.starts_with("line ") && tail.ends_with("line 19999\nthe end\n"), "{tail}");
        drop(pipe);
        assert!(!path.exists());
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let mut kept = Vec::new();
        append(&mut kept, &[b'x'; 50], 20);
        assert_eq!(kept, [b'x'; 20]);
        append(&mut kept, b"\nab\ncd", 6);
        assert_eq!(kept, b"ab\ncd");
    }

    #[test]
    fn failures_are_found_and_added_up() {
        let metrics = concat!(
            r#"{"utc_timestamp_ms":1,"vcpu":{"failures":1,"exit_io_in":7},"net":{"tap_write_fails":0}}"#,
            "\n",
            "garbage\n",
            r#"{"seccomp":{"num_faults":2},"vcpu":{"failures":2},"agg":{"fails":{"min_us":3}}}"#,
            "\n",
            r#"{"vcpu":{"failures":100"#,
        );
        assert_eq!(failures(metrics), ["seccomp.num_faults 2", "vcpu.failures 3"]);
        assert!(failures("").is_empty());
    }
}
