//! A block of ours in `/etc/hosts`.
//!
//! Everything outside of it stays as it is, byte for byte. The file is never half written where it
//! can be replaced; in a container, where it is a mount of its own, it is written in place, and put
//! back if that fails.

use std::{fs, io, path::PathBuf, time::Duration};

use crate::{
    domain::{Problem, Subnet, Tag, ZONE},
    host::{lock::FileLock, ops::HostsName, replace::replace},
};

/// How long another writer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the line before the block's begins with if the file did not end with a line's end, so that
/// taking the block out leaves it as it was.
const JOINED: &str = " (the line above had no end)";

/// A file of the form of hosts(5).
#[derive(Clone, Debug)]
pub struct HostsFile {
    path: PathBuf,
    lock: PathBuf,
}

/// The host's block of these names; without any, no block.
///
/// # Errors
/// If the block there is damaged, or the file cannot be written. It is then as it was.
pub fn hosts(tag: &Tag, names: &[HostsName]) -> Result<(), Problem> {
    HostsFile::system().set(tag, names)
}

/// How many lines the host's block has.
///
/// # Errors
/// If the file cannot be read, or the block is damaged.
pub fn hosts_lines(tag: &Tag) -> Result<usize, Problem> {
    HostsFile::system().lines(tag)
}

impl HostsFile {
    /// The host's.
    #[must_use]
    pub fn system() -> Self {
        // Where only root can write: nobody else can hold writers up.
        Self::new(PathBuf::from("/etc/hosts"), PathBuf::from("/run/banger-hosts.lock"))
    }

    /// This file, and the lock that its writers take.
    #[must_use]
    pub const fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { path, lock }
    }

    /// See [`hosts`].
    ///
    /// # Errors
    /// As there.
    pub fn set(&self, tag: &Tag, names: &[HostsName]) -> Result<(), Problem> {
        let failed = |error: io::Error| self.cannot("change", &error);
        if names.len() > Subnet::GUESTS.count() {
            let why = format!("{} names are more than there are addresses", names.len());
            return Err(Problem::new(self.what("change"), why, ""));
        }
        let lock = FileLock::exclusive_within(&self.lock, PATIENCE).map_err(failed)?;
        let Some(lock) = lock else {
            let why = format!("another program has held {} for 5 s", self.lock.display());
            return Err(Problem::new(self.what("change"), why, "try again"));
        };
        let _lock = lock.remove_on_drop();
        let old = self.read()?;
        let new = with_block(&old, tag, names).map_err(|why| self.damaged(tag, &why))?;
        if new == old { Ok(()) } else { replace(&self.path, &old, &new).map_err(failed) }
    }

    /// See [`hosts_lines`].
    ///
    /// # Errors
    /// As there.
    pub fn lines(&self, tag: &Tag) -> Result<usize, Problem> {
        let text = self.read()?;
        let found = find(&text, tag).map_err(|why| self.damaged(tag, &why))?;
        Ok(found.map_or(0, |block| block.lines))
    }

    fn read(&self) -> Result<Vec<u8>, Problem> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|error| self.cannot("read", &error)),
        }
    }

    fn what(&self, verb: &str) -> String {
        format!("cannot {verb} {}", self.path.display())
    }

    fn cannot(&self, verb: &str, error: &io::Error) -> Problem {
        let hint = if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            "this host's file is made by something else: set names.route = \"none\""
        } else {
            "look at who owns it and whether the disk is full"
        };
        Problem::new(self.what(verb), error.to_string(), hint)
    }

    fn damaged(&self, tag: &Tag, why: &str) -> Problem {
        let path = self.path.display();
        let hint = format!("remove the lines with “banger {tag}” and what is between from {path}");
        Problem::new(self.what("change"), why, hint)
    }
}

/// Where our block is.
struct Block {
    /// From its first byte, and from the one that was put in before it, to behind its last.
    bytes: std::ops::Range<usize>,
    /// Whether a line's end was put in before it.
    joined: bool,
    /// Lines between the marks.
    lines: usize,
}

fn mark(tag: &Tag, which: &str) -> String {
    format!("# banger {tag} {which}")
}

/// Our block, if there is one; an error says why what is there is none.
fn find(text: &[u8], tag: &Tag) -> Result<Option<Block>, String> {
    let (begin, end) = (mark(tag, "begin"), mark(tag, "end"));
    let joined_begin = format!("{begin}{JOINED}");
    let mut open: Option<(usize, bool, usize)> = None;
    let mut found = None;
    let mut at = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let bare = line.trim_ascii();
        let joined = bare == joined_begin.as_bytes();
        if joined || bare == begin.as_bytes() {
            if open.is_some() || found.is_some() {
                return Err(format!("line {}: banger's block begins a second time", number + 1));
            }
            open = Some((at, joined, number));
        } else if bare == end.as_bytes() {
            let Some((from, joined, first)) = open.take() else {
                return Err(format!("line {}: banger's block ends and never began", number + 1));
            };
            let joined = joined && from > 0;
            let bytes = from - usize::from(joined)..at + line.len();
            found = Some(Block { bytes, joined, lines: number - first - 1 });
        }
        at += line.len();
    }
    match open {
        Some((.., first)) => Err(format!("line {}: banger's block never ends", first + 1)),
        None => Ok(found),
    }
}

/// The text with our block as it is to be.
fn with_block(text: &[u8], tag: &Tag, names: &[HostsName]) -> Result<Vec<u8>, String> {
    let old = find(text, tag)?;
    let (before, after, joined) = match &old {
        Some(block) => (&text[..block.bytes.start], &text[block.bytes.end..], block.joined),
        None => (text, &[][..], text.last().is_some_and(|byte| *byte != b'\n')),
    };
    let mut new = before.to_vec();
    if !names.is_empty() {
        let mut names: Vec<&HostsName> = names.iter().collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        if joined {
            new.push(b'\n');
        }
        let more = if joined { JOINED } else { "" };
        new.extend_from_slice(format!("{}{more}\n", mark(tag, "begin")).as_bytes());
        for HostsName { name, address } in names {
            new.extend_from_slice(format!("{address}\t{name}.{ZONE}\n").as_bytes());
        }
        new.extend_from_slice(mark(tag, "end").as_bytes());
        new.push(b'\n');
    } else if joined && !after.is_empty() {
        // Somebody wrote behind the block: what was one line must not become part of that.
        new.push(b'\n');
    }
    new.extend_from_slice(after);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{MetadataExt, PermissionsExt},
        thread,
    };

    use super::*;

    struct Etc {
        dir: tempfile::TempDir,
        file: HostsFile,
    }

    fn etc(text: &str) -> Etc {
        let dir = tempfile::tempdir().expect("temp");
        fs::write(dir.path().join("hosts"), text).expect("written");
        let file = HostsFile::new(dir.path().join("hosts"), dir.path().join("lock"));
        Etc { dir, file }
    }

    impl Etc {
        fn text(&self) -> String {
            fs::read_to_string(self.dir.path().join("hosts")).expect("a file")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.dir.path()).expect("a directory");
            let names = entries.map(|e| e.expect("an entry").file_name().into_string());
            names.map(|name| name.expect("UTF-8")).collect()
        }
    }

    fn tag(text: &str) -> Tag {
        text.parse().expect("a tag")
    }

    fn name(name: &str, last: u8) -> HostsName {
        let address = std::net::Ipv4Addr::new(172, 30, 4, last);
        HostsName { name: name.parse().expect("a name"), address }
    }

    const PLAIN: &str = "127.0.0.1 localhost\n# mine\n::1\tlocalhost ip6-localhost\n";

    #[test]
    fn a_block_comes_changes_and_goes_and_the_rest_stays() {
        let etc = etc(PLAIN);
        let ours = tag("3fa2c1");
        etc.file.set(&ours, &[name("web", 3), name("db", 2)]).expect("set");
        let block =
            "# banger 3fa2c1 begin\n172.30.4.2\tdb.vm\n172.30.4.3\tweb.vm\n# banger 3fa2c1 end\n";
        assert_eq!(etc.text(), format!("{PLAIN}{block}"));
        assert_eq!(etc.file.lines(&ours).expect("counted"), 2);

        let other = tag("000000");
        etc.file.set(&other, &[name("x", 9)]).expect("set");
        etc.file.set(&ours, &[name("db", 2)]).expect("set");
        let (a, b) = (etc.file.lines(&ours), etc.file.lines(&other));
        assert_eq!((a.expect("counted"), b.expect("counted")), (1, 1));
        etc.file.set(&ours, &[]).expect("set");
        etc.file.set(&other, &[]).expect("set");
        assert_eq!(etc.text(), PLAIN);
        assert_eq!(etc.names(), ["hosts"], "neither lock nor temporary file stays");
    }

    #[test]
    fn a_file_without_a_last_line_end_comes_back_as_it_was() {
        for text in ["", "127.0.0.1 localhost", "\n", "a\r\nb\r\n"] {
            let etc = etc(text);
            etc.file.set(&tag("3fa2c1"), &[name("web", 3)]).expect("set");
            assert!(etc.text().contains("\n172.30.4.3\tweb.vm\n"), "{:?}", etc.text());
            etc.file.set(&tag("3fa2c1"), &[name("web", 3), name("db", 2)]).expect("set");
            etc.file.set(&tag("3fa2c1"), &[]).expect("set");
            assert_eq!(etc.text(), text);
        }
        let etc = etc("one");
        etc.file.set(&tag("3fa2c1"), &[name("web", 3)]).expect("set");
        let more = format!("{}two\n", etc.text());
        fs::write(etc.dir.path().join("hosts"), more).expect("written");
        etc.file.set(&tag("3fa2c1"), &[]).expect("set");
        assert_eq!(etc.text(), "one\ntwo\n");
    }

    #[test]
    fn a_damaged_block_is_left_alone_and_shown() {
        let (begin, end) = ("# banger 3fa2c1 begin\n", "# banger 3fa2c1 end\n");
        for (text, said) in [
            (format!("a\n{begin}1.2.3.4 x.vm\n"), "line 2: banger's block never ends"),
            (format!("{end}a\n"), "line 1: banger's block ends and never began"),
            (format!("{begin}{begin}{end}"), "line 2: banger's block begins a second time"),
            (format!("{begin}{end}{begin}{end}"), "line 3: banger's block begins a second time"),
        ] {
            let etc = etc(&text);
            let problem = etc.file.set(&tag("3fa2c1"), &[]).expect_err(&text);
            assert_eq!(problem.why, said);
            assert!(problem.hint.contains("remove the lines with “banger 3fa2c1”"), "{problem}");
            assert!(etc.file.lines(&tag("3fa2c1")).is_err());
            assert_eq!(etc.text(), text);
        }
    }

    #[test]
    fn mode_owner_and_a_link_are_kept() {
        let etc = etc(PLAIN);
        let path = etc.dir.path().join("hosts");
        let real = etc.dir.path().join("real");
        fs::rename(&path, &real).expect("moved");
        std::os::unix::fs::symlink("real", &path).expect("linked");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("mode");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&real, Some(7), Some(8)).expect("owner");
        }
        let before = fs::metadata(&real).expect("there");
        etc.file.set(&tag("3fa2c1"), &[name("web", 3)]).expect("set");
        let after = fs::metadata(&real).expect("there");
        assert_eq!(
            (before.mode(), before.uid(), before.gid()),
            (after.mode(), after.uid(), after.gid())
        );
        assert_ne!(before.ino(), after.ino(), "replaced, not overwritten");
        assert!(fs::symlink_metadata(&path).expect("there").is_symlink());
        assert!(etc.text().contains("web.vm"));
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let etc = etc(PLAIN);
        let tags: Vec<Tag> = (0..8).map(|i| Tag::from_bytes([i, 0, 0])).collect();
        thread::scope(|scope| {
            for tag in &tags {
                scope.spawn(|| {
                    for last in 2..12 {
                        etc.file.set(tag, &[name("web", last)]).expect("set");
                    }
                });
            }
        });
        for tag in &tags {
            assert_eq!(etc.file.lines(tag).expect("counted"), 1);
            etc.file.set(tag, &[]).expect("set");
        }
        assert_eq!(etc.text(), PLAIN);
    }
}
