//! A container image is imported and boots: its init is ours, its console has a shell.

mod common;

use std::{
    cell::RefCell,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
};

use banger::image::import::{Options, Progress, import};
use common::{Home, Load, guest_by_hand, runtime_dir, signal, skip, until, until_or};
use nix::sys::signal::Signal;
use serde_json::json;

fn sha256(path: &Path) -> String {
    let said = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    String::from_utf8_lossy(&said.stdout)[..64].to_owned()
}

/// Puts a file where a layout has it by its digest; the digest.
fn blob(layout: &Path, file: &Path) -> String {
    let hex = sha256(file);
    fs::create_dir_all(layout.join("blobs/sha256")).expect("made");
    fs::copy(file, layout.join("blobs/sha256").join(&hex)).expect("copied");
    format!("sha256:{hex}")
}

fn text_blob(layout: &Path, text: &str) -> String {
    let file = layout.join("text");
    fs::write(&file, text).expect("written");
    let digest = blob(layout, &file);
    fs::remove_file(file).expect("removed");
    digest
}

fn tar(dir: &Path, to: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--owner=0", "--group=0", "-C"])
        .arg(dir)
        .arg("-cf")
        .arg(to)
        .arg(".");
    assert!(tar.status().expect("tar").success());
}

/// A layout with busybox in one layer, and one that hides and adds files.
fn layout(dir: &Path, busybox: &Path) -> PathBuf {
    let (one, two, layout) = (dir.join("one"), dir.join("two"), dir.join("layout"));
    for path in ["bin", "etc/profile.d", "root", "tmp"] {
        fs::create_dir_all(one.join(path)).expect("made");
    }
    fs::copy(busybox, one.join("bin/busybox")).expect("copied");
    let mut chmod = Command::new("chmod");
    assert!(chmod.arg("0755").arg(one.join("bin/busybox")).status().expect("chmod").success());
    for applet in
        ["sh", "mount", "mkdir", "ln", "sleep", "sync", "setsid", "cat", "ls", "chmod", "expr"]
    {
        std::os::unix::fs::symlink("busybox", one.join("bin").join(applet)).expect("a link");
    }
    fs::write(one.join("etc/profile"), "for f in /etc/profile.d/*.sh; do . $f; done\n")
        .expect("written");
    fs::write(one.join("etc/old"), "old").expect("written");
    fs::create_dir_all(two.join("etc")).expect("made");
    fs::write(two.join("etc/.wh.old"), "").expect("written");
    fs::write(two.join("etc/new"), "new\n").expect("written");
    let (first, second) = (dir.join("one.tar"), dir.join("two.tar"));
    tar(&one, &first);
    tar(&two, &second);
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    fs::create_dir(&layout).expect("made");
    let layers = [blob(&layout, &first), blob(&layout, &second)];
    let config = json!({
        "architecture": arch, "os": "linux", "config": {"Env": ["GREETING=hello from a container"]},
        "rootfs": {"type": "layers", "diff_ids": layers}
    });
    let config = text_blob(&layout, &config.to_string());
    let layers = layers.map(|digest| json!({"mediaType": "tar", "digest": digest, "size": 1}));
    let manifest = json!({"schemaVersion": 2, "config": {"digest": config}, "layers": layers});
    let manifest = text_blob(&layout, &manifest.to_string());
    let index = json!({"schemaVersion": 2, "manifests": [{"digest": manifest, "size": 1}]});
    fs::write(layout.join("index.json"), index.to_string()).expect("written");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    layout
}

#[test]
fn a_container_image_boots_to_a_shell_on_the_console_and_powers_off() {
    let test = "a_container_image_boots_to_a_shell_on_the_console_and_powers_off";
    let runtime = runtime_dir();
    let tiny = runtime.join("images/tiny.img");
    if !tiny.is_file() {
        return skip(test, "the runtime directory has no image tiny; `make runtime` makes it");
    }
    let dir = tempfile::tempdir().expect("a directory");
    // A static one: that of the image tiny.
    let busybox = dir.path().join("busybox");
    let mut debugfs = Command::new("/usr/sbin/debugfs");
    debugfs.arg("-R").arg(format!("dump /bin/busybox {}", busybox.display())).arg(&tiny);
    assert!(debugfs.output().expect("debugfs").status.success());
    let layout = layout(dir.path(), &busybox);
    let staged = dir.path().join("staged");
    fs::create_dir(&staged).expect("made");
    let notes = RefCell::new(Vec::new());
    let say = |progress: Progress<'_>| {
        if let Progress::Note(note) = progress {
            notes.borrow_mut().push(note.to_owned());
        }
    };
    import(&layout, &staged, &Options::default(), &AtomicBool::new(false), &say).expect("imported");
    let notes = notes.into_inner();
    assert!(notes.iter().any(|note| note.contains("the only way in")), "{notes:?}");

    let mut command = guest_by_hand("root=/dev/vda rootfstype=ext4 rw banger.host=boxed");
    let drive = format!("id=d0,file={},format=raw,if=none", staged.join("root.img").display());
    command.args(["-drive", &drive, "-device", "virtio-blk-device,drive=d0"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("QEMU");
    let said = Arc::new(Mutex::new(String::new()));
    let reader = {
        let (said, mut out) = (Arc::clone(&said), child.stdout.take().expect("piped"));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                said.lock().expect("lock").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        })
    };
    let text = || said.lock().expect("lock").clone();
    let mut input = child.stdin.take().expect("piped");
    let seen = |part: &str| until_or(part, || text().contains(part).then_some(()), text);
    seen("was a container's");
    seen("# ");
    let script = "echo sum=$(expr 40 + 2) $GREETING; cat /etc/new /etc/hostname; ls /etc/old; \
                  /sbin/poweroff\n";
    input.write_all(script.as_bytes()).expect("typed");
    for part in ["sum=42 hello from a container", "new\r\nboxed", "/etc/old: No such", "Power down"]
    {
        seen(part);
    }
    assert!(child.wait().expect("its end").success());
    reader.join().expect("all read");
    // It was left whole: nothing to replay but what any VM leaves.
    let mut check = Command::new("/usr/sbin/e2fsck");
    let checked = check.arg("-fp").arg(staged.join("root.img")).output().expect("e2fsck");
    assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
}

/// What is in a directory, if it is there.
fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_import_is_published_shares_its_content_and_leaves_nothing_when_it_ends_early() {
    let home = Home::new(Load::Light);
    let (images, bases) = (home.layout().images(), home.layout().state.join("bases"));
    let dir = tempfile::tempdir().expect("a directory");
    // Nothing of it runs here.
    let program = dir.path().join("program");
    fs::write(&program, "x").expect("written");
    let layout = layout(dir.path(), &program);
    let source = layout.to_str().expect("UTF-8");
    let out = home.ok(&["images", "import", source, "--name", "boxed", "--memory", "1G"]);
    assert!(out.starts_with("boxed: imported from a container image; 1 GiB"), "{out}");
    let shown = home.ok(&["images", "show", "boxed", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["origin"], "imported", "{shown}");
    assert_eq!(shown["default_memory_mib"], 1024, "{shown}");
    let again = home.fails(&["images", "import", source, "--name", "boxed"]);
    assert!(again.err.contains("an image of that name"), "{again:?}");
    home.ok(&["images", "import", source, "--name", "twin"]);
    assert_eq!(entries(&bases).len(), 1, "the same content");
    // One that does harm, and one that is ended while it is at it.
    let bad = home.fails(&["images", "import", program.to_str().expect("UTF-8"), "--name", "bad"]);
    assert!(bad.err.contains("nothing that is known"), "{bad:?}");
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sbin")).expect("made");
    fs::write(root.join("sbin/init"), "x").expect("written");
    fs::write(root.join("large"), vec![b'x'; 256 << 20]).expect("written");
    let archive = dir.path().join("root.tar");
    tar(&root, &archive);
    let command = ["images", "import", archive.to_str().expect("UTF-8"), "--name", "large"];
    let running = home.spawn(&command);
    let staged = || entries(&images).into_iter().find(|name| name.starts_with(".staged-"));
    until("a staged image", || {
        staged().is_some_and(|name| images.join(name).join("work/data/0").exists())
    });
    signal(running.pid(), Signal::SIGINT);
    let said = running.end();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("cancelled"), "{said:?}");
    let mut left = entries(&images);
    left.sort();
    assert_eq!(left, ["boxed", "twin"]);
    assert_eq!(entries(&bases).len(), 1);
}
