use std::{collections::BTreeMap, os::unix::fs::MetadataExt, sync::atomic::AtomicBool};

use super::*;
use crate::bundle::{Event, FileRecord, RECORD_FILE, Record, digest::sha256};

/// A runtime directory of a kernel, an initrd, a program, and an image with holes.
fn source(dir: &Path, kernel: &str) {
    let mut record = Record::empty();
    let mut image = vec![0; 3 << 20];
    image[..4].copy_from_slice(b"head");
    image[(1 << 20) + 5000] = 7;
    let parts: [(&str, Vec<u8>); 4] = [
        ("vmlinux", kernel.into()),
        ("initrd.cpio", b"initrd".to_vec()),
        ("firecracker", b"#!".to_vec()),
        ("images/tiny.img", image),
    ];
    for (name, bytes) in parts {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
        let file = FileRecord {
            sha256: sha256(&bytes),
            size: bytes.len() as u64,
            modified_ns: 0,
            source: String::new(),
            version: String::new(),
        };
        record.files.insert(name.to_owned(), file);
    }
    fs::set_permissions(dir.join("firecracker"), PermissionsExt::from_mode(0o700)).unwrap();
    fs::set_permissions(dir.join("vmlinux"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(dir.join(RECORD_FILE), serde_json::to_vec(&record).unwrap()).unwrap();
}

/// Every path below a directory, with mode and content; directories have none.
fn tree(dir: &Path) -> BTreeMap<String, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = meta.is_file().then(|| fs::read(&path).unwrap());
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            found.insert(name, (meta.mode() & 0o7777, content));
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

struct Bench {
    _dir: tempfile::TempDir,
    source: PathBuf,
    root: PathBuf,
    target: Target,
}

/// A place to install to that has something already, with a space in its path.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (source, root) = (dir.path().join("rt"), dir.path().join("the root"));
    self::source(&source, "kernel");
    fs::create_dir_all(root.join("opt/my tools/share/man")).unwrap();
    fs::write(root.join("opt/my tools/share/readme"), "mine").unwrap();
    let target = Target::new(Path::new("/opt/my tools"), Some(&root)).unwrap();
    Bench { source, root, target, _dir: dir }
}

impl Bench {
    fn install(&self) -> Result<InstallReport, Problem> {
        let cancel = AtomicBool::new(false);
        install_bundle(&self.source, &self.target, &mut |_: Event<'_>| (), &cancel)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join("opt/my tools").join(path)
    }
}

fn piece(path: &str, text: &str) -> Piece {
    Piece { path: path.into(), content: Content::Text(text.into()), mode: 0o644 }
}

#[test]
fn what_is_installed_can_be_removed_and_the_tree_is_as_before() {
    let b = bench();
    let before = tree(&b.root);
    let report = b.install().unwrap();
    assert_eq!((report.dir.as_path(), report.files), (b.at("lib/banger").as_path(), 4));
    let pieces = [piece("bin/banger", "program"), piece("share/man/man1/banger.1", "page")];
    install_files(&b.target, &pieces).unwrap();
    assert_eq!(fs::read(b.at("bin/banger")).unwrap(), b"program");
    // Twice is as once; an older version's file goes.
    install_files(&b.target, &[piece("bin/banger", "newer")]).unwrap();
    assert!(!b.at("share/man/man1/banger.1").exists());
    assert_eq!(fs::read(b.at("bin/banger")).unwrap(), b"newer");
    assert_eq!(uninstall(&b.target).unwrap(), Vec::<String>::new());
    assert_eq!(tree(&b.root), before);
    assert!(uninstall(&b.target).unwrap_err().what.contains("nothing to remove"));
}

#[test]
fn what_was_before_an_update_goes_too_and_what_only_looks_like_it_stays() {
    let b = bench();
    let before = tree(&b.root);
    b.install().unwrap();
    // As an update leaves it.
    let previous = b.at("lib/.banger.previous");
    self::source(&previous, "older kernel");
    fs::write(previous.join(".lock"), "1\n").unwrap();
    fs::create_dir_all(b.at("lib/.banger.next")).unwrap();
    fs::write(b.at("lib/.banger.next/.unfinished"), "").unwrap();
    assert_eq!(uninstall(&b.target).unwrap(), Vec::<String>::new());
    assert_eq!(tree(&b.root), before);

    b.install().unwrap();
    self::source(&previous, "older kernel");
    for mine in ["lib/.banger.previous/mine", "lib/banger.previous", "lib/.banger.old"] {
        fs::write(b.at(mine), "").unwrap();
    }
    let stays = uninstall(&b.target).unwrap();
    assert!(stays.iter().any(|line| line.contains(".banger.previous has what")), "{stays:?}");
    for mine in ["lib/.banger.previous/mine", "lib/banger.previous", "lib/.banger.old"] {
        assert!(b.at(mine).exists(), "{mine}");
    }
    assert!(!previous.join("vmlinux").exists() && !b.at("lib/banger").exists());
}

#[test]
fn beside_a_link_nothing_is_removed() {
    let b = bench();
    b.install().unwrap();
    let elsewhere = b.root.join("srv");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(b.at("lib/banger"), elsewhere.join("banger")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("banger"), b.at("lib/banger")).unwrap();
    self::source(&elsewhere.join(".banger.previous"), "older kernel");
    let _ = uninstall(&b.target);
    assert!(elsewhere.join(".banger.previous/vmlinux").exists());
}

#[test]
fn what_the_user_put_there_stays_and_is_told() {
    let b = bench();
    b.install().unwrap();
    install_files(&b.target, &[piece("bin/banger", "program")]).unwrap();
    fs::write(b.at("bin/mine"), "").unwrap();
    fs::write(b.at("lib/banger/images/mine.img"), "").unwrap();
    let stays = uninstall(&b.target).unwrap();
    assert!(stays.iter().any(|line| line.contains("images/mine.img")), "{stays:?}");
    assert!(stays.iter().any(|line| line.contains("bin is not empty")), "{stays:?}");
    assert!(b.at("bin/mine").exists() && b.at("lib/banger/images/mine.img").exists());
    assert!(!b.at("lib/banger/vmlinux").exists() && !b.at("bin/banger").exists());
}

#[test]
fn the_copy_is_for_all_users_and_has_holes() {
    let b = bench();
    b.install().unwrap();
    let mode = |path: &str| fs::metadata(b.at(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("lib/banger"), 0o755);
    assert_eq!(mode("lib/banger/images"), 0o755);
    assert_eq!(mode("lib/banger/vmlinux"), 0o644);
    assert_eq!(mode("lib/banger/firecracker"), 0o755);
    assert_eq!(mode("lib/banger/bundle.json"), 0o644);
    let image = fs::metadata(b.at("lib/banger/images/tiny.img")).unwrap();
    assert_eq!(image.len(), 3 << 20);
    assert!(image.blocks() * 512 < 1 << 20, "{} blocks", image.blocks());
    let from = fs::metadata(b.source.join("images/tiny.img")).unwrap();
    assert_eq!(image.modified().unwrap(), from.modified().unwrap());
    let cancel = AtomicBool::new(false);
    let checked = crate::bundle::verify(&b.at("lib/banger"), &mut |_: Event<'_>| (), &cancel);
    let checked = checked.unwrap();
    assert_eq!((checked.good, checked.problem()), (4, None));
}

#[test]
fn a_newer_one_replaces_it_at_one_stroke_and_a_damaged_one_does_not() {
    let b = bench();
    b.install().unwrap();
    source(&b.source, "newer kernel");
    b.install().unwrap();
    assert_eq!(fs::read(b.at("lib/banger/vmlinux")).unwrap(), b"newer kernel");
    let before = tree(&b.root);
    fs::write(b.source.join("vmlinux"), "other kernel").unwrap();
    let problem = b.install().unwrap_err();
    assert!(problem.why.contains("vmlinux has changed"), "{problem}");
    assert_eq!(tree(&b.root), before);
    fs::remove_file(b.source.join("firecracker")).unwrap();
    b.install().unwrap_err();
    assert_eq!(tree(&b.root), before);
}

#[test]
fn a_cancelled_or_killed_one_leaves_what_was_there() {
    let b = bench();
    b.install().unwrap();
    let before = tree(&b.root);
    source(&b.source, "newer kernel");
    let cancel = AtomicBool::new(true);
    let report = install_bundle(&b.source, &b.target, &mut |_: Event<'_>| (), &cancel).unwrap();
    assert!(report.cancelled);
    assert_eq!(tree(&b.root), before);
    // What was left over by a kill is in nobody's way.
    fs::create_dir_all(b.at("lib/.banger-new/images")).unwrap();
    fs::write(b.at("lib/.banger-new/images/x"), "").unwrap();
    b.install().unwrap();
    assert!(!b.at("lib/.banger-new").exists());
    // One at a time.
    fs::create_dir(b.at("lib/.banger-new")).unwrap();
    let dir = fs::File::open(b.at("lib/.banger-new")).unwrap();
    let _held = nix::fcntl::Flock::lock(dir, nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert!(b.install().unwrap_err().why.contains("another"), "refused");
}

#[test]
fn what_is_not_bangers_is_not_replaced() {
    let b = bench();
    fs::create_dir_all(b.at("lib/banger")).unwrap();
    fs::write(b.at("lib/banger/treasure"), "").unwrap();
    let before = tree(&b.root);
    let problem = b.install().unwrap_err();
    assert!(problem.why.contains("treasure"), "{problem}");
    assert_eq!(tree(&b.root), before);
}

#[test]
fn a_record_cannot_name_what_is_outside() {
    let b = bench();
    for name in ["../evil", "/etc/evil", "images/../../evil", ""] {
        let mut record = Record::read(&b.source).unwrap().unwrap();
        let file = record.files["vmlinux"].clone();
        record.files.insert(name.to_owned(), file);
        fs::write(b.source.join(RECORD_FILE), serde_json::to_vec(&record).unwrap()).unwrap();
        let before = tree(&b.root);
        let problem = b.install().unwrap_err();
        assert!(problem.why.contains(name), "{problem}");
        assert_eq!(tree(&b.root), before);
        source(&b.source, "kernel");
    }
}

#[test]
fn a_list_that_leads_elsewhere_removes_nothing() {
    let b = bench();
    install_files(&b.target, &[piece("bin/banger", "program")]).unwrap();
    let list = b.at("share/banger/installed");
    let good = fs::read_to_string(&list).unwrap();
    for line in ["file /etc/passwd", "file /opt/my tools/../../etc/x", "dir /home", "rm -rf /"] {
        fs::write(&list, format!("{good}{line}\n")).unwrap();
        let problem = uninstall(&b.target).unwrap_err();
        assert!(problem.why.contains(line), "{problem}");
        assert!(b.at("bin/banger").exists());
    }
}

#[test]
fn a_prefix_is_an_absolute_path_on_one_line() {
    for bad in ["usr", "", "/usr/../etc", "/a\nb"] {
        assert!(Target::new(Path::new(bad), None).is_err(), "{bad:?}");
    }
    let target = Target::new(Path::new("/usr/"), None).unwrap();
    assert_eq!(
        (target.prefix(), target.now_at().as_path()),
        (Path::new("/usr"), Path::new("/usr"))
    );
}
