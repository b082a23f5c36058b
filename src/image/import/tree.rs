//! The root file system that is to be, in memory: names, owners, what is in which directory.
//!
//! Archives are applied to this and not to a directory of the host, so links in them have nothing
//! to lead to but other nodes of it: there is no way out. Only the data of files is on the disk
//! meanwhile, in files that have numbers for names.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use super::{Failure, Job};

/// The time of what nobody gave a time, in seconds: not that of the import, so that the same
/// source gives the same image. 2020-01-01.
pub const EPOCH: u64 = 1_577_836_800;

/// The most entries an image may have: ten times as many as a full desktop.
const ENTRIES_MAX: usize = 4_000_000;

/// How deep directories may be nested.
const DEPTH_MAX: usize = 256;

/// The longest path, and the longest name, that Linux takes (limits.h).
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Bytes of memory that targets and attributes may take in all.
const WORDS_MAX: usize = 512 << 20;

/// A node, by its place among them.
pub type NodeId = usize;

/// The root directory.
pub const ROOT: NodeId = 0;

/// What a file has beside its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, set-user-id and its like included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed, in seconds.
    pub mtime: u64,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Meta {
    /// What a directory has that is made because something lies in it.
    #[must_use]
    pub fn plain(mode: u32) -> Self {
        Self { mode, mtime: EPOCH, ..Self::default() }
    }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it leads to.
    pub node: NodeId,
    /// The layer that made it or touched what is in it.
    layer: u32,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A directory.
    Dir(BTreeMap<Vec<u8>, Entry>),
    /// A file: the number of its data, and its size.
    File {
        /// The name of the file with its data.
        data: u64,
        /// Its size in bytes, holes included.
        size: u64,
        /// Bytes that were written for it.
        written: u64,
    },
    /// A symbolic link: what it leads to.
    Link(Vec<u8>),
}

/// A directory, file or link.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// What it has beside that.
    pub meta: Meta,
    /// How many entries lead to it.
    links: u32,
}

/// All of it.
pub struct Tree {
    nodes: Vec<Node>,
    data: PathBuf,
    next_data: u64,
    layer: u32,
    words: usize,
}

/// The parts of a path. A leading `/` means the root of the image, as everywhere in it.
///
/// # Errors
/// If it goes up, or is too long.
pub fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Failure> {
    let bad =
        |why: &str| Err(Failure::broken(format!("it has a path that {why}: {}", shown(path))));
    if path.len() > PATH_MAX {
        return bad("is longer than 4095 bytes");
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return bad("leads out of it (..)"),
            long if long.len() > NAME_MAX => return bad("has a name of more than 255 bytes"),
            odd if odd.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) => {
                return bad("has a line break or a zero in it");
            }
            _ => parts.push(part),
        }
    }
    if parts.len() > DEPTH_MAX {
        return bad("is nested deeper than 256 directories");
    }
    Ok(parts)
}

/// A path as it can be told.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let short: String = text.chars().take(100).collect();
    format!("“{}”", short.escape_debug())
}

impl Tree {
    /// An empty tree, whose data goes to the new directory `data`.
    ///
    /// # Errors
    /// If that cannot be made.
    pub fn new(data: PathBuf) -> Result<Self, Failure> {
        fs::create_dir(&data)?;
        let root = Node { kind: Kind::Dir(BTreeMap::new()), meta: Meta::plain(0o755), links: 1 };
        Ok(Self { nodes: vec![root], data, next_data: 0, layer: 0, words: 0 })
    }

    /// Begins another layer: whiteouts hide what is in those before it.
    pub const fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The entries of a directory; nothing if it is none.
    #[must_use]
    pub fn dir(&self, id: NodeId) -> Option<&BTreeMap<Vec<u8>, Entry>> {
        match &self.nodes[id].kind {
            Kind::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    /// Where the data of a file is.
    #[must_use]
    pub fn data(&self, number: u64) -> PathBuf {
        self.data.join(number.to_string())
    }

    /// A new file for data.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new_data(&mut self) -> Result<(u64, File), Failure> {
        let number = self.next_data;
        self.next_data += 1;
        let path = self.data(number);
        let file =
            File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok((number, file))
    }

    /// Where a path leads, the links in it followed within the tree; the last one only if
    /// `follow`. `None` if that is nowhere.
    #[must_use]
    pub fn find(&self, path: &[u8], follow: bool) -> Option<NodeId> {
        self.walk(path, follow).0
    }

    /// Follows a path; the second is whether a link of it led above the root.
    fn walk(&self, path: &[u8], follow: bool) -> (Option<NodeId>, bool) {
        let names = |path: &[u8]| -> Vec<Vec<u8>> {
            let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
            parts.filter(|part| *part != b".").map(<[u8]>::to_vec).rev().collect()
        };
        let mut left = names(path);
        let mut trail = vec![ROOT];
        let (mut links, mut out) = (0, false);
        while let Some(name) = left.pop() {
            let here = *trail.last().unwrap_or(&ROOT);
            let Some(entries) = self.dir(here) else { return (None, out) };
            if name == b".." {
                out |= trail.len() < 2;
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let Some(entry) = entries.get(&name) else { return (None, out) };
            match &self.nodes[entry.node].kind {
                Kind::Link(target) if follow || !left.is_empty() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return (None, out);
                    }
                    if target.starts_with(b"/") {
                        trail = vec![ROOT];
                    }
                    left.extend(names(target));
                }
                _ => trail.push(entry.node),
            }
        }
        (trail.last().copied(), out)
    }

    /// The directory that the last name of a path is in: made if it is missing, found through
    /// links within the tree. It and those above it belong to this layer then.
    fn parent(&mut self, parts: &[&[u8]], whole: &[u8]) -> Result<NodeId, Failure> {
        let mut here = ROOT;
        let mut trail: Vec<&[u8]> = Vec::new();
        for part in parts {
            trail.push(part);
            let entry = self.dir(here).and_then(|entries| entries.get(*part)).copied();
            here = match entry {
                None => {
                    let dir = Kind::Dir(BTreeMap::new());
                    self.put(here, part, dir, Meta::plain(0o755))?
                }
                Some(entry) => {
                    self.touch(here, part);
                    match &self.nodes[entry.node].kind {
                        Kind::Dir(_) => entry.node,
                        Kind::File { .. } => {
                            return Err(Failure::broken(format!(
                                "{} lies in what is a file",
                                shown(whole)
                            )));
                        }
                        Kind::Link(_) => match self.walk(&trail.join(&b'/'), true) {
                            (_, true) => {
                                return Err(Failure::broken(format!(
                                    "{} goes through a link that leads out of it",
                                    shown(whole)
                                )));
                            }
                            (Some(id), false) if self.dir(id).is_some() => id,
                            _ => {
                                return Err(Failure::broken(format!(
                                    "{} goes through a link that leads nowhere in it",
                                    shown(whole)
                                )));
                            }
                        },
                    }
                }
            };
        }
        Ok(here)
    }

    fn touch(&mut self, dir: NodeId, name: &[u8]) {
        let layer = self.layer;
        if let Kind::Dir(entries) = &mut self.nodes[dir].kind
            && let Some(entry) = entries.get_mut(name)
        {
            entry.layer = layer;
        }
    }

    fn put(&mut self, dir: NodeId, name: &[u8], kind: Kind, meta: Meta) -> Result<NodeId, Failure> {
        let attributes: usize = meta.xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
        self.words += attributes + if let Kind::Link(target) = &kind { target.len() } else { 0 };
        if self.nodes.len() >= ENTRIES_MAX || self.words > WORDS_MAX {
            return Err(Failure::broken("it has more files than an image may have (4,000,000)"));
        }
        let id = self.nodes.len();
        self.nodes.push(Node { kind, meta, links: 0 });
        self.link(dir, name, id);
        Ok(id)
    }

    fn link(&mut self, dir: NodeId, name: &[u8], node: NodeId) {
        let layer = self.layer;
        self.nodes[node].links += 1;
        if let Kind::Dir(entries) = &mut self.nodes[dir].kind {
            entries.insert(name.to_vec(), Entry { node, layer });
        }
    }

    /// Adds a directory, or changes what one has that is there.
    ///
    /// # Errors
    /// If the path cannot be.
    pub fn add_dir(&mut self, job: &Job<'_>, path: &[u8], meta: Meta) -> Result<(), Failure> {
        let parts = parts(path)?;
        let Some((name, above)) = parts.split_last() else {
            self.nodes[ROOT].meta = meta;
            return Ok(());
        };
        let dir = self.parent(above, path)?;
        let there = self.dir(dir).and_then(|entries| entries.get(*name)).copied();
        match there {
            Some(entry) if self.dir(entry.node).is_some() => {
                self.nodes[entry.node].meta = meta;
                self.touch(dir, name);
            }
            _ => {
                self.remove(job, dir, name);
                self.put(dir, name, Kind::Dir(BTreeMap::new()), meta)?;
            }
        }
        Ok(())
    }

    /// Adds a file or link in the place of whatever is there.
    ///
    /// # Errors
    /// If the path cannot be.
    pub fn add(
        &mut self,
        job: &Job<'_>,
        path: &[u8],
        kind: Kind,
        meta: Meta,
    ) -> Result<(), Failure> {
        let parts = parts(path)?;
        let Some((name, above)) = parts.split_last() else {
            return Err(Failure::broken("its root is no directory"));
        };
        let dir = self.parent(above, path)?;
        self.remove(job, dir, name);
        self.put(dir, name, kind, meta).map(drop)
    }

    /// Adds another name for a file.
    ///
    /// # Errors
    /// If there is no such file in it.
    pub fn add_hard_link(
        &mut self,
        job: &Job<'_>,
        path: &[u8],
        target: &[u8],
    ) -> Result<(), Failure> {
        parts(target)?;
        let Some(node) = self.find(target, false) else {
            return Err(Failure::broken(format!(
                "{} is a link to {}, which is not in it",
                shown(path),
                shown(target)
            )));
        };
        if self.dir(node).is_some() {
            return Err(Failure::broken(format!("{} is a link to a directory", shown(path))));
        }
        let parts = parts(path)?;
        let Some((name, above)) = parts.split_last() else {
            return Err(Failure::broken("its root is a link"));
        };
        let dir = self.parent(above, path)?;
        if self.dir(dir).and_then(|entries| entries.get(*name)).is_some_and(|e| e.node == node) {
            return Ok(());
        }
        self.remove(job, dir, name);
        self.link(dir, name, node);
        Ok(())
    }

    /// Removes an entry and all that is in it, with the data nobody else has.
    fn remove(&mut self, job: &Job<'_>, dir: NodeId, name: &[u8]) {
        let Kind::Dir(entries) = &mut self.nodes[dir].kind else { return };
        let mut gone: Vec<NodeId> = entries.remove(name).map(|e| e.node).into_iter().collect();
        while let Some(id) = gone.pop() {
            let node = &mut self.nodes[id];
            node.links = node.links.saturating_sub(1);
            if node.links > 0 {
                continue;
            }
            match &mut node.kind {
                Kind::Dir(entries) => {
                    gone.extend(std::mem::take(entries).into_values().map(|e| e.node));
                }
                Kind::File { data, written, .. } => {
                    let (data, written) = (*data, *written);
                    // If it stays, it goes with the directory.
                    if fs::remove_file(self.data(data)).is_ok() {
                        job.give_back(written);
                    }
                }
                Kind::Link(_) => {}
            }
        }
    }

    /// Hides what the layers before this one have at a path.
    ///
    /// # Errors
    /// If the path cannot be.
    pub fn hide(&mut self, job: &Job<'_>, path: &[u8]) -> Result<(), Failure> {
        let parts = parts(path)?;
        let Some((name, above)) = parts.split_last() else {
            return Err(Failure::broken("it hides its own root"));
        };
        let Some(dir) = self.find(&above.join(&b'/'), true) else { return Ok(()) };
        self.hide_entry(job, dir, name);
        Ok(())
    }

    /// Hides all that the layers before this one have in a directory.
    ///
    /// # Errors
    /// If the path cannot be.
    pub fn hide_inside(&mut self, job: &Job<'_>, path: &[u8]) -> Result<(), Failure> {
        parts(path)?;
        if let Some(dir) = self.find(path, true) {
            self.hide_all(job, dir);
        }
        Ok(())
    }

    fn hide_all(&mut self, job: &Job<'_>, dir: NodeId) {
        let names: Vec<Vec<u8>> =
            self.dir(dir).map(|entries| entries.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            self.hide_entry(job, dir, &name);
        }
    }

    fn hide_entry(&mut self, job: &Job<'_>, dir: NodeId, name: &[u8]) {
        let Some(entry) = self.dir(dir).and_then(|entries| entries.get(name)).copied() else {
            return;
        };
        if entry.layer < self.layer {
            self.remove(job, dir, name);
        } else {
            // This layer has put something into it already, which stays.
            self.hide_all(job, entry.node);
        }
    }
}
