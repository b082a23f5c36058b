//! device-mapper's control device: the ioctls of `linux/dm-ioctl.h`, version 4.
//!
//! Every call takes a [`Header`] and, behind it, what the call is about; the kernel answers in
//! the same memory. Devices are named by name. Events are sent with flags that tell udev's rules
//! to leave the device alone: nobody else is to look into a VM's disk, to make links to it, or to
//! hold it open when it is to be removed.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::DirBuilderExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    libc,
    sys::stat::{Mode, SFlag, makedev, mknod},
};

use super::table::{Dev, Target};

/// The control device.
const NODE: &str = "/dev/mapper/control";
/// The major number of `misc` devices: Documentation/admin-guide/devices.txt.
const MISC_MAJOR: u64 = 10;
/// `DM_IOCTL`.
const TYPE: u8 = 0xfd;
/// `DM_NAME_LEN`, the terminating zero included.
const NAME_LEN: usize = 128;
/// `DM_UUID_LEN`, the terminating zero included.
const UUID_LEN: usize = 129;

const VERSION: u8 = 0;
const LIST_DEVICES: u8 = 2;
const DEV_CREATE: u8 = 3;
const DEV_REMOVE: u8 = 4;
const DEV_SUSPEND: u8 = 6;
const DEV_STATUS: u8 = 7;
const TABLE_LOAD: u8 = 9;
const TABLE_STATUS: u8 = 12;
/// Since Linux 5.2. Loads the target's module if it has to.
const GET_TARGET_VERSION: u8 = 17;

const READONLY: u32 = 1 << 0;
/// With `TABLE_STATUS`: what was loaded instead of how it is.
const STATUS_TABLE: u32 = 1 << 4;
const ACTIVE_PRESENT: u32 = 1 << 5;
const BUFFER_FULL: u32 = 1 << 8;
/// Do not wait for what is on its way: for a status that is asked for every second.
const NOFLUSH: u32 = 1 << 11;

/// libdm's `DM_UDEV_DISABLE_*`: DM's own, subsystems', disks' and other rules, and the fallback.
/// They go into the upper half of the event number, beside libdm's cookie: none here.
const LEAVE_ALONE: u32 = (0x01 | 0x02 | 0x04 | 0x08 | 0x20) << 16;

/// What a call needs at most at first, and what it is given at last.
const ROOM: usize = 16 * 1024;
const ROOM_MAX: usize = 4 * 1024 * 1024;

/// `struct dm_ioctl`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; NAME_LEN],
    uuid: [u8; UUID_LEN],
    data: [u8; 7],
}

const HEADER: usize = size_of::<Header>();
/// `struct dm_target_spec`: start, length, status, next, and the type's name.
const SPEC: usize = 8 + 8 + 4 + 4 + 16;

/// What device-mapper says of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its number.
    pub dev: Dev,
    /// Whether it has a table that it works by; else it was never finished.
    pub live: bool,
}

/// The open control device.
#[derive(Debug)]
pub struct Control(File);

impl Control {
    /// Opens it; makes its node if the kernel has device-mapper and nobody made one.
    ///
    /// # Errors
    /// If this kernel has no device-mapper, or we are not root: the error's words say which.
    pub fn open() -> io::Result<Self> {
        let open = || OpenOptions::new().read(true).write(true).open(NODE);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_node()?;
                open()
            }
            other => other,
        };
        let file = file.map_err(|error| {
            let why = match Errno::try_from(error) {
                // The node is there - kmod makes it for every module that could be loaded.
                Ok(Errno::ENODEV | Errno::ENXIO) => NO_MODULE.to_owned(),
                Ok(errno) => format!("cannot open {NODE}: {}", errno.desc()),
                Err(error) => format!("cannot open {NODE}: {error}"),
            };
            io::Error::other(why)
        })?;
        let control = Self(file);
        let version = control.version()?;
        if version.0 == 4 {
            return Ok(control);
        }
        let (major, minor) = version;
        Err(io::Error::other(format!("device-mapper {major}.{minor} is not 4.x")))
    }

    /// The kernel's version of the interface: major, minor.
    fn version(&self) -> io::Result<(u32, u32)> {
        let answer = Call::new("").run(self, VERSION)?;
        let [major, minor, _] = answer.header().version;
        Ok((major, minor))
    }

    /// Makes a device, without a table yet.
    ///
    /// # Errors
    /// `EBUSY` if the name or the uuid is taken.
    pub fn create(&self, name: &str, uuid: &str) -> io::Result<Dev> {
        let mut call = Call::new(name);
        put(&mut call.header_mut().uuid, uuid);
        Ok(kernel_dev(call.run(self, DEV_CREATE)?.header().dev))
    }

    /// Gives a device its table, which takes effect with [`Control::resume`].
    ///
    /// # Errors
    /// What the targets say; the kernel's log knows more.
    pub fn load(&self, name: &str, read_only: bool, table: &[Target]) -> io::Result<()> {
        let mut call = Call::new(name);
        let specs = encode(table);
        call.room(HEADER + specs.len());
        call.data_mut()[..specs.len()].copy_from_slice(&specs);
        let header = call.header_mut();
        header.target_count = u32::try_from(table.len()).unwrap_or(u32::MAX);
        header.flags = if read_only { READONLY } else { 0 };
        call.run(self, TABLE_LOAD).map(drop)
    }

    /// Lets a device work by the table it was given.
    ///
    /// # Errors
    /// What the targets say.
    pub fn resume(&self, name: &str) -> io::Result<()> {
        let mut call = Call::new(name);
        call.header_mut().event_nr = LEAVE_ALONE;
        call.run(self, DEV_SUSPEND).map(drop)
    }

    /// Removes a device.
    ///
    /// # Errors
    /// `EBUSY` while it is open; `ENXIO` if it is not there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let mut call = Call::new(name);
        call.header_mut().event_nr = LEAVE_ALONE;
        call.run(self, DEV_REMOVE).map(drop)
    }

    /// Looks at a device; nothing if there is none of this name.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn state(&self, name: &str) -> io::Result<Option<State>> {
        let call = match Call::new(name).run(self, DEV_STATUS) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
            other => other?,
        };
        let header = call.header();
        Ok(Some(State { dev: kernel_dev(header.dev), live: header.flags & ACTIVE_PRESENT != 0 }))
    }

    /// The table a device works by.
    ///
    /// # Errors
    /// `ENXIO` if it is not there.
    pub fn table(&self, name: &str) -> io::Result<Vec<Target>> {
        self.targets(name, STATUS_TABLE)
    }

    /// How a device is: as its table, with each target's status instead of its parameters.
    ///
    /// # Errors
    /// `ENXIO` if it is not there.
    pub fn status(&self, name: &str) -> io::Result<Vec<Target>> {
        self.targets(name, 0)
    }

    fn targets(&self, name: &str, flags: u32) -> io::Result<Vec<Target>> {
        let mut call = Call::new(name);
        call.header_mut().flags = flags | NOFLUSH;
        let call = call.run(self, TABLE_STATUS)?;
        let count = call.header().target_count;
        decode(call.data(), count as usize).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// All devices: their names and numbers.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn list(&self) -> io::Result<Vec<(String, Dev)>> {
        let call = Call::new("").run(self, LIST_DEVICES)?;
        decode_names(call.data()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether the kernel has a target, or has it after loading its module.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn has_target(&self, target: &str) -> io::Result<bool> {
        match Call::new(target).run(self, GET_TARGET_VERSION) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

const NO_MODULE: &str = "this kernel has no device-mapper (its module is dm_mod)";

/// Makes the control node as libdm does: the kernel gives its number in `/proc/misc`.
fn make_node() -> io::Result<()> {
    let misc = fs::read_to_string("/proc/misc")?;
    let minor = misc_minor(&misc).ok_or_else(|| io::Error::other(NO_MODULE))?;
    if let Some(dir) = Path::new(NODE).parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match mknod(NODE, SFlag::S_IFCHR, mode, makedev(MISC_MAJOR, minor)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(io::Error::other(format!("cannot make {NODE}: {}", errno.desc()))),
    }
}

/// From `/proc/misc`: `236 device-mapper`.
fn misc_minor(misc: &str) -> Option<u64> {
    misc.lines().find_map(|line| {
        let (minor, name) = line.trim().split_once(' ')?;
        (name.trim() == "device-mapper").then(|| minor.parse().ok())?
    })
}

/// A call: the header and the data behind it, in words so that both are aligned.
struct Call(Vec<u64>);

impl Call {
    /// A call that is about the device (or the target) of this name.
    fn new(name: &str) -> Self {
        let mut call = Self(vec![0; ROOM / size_of::<u64>()]);
        let header = call.header_mut();
        header.version = [4, 0, 0];
        header.data_start = HEADER as u32;
        put(&mut header.name, name);
        call
    }

    /// Makes room for this many bytes in all.
    fn room(&mut self, bytes: usize) {
        self.0.resize(bytes.div_ceil(size_of::<u64>()).max(self.0.len()), 0);
    }

    fn header(&self) -> &Header {
        // SAFETY: the memory is aligned for u64, which is the header's alignment, has at least
        // ROOM bytes, and every pattern of bits is a header.
        unsafe { &*self.0.as_ptr().cast() }
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as above, and borrowed as the memory is.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }

    /// What is behind the header, where the kernel says that its answer begins.
    fn data(&self) -> &[u8] {
        let bytes = size_of_val(self.0.as_slice());
        // SAFETY: the same memory, of which every byte is initialized.
        let all = unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<u8>(), bytes) };
        all.get(self.header().data_start as usize..).unwrap_or_default()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        let bytes = size_of_val(self.0.as_slice());
        // SAFETY: as above, and borrowed as the memory is.
        let all =
            unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<u8>(), bytes) };
        &mut all[HEADER..]
    }

    /// Makes the call, again with more room if the answer needs it.
    fn run(mut self, control: &Control, number: u8) -> io::Result<Self> {
        let request = nix::request_code_readwrite!(TYPE, number, HEADER);
        loop {
            let question = *self.header();
            let size = size_of_val(self.0.as_slice());
            self.header_mut().data_size = u32::try_from(size).unwrap_or(u32::MAX);
            let memory = self.0.as_mut_ptr();
            // SAFETY: the call reads and writes `data_size` bytes from `memory` on, which is what
            // there is, and keeps none of it.
            let done = unsafe { libc::ioctl(control.0.as_fd().as_raw_fd(), request, memory) };
            Errno::result(done)?;
            if self.header().flags & BUFFER_FULL == 0 {
                return Ok(self);
            }
            if size >= ROOM_MAX {
                return Err(Errno::EMSGSIZE.into());
            }
            *self.header_mut() = question;
            self.room(size * 4);
        }
    }
}

/// Puts a text into a field that ends with a zero. Ours are far shorter than the fields.
fn put(field: &mut [u8], text: &str) {
    let length = text.len().min(field.len() - 1);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}

/// From the kernel's `huge_encode_dev`.
fn kernel_dev(dev: u64) -> Dev {
    let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00));
    Dev { major: major as u32, minor: minor as u32 }
}

/// `struct dm_target_spec` and its parameters, one after the other; `next` counts from the
/// beginning of its own.
fn encode(table: &[Target]) -> Vec<u8> {
    let mut out = Vec::new();
    for target in table {
        let mut params = target.params.clone().into_bytes();
        params.push(0);
        params.resize(params.len().next_multiple_of(8), 0);
        let mut kind = [0; 16];
        put(&mut kind, &target.kind);
        out.extend(target.start.to_ne_bytes());
        out.extend(target.length.to_ne_bytes());
        out.extend(0_i32.to_ne_bytes());
        out.extend(((SPEC + params.len()) as u32).to_ne_bytes());
        out.extend(kind);
        out.extend(params);
    }
    out
}

/// The same backwards; here `next` counts from the beginning of the first. Nothing if it is not
/// what it should be.
fn decode(data: &[u8], count: usize) -> Option<Vec<Target>> {
    let mut at = 0;
    (0..count)
        .map(|_| {
            let spec = data.get(at..)?;
            let target = Target {
                start: u64::from_ne_bytes(spec.get(..8)?.try_into().ok()?),
                length: u64::from_ne_bytes(spec.get(8..16)?.try_into().ok()?),
                kind: text(spec.get(24..SPEC)?)?,
                params: text(spec.get(SPEC..)?)?,
            };
            at = u32::from_ne_bytes(spec.get(20..24)?.try_into().ok()?) as usize;
            Some(target)
        })
        .collect()
}

/// `struct dm_name_list`: device, distance to the next, name. One of device 0 means: none.
fn decode_names(mut data: &[u8]) -> Option<Vec<(String, Dev)>> {
    let mut out = Vec::new();
    loop {
        let dev = u64::from_ne_bytes(data.get(..8)?.try_into().ok()?);
        if dev == 0 {
            return Some(out);
        }
        out.push((text(data.get(12..)?)?, kernel_dev(dev)));
        match u32::from_ne_bytes(data.get(8..12)?.try_into().ok()?) {
            0 => return Some(out),
            next => data = data.get(next as usize..)?,
        }
    }
}

/// The text up to the zero.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(start: u64, length: u64, kind: &str, params: &str) -> Target {
        Target { start, length, kind: kind.to_owned(), params: params.to_owned() }
    }

    #[test]
    fn structures_and_requests_are_the_kernels() {
        assert_eq!(HEADER, 312);
        assert_eq!(std::mem::offset_of!(Header, dev), 40);
        assert_eq!(std::mem::offset_of!(Header, name), 48);
        assert_eq!(std::mem::offset_of!(Header, uuid), 176);
        assert_eq!((SPEC, align_of::<Header>()), (40, 8));
        // What strace shows of dmsetup: DM_VERSION, DM_TABLE_LOAD.
        assert_eq!(nix::request_code_readwrite!(TYPE, VERSION, HEADER), 0xc138_fd00);
        assert_eq!(nix::request_code_readwrite!(TYPE, TABLE_LOAD, HEADER), 0xc138_fd09);
    }

    #[test]
    fn tables_are_encoded_as_the_kernel_reads_them() {
        let table = [target(0, 8, "linear", "7:1 0"), target(8, 16, "zero", "")];
        let bytes = encode(&table);
        assert_eq!(bytes.len(), (SPEC + 8) * 2);
        assert_eq!(bytes[20..24], ((SPEC + 8) as u32).to_ne_bytes());
        assert_eq!(&bytes[24..31], b"linear\0");
        assert_eq!(&bytes[SPEC..SPEC + 6], b"7:1 0\0");
        // With two targets the distances from the first and from the own beginning are the same.
        assert_eq!(decode(&bytes, 2).expect("a table"), table);
    }

    #[test]
    fn answers_that_are_cut_off_are_no_answers() {
        let bytes = encode(&[target(0, 8, "snapshot", "7:1 7:2 PO 8")]);
        for end in 0..SPEC + 12 {
            assert_eq!(decode(&bytes[..end], 1), None, "{end}");
        }
        assert_eq!(decode(&bytes, 2), None, "the second lies behind the end");
        assert_eq!(decode_names(&[]), None);
        assert_eq!(decode_names(&[0; 16]), Some(Vec::new()));
    }

    #[test]
    fn names_are_read_with_their_numbers() {
        let mut bytes = Vec::new();
        for (dev, next, name) in [(0xfe00_u64, 24_u32, "banger-a"), (0xfe01, 0, "b")] {
            bytes.extend(dev.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(24), 0);
        }
        let names = decode_names(&bytes).expect("names");
        let dev = |minor| Dev { major: 254, minor };
        let expected = [("banger-a".to_owned(), dev(0)), ("b".to_owned(), dev(1))];
        assert_eq!(names, expected.map(|(name, dev)| (name, dev)));
        assert_eq!(kernel_dev(0x1230_fe45), Dev { major: 254, minor: 0x1_2345 });
    }

    #[test]
    fn the_control_devices_number_is_found() {
        assert_eq!(misc_minor(" 59 cpu_dma_latency\n236 device-mapper\n 10 x\n"), Some(236));
        assert_eq!(misc_minor("237 loop-control\n200 tun\n"), None);
    }

    #[test]
    fn without_device_mapper_it_says_so() {
        match Control::open() {
            Ok(control) => assert!(control.list().is_ok()),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("device-mapper") || text.contains(NODE), "{text}");
            }
        }
    }
}
