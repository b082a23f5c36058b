//! Where the parts of a container image lie: in an archive, or in a directory.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::{
    Failure, Job,
    job::Watched,
    stream::Stretch,
    tarball::Tarball,
    tree::{parts, shown},
};
use crate::bundle::{self, is_sha256};

/// The longest JSON document that is read: registries take 4 MiB.
const JSON_MAX: u64 = 8 << 20;

/// The most members an archive of an image may have: hundreds are many.
const MEMBERS_MAX: usize = 100_000;

/// The parts of a container image.
pub enum Blobs {
    /// Members of an archive that is not compressed.
    Archive {
        /// The archive.
        file: File,
        /// Where each member's data is.
        members: HashMap<String, (u64, u64)>,
        /// Members that are only another name for one.
        links: HashMap<String, String>,
    },
    /// Files of a directory.
    Dir(OwnedFd),
}

/// A part: a stretch of a file.
pub struct Blob {
    file: File,
    start: u64,
    /// Its size in bytes.
    pub length: u64,
}

impl Blob {
    /// Reads it from its beginning.
    ///
    /// # Errors
    /// If it cannot be gone to.
    pub fn reader(&self) -> io::Result<Stretch> {
        Stretch::new(&self.file, self.start, self.length)
    }

    /// Reads all of it and compares its digest.
    ///
    /// # Errors
    /// If it is another one.
    pub fn check(&self, job: &Job<'_>, hex: &str) -> Result<(), Failure> {
        let mut from = Watched::new(self.reader()?, job);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 17]);
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        let is = bundle::hex(&hash.finalize());
        if is == hex {
            return Ok(());
        }
        Err(Failure::broken(format!("the part sha256:{hex} of it is another one (sha256:{is})")))
    }

    /// Its text, as JSON.
    ///
    /// # Errors
    /// If it is none, or too long.
    pub fn json<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        if self.length > JSON_MAX {
            return Err(Failure::broken(format!("{what} has {} bytes, too many", self.length)));
        }
        let mut bytes = Vec::new();
        self.reader()?.read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::broken(format!("{what} makes no sense: {error}")))
    }
}

/// Whether an archive is a container image, by the names of its first members.
///
/// # Errors
/// If it is damaged at its beginning.
pub fn is_container(from: impl Read) -> Result<bool, Failure> {
    let mut tarball = Tarball::new(from);
    while let Some(entry) = tarball.entry()? {
        let parts = parts(&entry.path)?;
        let names: Vec<&str> =
            parts.iter().map(|part| std::str::from_utf8(part).unwrap_or("/")).collect();
        match names.as_slice() {
            // The root, and directories on the way to a part.
            [] | ["blobs"] | ["blobs", "sha256"] => {}
            [id] if is_sha256(id) => {}
            ["oci-layout" | "index.json" | "manifest.json" | "repositories"] => return Ok(true),
            ["blobs", "sha256", id] if is_sha256(id) => return Ok(true),
            [id, "layer.tar" | "json" | "VERSION"] if is_sha256(id) => return Ok(true),
            [config] if config.strip_suffix(".json").is_some_and(is_sha256) => return Ok(true),
            _ => return Ok(false),
        }
    }
    Ok(false)
}

impl Blobs {
    /// The parts in an archive that is not compressed.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn of_archive(job: &Job<'_>, file: File) -> Result<Self, Failure> {
        let length = file.metadata()?.len();
        job.step("look", length);
        let whole = Stretch::new(&file, 0, length)?;
        let mut tarball = Tarball::new(Watched::new(whole, job));
        let (mut members, mut links) = (HashMap::new(), HashMap::new());
        while let Some(entry) = tarball.entry()? {
            let Some(name) = plain(&entry.path)? else { continue };
            match entry.kind {
                EntryType::Regular => {
                    members.insert(name, (tarball.position(), entry.stored));
                }
                // `docker save` had a layer once, and links to it.
                EntryType::Symlink | EntryType::Link => {
                    let base = match name.rsplit_once('/') {
                        Some((dir, _)) if entry.kind == EntryType::Symlink => dir.to_owned(),
                        _ => String::new(),
                    };
                    if let Some(target) = joined(&base, &String::from_utf8_lossy(&entry.target)) {
                        links.insert(name, target);
                    }
                }
                _ => {}
            }
            if members.len() + links.len() > MEMBERS_MAX {
                return Err(Failure::broken("it has more parts than an image can have"));
            }
        }
        Ok(Self::Archive { file, members, links })
    }

    /// The parts in a directory.
    ///
    /// # Errors
    /// If it is none.
    pub fn of_dir(path: &Path) -> Result<Self, Failure> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self::Dir(open(path, flags, Mode::empty()).map_err(io::Error::from)?))
    }

    /// A part by its name; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be opened, or is no file.
    pub fn get(&self, name: &str) -> Result<Option<Blob>, Failure> {
        match self {
            Self::Archive { file, members, links } => {
                let at = members.get(name).or_else(|| members.get(links.get(name)?));
                at.map_or(Ok(None), |(start, length)| {
                    Ok(Some(Blob { file: file.try_clone()?, start: *start, length: *length }))
                })
            }
            Self::Dir(root) => {
                let file = match open_beneath(root, name) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(Failure::from(error).about(name)),
                };
                let meta = file.metadata()?;
                if !meta.is_file() {
                    return Err(Failure::broken(format!("{name} is no file")));
                }
                Ok(Some(Blob { file, start: 0, length: meta.len() }))
            }
        }
    }

    /// A part by its digest, `sha256:…`, checked.
    ///
    /// # Errors
    /// If it is not there, or another one.
    pub fn by_digest(&self, job: &Job<'_>, digest: &str) -> Result<Blob, Failure> {
        let Some(hex) = digest.strip_prefix("sha256:").filter(|hex| is_sha256(hex)) else {
            return Err(Failure::broken(format!(
                "{} is no digest that is understood: only SHA-256 is",
                shown(digest.as_bytes())
            )));
        };
        let blob = self.get(&format!("blobs/sha256/{hex}"))?.ok_or_else(|| {
            Failure::hinted(
                format!("the part {digest} is missing"),
                "save the image again, with all its layers and for this kind of CPU",
            )
        })?;
        blob.check(job, hex)?;
        Ok(blob)
    }
}

/// Opens a file below a directory, following no link.
fn open_beneath(root: &OwnedFd, name: &str) -> io::Result<File> {
    let mut here: Option<OwnedFd> = None;
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        if matches!(part, "" | "." | "..") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let more = if parts.peek().is_some() { OFlag::O_DIRECTORY } else { OFlag::O_NONBLOCK };
        here = Some(openat(here.as_ref().unwrap_or(root), part, flags | more, Mode::empty())?);
    }
    here.map(File::from).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// A member's name without `./`; `None` for one that no part has.
fn plain(path: &[u8]) -> Result<Option<String>, Failure> {
    Ok(String::from_utf8(parts(path)?.join(&b'/')).ok().filter(|name| !name.is_empty()))
}

/// Where a link of an archive leads; `None` if that is outside of it.
fn joined(base: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
