//! Archives that mean harm: refused with the reason, nothing outside, nothing left.

use std::{fs, path::Path};

use banger::{bundle::bundle_at, domain::StepState::Failed};

use super::{states, verified};
use crate::{
    fixture::{Fixture, Host, hex},
    publish::{beside, installs, packed},
};

/// The entries of an archive: headers and what follows them.
type Entries = Vec<(tar::Header, Vec<u8>)>;

fn entries(archive: &Path) -> Entries {
    let text = zstd::decode_all(fs::File::open(archive).unwrap()).unwrap();
    let mut tar = tar::Archive::new(&text[..]);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        (entry.header().clone(), bytes)
    };
    tar.entries().unwrap().raw(true).map(read).collect()
}

fn archive(entries: &Entries) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (header, bytes) in entries {
        let mut header = header.clone();
        header.set_cksum();
        tar.append(&header, &bytes[..]).unwrap();
    }
    zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap()
}

/// Gives a header a name that the crate would refuse to write.
fn name(header: &mut tar::Header, name: &str) {
    let field = &mut header.as_mut_bytes()[..100];
    field.fill(0);
    field[..name.len()].copy_from_slice(name.as_bytes());
}

fn plain(path: &str, bytes: &[u8]) -> (tar::Header, Vec<u8>) {
    let mut header = tar::Header::new_ustar();
    name(&mut header, path);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    (header, bytes.to_vec())
}

fn special(path: &str, kind: tar::EntryType, target: &str) -> (tar::Header, Vec<u8>) {
    let (mut header, _) = plain(path, b"");
    header.set_entry_type(kind);
    if !target.is_empty() {
        header.set_link_name(target).unwrap();
    }
    if matches!(kind, tar::EntryType::Block | tar::EntryType::Char) {
        header.set_device_major(8).unwrap();
        header.set_device_minor(0).unwrap();
    }
    (header, Vec::new())
}

/// Changes the record in an archive, a text, and says it is as long as it is.
fn record(all: &mut Entries, change: impl FnOnce(&mut serde_json::Value)) {
    let mut json: serde_json::Value = serde_json::from_slice(&all[0].1).unwrap();
    change(&mut json);
    all[0] = plain("bundle.json", &serde_json::to_vec(&json).unwrap());
}

/// A file of this content as the record has it.
fn file(bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "sha256": hex(bytes), "size": bytes.len(), "modified_ns": 0, "source": "evil"
    })
}

/// Adds a file that the record knows, so that only its name is against it.
fn known(all: &mut Entries, path: &str, bytes: &[u8]) {
    record(all, |json| json["files"][path] = file(bytes));
    all.push(plain(path, bytes));
}

/// Everything below a directory, with what it is.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        found.push(format!("{} {:?} {}", path.display(), meta.file_type(), meta.len()));
        if meta.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

/// An empty directory and one in use, to which archives are offered.
struct Victims([Fixture; 2]);

impl Victims {
    fn new() -> Self {
        let used = Fixture::new();
        used.run();
        let victims = [Fixture::new(), used];
        for fixture in &victims {
            fs::write(fixture.root.join("victim"), "untouched").unwrap();
            fs::create_dir_all(fixture.file(".partial/bundle")).unwrap();
            fs::write(fixture.file(".lock"), "").unwrap();
        }
        Self(victims)
    }

    /// Offers bytes as a bundle; the reason of the refusal.
    fn refuse(&mut self, what: &str, bytes: &[u8]) -> String {
        let mut why = String::new();
        for fixture in &mut self.0 {
            let evil = fixture.root.join("evil.tar.zst");
            fs::write(&evil, bytes).unwrap();
            let before = tree(&fixture.root);
            let at = evil.to_str().unwrap();
            fixture.options.published = Some(bundle_at(at, None).unwrap());
            let (report, steps) = fixture.run();
            assert_eq!(states(&steps), [Failed], "{what}");
            fs::write(fixture.file(".lock"), "").unwrap();
            assert_eq!(tree(&fixture.root), before, "{what}: nothing outside, nothing left");
            assert_eq!(beside(fixture), [""; 0], "{what}");
            if fixture.file("bundle.json").exists() {
                assert_eq!(verified(&fixture.options.dir), [""; 0], "{what}");
            }
            why.clone_from(&report.problems[0].why);
        }
        why
    }
}

#[test]
fn an_archive_that_means_harm_is_refused_and_leaves_nothing() {
    let made = Fixture::new();
    made.run();
    let good = entries(&packed(&made, "a.tar.zst").path);
    type Evil = fn(&mut Entries);
    let evils: [(&str, Evil, &str); 19] = [
        ("an absolute path", |all| known(all, "/tmp/banger-evil", b"x"), "absolute path"),
        ("a path out", |all| known(all, "../victim", b"x"), "leads out"),
        ("a path out of a directory", |all| known(all, "images/../../victim", b"x"), "leads out"),
        ("a file of ours", |all| known(all, ".partial/x", b"x"), "begins with a dot"),
        ("an entry nobody named", |all| all.push(plain("extra", b"x")), "does not have it"),
        ("an absolute entry nobody named", |all| all.push(plain("/etc/x", b"x")), "absolute"),
        ("an entry twice", |all| all.push(all[1].clone()), "twice"),
        (
            "a link out, and a file through it",
            |all| {
                all.insert(1, special("images", tar::EntryType::Symlink, "../victim.d"));
            },
            "symbolic link",
        ),
        (
            "a hard link",
            |all| all.insert(1, special("vmlinux", tar::EntryType::Link, "../victim")),
            "hard link",
        ),
        (
            "a device",
            |all| all.insert(1, special("vmlinux", tar::EntryType::Block, "")),
            "a device",
        ),
        ("a pipe", |all| all.insert(1, special("vmlinux", tar::EntryType::Fifo, "")), "a pipe"),
        (
            "a long name",
            |all| all.insert(1, plain_of(tar::EntryType::GNULongName, b"../victim\0")),
            "special",
        ),
        ("set-uid", |all| all[1].0.set_mode(0o4755), "somebody else"),
        ("set-gid", |all| all[1].0.set_mode(0o2755), "somebody else"),
        (
            "another size",
            |all| {
                all[1].1.push(0);
                let size = all[1].1.len() as u64;
                all[1].0.set_size(size);
            },
            "bytes instead of",
        ),
        ("another content", |all| all[1].1[0] ^= 1, "SHA-256"),
        ("files that are not there", |all| all.truncate(3), "ends before"),
        (
            "sizes beyond all bounds",
            |all| {
                record(all, |json| json["files"]["vmlinux"]["size"] = (u64::MAX / 2).into());
            },
            "together",
        ),
        ("no record", |all| drop(all.remove(0)), "does not begin with"),
    ];
    let mut victims = Victims::new();
    for (what, change, expected) in evils {
        let mut all = good.clone();
        change(&mut all);
        let why = victims.refuse(what, &archive(&all));
        assert!(why.contains(expected), "{what}: {why}");
    }
    let mut all = good;
    record(&mut all, |json| json["arch"] = "vax".into());
    assert!(victims.refuse("another machine's", &archive(&all)).contains("made for vax"));
    record(&mut all, |json| json["schema"] = 9.into());
    assert!(victims.refuse("another format", &archive(&all)).contains("format 9"));
}

fn plain_of(kind: tar::EntryType, bytes: &[u8]) -> (tar::Header, Vec<u8>) {
    let (mut header, bytes) = plain("././@LongLink", bytes);
    header.set_entry_type(kind);
    (header, bytes)
}

#[test]
fn a_bomb_does_not_go_off_and_what_is_no_archive_is_none() {
    let made = Fixture::new();
    made.run();
    let path = packed(&made, "a.tar.zst").path;
    let bytes = fs::read(&path).unwrap();
    let mut victims = Victims::new();
    // More than the record says follows: gigabytes in a few kilobytes.
    let mut tar = zstd::decode_all(&bytes[..]).unwrap();
    tar.truncate(tar.len() - 1024);
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut bomb, &tar).unwrap();
    let (mut header, _) = plain("bomb", b"");
    header.set_size(8 << 30);
    header.set_cksum();
    std::io::Write::write_all(&mut bomb, header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut bomb).unwrap();
    let why = victims.refuse("a bomb", &bomb.finish().unwrap());
    assert!(why.contains("does not have it"), "{why}");
    // A record without end.
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let (mut header, _) = plain("bundle.json", b"");
    header.set_size(1 << 40);
    header.set_cksum();
    std::io::Write::write_all(&mut bomb, header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 1 << 28), &mut bomb).unwrap();
    let why = victims.refuse("an endless record", &bomb.finish().unwrap());
    assert!(why.contains("does not begin with"), "{why}");

    assert!(victims.refuse("a cut archive", &bytes[..bytes.len() - 40]).contains("damaged"));
    assert!(victims.refuse("half an archive", &bytes[..bytes.len() / 2]).contains("damaged"));
    let mut corrupted = bytes.clone();
    let middle = corrupted.len() / 2;
    corrupted[middle] ^= 0x10;
    let why = victims.refuse("a corrupted archive", &corrupted);
    assert!(why.contains("damaged") || why.contains("SHA-256"), "{why}");
    victims.refuse("nothing", b"");
    victims.refuse("something else", b"this is no archive at all");
}

#[test]
fn what_comes_is_checked_before_anything_of_it_is_unpacked() {
    let made = Fixture::new();
    made.run();
    let good = fs::read(packed(&made, "a.tar.zst").path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let mut long = good.clone();
    long.resize(good.len() + (8 << 20), 0);
    for (body, expected) in [(bad, "has to be"), (long, "there may be")] {
        let host = Host::start(body);
        let mut there = installs(&made.root.join("a.tar.zst"));
        let source = there.options.published.as_mut().unwrap();
        source.file = None;
        source.url = Some(host.url.clone());
        source.size = Some(good.len() as u64);
        let (report, _) = there.run();
        assert!(report.problems[0].why.contains(expected), "{}", report.problems[0]);
        let left: Vec<_> = fs::read_dir(there.file(".partial/bundle")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!there.file("bundle.json").exists());
        assert_eq!(beside(&there), [""; 0]);
    }
    // A local file that is not what was said.
    let mut there = installs(&made.root.join("a.tar.zst"));
    there.options.published.as_mut().unwrap().sha256 = Some("00".repeat(32));
    let (report, _) = there.run();
    assert!(report.problems[0].why.contains(&"00".repeat(32)), "{}", report.problems[0]);
    assert!(!there.file("bundle.json").exists());
}
