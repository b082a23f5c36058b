//! Loop devices: files as block devices, by the ioctls of `linux/loop.h`.
//!
//! Every loop of banger's has `LO_FLAGS_AUTOCLEAR`: the kernel counts who has it open -
//! device-mapper devices on top of it, and we while we work on it - and takes it away with the
//! last. So one base is shared by as many VMs as there are without anybody keeping count, and a
//! process that is killed half-way leaves no loop behind. What a loop calls its file (64 bytes,
//! for the eye only) carries our [`Label`].
//!
//! A base is read through the page cache, so that it is read from the disk once for all VMs. A
//! COW file is written with direct I/O where its file system can: who writes to the snapshot has
//! a cache above it already, the guest's or the VMM's. Measured in the lab, 45 MiB written to a new
//! file so took 5 MiB of page cache instead of 45, and a third to a sixth of the time: what is
//! recorded of each chunk is flushed, and a flush of cached data waits for all of it.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::stat::{major, minor},
};

use super::table::{Dev, SECTOR};
use crate::domain::{Tag, VmId};

const CONTROL: &str = "/dev/loop-control";
/// `LOOP_MAJOR`.
pub const MAJOR: u32 = 7;

const GET_STATUS64: libc::c_ulong = 0x4c05;
const SET_CAPACITY: libc::c_ulong = 0x4c07;
/// Since Linux 5.8: file, flags and name at once, so that there is no moment without flags.
const CONFIGURE: libc::c_ulong = 0x4c0a;
const CTL_GET_FREE: libc::c_ulong = 0x4c82;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// Others may take the number we were told is free: so many times we ask again.
const ATTEMPTS: usize = 100;
/// How often, and how many times, we ask whether it is our turn: 2 s in all.
const TURN_PAUSE: Duration = Duration::from_millis(2);
const TURN_ATTEMPTS: usize = 1000;

/// `struct loop_info64`.
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const NO_INFO: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Whose loop it is and what for: `banger 3fa2c1 base`, `banger 3fa2c1 cow 0a1b2c3d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// A base, for all VMs of this tag.
    Base(Tag),
    /// What changes in a VM.
    Cow(Tag, VmId),
}

impl Label {
    /// Whose.
    #[must_use]
    pub const fn tag(&self) -> &Tag {
        match self {
            Self::Base(tag) | Self::Cow(tag, _) => tag,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(tag) => write!(f, "banger {tag} base"),
            Self::Cow(tag, vm) => write!(f, "banger {tag} cow {vm}"),
        }
    }
}

impl FromStr for Label {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<_> = text.split(' ').collect();
        let tag = |text: &str| text.parse().map_err(drop);
        match words[..] {
            ["banger", of, "base"] => Ok(Self::Base(tag(of)?)),
            ["banger", of, "cow", vm] => Ok(Self::Cow(tag(of)?, vm.parse().map_err(drop)?)),
            _ => Err(()),
        }
    }
}

/// A file, whatever it is called: the device it is on, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl FileId {
    /// Of an open file.
    #[must_use]
    pub fn of(meta: &fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}

/// What a loop says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its file.
    pub file: FileId,
    /// What it calls its file.
    pub name: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// Whether it goes with its last user.
    pub autoclear: bool,
    /// Whether it goes past the page cache.
    pub direct: bool,
}

impl Info {
    /// Our label, if it is a loop of banger's.
    #[must_use]
    pub fn label(&self) -> Option<Label> {
        self.autoclear.then(|| self.name.parse().ok())?
    }
}

/// A loop device that is held open: it stays as it is for as long.
#[derive(Debug)]
pub struct Loop {
    file: File,
    name: String,
    dev: Dev,
}

impl Loop {
    /// Makes a loop of a file.
    ///
    /// # Errors
    /// If there are no loop devices, or the kernel does not take the file; the words say why.
    pub fn attach(backing: BorrowedFd<'_>, label: &Label) -> io::Result<Self> {
        let flags = match label {
            Label::Base(_) => AUTOCLEAR | READ_ONLY,
            Label::Cow(..) => AUTOCLEAR | DIRECT_IO,
        };
        Self::configure(backing, flags, &label.to_string())
    }

    /// Makes a loop of a file that is mounted and written to: it goes when it is unmounted and
    /// this is dropped.
    ///
    /// # Errors
    /// As [`Loop::attach`].
    pub fn of_work(backing: BorrowedFd<'_>) -> io::Result<Self> {
        Self::configure(backing, AUTOCLEAR, "banger work")
    }

    fn configure(backing: BorrowedFd<'_>, flags: u32, name: &str) -> io::Result<Self> {
        let control = control()?;
        let mut config = LoopConfig {
            fd: backing.as_raw_fd() as u32,
            block_size: SECTOR as u32,
            info: LoopInfo { flags, ..NO_INFO },
            reserved: [0; 8],
        };
        let length = name.len().min(config.info.file_name.len() - 1);
        config.info.file_name[..length].copy_from_slice(&name.as_bytes()[..length]);
        for _ in 0..ATTEMPTS {
            let number = call(&control, CTL_GET_FREE, 0)?;
            let free = Self::open_node(&format!("loop{number}"), flags & READ_ONLY == 0)?;
            // SAFETY: LOOP_CONFIGURE reads a `struct loop_config` and keeps none of it.
            let done = unsafe { libc::ioctl(free.file.as_raw_fd(), CONFIGURE, &raw const config) };
            match Errno::result(done) {
                Ok(_) => return Ok(free),
                // Somebody else has taken it since.
                Err(Errno::EBUSY) => {}
                Err(errno @ (Errno::EINVAL | Errno::ENOTTY)) => {
                    let why = format!(
                        "{}: Linux 5.8 or newer is needed, and a file on an ordinary file system",
                        errno.desc()
                    );
                    return Err(io::Error::other(why));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("others took each loop device that was free"))
    }

    /// The base's loop: that which others of the same tag use already, or a new one. Two that
    /// want the same at the same moment get the same.
    ///
    /// # Errors
    /// As [`Loop::attach`].
    pub fn shared(base: &File, tag: &Tag) -> io::Result<Self> {
        let meta = base.metadata()?;
        let label = Label::Base(tag.clone());
        let _turn = turn()?;
        for (found, info) in all()? {
            let same = info.file == FileId::of(&meta) && info.label().as_ref() == Some(&label);
            if same && info.read_only && found.bytes()? == meta.len() / SECTOR * SECTOR {
                return Ok(found);
            }
        }
        Self::attach(std::os::fd::AsFd::as_fd(base), &label)
    }

    /// Opens the loop device of this number.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    pub fn open(dev: Dev) -> io::Result<Self> {
        let link = fs::read_link(format!("/sys/dev/block/{dev}"))?;
        let name = link.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Self::open_node(name, false)
    }

    /// Opens `/dev/loop3`.
    fn open_node(name: &str, write: bool) -> io::Result<Self> {
        let path = Path::new("/dev").join(name);
        let file = OpenOptions::new().read(true).write(write).open(&path).map_err(|error| {
            let why = format!("cannot open {}: {error}", path.display());
            io::Error::new(error.kind(), why)
        })?;
        let meta = file.metadata()?;
        let dev = Dev { major: major(meta.rdev()) as u32, minor: minor(meta.rdev()) as u32 };
        if !meta.file_type().is_block_device() || dev.major != MAJOR {
            let why = format!("{} is no loop device", path.display());
            return Err(io::Error::other(why));
        }
        Ok(Self { file, name: name.to_owned(), dev })
    }

    /// Its number.
    #[must_use]
    pub const fn dev(&self) -> Dev {
        self.dev
    }

    /// Its node: `/dev/loop3`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// What it is made of; nothing if it has no file (any more).
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn info(&self) -> io::Result<Option<Info>> {
        let mut info = NO_INFO;
        // SAFETY: LOOP_GET_STATUS64 writes a `struct loop_info64`.
        let done = unsafe { libc::ioctl(self.file.as_raw_fd(), GET_STATUS64, &raw mut info) };
        match Errno::result(done) {
            Err(Errno::ENXIO) => return Ok(None),
            other => other?,
        };
        let end = info.file_name.iter().position(|b| *b == 0).unwrap_or(info.file_name.len());
        Ok(Some(Info {
            file: FileId { device: info.device, inode: info.inode },
            name: String::from_utf8_lossy(&info.file_name[..end]).into_owned(),
            read_only: info.flags & READ_ONLY != 0,
            autoclear: info.flags & AUTOCLEAR != 0,
            direct: info.flags & DIRECT_IO != 0,
        }))
    }

    /// Its size in bytes, as the kernel has it.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn bytes(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/sys/block/{}/size", self.name))?;
        let sectors: u64 = text.trim().parse().map_err(io::Error::other)?;
        Ok(sectors * SECTOR)
    }

    /// Takes notice that its file is longer (or shorter) than it was.
    ///
    /// # Errors
    /// If it has no file.
    pub fn take_size_of_file(&self) -> io::Result<()> {
        call(&self.file, SET_CAPACITY, 0).map(drop)
    }
}

/// Whether loop devices can be made: the reason if not.
///
/// # Errors
/// If there are none in this kernel, or we may not.
pub fn usable() -> io::Result<()> {
    control().map(drop)
}

/// Every loop that has a file, held open, in no order. Those that come or go meanwhile may or
/// may not be among them.
///
/// # Errors
/// If we may not open them.
pub fn all() -> io::Result<Vec<(Loop, Info)>> {
    let mut out = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("loop")) else { continue };
        // There as long as it has a file: what is free is not even opened.
        if !entry.path().join("loop").exists() {
            continue;
        }
        let found = match Loop::open_node(name, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if let Some(info) = found.info()? {
            out.push((found, info));
        }
    }
    Ok(out)
}

fn control() -> io::Result<File> {
    File::open(CONTROL).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no {CONTROL} (the kernel's module is loop)")
            }
            _ => format!("cannot open {CONTROL}: {error}"),
        };
        io::Error::new(error.kind(), why)
    })
}

/// Waits for our turn among those who look for a base's loop and make it if it is not there; it
/// is over when the file is closed. Only root can open that file and so hold up others; whoever
/// holds it too long is not waited for: a base that has two loops costs cache, nothing else.
fn turn() -> io::Result<File> {
    let control = control()?;
    for _ in 0..TURN_ATTEMPTS {
        match control.try_lock() {
            Ok(()) => return Ok(control),
            Err(TryLockError::WouldBlock) => thread::sleep(TURN_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    tracing::warn!("{CONTROL} is locked by somebody else; going on without");
    Ok(control)
}

/// An ioctl whose argument is a number.
fn call(file: &File, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<RawFd> {
    // SAFETY: none of the requests this is used with takes memory of ours.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    Ok(Errno::result(done)?)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd, os::unix::fs::FileExt, time::Instant};

    use super::*;

    /// Notes that this machine cannot do what a test is for, as the programs in `tests/` do.
    fn lacks_loops(test: &str) -> bool {
        let Err(error) = usable() else { return false };
        eprintln!("skipped: {test}: {error}");
        if let Some(path) = std::env::var_os("BANGER_SKIP_FILE") {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let line = format!("{test}: {error}\n");
            file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the skip file");
        }
        true
    }

    fn tag(n: u8) -> Tag {
        let [a, b, ..] = std::process::id().to_le_bytes();
        Tag::from_bytes([n, a, b])
    }

    fn cow(n: u8) -> Label {
        Label::Cow(tag(n), VmId::from_bytes([n; 4]))
    }

    fn file(bytes: u64) -> File {
        let file = tempfile::tempfile().expect("temp");
        file.set_len(bytes).expect("length");
        file
    }

    /// Waits until no loop bears the tag: others that look at all loops, as the tests beside this
    /// one do, keep one for the moment.
    fn until_gone(tag: &Tag) {
        let begin = Instant::now();
        let ours = || {
            let all = all().expect("loops").into_iter().map(|(_, info)| info);
            all.filter(|info| info.label().is_some_and(|l| l.tag() == tag)).collect::<Vec<_>>()
        };
        while let left @ [_, ..] = ours().as_slice() {
            assert!(begin.elapsed() < Duration::from_secs(30), "still there: {left:?}");
            thread::yield_now();
        }
    }

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!((size_of::<LoopInfo>(), size_of::<LoopConfig>()), (232, 304));
        assert_eq!(std::mem::offset_of!(LoopInfo, flags), 52);
        assert_eq!(std::mem::offset_of!(LoopInfo, file_name), 56);
        assert_eq!(std::mem::offset_of!(LoopConfig, info), 8);
    }

    #[test]
    fn labels_are_read_back_and_fit() {
        for label in [cow(1), Label::Base(tag(1))] {
            let text = label.to_string();
            assert!(text.len() < 64, "LO_NAME_SIZE");
            assert_eq!(text.parse(), Ok(label));
        }
        let foreign = [
            "",
            "/var/lib/x.img",
            "banger",
            "banger 3fa2c1",
            "banger XYZ base",
            "banger 3fa2c1 cow x",
        ];
        for text in foreign {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_loop_is_its_file_for_as_long_as_it_is_open() {
        if lacks_loops("a_loop_is_its_file_for_as_long_as_it_is_open") {
            return;
        }
        let backing = file(1 << 20);
        let made = Loop::attach(backing.as_fd(), &cow(2)).expect("a loop");
        let info = made.info().expect("asked").expect("it has a file");
        assert_eq!(info.label(), Some(cow(2)));
        assert_eq!(info.file, FileId::of(&backing.metadata().expect("meta")));
        assert!(info.autoclear && !info.read_only, "{info:?}");
        assert_eq!(made.bytes().expect("size"), 1 << 20);
        made.file.write_all_at(&[7; 4096], 8192).expect("write");
        made.file.sync_all().expect("sync");
        let mut back = [0; 4096];
        backing.read_exact_at(&mut back, 8192).expect("read");
        assert_eq!(back, [7; 4096]);
        let again = Loop::open(made.dev()).expect("by its number");
        drop(made);
        assert_eq!(again.info().expect("asked").map(|i| i.name), Some(cow(2).to_string()));
        drop(again);
        until_gone(&tag(2));
    }

    #[test]
    fn it_takes_notice_that_its_file_is_longer() {
        if lacks_loops("it_takes_notice_that_its_file_is_longer") {
            return;
        }
        let backing = file(1 << 20);
        let made = Loop::attach(backing.as_fd(), &cow(3)).expect("a loop");
        backing.set_len(3 << 20).expect("longer");
        made.take_size_of_file().expect("noticed");
        assert_eq!(made.bytes().expect("size"), 3 << 20);
        drop(made);
        until_gone(&tag(3));
    }

    #[test]
    fn a_base_has_one_loop_for_all_who_want_it_and_nobody_writes_to_it() {
        if lacks_loops("a_base_has_one_loop_for_all_who_want_it_and_nobody_writes_to_it") {
            return;
        }
        let base = file(1 << 20);
        let found: Vec<Loop> = thread::scope(|scope| {
            let want = || Loop::shared(&base, &tag(4)).expect("a loop");
            let wanting: Vec<_> = (0..8).map(|_| scope.spawn(want)).collect();
            wanting.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(found.iter().all(|l| l.dev() == found[0].dev()), "{found:?}");
        let info = found[0].info().expect("asked").expect("it has a file");
        assert!(info.read_only, "{info:?}");
        let node = OpenOptions::new().write(true).open(found[0].path());
        let refused = node.and_then(|node| node.write_all_at(&[1; 512], 0));
        assert!(refused.is_err(), "a base was written to");
        // Another's, and another file, have their own.
        let others = Loop::shared(&base, &tag(5)).expect("a loop");
        let other = Loop::shared(&file(1 << 20), &tag(4)).expect("a loop");
        assert!(others.dev() != found[0].dev() && other.dev() != found[0].dev());
        // A file that has become longer is not what the loop is.
        base.set_len(2 << 20).expect("longer");
        let longer = Loop::shared(&base, &tag(4)).expect("a loop");
        assert!(longer.dev() != found[0].dev());
        drop((found, others, other, longer));
        until_gone(&tag(4));
        until_gone(&tag(5));
    }

    #[test]
    fn what_is_no_file_makes_no_loop() {
        if lacks_loops("what_is_no_file_makes_no_loop") {
            return;
        }
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let error = Loop::attach(reader.as_fd(), &cow(6)).expect_err("a pipe").to_string();
        assert!(error.contains("5.8"), "{error}");
        assert!(Loop::open(Dev { major: MAJOR, minor: 1_048_575 }).is_err());
        until_gone(&tag(6));
    }
}
