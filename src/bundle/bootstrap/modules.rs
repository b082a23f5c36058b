//! All of the kernel's modules as one read-only file system, which guests get as a drive.
//!
//! ext4, as the kernel has no other file system for a disk built in (squashfs and erofs are
//! modules themselves), and without a journal, which nobody would write. The same tree gives the
//! same bytes: files go in by name, with one date and the identifiers below. So `mke2fs -d`
//! cannot be used, which takes them in the order of the host's directory, with its times.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use super::{failure::Failure, run::Run};

/// The file system's label.
const LABEL: &str = "banger-modules";
/// Its own identifiers: they only must not change.
const UUID: &str = "8f6c0a52-3a0e-4d8e-9d0b-6a1f5c2e7b01";
const HASH_SEED: &str = "8f6c0a52-3a0e-4d8e-9d0b-6a1f5c2e7b02";
/// The second since 1970 at which all of it was made, for e2fsprogs.
const MADE_AT: (&str, &str) = ("E2FSPROGS_FAKE_TIME", "1");

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// Bytes of an inode.
const INODE: u64 = 256;
/// Room for what is neither a file's nor an inode: directories, bitmaps.
const SPARE: u64 = 4 << 20;

/// What is in a directory, by path below it, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tree {
    directories: Vec<String>,
    files: Vec<String>,
    /// Of all files, in whole blocks.
    bytes: u64,
}

impl Tree {
    fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut left = vec![String::new()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(root.join(&dir))? {
                let entry = entry?;
                let name = entry
                    .file_name()
                    .into_string()
                    .map_err(|name| io::Error::other(format!("{} is no text", name.display())))?;
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    tree.directories.push(path.clone());
                    left.push(path);
                } else if kind.is_file() {
                    tree.bytes += entry.metadata()?.len().next_multiple_of(BLOCK);
                    tree.files.push(path);
                }
                // `build` and `source` are links to what is not in the package.
            }
        }
        // A directory is before what it holds.
        tree.directories.sort_unstable();
        tree.files.sort_unstable();
        Ok(tree)
    }

    fn inodes(&self) -> u64 {
        // Those that every file system has, and some to spare.
        (self.directories.len() + self.files.len()) as u64 + 64
    }

    fn mib(&self) -> u64 {
        (self.bytes + self.inodes() * INODE + SPARE).div_ceil(1 << 20)
    }

    /// What debugfs(8) is to do, from within the tree.
    ///
    /// # Errors
    /// For a name that cannot be told it.
    fn commands(&self) -> Result<String, String> {
        let mut text = String::new();
        for path in self.directories.iter().chain(&self.files) {
            if path.contains(['"', '\n']) {
                return Err(format!("the kernel's package has a file {path:?}"));
            }
        }
        for path in &self.directories {
            // Writing to a String does not fail.
            let _ = writeln!(text, "mkdir \"{path}\"");
        }
        for path in &self.files {
            let _ = writeln!(text, "write \"{path}\" \"{path}\"");
        }
        Ok(text)
    }
}

/// Makes the file system of a tree that dpkg-deb has unpacked, for the kernel of this release,
/// with depmod's lists in it.
pub(super) fn make(run: &mut Run<'_>, tree: &Path, release: &str) -> Result<PathBuf, Failure> {
    run.detail(&format!("collecting the modules of {release}"));
    let depmod = run.program("depmod", tree).args(["--basedir"]).args([tree]).args([release]);
    let ended = run.run_program("depmod", depmod, None)?;
    if !ended.status.success() {
        return Err(run.fail(ended.why("depmod"), "run it again"));
    }
    let root = tree.join("lib/modules").join(release);
    let found = Tree::read(&root).map_err(|e| run.io("the modules", &e))?;
    let commands = found.commands().map_err(|why| run.fail(why, "report it"))?;
    let (image, script) = (tree.join("modules.img"), tree.join("modules.debugfs"));
    fs::write(&script, commands).map_err(|e| run.io("the list of modules", &e))?;

    let program = run
        .program("mke2fs", tree)
        .env(MADE_AT.0, MADE_AT.1)
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", LABEL, "-U", UUID])
        .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string()])
        .args(["-N", &found.inodes().to_string()])
        // Nothing that a system's own mke2fs.conf may add to what is needed.
        .args(["-O", "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file"])
        .args(["-E", &format!("hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0")])
        .args([image.as_path()])
        .args([&format!("{}M", found.mib())]);
    let ended = run.run_program("mke2fs", program, None)?;
    if !ended.status.success() {
        return Err(run.fail(ended.why("mke2fs"), "run it again"));
    }
    // Each command is printed, and what it did; only what it could not do is an error's.
    let program = run
        .program("debugfs", &root)
        .env(MADE_AT.0, MADE_AT.1)
        .args(["-w", "-f"])
        .args([&script, &image])
        .keep_stdout();
    let total = found.bytes;
    let ended = run.run_program("debugfs", program, Some((&image, total)))?;
    // The first line is its version; its status says nothing of the commands.
    if !ended.status.success() || ended.tail.len() > 1 {
        return Err(run.fail(ended.why("debugfs"), "run it again"));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_told_to_debugfs_by_name_directories_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kernel/net")).unwrap();
        fs::create_dir(dir.path().join("kernel/fs")).unwrap();
        for (path, bytes) in [("modules.dep", 1), ("kernel/net/b.ko", 5000), ("kernel/a.ko", 0)] {
            fs::write(dir.path().join(path), vec![0; bytes]).unwrap();
        }
        std::os::unix::fs::symlink("/usr/src", dir.path().join("build")).unwrap();
        let tree = Tree::read(dir.path()).unwrap();
        assert_eq!(tree.bytes, 3 * BLOCK);
        assert_eq!(
            tree.commands().unwrap(),
            "mkdir \"kernel\"\nmkdir \"kernel/fs\"\nmkdir \"kernel/net\"\n\
             write \"kernel/a.ko\" \"kernel/a.ko\"\nwrite \"kernel/net/b.ko\" \"kernel/net/b.ko\"\n\
             write \"modules.dep\" \"modules.dep\"\n"
        );
    }
}
