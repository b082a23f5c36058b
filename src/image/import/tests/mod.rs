//! Imports of good and of bad sources.

mod archives;
mod containers;
mod disks;
mod qcow2;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
};

use tempfile::TempDir;

use super::{Failure, Imported, Options, Progress, import};

/// What came of an import in a directory of its own.
struct Done {
    dir: TempDir,
    result: Result<Imported, Failure>,
    notes: Vec<String>,
}

impl Done {
    /// The image, which is whole.
    fn image(&self) -> &TempDir {
        if let Err(failure) = &self.result {
            panic!("{failure}");
        }
        assert_eq!(names(self.dir.path()), BTreeSet::from(["root.img".to_owned()]));
        let checked = e2fs("e2fsck", &["-fn".as_ref(), &self.dir.path().join("root.img")]);
        assert!(checked.status.success(), "{checked:?}");
        &self.dir
    }

    /// Its bytes.
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.image().path().join("root.img")).expect("the image")
    }

    /// Why it was refused; nothing was left.
    fn refused(&self) -> String {
        let Err(failure) = &self.result else { panic!("it was imported") };
        assert_eq!(names(self.dir.path()), BTreeSet::new(), "after {failure}");
        failure.to_string()
    }

    /// What `debugfs` says to a request.
    fn ask(&self, request: &str) -> String {
        let image = self.dir.path().join("root.img");
        let said = e2fs("debugfs", &["-R".as_ref(), request.as_ref(), &image]);
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// What `stat` of `debugfs` says, with single spaces.
    fn stat(&self, path: &str) -> String {
        self.ask(&format!("stat {path}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn has(&self, path: &str) -> bool {
        self.ask(&format!("stat {path}")).contains("Inode:")
    }

    fn noted(&self, part: &str) -> bool {
        self.notes.iter().any(|note| note.contains(part))
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Runs a program of e2fsprogs.
fn e2fs(program: &str, args: &[&Path]) -> Output {
    super::program::command(program).args(args).output().expect("e2fsprogs")
}

fn run(source: &Path, options: &Options) -> Done {
    run_until(source, options, usize::MAX)
}

/// Imports, and wants it to end at the nth word of progress.
fn run_until(source: &Path, options: &Options, nth: usize) -> Done {
    let dir = tempfile::tempdir().expect("a directory");
    let cancel = AtomicBool::new(false);
    let (notes, words) = (RefCell::new(Vec::new()), RefCell::new(0));
    let say = |progress: Progress<'_>| {
        *words.borrow_mut() += 1;
        if *words.borrow() >= nth {
            cancel.store(true, Ordering::Relaxed);
        }
        if let Progress::Note(note) = progress {
            notes.borrow_mut().push(note.to_owned());
        }
    };
    let result = import(source, dir.path(), options, &cancel, &say);
    Done { dir, result, notes: notes.into_inner() }
}

/// Whether a program is there; if not, that is told as a reason to skip.
fn there(test: &str, program: &str, package: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: {test}: no {program} (package {package})");
    }
    there
}

/// What an archive is made of.
struct Maker(tar::Builder<Vec<u8>>);

impl Maker {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }

    /// With the name as it is, which the builder would refuse.
    fn raw(&mut self, mut header: tar::Header, path: &[u8], target: &[u8], data: &[u8]) {
        header.set_size(data.len() as u64);
        let gnu = header.as_gnu_mut().expect("GNU");
        gnu.name[..path.len()].copy_from_slice(path);
        gnu.linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        self.0.append(&header, data).expect("append");
    }

    fn dir(&mut self, path: &str) -> &mut Self {
        self.raw(Self::header(tar::EntryType::Directory, 0o755), path.as_bytes(), b"", b"");
        self
    }

    fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> &mut Self {
        self.raw(Self::header(tar::EntryType::Regular, mode), path.as_bytes(), b"", data);
        self
    }

    fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let header = Self::header(tar::EntryType::Symlink, 0o777);
        self.raw(header, path.as_bytes(), target.as_bytes(), b"");
        self
    }

    fn hard(&mut self, path: &str, target: &str) -> &mut Self {
        let header = Self::header(tar::EntryType::Link, 0o644);
        self.raw(header, path.as_bytes(), target.as_bytes(), b"");
        self
    }

    /// A minimal system: a shell and an init.
    fn system(&mut self) -> &mut Self {
        self.dir("./")
            .dir("bin/")
            .file("bin/sh", 0o755, b"#!")
            .dir("sbin/")
            .link("sbin/init", "/bin/sh")
    }

    fn done(&mut self) -> Vec<u8> {
        let maker = std::mem::replace(&mut self.0, tar::Builder::new(Vec::new()));
        maker.into_inner().expect("an archive")
    }
}

/// Imports these bytes.
fn run_bytes(bytes: &[u8]) -> Done {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("source");
    fs::write(&source, bytes).expect("written");
    let done = run(&source, &Options::default());
    // Nothing beside it, whatever was in it.
    assert_eq!(names(dir.path()), BTreeSet::from(["source".to_owned()]));
    done
}
