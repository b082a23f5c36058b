//! Programs an import runs: those of e2fsprogs, and `xz`.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use super::{Failure, Job};
use crate::host::process::die_with_us;

/// How often a running program is looked at.
const TICK: Duration = Duration::from_millis(20);

/// The most of its output that is read: what it prints may be made of somebody else's file names.
const OUTPUT_MAX: u64 = 64 * 1024;

/// What a program said.
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as far as it was kept.
    pub out: String,
    /// Standard error, as far as it was kept.
    pub err: String,
}

impl Said {
    /// Its last words, in one line.
    pub fn why(&self, program: &str) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let last: Vec<String> = lines[lines.len().saturating_sub(4)..]
            .iter()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
            .collect();
        format!("{program} ended with {}: {}", self.status, last.join(" | "))
    }
}

/// A program by its path: Debian keeps those of e2fsprogs in directories that only root has in
/// its `PATH`.
pub fn command(name: &str) -> Command {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(name)));
    // The same words everywhere, and nothing of the user's own settings for them.
    command.env("LC_ALL", "C.UTF-8").env_remove("MKE2FS_CONFIG").env_remove("E2FSCK_CONFIG");
    command
}

/// The package of Debian that a program is in.
fn package(program: &str) -> &str {
    match program {
        "xz" => "xz-utils",
        _ => "e2fsprogs",
    }
}

/// What to say of a program that cannot be started.
pub fn missing(name: &str, error: &io::Error) -> Failure {
    Failure::hinted(
        format!("cannot run {name}: {error}"),
        format!("install it: apt-get install {}", package(name)),
    )
}

/// Runs a program of e2fsprogs to its end; it goes with us, and with the wish to end.
///
/// # Errors
/// If it cannot be started, or the user wants it all to end.
pub fn run<S: AsRef<OsStr>>(
    job: &Job<'_>,
    name: &str,
    args: impl IntoIterator<Item = S>,
    prepare: impl FnOnce(&mut Command),
) -> Result<Said, Failure> {
    job.go_on()?;
    let mut command = command(name);
    command.args(args).current_dir(job.dir());
    // Files, not pipes: there is nobody to read while we wait, and no bound to what is printed.
    let (out, err) = (scratch(job, "out")?, scratch(job, "err")?);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
    prepare(&mut command);
    die_with_us(&mut command);
    let mut child = command.spawn().map_err(|error| missing(name, &error))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if job.cancel().load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Err(Failure::Cancelled);
        }
        thread::sleep(TICK);
    };
    Ok(Said { status, out: read(out)?, err: read(err)? })
}

/// A file without a name.
fn scratch(job: &Job<'_>, name: &str) -> io::Result<File> {
    let path = job.dir().join(format!(".{name}"));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

fn read(mut file: File) -> io::Result<String> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_MAX)))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
