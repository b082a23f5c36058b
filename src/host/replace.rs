//! Changing a file that others read, and that is not ours alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

/// Puts the text `new` in the place of `old` at `path`. Mode and owner stay, and a link stays one. A
/// file that is not there is made, for all to read.
///
/// # Errors
/// If neither a new file can take its place nor the old one be written; it is then as it was.
pub fn replace(path: &Path, old: &[u8], new: &[u8]) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match by_rename(path, new) {
        // A mount of its own cannot be renamed over; a directory may be read-only around a file that
        // is not.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ResourceBusy
                    | io::ErrorKind::CrossesDevices
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            in_place(path, new).inspect_err(|_| {
                // As good as it goes; the error is told either way.
                let _ = in_place(path, old);
            })
        }
        other => other,
    }
}

fn by_rename(path: &Path, new: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = dir.join(format!(".{name}.banger-{}", std::process::id()));
    let made = || -> io::Result<()> {
        // One that is there was left by a dead process of our number: we hold the lock.
        let _ = fs::remove_file(&temp);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(new)?;
        match fs::metadata(path) {
            Ok(like) => {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
                file.set_permissions(like.permissions())?;
            }
            Err(_) => file.set_permissions(fs::Permissions::from_mode(0o644))?,
        }
        file.sync_all()?;
        fs::rename(&temp, path)?;
        File::open(dir)?.sync_all()
    };
    made().inspect_err(|_| {
        let _ = fs::remove_file(&temp);
    })
}

fn in_place(path: &Path, text: &[u8]) -> io::Result<()> {
    // Not truncated first: the old text's end goes only when the new one is there.
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_it_is_as_long_as_the_new_text() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("f");
        fs::write(&path, "something that is rather long\n").expect("written");
        let before = fs::metadata(&path).expect("there").ino();
        in_place(&path, b"short\n").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"short\n");
        assert_eq!(fs::metadata(&path).expect("there").ino(), before);
    }

    #[test]
    fn what_is_not_there_is_made_for_all_to_read() {
        let dir = tempfile::tempdir().expect("temp");
        let path = dir.path().join("f");
        replace(&path, b"", b"x").expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
    }
}
