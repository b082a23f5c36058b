//! What the tests of disks share: files to make them of, and disks that are read and written past
//! the page cache, so that what is acknowledged is acknowledged by the disk.

// Not every part is used by every test program.
#![allow(dead_code)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use banger::{
    domain::{Problem, Tag, VmId},
    host::{
        dm,
        ops::{Done, Inventory},
    },
};
use nix::libc;
use tempfile::TempDir;

/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes of a snapshot's chunk.
pub const CHUNK: u64 = 4096;

/// A directory, a tag, and what bears it: removed at the end, also of a test that fails.
pub struct Rig {
    /// The tag.
    pub tag: Tag,
    dir: PathBuf,
    made: std::sync::Mutex<Vec<VmId>>,
    bases: AtomicU32,
    _temp: Option<TempDir>,
}

impl Rig {
    /// One of its own.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // On a disk: what is in memory takes no direct I/O.
        let temp = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let [a, b, ..] = std::process::id().to_le_bytes();
        let n = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
        let tag = Tag::from_bytes([a, b, n]);
        fs::write(temp.path().join("tag"), tag.as_str()).expect("write");
        let mut rig = Self::at(temp.path());
        rig._temp = Some(temp);
        rig
    }

    /// That of another process.
    pub fn at(dir: &Path) -> Self {
        let tag = fs::read_to_string(dir.join("tag")).expect("a tag").parse().expect("a tag");
        let made = std::sync::Mutex::new(Vec::new());
        Self { tag, dir: dir.to_owned(), made, bases: AtomicU32::new(0), _temp: None }
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens one.
    pub fn open(&self, name: &str) -> File {
        OpenOptions::new().read(true).write(true).open(self.path(name)).expect("open")
    }

    /// A VM's id.
    pub fn vm(&self, n: u8) -> VmId {
        VmId::from_bytes([0, 0, 0, n])
    }

    /// A base of so many bytes, each sector of which says where it is; open for reading.
    pub fn base(&self, bytes: u64) -> File {
        let name = format!("base{}", self.bases.fetch_add(1, Ordering::Relaxed));
        fs::write(self.path(&name), pattern(0, bytes)).expect("write");
        File::open(self.path(&name)).expect("open")
    }

    /// What a base has there.
    pub fn base_bytes(&self, at: u64, length: u64) -> Vec<u8> {
        pattern(at, length)
    }

    /// A sum of the first base.
    pub fn base_sum(&self) -> String {
        run("sha256sum", &[self.path("base0").to_str().expect("UTF-8")])
    }

    /// A file for the changes of a disk of so many bytes.
    pub fn cow(&self, name: &str, disk_bytes: u64) -> File {
        dm::make_cow(&self.path(name), disk_bytes).expect("a COW file");
        self.open(name)
    }

    /// One of so many chunks.
    pub fn short_cow(&self, name: &str, chunks: u64) -> File {
        let file = self.cow(name, 0);
        file.set_len(chunks * CHUNK).expect("length");
        file
    }

    /// Borrows a file's descriptor.
    pub fn fd<'a>(&self, file: &'a File) -> BorrowedFd<'a> {
        file.as_fd()
    }

    /// Makes a disk.
    pub fn try_make(
        &self,
        vm: &VmId,
        bytes: u64,
        base: &File,
        cow: &File,
    ) -> Result<Device, Problem> {
        self.made.lock().expect("no panic").push(vm.clone());
        match dm::snapshot(&self.tag, vm, bytes, base.as_fd(), cow.as_fd(), 0)? {
            Done::Device { path, major, minor } => Ok(Device { path, major, minor }),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a disk, which must succeed.
    pub fn make(&self, vm: &VmId, bytes: u64, base: &File, cow: &File) -> Device {
        self.try_make(vm, bytes, base, cow).expect("a disk")
    }

    /// Removes a disk.
    pub fn gone(&self, vm: &VmId) {
        dm::snapshot_gone(&self.tag, vm).expect("gone");
    }

    /// What is there. Tests beside this one look at loop devices too, which keeps one that is to
    /// go for the moment: it is looked at again if there are only such.
    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for _ in 0..1000 {
            inventory = Inventory::default();
            dm::inventory(&self.tag, &mut inventory).expect("an inventory");
            if inventory.loops.is_empty() || !inventory.snapshots.is_empty() {
                break;
            }
            std::thread::yield_now();
        }
        inventory
    }

    /// A small ext4 file system of so many MiB, mounted.
    pub fn small_fs(&self, mib: u64) -> SmallFs {
        let (image, point) = (self.path("small"), self.path("mount"));
        let (image, at) = (image.to_str().expect("UTF-8"), point.to_str().expect("UTF-8"));
        File::create(image).and_then(|file| file.set_len(mib * MIB)).expect("an image");
        fs::create_dir(at).expect("a directory");
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-m", "0", image]);
        run("mount", &["-o", "loop", image, at]);
        SmallFs(point)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self._temp.is_some() {
            for vm in self.made.lock().expect("no panic").iter() {
                // The test has failed, or has done this itself.
                let _ = dm::snapshot_gone(&self.tag, vm);
            }
        }
    }
}

/// A disk.
#[derive(Debug)]
pub struct Device {
    /// Its node.
    pub path: PathBuf,
    /// Its number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
}

impl Device {
    /// Opens it.
    pub fn open(&self) -> Disk {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_DIRECT).open(&self.path);
        let number = fs::metadata(&self.path).expect("a node");
        let number = std::os::unix::fs::MetadataExt::rdev(&number);
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        assert_eq!((major, minor), (u64::from(self.major), u64::from(self.minor)));
        Disk(file.expect("the disk"))
    }
}

/// A disk that is open.
pub struct Disk(File);

/// Memory as direct I/O wants it.
#[repr(align(4096))]
struct Pages([u8; 64 * 1024]);

impl Disk {
    /// How large it is.
    pub fn bytes(&self) -> u64 {
        (&self.0).seek(SeekFrom::End(0)).expect("seek")
    }

    /// Reads; whole sectors.
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        // The sectors around it.
        let from = at / 512 * 512;
        let mut pages = Box::new(Pages([0; 64 * 1024]));
        let span = (at - from) as usize + length;
        let span = span.next_multiple_of(512);
        self.0.read_exact_at(&mut pages.0[..span], from).expect("read");
        pages.0[(at - from) as usize..][..length].to_vec()
    }

    /// Reads a chunk.
    pub fn try_read(&self, chunk: u64) -> io::Result<()> {
        let mut pages = Box::new(Pages([0; 64 * 1024]));
        self.0.read_exact_at(&mut pages.0[..CHUNK as usize], chunk * CHUNK)
    }

    /// Writes whole sectors.
    pub fn write(&self, mut at: u64, bytes: &[u8]) {
        for part in bytes.chunks(64 * 1024) {
            let mut pages = Box::new(Pages([0; 64 * 1024]));
            pages.0[..part.len()].copy_from_slice(part);
            self.0.write_all_at(&pages.0[..part.len()], at).expect("write");
            at += part.len() as u64;
        }
    }

    /// Writes into a chunk, all of it `byte`.
    pub fn try_write(&self, chunk: u64, byte: u8) -> io::Result<()> {
        let pages = Box::new(Pages([byte; 64 * 1024]));
        self.0.write_all_at(&pages.0[..CHUNK as usize], chunk * CHUNK)
    }

    /// Writes chunk after chunk; how many were taken before one was not.
    pub fn write_until_refused(&self, bytes: u64) -> u64 {
        let taken = (0..bytes / CHUNK).take_while(|n| self.try_write(*n, mark(*n)).is_ok());
        let taken = taken.count() as u64;
        assert!(taken < bytes / CHUNK, "it took everything");
        taken
    }

    /// That these chunks are there.
    pub fn assert_written(&self, chunks: u64) {
        for n in 0..chunks {
            assert_eq!(self.read(n * CHUNK, CHUNK as usize), [mark(n); CHUNK as usize], "{n}");
        }
    }

    /// Closes it.
    pub fn close(self) {
        drop(self);
    }
}

/// What is in a chunk that was written: never zero.
fn mark(chunk: u64) -> u8 {
    (chunk % 255 + 1) as u8
}

/// Sectors that each say where they are.
fn pattern(at: u64, length: u64) -> Vec<u8> {
    let first = at / 512;
    let all: Vec<u8> = (first..(at + length).div_ceil(512))
        .flat_map(|sector| {
            let text = format!("base sector {sector:>12} ");
            text.into_bytes().into_iter().cycle().take(512)
        })
        .collect();
    all[(at - first * 512) as usize..][..length as usize].to_vec()
}

/// A file system, unmounted at the end.
pub struct SmallFs(PathBuf);

impl SmallFs {
    /// A file for the changes of a disk of so many bytes.
    pub fn cow(&self, name: &str, disk_bytes: u64) -> File {
        let path = self.0.join(name);
        dm::make_cow(&path, disk_bytes).expect("a COW file");
        OpenOptions::new().read(true).write(true).open(path).expect("open")
    }

    /// Fills it up to so many bytes, until what this answers is dropped.
    pub fn fill_up_to(&self, bytes: u64) -> Filler {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("create");
        let full = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        let length = file.metadata().expect("meta").len();
        file.set_len(length.saturating_sub(bytes)).expect("shorter");
        file.sync_all().expect("sync");
        Filler(path)
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A file that takes room, removed at the end.
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a command, which must succeed; what it said, trimmed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
