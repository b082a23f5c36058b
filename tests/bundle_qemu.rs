//! A bundle with a QEMU of its own: packed here, installed elsewhere, run where there is none.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use common::{Home, Load, in_own_mounts, runtime_dir, skip};
use serde_json::Value;

/// Hides the host's QEMU: what it loads, what it starts from, and itself.
const HIDE: &str = "for dir in /usr/lib/*/qemu /usr/lib/qemu /usr/share/qemu /usr/share/seabios \\
    /usr/share/qboot; do
    [ ! -d \"$dir\" ] || mount -t tmpfs none \"$dir\"
done
for file in /usr/bin/qemu-*; do [ ! -e \"$file\" ] || mount --bind /dev/null \"$file\"; done";

/// A runtime directory of links that has no image but `tiny`: another would be packed for longer
/// than all else takes.
fn with_tiny_alone(dir: &Path) {
    let from = runtime_dir();
    let text = fs::read(from.join("bundle.json")).expect("a record");
    let mut record: Value = serde_json::from_slice(&text).expect("JSON");
    let other = |name: &str| name.starts_with("images/") && name != "images/tiny.img";
    let files = record["files"].as_object_mut().expect("files");
    files.retain(|name, _| !other(name));
    for name in files.keys() {
        let to = dir.join(name);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        std::os::unix::fs::symlink(from.join(name), to).expect("a link");
    }
    record["images"].as_object_mut().expect("images").retain(|name, _| name == "tiny");
    let steps = record["steps"].as_object_mut().expect("steps");
    steps.retain(|name, _| !name.starts_with("image ") || name == "image tiny");
    fs::write(dir.join("bundle.json"), record.to_string()).expect("a record");
}

#[test]
fn a_vm_boots_by_the_qemu_of_a_bundle_on_a_host_without_one() {
    let test = "a_vm_boots_by_the_qemu_of_a_bundle_on_a_host_without_one";
    if !nix::unistd::geteuid().is_root() {
        skip(test, "the host's QEMU is hidden by mounts: run as root");
        return;
    }
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let program = format!("qemu-system-{}", std::env::consts::ARCH);
    let mut there = Command::new(&program);
    there.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    if !there.status().is_ok_and(|status| status.success()) {
        skip(test, &format!("{program} is not there to be packed"));
        return;
    }
    let hidden = in_own_mounts(HIDE, &there).stderr(Stdio::piped()).output().expect("unshare");
    let hidden = String::from_utf8_lossy(&hidden.stderr).into_owned();
    if !hidden.contains("Permission denied") {
        skip(test, &format!("the host's QEMU cannot be hidden here: {hidden}"));
        return;
    }

    let whole = home.path().join("whole");
    with_tiny_alone(&whole);
    let archive = home.path().join("bundle.tar.zst");
    let archive = archive.to_str().expect("UTF-8");
    let dir = whole.to_str().expect("UTF-8");
    let said = home.ok(&["runtime", "package", "--with-qemu", "--output", archive, "--dir", dir]);
    assert!(said.contains("[bundle."), "{said}");

    let runtime = home.path().join("runtime");
    home.set("BANGER_RUNTIME_DIR", runtime.to_str().expect("UTF-8"));
    home.ok(&["runtime", "bootstrap", "--bundle", archive]);
    home.ok(&["runtime", "verify"]);

    let create = ["create", "web", "--image", "tiny", "--vmm", "qemu-tcg", "--start", "--wait"];
    let made = home.run_with(in_own_mounts(HIDE, &home.command(&create)), b"");
    assert_eq!(made.code, Some(0), "{made:?}\n{}", home.report());
    assert_eq!(home.ok(&["ssh", "web", "echo here"]), "here\n");
    // What it was started as, and what it has become: no file of the host's is mapped.
    let qemu = runtime.join("qemu").to_str().expect("UTF-8").to_owned();
    let ran = home.ok(&["ran"]);
    assert!(ran.contains(&qemu), "{ran}");
    let vmm = home.only("VMM", &home.vmms());
    let maps = fs::read_to_string(format!("/proc/{vmm}/maps")).expect("its memory");
    let mapped = maps.lines().filter_map(|line| line.split_once(" /").map(|(_, path)| path));
    let mut libraries = mapped.filter(|path| path.contains(".so")).peekable();
    assert!(libraries.peek().is_some(), "{maps}");
    for path in libraries {
        assert!(format!("/{path}").starts_with(&qemu), "{path} is the host's");
    }
    home.ok(&["kill", "web"]);
    home.assert_nothing_runs();
}
