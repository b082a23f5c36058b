//! The program and what goes with it: single files, each put in place as a whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{List, Target, bundle, give, io_problem, remove_file};
use crate::domain::Problem;

/// A file to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where, below the prefix.
    pub path: PathBuf,
    /// What.
    pub content: Content,
    /// Its permission bits.
    pub mode: u32,
}

/// What a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// This text.
    Text(String),
    /// What this file holds.
    File(PathBuf),
}

/// Installs files. What an earlier version had installed, and this one has not, is removed.
///
/// # Errors
/// What could not be written; what was written until then is on the list, and
/// [`uninstall`] removes it.
pub fn install_files(target: &Target, pieces: &[Piece]) -> Result<(), Problem> {
    let mut list = List::read(target)?.unwrap_or_default();
    let before = list.files.clone();
    target.make_parents(&List::path(target), &mut list)?;
    list.files.extend(pieces.iter().map(|piece| target.prefix.join(&piece.path)));
    list.write(target)?;
    for piece in pieces {
        let path = target.prefix.join(&piece.path);
        target.make_parents(&path, &mut list)?;
        put(piece, &target.now(&path))?;
    }
    let now: Vec<PathBuf> = pieces.iter().map(|p| target.prefix.join(&p.path)).collect();
    for gone in before.into_iter().filter(|path| !now.contains(path)) {
        remove_file(&target.now(&gone))?;
        list.files.remove(&gone);
    }
    list.write(target)
}

fn put(piece: &Piece, path: &Path) -> Result<(), Problem> {
    let failed = |e: io::Error| io_problem(format!("cannot write {}", path.display()), &e);
    let mut new = path.as_os_str().to_owned();
    new.push(".banger-new");
    let new = PathBuf::from(new);
    let write = || -> io::Result<()> {
        // Not through a link, and not into what runs.
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = File::create_new(&new)?;
        match &piece.content {
            Content::Text(text) => file.write_all(text.as_bytes())?,
            Content::File(from) => {
                io::copy(&mut File::open(from)?, &mut file)?;
            }
        }
        give(&new, piece.mode)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|e| {
        // The error that counts is the first.
        let _ = fs::remove_file(&new);
        failed(e)
    })
}

/// Removes what was installed, and no more. What stays, because it is not banger's or has
/// changed hands, is told.
///
/// # Errors
/// If nothing was installed there, or something cannot be removed.
pub fn uninstall(target: &Target) -> Result<Vec<String>, Problem> {
    let Some(list) = List::read(target)? else {
        return Err(Problem::new(
            format!("there is nothing to remove from {}", target.now(&target.prefix).display()),
            format!("{} is not there", target.now(&List::path(target)).display()),
            "give the prefix and the destdir that it was installed with",
        ));
    };
    let mut stays = Vec::new();
    if list.bundle {
        stays.extend(bundle::remove(target)?);
    }
    for file in &list.files {
        remove_file(&target.now(file))?;
    }
    remove_file(&target.now(&List::path(target)))?;
    // The deepest first: a directory comes after what it is in.
    for dir in list.dirs.iter().rev() {
        let now = target.now(dir);
        match fs::remove_dir(&now) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                stays.push(format!("{} is not empty", now.display()));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_problem(format!("cannot remove {}", now.display()), &e));
            }
            _ => {}
        }
    }
    Ok(stays)
}
