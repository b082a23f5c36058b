//! Archives applied to a tree: a root file system, or the layers of a container image.

use std::{io::Read, os::unix::fs::FileExt};

use tar::EntryType;

use super::{
    Failure, Job, blocks,
    tarball::{Entry, Tarball},
    tree::{Kind, Meta, Tree, shown},
};

/// What hides a name of the layers below (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// What hides all of a directory of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Read at once.
const CHUNK: usize = 1 << 17;

/// What an archive had that no image takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Devices outside of `/dev`, where the kernel makes them.
    pub devices: u64,
    /// Named pipes.
    pub pipes: u64,
}

/// Applies an archive to a tree.
///
/// # Errors
/// If it is damaged, leads out of the tree, or does not fit.
pub fn apply(
    job: &Job<'_>,
    tree: &mut Tree,
    from: impl Read,
    layered: bool,
    left_out: &mut LeftOut,
) -> Result<(), Failure> {
    let mut tarball = Tarball::new(from);
    while let Some(entry) = tarball.entry()? {
        job.go_on()?;
        one(job, tree, &mut tarball, entry, layered, left_out)?;
    }
    // A checksum at the end of the stream is checked by reading it.
    tarball.drain()
}

fn one(
    job: &Job<'_>,
    tree: &mut Tree,
    tarball: &mut Tarball<impl Read>,
    entry: Entry,
    layered: bool,
    left_out: &mut LeftOut,
) -> Result<(), Failure> {
    let path = entry.path.as_slice();
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let cut = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (above, name) = trimmed.split_at(cut);
    if layered && name == OPAQUE {
        return tree.hide_inside(job, above);
    }
    if layered && let Some(hidden) = name.strip_prefix(WHITEOUT) {
        // Others that begin so are of AUFS, and mean nothing here.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Failure::broken(format!("{} hides nothing that can be", shown(path))));
        }
        return tree.hide(job, &[above, hidden].concat());
    }
    let meta = Meta {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    };
    match entry.kind {
        EntryType::Directory => tree.add_dir(job, path, meta),
        // An archive of before POSIX marks a directory by its name.
        EntryType::Regular if path.ends_with(b"/") => tree.add_dir(job, path, meta),
        EntryType::Regular | EntryType::GNUSparse => file(job, tree, tarball, &entry, meta),
        EntryType::Symlink => {
            if entry.target.is_empty() || entry.target.len() > 4095 || entry.target.contains(&0) {
                return Err(Failure::broken(format!("{} is a link to nothing", shown(path))));
            }
            tree.add(job, path, Kind::Link(entry.target), meta)
        }
        EntryType::Link => tree.add_hard_link(job, path, &entry.target),
        EntryType::Char | EntryType::Block => {
            let path = path.strip_prefix(b"./").unwrap_or(path);
            left_out.devices += u64::from(!path.starts_with(b"dev/"));
            super::tree::parts(path).map(drop)
        }
        EntryType::Fifo => {
            left_out.pipes += 1;
            super::tree::parts(path).map(drop)
        }
        other => Err(Failure::broken(format!(
            "{} is something that no archive of files has (type {})",
            shown(path),
            char::from(other.as_byte()).escape_default()
        ))),
    }
}

fn file(
    job: &Job<'_>,
    tree: &mut Tree,
    tarball: &mut Tarball<impl Read>,
    entry: &Entry,
    meta: Meta,
) -> Result<(), Failure> {
    let (data, to) = tree.new_data()?;
    // Zeros count, though they take no room: else an archive of them would have no end.
    job.take(entry.stored).map_err(|failure| failure.about(shown(&entry.path)))?;
    let whole = [(0, entry.stored)];
    let mut buffer = vec![0; CHUNK];
    for (start, length) in entry.stretches.as_deref().unwrap_or(&whole) {
        let (mut at, end) = (*start, start + length);
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            // Whole blocks, as far as there are: a hole is found only in them.
            let mut got = 0;
            while got < want {
                match tarball.data(&mut buffer[got..want])? {
                    0 => return Err(Failure::broken("a file ends before its data does")),
                    count => got += count,
                }
            }
            blocks::write_sparse(&to, &buffer[..got], at)?;
            at += got as u64;
        }
    }
    to.set_len(entry.size).map_err(|_| {
        Failure::broken(format!("{} is larger than a file can be", shown(&entry.path)))
    })?;
    drop(to);
    let kind = Kind::File { data, size: entry.size, written: entry.stored };
    tree.add(job, &entry.path, kind, meta)
}

/// Adds a small file with this text.
///
/// # Errors
/// If it does not fit.
pub fn add_text(
    job: &Job<'_>,
    tree: &mut Tree,
    path: &[u8],
    mode: u32,
    text: &str,
) -> Result<(), Failure> {
    let (data, to) = tree.new_data()?;
    job.take(text.len() as u64)?;
    to.write_all_at(text.as_bytes(), 0)?;
    let size = text.len() as u64;
    tree.add(job, path, Kind::File { data, size, written: size }, Meta::plain(mode))
}
