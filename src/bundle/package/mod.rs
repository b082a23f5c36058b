//! Packing a runtime directory into one archive that others bootstrap from.

mod qemu;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use sha2::{Digest, Sha256};

use super::{
    BOOTSTRAP, Bundle, Event, Record, Reporter,
    archive::{Part, pack},
    digest::hex,
    lock,
};
use crate::domain::{Problem, Progress, StepState, StepView};

/// A bundle that was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The archive.
    pub path: PathBuf,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// The architecture it is for.
    pub arch: String,
    /// What whoever publishes it should know: what is not in it.
    pub notes: Vec<String>,
}

impl Package {
    /// The lines for `runtime-bundle.toml`, once the archive is at `url`.
    #[must_use]
    pub fn snippet(&self, url: &str) -> String {
        let Self { arch, sha256, size, .. } = self;
        format!("[bundle.{arch}]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\nsize = {size}\n")
    }
}

/// What is packed, and where to.
#[derive(Clone, Debug)]
pub struct PackageOptions {
    /// The runtime directory.
    pub dir: PathBuf,
    /// The archive to write; it appears complete or not at all.
    pub output: PathBuf,
    /// Whether this machine's QEMU goes with it.
    pub with_qemu: bool,
    /// The date of everything in it, in seconds since 1970.
    pub epoch: u64,
}

/// Packs a runtime directory. The same files give the same bytes.
///
/// # Errors
/// When it is not whole or not as recorded, or the archive cannot be written. `None` if it was
/// cancelled.
pub fn package(
    options: &PackageOptions,
    reporter: &mut dyn Reporter,
    cancel: &AtomicBool,
) -> Result<Option<Package>, Problem> {
    let what = || format!("cannot pack the runtime directory {}", options.dir.display());
    let bundle = Bundle::open(&options.dir).map_err(|p| Problem { what: what(), ..p })?;
    let dir = bundle.dir();
    // Nothing may change meanwhile. What cannot be written to is not changed by anyone.
    let _lock = match lock::take(dir) {
        Ok(lock) => Some(lock),
        Err(problem) if fs::metadata(dir.join(super::LOCK_FILE)).is_ok() => return Err(problem),
        Err(_) => None,
    };
    let mut record = plain(bundle.record());
    let mut parts = BTreeMap::new();
    for name in record.files.keys() {
        let path = dir.join(name);
        let mode = path.metadata().map(|m| m.permissions().mode()).map_err(|e| {
            let hint = format!("run `{BOOTSTRAP}`");
            Problem::new(what(), format!("{}: {e}", path.display()), hint)
        })?;
        parts.insert(name.clone(), Part { path, executable: mode & 0o111 != 0 });
    }
    let mut notes = Vec::new();
    if !record.files.contains_key("firecracker") {
        notes.push("Firecracker is not in it: who uses it runs VMs with QEMU".to_owned());
    }
    let parent = options.output.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let io_problem = |e: io::Error| {
        Problem::new(
            what(),
            e.to_string(),
            "look whether there is room, and whether you may write there",
        )
    };
    let scratch = Scratch::new(parent).map_err(io_problem)?;
    if options.with_qemu {
        qemu::add(&scratch.0, &mut record, &mut parts)
            .map_err(|why| Problem::new("cannot pack this machine's QEMU", why.0, why.1))?;
    }
    let total = parts.keys().filter_map(|n| record.files.get(n)).map(|f| f.size).sum();
    let mut step = StepView {
        name: "package".to_owned(),
        state: StepState::Running,
        detail: String::new(),
        progress: None,
    };
    reporter.event(Event::Plan(std::slice::from_ref(&step)));
    let partial = scratch.0.join("archive");
    let packed = File::create(&partial).and_then(|file| {
        let mut told = 0;
        let whole = pack(&parts, &record, options.epoch, BufWriter::new(&file), |done| {
            // Often enough for people.
            if done - told > total / 200 {
                told = done;
                step.progress = Some(Progress { done, total });
                reporter.event(Event::Step(0, &step));
            }
            !cancel.load(Ordering::Relaxed)
        })?;
        file.sync_all()?;
        Ok(whole)
    });
    if !packed.map_err(io_problem)? {
        return Ok(None);
    }
    let (sha256, size) = sum(&partial).map_err(io_problem)?;
    fs::rename(&partial, &options.output).map_err(io_problem)?;
    step.state = StepState::Done;
    step.progress = None;
    reporter.event(Event::Step(0, &step));
    Ok(Some(Package { path: options.output.clone(), sha256, size, arch: record.arch, notes }))
}

/// A record without what belongs to one machine.
fn plain(record: &Record) -> Record {
    let mut record = Record { published: None, ..record.clone() };
    for file in record.files.values_mut() {
        file.modified_ns = 0;
    }
    for step in record.steps.values_mut() {
        step.looked = None;
    }
    record
}

fn sum(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex(&hash.finalize()), size)),
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

/// A directory beside the output, removed however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> io::Result<Self> {
        let dir = parent.join(format!(".banger-package-{}", std::process::id()));
        fs::create_dir_all(parent)?;
        // One that is there was left by a dead process of our number.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a file of ours.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    File::create(path)?.write_all(bytes)
}
