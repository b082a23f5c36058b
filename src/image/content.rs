//! Contents of images, by their SHA-256 in `bases/`: each stays for as long as an image is of it, a
//! disk is a snapshot of it, or a disk is being made from it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::metadata::Metadata;
use crate::{
    bundle::is_sha256,
    domain::{ImageName, Layout, Problem, VmId},
    host::{fault, lock::FileLock},
    store::{Store, VmState},
};

/// How long others that change images or bases are waited for; a copy of a large one takes long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Held by whoever changes images or bases; its file goes with it.
///
/// # Errors
/// If it is not given back within five minutes, or its file cannot be made.
pub fn lock(layout: &Layout) -> io::Result<FileLock> {
    FileLock::exclusive_within(layout.bases_lock(), PATIENCE)?
        .map(FileLock::remove_on_drop)
        .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "another banger is at the bases"))
}

/// The user's images: names and directories.
pub(super) fn directories(layout: &Layout) -> io::Result<Vec<(ImageName, PathBuf)>> {
    let entries = match fs::read_dir(layout.images()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(name.map(|name| (name, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// The contents that the user's images are of.
///
/// # Errors
/// If one of them does not say which: then nothing must be removed.
pub fn of_images(layout: &Layout) -> Result<BTreeSet<String>, Problem> {
    let unknown = |e: io::Error| {
        let why = format!("{}: {e}", layout.images().display());
        Problem::new("cannot look at the images", why, "check its owner and its permissions")
    };
    let mut sums = BTreeSet::new();
    for (_, dir) in directories(layout).map_err(unknown)? {
        sums.extend(Metadata::read(&dir)?.map(|metadata| metadata.sha256));
    }
    Ok(sums)
}

/// Everything that is needed, `but` by this VM.
///
/// # Errors
/// The database; an image that does not say what it is.
fn needed(layout: &Layout, store: &Store, but: Option<&VmId>) -> Result<BTreeSet<String>, Problem> {
    let mut sums = of_images(layout)?;
    for row in store.vms()? {
        if Some(&row.id) == but {
            continue;
        }
        sums.extend(row.base);
        if row.state != VmState::Ready {
            sums.extend(row.made_from);
        }
    }
    Ok(sums)
}

/// Removes a content, unless something `but` this VM needs it. The caller holds the [`lock`].
///
/// # Errors
/// As [`sweep`]; the file system's word.
pub fn release(
    layout: &Layout,
    store: &Store,
    sha256: &str,
    but: Option<&VmId>,
) -> Result<(), Problem> {
    if needed(layout, store, but)?.contains(sha256) {
        return Ok(());
    }
    let base = layout.base(sha256);
    // Its copy may not have come to its end.
    for path in [part(&base), base] {
        remove(&path)?;
    }
    fault::point("the base is gone");
    Ok(())
}

/// Removes contents that nothing needs: of changes that were interrupted. Those that somebody is at
/// stay for the next time.
///
/// # Errors
/// The database; an image that does not say what it is; the file system's word.
pub fn sweep(layout: &Layout, store: &Store) -> Result<(), Problem> {
    if entries(layout).next().is_none() {
        return Ok(());
    }
    let lock = FileLock::try_exclusive(layout.bases_lock()).ok().flatten();
    let Some(_lock) = lock.map(FileLock::remove_on_drop) else { return Ok(()) };
    clear(layout, store)
}

/// What lies where contents are.
fn entries(layout: &Layout) -> impl Iterator<Item = PathBuf> {
    let dir = layout.base("x").parent().map(Path::to_owned).unwrap_or_default();
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// As [`sweep`], by who holds the [`lock`].
///
/// # Errors
/// As [`sweep`].
pub(super) fn clear(layout: &Layout, store: &Store) -> Result<(), Problem> {
    let needed = needed(layout, store, None)?;
    for path in entries(layout) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (sum, half) = name.strip_suffix(".part").map_or((name, false), |sum| (sum, true));
        // What else lies there is not ours.
        if is_sha256(sum) && (half || !needed.contains(sum)) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Where a content is while it is copied.
#[must_use]
pub fn part(base: &Path) -> PathBuf {
    base.with_extension("part")
}

fn remove(path: &Path) -> Result<(), Problem> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let why = format!("{}: {error}", path.display());
            Err(Problem::new("cannot remove a base that nothing needs", why, "remove it by hand"))
        }
        _ => Ok(()),
    }
}
