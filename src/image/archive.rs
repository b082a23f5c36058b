//! An image as one file, for another banger: a `.tar.zst` that tar(1) can read as well.
//!
//! Its members, in this order: `image.json` (what is known of the image, its name, and how many
//! bytes of its disk are data), `packages.txt` and `recipe.toml` if it has them, `root.img`: the
//! disk. Nothing else. Holes of the disk are zeros in it, which take no room.
//!
//! What comes from outside is not believed: members are told by these names and go nowhere else, each
//! has an upper limit, the disk may not take more room than was said and is there, and the image is
//! published only when its checksum is right. Nothing is left of one that is refused.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::{
    Catalog, MANIFEST_FILE, METADATA_FILE, Metadata, PackageManifest, Parent, RECIPE_FILE,
    catalog::RECIPE_MAX,
    metadata::{METADATA_MAX, SCHEMA},
};
use crate::{
    bundle::{
        MANIFEST_MAX, hex,
        sparse::{Reader, Writer},
    },
    domain::{ImageName, ImageOrigin, ImageView, Problem, Recipe, VmSpec},
    host::{disk, rename},
};

/// The disk's name in the file.
const DISK: &str = "root.img";
/// The first bytes of zstd's frames (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The compression level: zstd's default, which is as fast as a disk.
const LEVEL: i32 = 3;
/// How much is read at a time.
const CHUNK: usize = 1 << 20;
/// This much of the file system stays free, in bytes: others live there, too.
const RESERVE: u64 = 64 << 20;
/// What may come behind the last member, in bytes: zeros up to a round number (tar(5)).
const TRAILER_MAX: u64 = 1 << 20;

/// What is told of how far it is: bytes of the disk, and of how many; the answer is whether to go on.
pub type Tell<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// What `image.json` has in such a file beside [`Metadata`].
#[derive(Debug, Serialize, Deserialize)]
struct Extra {
    name: String,
    data: u64,
}

/// Whether a file is one that [`export`] made, by its beginning.
///
/// # Errors
/// If it cannot be read.
pub fn is_native(path: &Path) -> io::Result<bool> {
    let mut magic = [0; 4];
    let mut file = File::open(path)?;
    if file.read(&mut magic)? < magic.len() || magic != ZSTD_MAGIC {
        return Ok(false);
    }
    let mut header = Header::new_gnu();
    let decoder = zstd::Decoder::new(File::open(path)?);
    if decoder.and_then(|mut decoder| decoder.read_exact(header.as_mut_bytes())).is_err() {
        return Ok(false);
    }
    Ok(header.path_bytes().as_ref() == METADATA_FILE.as_bytes())
}

/// Writes an image into a file, which must not be there yet and appears whole or not at all.
/// Whether it went on to the end.
///
/// # Errors
/// The image; the file system's word.
pub fn export(catalog: &Catalog, name: &str, to: &Path, tell: Tell<'_>) -> Result<bool, Problem> {
    let what = || format!("cannot export the image {name}");
    let failed = |at: &Path, e: &io::Error| {
        let at = at.display();
        let (why, hint) = match e.kind() {
            io::ErrorKind::AlreadyExists => {
                (format!("{at} is there already"), "choose another file, or remove that one")
            }
            io::ErrorKind::NotFound => {
                (format!("{at}: there is no such directory"), "make it, or choose another place")
            }
            io::ErrorKind::PermissionDenied => {
                (format!("{at}: {e}"), "choose a directory that you may write to")
            }
            io::ErrorKind::StorageFull => {
                (format!("{at}: {e}"), "make room, or choose another place")
            }
            _ => (format!("{at}: {e}"), "choose another place"),
        };
        Problem::new(what(), why, hint)
    };
    let image = catalog.open(name)?;
    let disk = Reader::open(image.path()).map_err(|e| {
        let hint = "`banger images verify` says what is wrong with images";
        Problem::new(what(), format!("{}: {e}", image.path().display()), hint)
    })?;
    if to.symlink_metadata().is_ok() {
        return Err(failed(to, &io::ErrorKind::AlreadyExists.into()));
    }
    let view = image.view();
    let metadata = catalog.metadata(name).unwrap_or_else(|| Metadata {
        schema: SCHEMA,
        about: view.about.clone(),
        sha256: image.sha256().to_owned(),
        size: image.size(),
        default_memory_mib: view.default_memory_mib,
        origin: view.origin,
        packages_sha256: view.packages_sha256.clone(),
        ..Metadata::default()
    });
    let part = part_of(to);
    let made = write(catalog, name, &metadata, disk, &part, tell).and_then(|whole| {
        if whole { rename::exclusive(&part, to).map(|()| true) } else { Ok(false) }
    });
    if !matches!(made, Ok(true)) {
        let _ = fs::remove_file(&part);
    }
    made.map_err(|e| failed(to, &e))
}

/// Where a file is while it is written: beside its place.
fn part_of(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

fn write(
    catalog: &Catalog,
    name: &str,
    metadata: &Metadata,
    mut disk: Reader,
    part: &Path,
    tell: Tell<'_>,
) -> io::Result<bool> {
    let extra = Extra { name: name.to_owned(), data: disk.data()? };
    let mut json = serde_json::to_value(metadata)?;
    if let (Some(all), serde_json::Value::Object(more)) =
        (json.as_object_mut(), serde_json::to_value(&extra)?)
    {
        all.extend(more);
    }
    let file = File::options().write(true).create_new(true).mode(0o644).open(part)?;
    let mut zstd = zstd::Encoder::new(file, LEVEL)?;
    zstd.include_checksum(true)?;
    zstd.multithread(std::thread::available_parallelism().map_or(1, |n| n.get() as u32))?;
    let mut tar = tar::Builder::new(zstd);
    let header = |name: &str, size: u64| -> io::Result<Header> {
        let mut header = Header::new_gnu();
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(metadata.built.0 / 1000);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        Ok(header)
    };
    let text = serde_json::to_vec_pretty(&json)?;
    tar.append(&header(METADATA_FILE, text.len() as u64)?, &text[..])?;
    if let Some(packages) = catalog.built_packages(name) {
        let text = packages.text();
        tar.append(&header(MANIFEST_FILE, text.len() as u64)?, text.as_bytes())?;
    }
    if let Some(recipe) = catalog.recipe(name) {
        let text = toml::to_string(&recipe).map_err(io::Error::other)?;
        tar.append(&header(RECIPE_FILE, text.len() as u64)?, text.as_bytes())?;
    }
    let mut reader = Disk { disk, at: 0, size: metadata.size, tell, stopped: false };
    let appended = tar.append(&header(DISK, metadata.size)?, &mut reader);
    if reader.stopped {
        return Ok(false);
    }
    appended?;
    let file = tar.into_inner()?.finish()?;
    file.sync_all()?;
    Ok(true)
}

/// A disk as all its bytes, as long as nobody wants to end.
struct Disk<'a> {
    disk: Reader,
    at: u64,
    size: u64,
    tell: Tell<'a>,
    stopped: bool,
}

impl Read for Disk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.tell)(self.at, self.size) {
            self.stopped = true;
            return Err(io::Error::other("it was cancelled"));
        }
        let most = (self.size - self.at).min(buffer.len() as u64);
        let most = usize::try_from(most).unwrap_or(buffer.len());
        let n = self.disk.read(&mut buffer[..most])?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Makes an image of a file that [`export`] made: of this name, else of the one it had. `None` if
/// `tell` wanted to end.
///
/// # Errors
/// What is wrong with the file; if there is an image of the name and it is not to `replace` it; the
/// file system's word. Nothing is left then.
pub fn import(
    catalog: &Catalog,
    from: &Path,
    name: Option<&ImageName>,
    replace: bool,
    tell: Tell<'_>,
) -> Result<Option<ImageView>, Problem> {
    let refused = |why: String| {
        let what = format!("cannot import {}", from.display());
        Problem::new(what, why, "nothing was imported; export or fetch the file again")
    };
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => refused("it is truncated".to_owned()),
        io::ErrorKind::StorageFull => Problem::new(
            format!("cannot import {}", from.display()),
            e.to_string(),
            "remove a VM or an image, or make room",
        ),
        _ => refused(e.to_string()),
    };
    let file = File::open(from).map_err(failed)?;
    let decoder = zstd::Decoder::new(BufReader::with_capacity(CHUNK, file)).map_err(failed)?;
    let mut archive = tar::Archive::new(decoder);
    let mut unpacked = None;
    {
        // Raw: no names or sizes but those of the members themselves.
        let mut members = archive.entries().map_err(failed)?.raw(true);
        let mut member =
            members.next().ok_or_else(|| refused("it is empty".to_owned()))?.map_err(failed)?;
        if member.path_bytes().as_ref() != METADATA_FILE.as_bytes() {
            return Err(refused(format!("it does not begin with {METADATA_FILE}")));
        }
        let text = text_of(&mut member, METADATA_MAX).map_err(failed)?;
        drop(member);
        let metadata = Metadata::parse(&text).map_err(refused)?;
        let extra: Extra =
            serde_json::from_str(&text).map_err(|e| refused(format!("{METADATA_FILE}: {e}")))?;
        let name = match name {
            Some(name) => name.clone(),
            None => extra.name.parse().map_err(|e| refused(format!("its name: {e}")))?,
        };
        check(catalog, &metadata, &extra).map_err(failed)?;
        if !replace {
            catalog.is_free(&name)?;
        }
        let staged = catalog.stage()?;
        let mut recipe: Option<Recipe> = None;
        let mut seen: Vec<&str> = Vec::new();
        for member in members {
            let mut member = member.map_err(failed)?;
            let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            let known = [MANIFEST_FILE, RECIPE_FILE, DISK].into_iter().find(|known| *known == path);
            let regular = member.header().entry_type() == EntryType::Regular;
            let Some(known) = known.filter(|known| regular && !seen.contains(known)) else {
                let path: String = path.chars().take(80).collect();
                return Err(refused(format!("it has “{path}”, which is no part of an image")));
            };
            seen.push(known);
            match known {
                MANIFEST_FILE => {
                    let text = text_of(&mut member, MANIFEST_MAX).map_err(failed)?;
                    let packages = PackageManifest::parse(&text).map_err(|lines| {
                        let (line, why) = lines.into_iter().next().unwrap_or_default();
                        refused(format!("{MANIFEST_FILE}:{line}: {why}"))
                    })?;
                    staged.set_packages(&packages)?;
                }
                RECIPE_FILE => {
                    let text = text_of(&mut member, RECIPE_MAX).map_err(failed)?;
                    let read = toml::from_str(&text);
                    recipe = Some(read.map_err(|e| refused(format!("{RECIPE_FILE}: {e}")))?);
                }
                _ => {
                    if member.size() != metadata.size {
                        let (is, was) = (member.size(), metadata.size);
                        return Err(refused(format!("its disk has {is} bytes instead of {was}")));
                    }
                    let data = extra.data;
                    let free = || disk::free_space(staged.dir());
                    let sum = unpack(&mut member, &staged.disk(), metadata.size, data, &free, tell);
                    let Some(sum) = sum.map_err(failed)? else { return Ok(None) };
                    if sum != metadata.sha256 {
                        let was = &metadata.sha256;
                        return Err(refused(format!(
                            "its disk's sha256 is {sum} instead of {was}"
                        )));
                    }
                }
            }
        }
        if !seen.contains(&DISK) {
            return Err(refused("it has no disk: it is truncated".to_owned()));
        }
        unpacked = Some((staged, metadata, name, recipe)).or(unpacked);
    }
    let Some((staged, metadata, name, recipe)) = unpacked else { return Ok(None) };
    // The checksum of what was compressed comes last.
    let mut rest = archive.into_inner();
    let behind = io::copy(&mut rest.by_ref().take(TRAILER_MAX + 1), &mut io::sink());
    if behind.map_err(failed)? > TRAILER_MAX {
        return Err(refused("more comes behind its end".to_owned()));
    }
    staged.is_of(&metadata.sha256).map_err(failed)?;
    let metadata = Metadata {
        origin: match metadata.origin {
            ImageOrigin::Bundle => ImageOrigin::Imported,
            other => other,
        },
        parent: metadata.parent.filter(Parent::is_sound),
        source: from.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ..metadata
    };
    staged.publish(catalog, &name, metadata, recipe.as_ref(), replace).map(Some)
}

/// Whether what a file says of its image can be, and has room here.
fn check(catalog: &Catalog, metadata: &Metadata, extra: &Extra) -> io::Result<()> {
    let most = VmSpec::DISK_MIB.end() << 20;
    if metadata.size > most || !metadata.size.is_multiple_of(512) || extra.data > metadata.size {
        return Err(io::Error::other(format!("a disk of {} bytes cannot be", metadata.size)));
    }
    let free = disk::free_space(&catalog.layout().state)?;
    if extra.data.saturating_add(RESERVE) > free {
        let (needs, free) = (extra.data >> 20, free >> 20);
        let why = format!("it needs {needs} MiB, and {free} MiB are free");
        return Err(io::Error::new(io::ErrorKind::StorageFull, why));
    }
    Ok(())
}

/// The text of a member that is not larger than it may be.
fn text_of(member: &mut impl Read, max: u64) -> io::Result<String> {
    let mut text = String::new();
    member.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::other("a part of it is larger than it may be"));
    }
    Ok(text)
}

/// Writes a disk of `size` bytes, of which `data` at most are not left out as zeros; its SHA-256.
/// `None` if `tell` wanted to end.
fn unpack(
    from: &mut impl Read,
    to: &Path,
    size: u64,
    data: u64,
    free: &dyn Fn() -> io::Result<u64>,
    tell: Tell<'_>,
) -> io::Result<Option<String>> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut writer = Writer::at_most(file, data);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let (mut at, mut looked) = (0, 0);
    while at < size {
        if !tell(at, size) {
            return Ok(None);
        }
        let n = usize::try_from((size - at).min(CHUNK as u64)).unwrap_or(CHUNK);
        from.read_exact(&mut buffer[..n])?;
        hash.update(&buffer[..n]);
        writer.write(&buffer[..n])?;
        if writer.written() - looked > RESERVE / 2 {
            looked = writer.written();
            if free()? < RESERVE {
                let why = "the disk is nearly full";
                return Err(io::Error::new(io::ErrorKind::StorageFull, why));
            }
        }
        at += n as u64;
    }
    writer.finish()?;
    Ok(Some(hex(&hash.finalize())))
}
