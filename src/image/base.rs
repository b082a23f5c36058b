//! A base image that a VM can be made from.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::Ext4;
use crate::{
    bundle::{Bundle, ImageFile, Record},
    domain::{ImageView, Problem},
};

/// A base image that was there, whole and a file system when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    view: ImageView,
    path: PathBuf,
    sha256: String,
    /// The runtime directory that it is part of, if it is.
    runtime: Option<PathBuf>,
}

impl BaseImage {
    /// Finds an image by name and checks its file: there, of the recorded size, and an ext4
    /// file system that fits in. Reads 2 KiB.
    ///
    /// # Errors
    /// What is wrong with it and the command that mends it.
    pub fn open(bundle: &Bundle, name: &str) -> Result<Self, Problem> {
        let file = bundle.image_file(name).ok_or_else(|| unknown(name, &bundle.images()))?;
        let image = check(file, AGAIN, VERIFY)?;
        Ok(Self { runtime: Some(bundle.dir().to_owned()), ..image })
    }

    /// Asked when its disk was copied: whether that was this image. Another runtime directory, with
    /// another image of that name at that path, may have come in between.
    ///
    /// # Errors
    /// If it may have been another.
    pub fn was_this(&self) -> io::Result<()> {
        let now = |dir: &Path| {
            let record = Record::read(dir).ok().flatten()?;
            let file = &record.images.get(&self.view.name)?.file;
            Some(record.files.get(file)?.sha256 == self.sha256)
        };
        match &self.runtime {
            Some(dir) if now(dir) != Some(true) => {
                Err(io::Error::other("the runtime directory was replaced meanwhile; try again"))
            }
            _ => Ok(()),
        }
    }

    /// What is shown of it.
    #[must_use]
    pub const fn view(&self) -> &ImageView {
        &self.view
    }

    /// The raw disk: a file system without a partition table. Never to be written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes, holes included.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.view.size
    }

    /// SHA-256 of its recorded content, in lower-case hex: the identity of the base.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// How alike two names must be for one to be offered for the other (1 is the same).
const ALIKE: f64 = 0.7;

pub(super) fn unknown(name: &str, images: &[ImageView]) -> Problem {
    let shown: String = name.chars().take(40).collect();
    let what = format!("there is no image “{shown}”");
    let names: Vec<&str> = images.iter().map(|i| i.name.as_str()).collect();
    if names.is_empty() {
        return Problem::new(
            what,
            "the runtime directory has no images",
            "run `banger runtime bootstrap`",
        );
    }
    let nearest = names
        .iter()
        .map(|n| (strsim::jaro_winkler(&shown.to_lowercase(), n), *n))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest
        .map_or_else(|| "use one of these".to_owned(), |(_, n)| format!("did you mean {n}?"));
    Problem::new(what, format!("the images are {}", names.join(", ")), hint)
}

/// What mends an image of the runtime directory.
const AGAIN: &str = "run `banger runtime bootstrap` to make it again";
const VERIFY: &str = "run `banger runtime verify` to see what changed, and `banger runtime bootstrap` to make it again";

/// Checks an image's file; the hints are for one that is missing, and for one that has changed.
pub(super) fn check(file: ImageFile, again: &str, verify: &str) -> Result<BaseImage, Problem> {
    let ImageFile { view, path, sha256 } = file;
    let problem = |why: String, hint: &str| {
        Problem::new(
            format!("cannot use the image {}", view.name),
            format!("{}: {why}", path.display()),
            hint,
        )
    };
    let mut disk = File::open(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => problem("it is missing".to_owned(), again),
        _ => problem(e.to_string(), "check its owner and its permissions"),
    })?;
    let meta = disk.metadata().map_err(|e| problem(e.to_string(), verify))?;
    if !meta.is_file() {
        return Err(problem("it is no file".to_owned(), again));
    }
    let (is, was) = (meta.len(), view.size);
    if is != was {
        let how = if is < was { "it is truncated" } else { "it has grown" };
        return Err(problem(format!("{how}: {is} bytes, and {was} when it was made"), verify));
    }
    check_file_system(&mut disk, is).map_err(|why| problem(why, verify))?;
    Ok(BaseImage { view, path, sha256, runtime: None })
}

/// Whether a file of `size` bytes holds a whole ext4 file system; if not, why, as a clause.
pub(super) fn check_file_system(disk: &mut File, size: u64) -> Result<(), String> {
    let mut head = Vec::with_capacity(Ext4::HEAD);
    disk.by_ref().take(Ext4::HEAD as u64).read_to_end(&mut head).map_err(|e| e.to_string())?;
    let fs = Ext4::parse(&head).map_err(|e| e.to_string())?;
    if fs.size() > size {
        return Err(format!("its file system needs {} bytes, the file has {size}", fs.size()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn view(name: &str, size: u64) -> ImageView {
        ImageView { name: name.into(), size, default_memory_mib: 128, ..ImageView::default() }
    }

    /// The problem of a file of `size` recorded bytes that `prepare` makes.
    fn problem(size: u64, prepare: impl Fn(&Path)) -> Option<Problem> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.img");
        prepare(&path);
        let file = ImageFile { view: view("tiny", size), path, sha256: String::new() };
        check(file, AGAIN, VERIFY).err()
    }

    fn mke2fs(path: &Path) {
        File::create(path).unwrap().set_len(8 << 20).unwrap();
        // By path: /sbin is not in every user's PATH.
        let mut mke2fs = Command::new("/sbin/mke2fs");
        let status = mke2fs.args(["-q", "-F", "-t", "ext4"]).arg(path).status();
        assert!(status.unwrap().success(), "mke2fs (package e2fsprogs)");
    }

    #[test]
    fn a_whole_file_system_passes() {
        assert_eq!(problem(8 << 20, mke2fs), None);
    }

    #[test]
    fn a_missing_truncated_or_foreign_file_is_refused_with_the_next_step() {
        let missing = problem(5, |_| ()).unwrap();
        assert!(missing.why.contains("missing") && missing.hint.contains("bootstrap"), "{missing}");
        let cut = |path: &Path| {
            mke2fs(path);
            File::options().write(true).open(path).unwrap().set_len(5 << 20).unwrap();
        };
        let truncated = problem(8 << 20, cut).unwrap();
        for part in ["truncated", "5242880", "8388608"] {
            assert!(truncated.why.contains(part), "{truncated}");
        }
        assert!(truncated.hint.contains("verify"), "{truncated}");
        // Truncated before it was recorded: only the superblock can tell.
        let inside = problem(5 << 20, cut).unwrap();
        assert!(inside.why.contains("needs 8388608 bytes"), "{inside}");
        let garbage = problem(4096, |path| fs::write(path, [b'x'; 4096]).unwrap()).unwrap();
        assert!(garbage.why.contains("no ext4"), "{garbage}");
        let empty = problem(0, |path| fs::write(path, "").unwrap()).unwrap();
        assert!(empty.why.contains("too short"), "{empty}");
        let dir = problem(0, |path| fs::create_dir(path).unwrap()).unwrap();
        assert!(dir.why.contains("no file"), "{dir}");
    }

    #[test]
    fn an_unknown_name_lists_the_images_and_offers_the_nearest() {
        let images = [view("debian", 1), view("tiny", 1)];
        let problem = unknown("debain", &images);
        assert!(problem.why.contains("debian, tiny"), "{problem}");
        assert_eq!(problem.hint, "did you mean debian?");
        assert_eq!(unknown("fedora", &images).hint, "use one of these");
        assert!(unknown("x", &[]).hint.contains("bootstrap"));
        assert!(unknown(&"x".repeat(5000), &images).what.len() < 200);
    }
}
