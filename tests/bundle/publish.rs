//! A bundle is packed, published, installed, replaced and taken back.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use banger::{
    bundle::{
        Bundle, Event, Extent, Package, PackageOptions, Source, bundle_at, package, previous,
        rollback, status,
    },
    domain::StepState::{Cached, Done, Failed},
};

use super::{states, verified};
use crate::fixture::{Fixture, Host, hex, kernel};

/// Packs what a fixture has made.
pub fn packed(fixture: &Fixture, name: &str) -> Package {
    let options = PackageOptions {
        dir: fixture.options.dir.clone(),
        output: fixture.root.join(name),
        with_qemu: false,
        epoch: 0,
    };
    package(&options, &mut |_: Event<'_>| (), &AtomicBool::new(false)).unwrap().unwrap()
}

/// A fixture that installs this archive into a directory of its own.
pub fn installs(archive: &Path) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.options.published = Some(bundle_at(archive.to_str().unwrap(), None).unwrap());
    fixture
}

/// Every file of a runtime directory but those of its upkeep: its content and mode.
fn content(dir: &Path) -> Vec<(String, String, u32)> {
    let mut files = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                todo.push(path);
            } else if !name.starts_with('.') && name != "bundle.json" {
                let mode = path.metadata().unwrap().permissions().mode();
                files.push((name, hex(&fs::read(&path).unwrap()), mode & 0o7777));
            }
        }
    }
    files.sort();
    files
}

/// What lies beside the runtime directory and belongs to it.
pub fn beside(fixture: &Fixture) -> Vec<String> {
    let names = fs::read_dir(&fixture.root).unwrap().map(|e| e.unwrap().file_name());
    let names = names.map(|n| n.to_str().unwrap().to_owned());
    let mut names: Vec<_> = names.filter(|n| n.starts_with(".runtime")).collect();
    names.sort();
    names
}

fn remote(host: &Host, archive: &[u8]) -> Source {
    Source {
        url: Some(host.url.clone()),
        sha256: Some(hex(archive)),
        size: Some(archive.len() as u64),
        ..Source::default()
    }
}

#[test]
fn what_is_packed_is_what_is_installed_and_the_same_bytes_each_time() {
    let made = Fixture::new();
    made.run();
    let first = packed(&made, "a.tar.zst");
    let bytes = fs::read(&first.path).unwrap();
    assert_eq!((first.sha256.as_str(), first.size), (hex(&bytes).as_str(), bytes.len() as u64));
    // Other times of files and another machine's traces make no difference.
    let touched = fs::File::options().append(true).open(made.file("vmlinux")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(bytes == fs::read(packed(&made, "b.tar.zst").path).unwrap());
    let sparse = made.file("images/one.img").metadata().unwrap();
    assert!(first.size < sparse.len() / 20, "holes are packed");

    let there = installs(&first.path);
    let (report, steps) = there.run();
    assert!(report.is_good(), "{:?}", report.problems);
    assert_eq!((states(&steps), steps[0].0.as_str()), (vec![Done], "bundle"));
    assert_eq!(content(&there.options.dir), content(&made.options.dir));
    assert_eq!(verified(&there.options.dir), [""; 0]);
    assert!(there.file("images/one.img").metadata().unwrap().blocks() <= sparse.blocks() + 8);
    assert_eq!(Bundle::open(&there.options.dir).unwrap().images().len(), 2);
    assert_eq!(beside(&there), [""; 0], "there was nothing before that could be kept");
    assert!(bytes == fs::read(packed(&there, "c.tar.zst").path).unwrap(), "packed again elsewhere");
    // The lines that are printed are a manifest's.
    let text = include_str!("../../runtime-bundle.toml");
    let text = format!("{text}\n{}", first.snippet("https://example.org/a.tar.zst"));
    let manifest = banger::bundle::Manifest::parse(&text).unwrap();
    let published = there.options.clone().with_manifest(manifest).published.unwrap();
    assert_eq!(published.sha256.as_deref(), Some(first.sha256.as_str()));

    let (_, steps) = there.run();
    assert_eq!(states(&steps), [Cached]);
    fs::write(there.file("vmlinux"), "x").unwrap();
    let (_, steps) = there.run();
    assert_eq!(states(&steps), [Done], "damage is mended");
    assert_eq!(verified(&there.options.dir), [""; 0]);
}

#[test]
fn a_cut_connection_is_gone_on_with_and_a_mirror_is_asked_when_it_has_to_be() {
    let made = Fixture::new();
    made.run();
    let archive = fs::read(packed(&made, "a.tar.zst").path).unwrap();
    let half = archive.len() / 2;

    let host = Host::start(archive.clone());
    let mut there = Fixture::new();
    there.options.published = Some(remote(&host, &archive));
    host.cut_after(Some(half));
    let (report, steps) = there.run();
    assert_eq!(states(&steps), [Failed]);
    assert!(report.problems[0].hint.contains("goes on where it was"), "{}", report.problems[0]);
    assert!(!there.file("bundle.json").exists());
    host.cut_after(None);
    assert!(there.run().0.is_good());
    assert_eq!(host.starts(), [0, half]);
    assert!(!there.file(".partial").exists());

    // A host without ranges, or with another file of the same name, is asked for all of it.
    for wrong in [false, true] {
        let host = Host::start(archive.clone());
        host.without_ranges();
        let mut there = Fixture::new();
        there.options.published = Some(remote(&host, &archive));
        let part = there.file(".partial/bundle/bundle.tar.zst.part");
        fs::create_dir_all(part.parent().unwrap()).unwrap();
        let begun = if wrong { vec![b'x'; archive.len()] } else { archive[..half].to_vec() };
        fs::write(&part, begun).unwrap();
        let (report, _) = there.run();
        assert!(report.is_good(), "{:?}", report.problems);
        assert_eq!(host.starts().last(), Some(&0));
    }
    // What is there is as long, and not the same: 416.
    let host = Host::start(archive.clone());
    there.options.published = Some(remote(&host, &archive));
    fs::remove_dir_all(&there.options.dir).unwrap();
    let part = there.file(".partial/bundle/bundle.tar.zst.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![b'x'; archive.len()]).unwrap();
    assert!(there.run().0.is_good());
    assert_eq!(host.starts(), [archive.len(), 0]);

    // The first is not there, cut short, or lies: its mirror has it.
    let lies = Host::start(vec![b'x'; archive.len()]);
    let short = Host::start(archive.clone());
    short.cut_after(Some(half));
    let urls = ["http://127.0.0.1:1/x".to_owned(), short.url, lies.url];
    for (i, url) in urls.into_iter().enumerate() {
        let mirror = Host::start(archive.clone());
        let mut there = Fixture::new();
        let mut source = remote(&mirror, &archive);
        source.mirror = source.url.replace(url);
        there.options.published = Some(source);
        let (report, _) = there.run();
        assert!(report.is_good(), "{i}: {:?}", report.problems);
        // What the first gave is not asked for again.
        assert_eq!(mirror.starts(), [if i == 1 { half } else { 0 }], "{i}");
    }
}

#[test]
fn a_new_bundle_takes_the_place_of_the_old_as_a_whole_and_the_old_comes_back() {
    let made = Fixture::new();
    kernel(&made.root, "2.0", b"\x7fELF kernel 2.0");
    made.run();
    let archive = packed(&made, "a.tar.zst").path;

    let mut there = Fixture::new();
    there.run();
    fs::write(there.file("mine"), "the user's own").unwrap();
    let old = content(&there.options.dir);
    // A VM that runs has these open: they stay what they were.
    let held = fs::File::open(there.file("vmlinux")).unwrap();
    there.options.published = Some(bundle_at(archive.to_str().unwrap(), None).unwrap());
    assert!(there.run().0.is_good());
    assert_eq!(fs::read(there.file("vmlinux")).unwrap(), b"\x7fELF kernel 2.0");
    assert_eq!(std::io::read_to_string(held).unwrap(), "\x7fELF kernel 1.0");
    assert_eq!(fs::read_to_string(there.file("mine")).unwrap(), "the user's own");
    let new = content(&there.options.dir);
    assert_eq!(beside(&there), [".runtime.previous"]);
    let known = status(&there.options.dir).unwrap();
    let before = known.previous.unwrap();
    assert!(before.contains(&("kernel".into(), "linux-image-1.0-test 1.0".into())), "{before:?}");

    let back = rollback(&there.options.dir).unwrap();
    let kernel = back.differences().into_iter().find(|d| d.0 == "kernel").unwrap();
    assert_eq!(kernel.2.as_deref(), Some("linux-image-1.0-test 1.0"));
    assert_eq!(content(&there.options.dir), old);
    let (_, steps) = {
        there.options.published = None;
        there.run()
    };
    assert_eq!(states(&steps), [Done, Cached, Cached, Cached, Cached, Cached]);
    rollback(&there.options.dir).unwrap();
    assert_eq!(content(&there.options.dir), new);
}

#[test]
fn what_vms_may_run_by_stays_when_a_bundle_comes_without_it() {
    let mut made = Fixture::new();
    made.firecracker().url = Some("http://127.0.0.1:1/x".into());
    made.run();
    let package = packed(&made, "a.tar.zst");
    assert!(package.notes[0].contains("Firecracker"), "{:?}", package.notes);
    let mut there = Fixture::new();
    there.run();
    there.options.published = Some(bundle_at(package.path.to_str().unwrap(), None).unwrap());
    assert!(there.run().0.is_good());
    assert_eq!(fs::read(there.file("firecracker")).unwrap(), b"fire");
    assert_eq!(verified(&there.options.dir), [""; 0]);
}

#[test]
fn a_newer_kernel_comes_with_its_initrd_or_not_at_all() {
    let mut fixture = Fixture::new();
    fixture.run();
    let initrd = fs::read(fixture.file("initrd.cpio")).unwrap();
    kernel(&fixture.root, "2.0", b"\x7fELF kernel 2.0");
    fixture.options.extent = Extent::Kernel;
    let init = fixture.options.init.replace("/nonexistent".into());
    let (report, steps) = fixture.run();
    assert_eq!(states(&steps), [Done, Done, Failed]);
    assert!(!report.is_good());
    assert_eq!(fs::read(fixture.file("vmlinux")).unwrap(), b"\x7fELF kernel 1.0");
    assert_eq!(verified(&fixture.options.dir), [""; 0]);
    assert_eq!(beside(&fixture), [""; 0]);

    fixture.options.init = init;
    let (report, steps) = fixture.run();
    assert!(report.is_good(), "{:?}", report.problems);
    assert_eq!(states(&steps), [Done, Done, Done]);
    assert_eq!(fixture.downloads(), 2, "one for each kernel: what was fetched was not lost");
    assert_eq!(fs::read(fixture.file("vmlinux")).unwrap(), b"\x7fELF kernel 2.0");
    assert_ne!(fs::read(fixture.file("initrd.cpio")).unwrap(), initrd);
    let of = |dir: &Path| Bundle::open(dir).unwrap().record().files["vmlinux"].version.clone();
    assert_eq!(of(&fixture.options.dir), "2.0");
    assert_eq!(previous(&fixture.options.dir).unwrap().files["vmlinux"].version, "1.0");
    assert_eq!(verified(&fixture.options.dir), [""; 0]);
    // Images are the same files, not copies.
    let one = |dir: &str| fixture.root.join(dir).join("images/one.img").metadata().unwrap().ino();
    assert_eq!(one("runtime"), one(".runtime.previous"));
    // As long as its lists are the same, apt is not asked again: there is nobody to answer.
    for name in ["apt-cache", "apt-get"] {
        fs::write(fixture.root.join("bin").join(name), "#!/bin/sh\nkill $PPID\n").unwrap();
    }
    assert_eq!(states(&fixture.run().1), [Done, Cached, Cached]);
}

#[test]
fn without_room_beside_it_nothing_is_replaced_by_halves() {
    let made = Fixture::new();
    made.run();
    let archive = packed(&made, "a.tar.zst").path;
    // A mount of its own cannot change its place; as root permissions would not hinder.
    let there = Fixture::new();
    let script = "mkdir \"$0\" && mount -t tmpfs none \"$0\" && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", script]);
    command.arg(&there.options.dir).arg(crate::this_test());
    command.args(["--exact", "publish::in_a_mount_of_its_own", "--nocapture"]);
    command.env("BANGER_TEST_MOUNT", &there.options.dir).env("BANGER_TEST_ARCHIVE", &archive);
    let said = command.output().unwrap();
    if String::from_utf8_lossy(&said.stderr).contains("Operation not permitted") {
        eprintln!("skipped: no mounts here");
        return;
    }
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Not a test of its own: what `without_room_…` runs in a namespace.
#[test]
fn in_a_mount_of_its_own() {
    let Some(dir) = std::env::var_os("BANGER_TEST_MOUNT") else { return };
    let archive = PathBuf::from(std::env::var_os("BANGER_TEST_ARCHIVE").unwrap());
    let mut there = installs(&archive);
    there.options.dir = dir.into();
    let (report, _) = there.run();
    assert!(report.is_good(), "an empty one can be filled: {:?}", report.problems);
    assert_eq!(verified(&there.options.dir), [""; 0]);
    fs::write(there.file("vmlinux"), "damaged").unwrap();
    let (report, _) = there.run();
    assert!(report.problems[0].why.contains("cannot be replaced as a whole"), "{report:?}");
    assert_eq!(verified(&there.options.dir).len(), 1, "all else is as it was");
}
