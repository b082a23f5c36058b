//! `banger images import` of what banger did not export: a disk, an archive or a container image of
//! somebody else's.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::Ordering,
    time::Instant,
};

use super::{
    args::ImagesImport,
    exit::{self, Failure, Outcome},
    now, out,
    runtime::cancel_on_signal,
};
use crate::{
    domain::{ByteSize, ImageName, ImageOrigin, ImageView, Problem, VmSpec, parse_mib},
    image::{
        Catalog, Metadata,
        import::{self, Imported, Options, Progress},
    },
};

/// Imports, and says what came of it.
///
/// # Errors
/// What cannot be imported, and why.
pub fn run(args: &ImagesImport, name: Option<ImageName>, catalog: &Catalog) -> Outcome {
    let began = Instant::now();
    let options =
        Options { size: mib("--size", args.size.as_deref())?.map(|m| m << 20), kind: args.kind };
    let memory = memory(args.memory.as_deref())?;
    // Before the work, not after it.
    let early = name.clone().or_else(|| name_of(&args.file, None));
    if let Some(name) = early.as_ref().filter(|_| !args.replace) {
        catalog.is_free(name)?;
    }
    let source = args.file.display().to_string();
    let cancel = cancel_on_signal()?;
    let staged = catalog.stage()?;
    let lines = Lines::default();
    let imported = import::import(&args.file, staged.dir(), &options, &cancel, &|progress| {
        lines.show(progress);
    });
    lines.end();
    let imported = imported.map_err(|failure| failure.problem(&source))?;
    let Some(name) = name.or_else(|| name_of(&args.file, imported.name.as_deref())) else {
        let why = "its file's name makes no name for an image";
        return Err(
            Problem::new(format!("cannot import {source}"), why, "give one: --name NAME").into()
        );
    };
    let metadata = Metadata {
        about: about(&imported),
        default_memory_mib: memory,
        origin: ImageOrigin::Imported,
        source: told(&args.file, &imported),
        built: now(),
        packages: imported.system.packages.clone(),
        cloud_init: Some(imported.system.cloud_init),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..Metadata::default()
    };
    // Here, where it can be ended: publishing finds the sum.
    let sealed = staged.seal(metadata, &mut |_| !cancel.load(Ordering::Relaxed))?;
    let view = staged.publish(catalog, &name, sealed, None, args.replace)?;
    out::line(summary(&view, &imported))?;
    Ok(exit::OK)
}

/// What machines of it get by default.
fn memory(text: Option<&str>) -> Result<u64, Failure> {
    let memory = mib("--memory", text)?.unwrap_or(import::DEFAULT_MEMORY_MIB);
    if VmSpec::MEMORY_MIB.contains(&memory) {
        return Ok(memory);
    }
    let why = format!("a machine has 64 MiB to 1 TiB of memory, not {memory} MiB");
    Err(Failure::Usage(Problem::new("cannot use --memory", why, "512M, 2G")))
}

fn summary(view: &ImageView, imported: &Imported) -> String {
    let used = view.used.map_or(String::new(), |used| format!(", {} of it used", ByteSize(used)));
    format!("{}: imported from {}; {}{used}", view.name, imported.what, ByteSize(view.size))
}

fn about(imported: &Imported) -> String {
    match &imported.name {
        Some(name) => format!("{}, imported from {}", name, imported.what),
        None => format!("Imported from {}", imported.what),
    }
}

/// Where it came from, with what a container of it would run.
fn told(file: &Path, imported: &Imported) -> String {
    let mut told = file.display().to_string();
    if !imported.command.is_empty() {
        told.push_str(&format!(" (runs {})", imported.command.join(" ")));
    }
    told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

fn mib(option: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    /// 16 TiB: what ext4 with blocks of 4 KiB can have.
    const MAX: u64 = 1 << 24;
    let Some(text) = text else { return Ok(None) };
    let bad = |why: String| Failure::Usage(Problem::new(format!("cannot use {option}"), why, ""));
    match parse_mib(text).map_err(bad)? {
        mib @ 1..=MAX => Ok(Some(mib)),
        _ => Err(bad(format!("“{text}” is not between 1 MiB and 16 TiB"))),
    }
}

/// A name for the image: how the source calls it, else what its file is called, without what only
/// says how it is packed.
fn name_of(file: &Path, reference: Option<&str>) -> Option<ImageName> {
    // docker.io/library/debian:12 -> debian-12
    if let Some(reference) = reference {
        let last = reference.rsplit('/').next().unwrap_or(reference);
        if let Some(name) = fitting(&last.replace(":latest", "").replace(':', "-")) {
            return Some(name);
        }
    }
    let name = file.file_name()?.to_str()?.to_lowercase();
    const PACKED: [&str; 14] = [
        ".gz", ".xz", ".zst", ".tgz", ".txz", ".tar", ".raw", ".img", ".qcow2", ".ext4", ".oci",
        ".disk", ".rootfs", ".bin",
    ];
    let mut name = name.as_str();
    while let Some(shorter) = PACKED.iter().find_map(|end| name.strip_suffix(end)) {
        name = shorter;
    }
    fitting(name)
}

fn fitting(text: &str) -> Option<ImageName> {
    let plain: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' })
        .take(63)
        .collect();
    plain.trim_matches(['-', '.']).parse().ok()
}

/// How far it is: a line per step, and on a terminal how far that is.
#[derive(Default)]
struct Lines {
    step: RefCell<String>,
    /// What was shown last, in hundredths or in units of 16 MiB.
    shown: Cell<u64>,
    /// Whether a line stands there that the next one overwrites.
    open: Cell<bool>,
}

impl Lines {
    fn show(&self, progress: Progress<'_>) {
        match progress {
            Progress::Step(step) => {
                self.end();
                *self.step.borrow_mut() = step.to_owned();
                self.shown.set(0);
                self.write(&format!("{step} …"));
            }
            Progress::Done { done, total } => {
                let (part, text) = match (done.min(total) * 100).checked_div(total) {
                    Some(percent) => (percent, format!("{percent} %")),
                    None => (done >> 24, ByteSize(done).to_string()),
                };
                if part != self.shown.replace(part) {
                    self.write(&format!("{} … {text}", self.step.borrow()));
                }
            }
            Progress::Note(note) => {
                self.end();
                out::note(note);
            }
        }
    }

    fn write(&self, text: &str) {
        if !io::stderr().is_terminal() {
            return;
        }
        // \x1b[K: what was longer before is gone.
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
        let _ = io::stderr().flush();
        self.open.set(true);
    }

    fn end(&self) {
        if self.open.replace(false) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_wants_as_much_memory_as_a_machine_may_have() {
        for (text, expected) in [
            (None, Some(import::DEFAULT_MEMORY_MIB)),
            (Some("64M"), Some(64)),
            (Some("2G"), Some(2048)),
        ] {
            assert_eq!(memory(text).ok(), expected, "{text:?}");
        }
        for text in ["1", "63M", "2000G", "much"] {
            assert!(matches!(memory(Some(text)), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn names_come_from_the_reference_or_the_file() {
        let name = |file: &str, reference: Option<&str>| {
            name_of(Path::new(file), reference).map(|name| name.to_string())
        };
        for (file, reference, expected) in [
            ("/x/debian-12-genericcloud-amd64.qcow2", None, "debian-12-genericcloud-amd64"),
            ("Alpine_minirootfs.tar.gz", None, "alpine-minirootfs"),
            ("x.tar", Some("docker.io/library/debian:12"), "debian-12"),
            ("x.tar", Some("busybox:latest"), "busybox"),
            ("x.tar", Some(":"), "x"),
        ] {
            assert_eq!(name(file, reference).as_deref(), Some(expected), "{file}");
        }
        assert_eq!(name("….tar", None), None);
        assert_eq!(name("/", None), None);
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(mib("--size", Some("2G")).ok().flatten(), Some(2048));
        assert!(matches!(mib("--size", None), Ok(None)));
        for bad in ["0", "-1", "17T", "x"] {
            assert!(mib("--size", Some(bad)).is_err(), "{bad}");
        }
    }
}
