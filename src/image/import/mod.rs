//! Importing: somebody else's disk, archive or container image becomes an image.
//!
//! A source is untrusted. It is recognised by what it holds, opened once, and read by code of
//! ours in Rust - but for file systems, which e2fsprogs check. Nothing in it is a path on the
//! host: archives are applied to a [`tree`] in memory. Whatever ends an import, it leaves nothing.

mod blobs;
mod blocks;
mod bootable;
mod build;
mod disk;
mod failure;
mod fstab;
mod job;
mod layers;
mod oci;
mod partitions;
mod program;
mod qcow2;
mod sniff;
mod stream;
mod system;
mod tarball;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use nix::libc::O_NONBLOCK;

pub use failure::Failure;
pub use job::Progress;
pub use system::System;

use blobs::Blobs;
use blocks::{Blocks, RawFile};
use job::{Job, Watched};
use layers::LeftOut;
use qcow2::Qcow2;
use sniff::Shape;
use tree::Tree;

/// Said of an image without an SSH server.
const NO_SSH: &str =
    "no SSH server was found in it: its VMs are reached through their console only";

/// Memory in MiB that a VM of an imported image gets by default: what a small distribution with
/// systemd is comfortable with.
pub const DEFAULT_MEMORY_MIB: u64 = 512;

/// What a source is said to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// What its content says.
    #[default]
    Auto,
    /// A raw disk or file system, whatever its first bytes look like: a guest may have written
    /// them.
    Raw,
    /// A disk of QEMU's.
    Qcow2,
    /// A tar archive of a root file system.
    Tar,
    /// A container image.
    Container,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Raw, Self::Qcow2, Self::Tar, Self::Container];

    /// The word of the option.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Tar => "tar",
            Self::Container => "container",
        }
    }
}

/// What is wanted of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Size of the image's file system in bytes; `None`: that of the source's, or what its content
    /// needs with room to work in.
    pub size: Option<u64>,
    /// What the source is.
    pub kind: Kind,
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// What the source was, in words: "a qcow2 disk".
    pub what: String,
    /// How the source calls it, if it says: `debian:12`.
    pub name: Option<String>,
    /// What a container of it would run; empty for all that is none.
    pub command: Vec<String>,
    /// What is installed in it.
    pub system: System,
}

/// Makes `root.img` in `dir`, which must be a directory of one's own, from a source. Ends soon
/// after `cancel` is set.
///
/// # Errors
/// If that cannot be done, or not safely; then nothing is left in `dir`.
pub fn import(
    source: &Path,
    dir: &Path,
    options: &Options,
    cancel: &AtomicBool,
    say: &dyn Fn(Progress<'_>),
) -> Result<Imported, Failure> {
    // Programs run in it, so it has to be absolute.
    let dir = fs::canonicalize(dir)?;
    let mut leavings = Leavings { work: dir.join("work"), image: Some(dir.join("root.img")) };
    fs::create_dir(&leavings.work)?;
    let job = Job::new(&leavings.work, cancel, say)?;
    let image = dir.join("root.img");
    let imported = from(source, &image, options, &job)?;
    let imported = Imported { system: system::look(&job, &image)?, ..imported };
    File::open(&image)?.sync_all()?;
    leavings.image = None;
    Ok(imported)
}

/// What is removed at the end, however it comes.
struct Leavings {
    work: PathBuf,
    image: Option<PathBuf>,
}

impl Drop for Leavings {
    fn drop(&mut self) {
        // What cannot be removed here goes with the staged image, or is swept later.
        let _ = fs::remove_dir_all(&self.work);
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}

fn from(
    source: &Path,
    image: &Path,
    options: &Options,
    job: &Job<'_>,
) -> Result<Imported, Failure> {
    // Not to wait for somebody to write into a pipe.
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open(source)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        if !matches!(options.kind, Kind::Auto | Kind::Container) {
            return Err(Failure::hinted("it is a directory", "give a file"));
        }
        return container(job, &Blobs::of_dir(source)?, image, options);
    }
    if !meta.is_file() {
        return Err(Failure::hinted("it is no regular file", "copy it into a file first"));
    }
    let disk = RawFile::new(file.try_clone()?)?;
    let shape = match options.kind {
        Kind::Raw => raw_shape(&disk)?,
        _ => sniff::shape(&disk)?,
    };
    let kinds: &[Kind] = match shape {
        Shape::Qcow2 => &[Kind::Auto, Kind::Qcow2],
        Shape::Ext4 | Shape::Gpt | Shape::Mbr => &[Kind::Auto, Kind::Raw],
        Shape::Tar | Shape::Packed(_) => &[Kind::Auto, Kind::Tar, Kind::Container],
    };
    if !kinds.contains(&options.kind) {
        return Err(Failure::hinted(
            format!("it is no {}", options.kind.word()),
            "leave --kind out: its content says what it is",
        ));
    }
    match shape {
        Shape::Ext4 | Shape::Gpt | Shape::Mbr => raw(job, &disk, shape, image, options, ""),
        Shape::Qcow2 => {
            let disk = Qcow2::open(file)?;
            raw(job, &disk, raw_shape(&disk)?, image, options, "qcow2, ")
        }
        Shape::Tar | Shape::Packed(_) => archive(job, file, shape, image, options),
    }
}

/// What a disk holds, whatever else it looks like.
fn raw_shape(disk: &dyn Blocks) -> Result<Shape, Failure> {
    match sniff::shape(disk)? {
        shape @ (Shape::Ext4 | Shape::Gpt | Shape::Mbr) => Ok(shape),
        _ => Err(Failure::hinted(
            "there is neither a partition table nor an ext4 file system on the disk",
            "give a disk with a Linux system on it",
        )),
    }
}

fn raw(
    job: &Job<'_>,
    disk: &dyn Blocks,
    shape: Shape,
    image: &Path,
    options: &Options,
    format: &str,
) -> Result<Imported, Failure> {
    let what = match shape {
        Shape::Gpt => {
            disk::partitioned(job, disk, partitions::gpt(disk)?, image, options)?;
            "a disk with a GUID partition table"
        }
        Shape::Mbr => {
            disk::partitioned(job, disk, partitions::mbr(disk)?, image, options)?;
            "a disk with an MBR partition table"
        }
        _ => {
            disk::file_system(job, disk, image, options)?;
            "an ext4 file system"
        }
    };
    Ok(Imported { what: format!("{format}{what}"), ..Imported::default() })
}

fn archive(
    job: &Job<'_>,
    file: File,
    shape: Shape,
    image: &Path,
    options: &Options,
) -> Result<Imported, Failure> {
    let is_container = match options.kind {
        Kind::Tar => false,
        Kind::Container => true,
        _ => blobs::is_container(stream::unpacked_file(&file)?)?,
    };
    if is_container {
        let file = if shape == Shape::Tar { file } else { plain(job, &file)? };
        return container(job, &Blobs::of_archive(job, file)?, image, options);
    }
    let mut tree = new_tree(job, options)?;
    let mut left_out = LeftOut::default();
    job.step("unpack", 0);
    let unpacked = stream::unpacked_file(&file)?;
    layers::apply(job, &mut tree, Watched::new(unpacked, job), false, &mut left_out)?;
    tell(job, left_out);
    bootable::make(job, &mut tree, None)?;
    build::image(job, &tree, image, options)?;
    Ok(Imported { what: "a root file system (tar)".into(), ..Imported::default() })
}

/// An archive without its compression, so that one can go to and fro in it.
fn plain(job: &Job<'_>, file: &File) -> Result<File, Failure> {
    job.step("unpack the archive", 0);
    let path = job.dir().join("archive.tar");
    let to = File::options().read(true).write(true).create_new(true).open(path)?;
    let mut from = Watched::new(stream::unpacked_file(file)?, job);
    let mut room = Roomy { job, to: &to };
    io::copy(&mut from, &mut room)?;
    Ok(to)
}

/// A file that takes no more than there is room for.
struct Roomy<'a, 'j> {
    job: &'a Job<'j>,
    to: &'a File,
}

impl Write for Roomy<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.job.take(bytes.len() as u64)?;
        (&mut &*self.to).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (&mut &*self.to).flush()
    }
}

fn container(
    job: &Job<'_>,
    blobs: &Blobs,
    image: &Path,
    options: &Options,
) -> Result<Imported, Failure> {
    let from = oci::open(job, blobs)?;
    let mut tree = new_tree(job, options)?;
    let mut left_out = LeftOut::default();
    from.unpack(job, &mut tree, &mut left_out)?;
    tell(job, left_out);
    bootable::make(job, &mut tree, Some(&from.container))?;
    build::image(job, &tree, image, options)?;
    Ok(Imported {
        what: "a container image".into(),
        name: from.name,
        command: from.container.command,
        ..Imported::default()
    })
}

/// A tree that may have as much as there is room for, twice: as files, and as an image.
fn new_tree(job: &Job<'_>, options: &Options) -> Result<Tree, Failure> {
    job.limit(options.size.unwrap_or(u64::MAX).min(job.room() / 2));
    Tree::new(job.dir().join("data"))
}

fn tell(job: &Job<'_>, left_out: LeftOut) {
    let counts = [(left_out.devices, "devices outside of /dev"), (left_out.pipes, "named pipes")];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        job.note(&format!("{what} were left out: {count}"));
    }
}
