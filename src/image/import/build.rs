//! From a tree in memory to an ext4 file.
//!
//! The tree is laid out in a directory as files of ours, which `mke2fs -d` packs; owners, special
//! permission bits, attributes and times are then set in the image itself, with `debugfs`. So it
//! needs no privileges and no user namespace, no set-user-id program of somebody else's ever lies
//! on the host, and root does the same as everybody.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, renameat},
    sys::{
        stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, mkdirat, utimensat},
        time::TimeSpec,
    },
    unistd::{linkat, symlinkat},
};
use sha2::{Digest, Sha256};

use super::{
    Failure, Job, Options, disk, program,
    tree::{EPOCH, Kind, Meta, NodeId, ROOT, Tree, shown},
};
use crate::domain::ByteSize;

/// Where the tree is laid out.
const TREE: &str = "tree";

/// The smallest image: it has to have room for what a VM does.
const SIZE_MIN: u64 = 1 << 30;
/// Room beside the content and a third of it.
const ROOM: u64 = 512 << 20;
/// Sizes are multiples of this.
const SIZE_STEP: u64 = 64 << 20;

/// The latest time that ext4's inodes hold (34 bits, less 2^31): in the year 2446.
const TIME_MAX: u64 = (1 << 34) - (1 << 31) - 1;

/// Bytes of attributes that a file can have beside its inode: a block, less its own header.
const ATTRIBUTES_MAX: usize = 3500;

/// Makes `image` of the tree; the tree's data is used up.
///
/// # Errors
/// If it does not fit, or a program of e2fsprogs fails.
pub fn image(job: &Job<'_>, tree: &Tree, image: &Path, options: &Options) -> Result<(), Failure> {
    job.step("lay out", 0);
    let dir = job.dir().join(TREE);
    fs::create_dir(&dir)?;
    let root = open(&dir, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(io::Error::from)?;
    let mut layout = Layout {
        job,
        tree,
        me: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        content: 0,
        nodes: 1,
        seen: HashMap::new(),
        script: Vec::new(),
        hash: Sha256::new(),
        attributes: 0,
    };
    layout.describe(ROOT, b"/", 0o40_000, None)?;
    layout.directory(ROOT, &root, &mut Vec::new())?;
    drop(root);
    let Layout { content, nodes, script, hash, .. } = layout;

    let least = content + content / 20 + (32 << 20);
    let size = match options.size {
        Some(size) if size < least => {
            return Err(Failure::hinted(
                format!("it needs at least {}", ByteSize(least.next_multiple_of(1 << 20))),
                "give a larger --size, or leave it out",
            ));
        }
        Some(size) => size - size % 4096,
        None => SIZE_MIN.max(content + content / 3 + ROOM).next_multiple_of(SIZE_STEP),
    };
    job.step("make the file system", 0);
    File::options().write(true).create_new(true).open(image)?.set_len(size)?;
    make(job, image, &uuid(&hash.finalize()), (size / 16384).max(nodes + nodes / 2))?;
    fs::remove_dir_all(&dir)?;
    job.step("set owners and permissions", 0);
    disk::edit(job, image, &script)?;
    disk::check(job, image)
}

fn make(job: &Job<'_>, image: &Path, uuid: &str, inodes: u64) -> Result<(), Failure> {
    // As scripts/image/lib.sh has them; the identity follows from the content.
    let extended = format!(
        "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,\
         hash_seed={uuid}"
    );
    let inodes = inodes.to_string();
    let mut args: Vec<&OsStr> =
        ["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "root"].map(OsStr::new).to_vec();
    for (option, value) in [("-U", uuid), ("-E", &extended), ("-N", &inodes), ("-d", TREE)] {
        args.extend([OsStr::new(option), OsStr::new(value)]);
    }
    args.push(image.as_os_str());
    let said = program::run(job, "mke2fs", args, |command| {
        command.env("E2FSPROGS_FAKE_TIME", EPOCH.to_string());
    })?;
    if said.status.success() {
        return Ok(());
    }
    let why = said.why("mke2fs");
    Err(if why.contains("space") || why.contains("allocate") {
        Failure::hinted(why, "give a larger --size")
    } else {
        Failure::hinted(why, "is e2fsprogs whole? mke2fs -V")
    })
}

/// A UUID (of the form of version 8: one's own) from a digest.
fn uuid(digest: &[u8]) -> String {
    let mut hex = String::new();
    for (index, byte) in digest.iter().take(16).enumerate() {
        let byte = match index {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(index, 4 | 6 | 8 | 10) {
            hex.push('-');
        }
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

struct Layout<'a, 'j> {
    job: &'a Job<'j>,
    tree: &'a Tree,
    /// Whom the files on the host belong to.
    me: (u32, u32),
    content: u64,
    nodes: u64,
    /// Where a file with several names was put first.
    seen: HashMap<NodeId, Vec<u8>>,
    script: Vec<u8>,
    hash: Sha256,
    attributes: u64,
}

impl Layout<'_, '_> {
    /// Fills a directory.
    fn directory(&mut self, id: NodeId, at: &OwnedFd, path: &mut Vec<u8>) -> Result<(), Failure> {
        let empty = BTreeMap::new();
        let entries = self.tree.dir(id).unwrap_or(&empty);
        // Names and their records; a block is as much as a directory takes at least.
        let names: u64 = entries.keys().map(|name| name.len() as u64 + 12).sum();
        self.content += names.next_multiple_of(4096).max(4096);
        for (name, entry) in entries {
            self.job.go_on()?;
            let length = path.len();
            path.push(b'/');
            path.extend(name);
            self.entry(entry.node, at, name, path)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        id: NodeId,
        at: &OwnedFd,
        name: &[u8],
        path: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let node = self.tree.node(id);
        let os = OsStr::from_bytes(name);
        self.nodes += 1;
        if let Some(first) = self.seen.get(&id) {
            let first = self.job.dir().join(TREE).join(OsStr::from_bytes(&first[1..]));
            return Ok(linkat(AT_FDCWD, &first, at, os, AtFlags::empty()).map_err(io::Error::from)?);
        }
        match &node.kind {
            Kind::Dir(_) => {
                mkdirat(at, os, Mode::from_bits_truncate(0o700)).map_err(io::Error::from)?;
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let inside = openat(at, os, flags, Mode::empty()).map_err(io::Error::from)?;
                self.directory(id, &inside, path)?;
                let mode = node.meta.mode & 0o777 | 0o700;
                set_mode(at, os, mode)?;
                self.describe(id, path, 0o40_000, Some(mode))?;
            }
            Kind::File { data, size, written } => {
                renameat(AT_FDCWD, &self.tree.data(*data), at, os).map_err(io::Error::from)?;
                let mode = node.meta.mode & 0o777 | 0o600;
                set_mode(at, os, mode)?;
                self.content += written.min(size).next_multiple_of(4096);
                self.seen.insert(id, path.clone());
                self.describe(id, path, 0o100_000, Some(mode))?;
            }
            Kind::Link(target) => {
                symlinkat(OsStr::from_bytes(target), at, os).map_err(io::Error::from)?;
                // Up to 59 bytes lie in the inode (ext4).
                self.content += if target.len() < 60 { 0 } else { 4096 };
                self.describe(id, path, 0o120_000, Some(0o777))?;
            }
        }
        let time = TimeSpec::new(i64::try_from(time(&node.meta)).unwrap_or(0), 0);
        utimensat(at, os, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(io::Error::from)?;
        Ok(())
    }

    /// Writes down what must be set in the image: all in which it will differ from the file on
    /// the host, whose permission bits are `have`.
    fn describe(
        &mut self,
        id: NodeId,
        path: &[u8],
        kind: u32,
        have: Option<u32>,
    ) -> Result<(), Failure> {
        let node = self.tree.node(id);
        let meta = &node.meta;
        let size = if let Kind::File { size, .. } = node.kind { size } else { 0 };
        self.content += 256; // an inode
        self.hash.update((path.len() as u64).to_le_bytes());
        self.hash.update(path);
        for number in
            [u64::from(meta.mode | kind), meta.uid.into(), meta.gid.into(), time(meta), size]
        {
            self.hash.update(number.to_le_bytes());
        }
        let quoted = quoted(path)?;
        let mode = if kind == 0o120_000 { 0o777 } else { meta.mode };
        let time = time(meta);
        let mut set = |field: &str, value: String| {
            self.script.extend(b"set_inode_field ");
            self.script.extend(&quoted);
            self.script.extend(format!(" {field} {value}\n").as_bytes());
        };
        if have != Some(mode) {
            set("mode", format!("0{:o}", kind | mode));
        }
        if id == ROOT {
            for field in ["atime", "mtime"] {
                set(field, format!("@{time}"));
            }
        } else {
            if self.me.0 != meta.uid {
                set("uid", meta.uid.to_string());
            }
            if self.me.1 != meta.gid {
                set("gid", meta.gid.to_string());
            }
        }
        if id == ROOT && (meta.uid, meta.gid) != (0, 0) {
            set("uid", meta.uid.to_string());
            set("gid", meta.gid.to_string());
        }
        // That of the host's file is the time of the import.
        set("ctime", format!("@{time}"));
        self.attributes(meta, &quoted, path)
    }

    fn attributes(&mut self, meta: &Meta, quoted: &[u8], path: &[u8]) -> Result<(), Failure> {
        let kept = |name: &str| {
            let known = ["user.", "trusted.", "system.posix_acl_"];
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            // Labels are of the host they come from; an overlay's marks are of that overlay.
            (name == "security.capability" || known.iter().any(|start| name.starts_with(start)))
                && !name.starts_with("trusted.overlay.")
                && name.len() < 256
                && name.chars().all(plain)
        };
        let of_file: Vec<_> = meta.xattrs.iter().filter(|(name, _)| kept(name)).collect();
        let bytes: usize = of_file.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        if bytes > ATTRIBUTES_MAX {
            return Err(Failure::hinted(
                format!("{} has more extended attributes than ext4 holds", shown(path)),
                "remove them where the archive is made",
            ));
        }
        for (name, value) in of_file {
            self.attributes += 1;
            let file = format!("xattr-{}", self.attributes);
            fs::write(self.job.dir().join(&file), value)?;
            self.script.extend(format!("ea_set -f {file} ").as_bytes());
            self.script.extend(quoted);
            self.script.extend(format!(" {name}\n").as_bytes());
            self.hash.update(name.as_bytes());
            self.hash.update(value);
        }
        Ok(())
    }
}

/// A path as `debugfs` takes it: in quotes, of which those in it are doubled.
fn quoted(path: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut quoted = vec![b'"'];
    for byte in path {
        quoted.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    quoted.push(b'"');
    // It reads lines of 8 KiB.
    if quoted.len() > 7900 {
        return Err(Failure::broken(format!("it has a path made of quotes: {}", shown(path))));
    }
    Ok(quoted)
}

fn time(meta: &Meta) -> u64 {
    meta.mtime.min(TIME_MAX)
}

fn set_mode(at: impl AsFd, name: &OsStr, mode: u32) -> Result<(), Failure> {
    // Not a link: it was made just now, in a directory that nobody else has.
    let mode = Mode::from_bits_truncate(mode);
    Ok(fchmodat(at, name, mode, FchmodatFlags::FollowSymlink).map_err(io::Error::from)?)
}
