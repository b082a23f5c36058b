//! The guest's side, as far as it can be tried without a guest: the network in a name space of
//! its own, and the scripts that build images on small trees.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use banger::guest::{GuestNetwork, init::configure_network};

fn text(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/image")
}

/// Runs a test of this file that is ignored otherwise in an own user name space, and in the
/// other ones named.
fn in_own(spaces: &[&str], test: &str) {
    let this = std::env::current_exe().expect("this program");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .args(spaces)
        .arg("--")
        .arg(this)
        .args(["--ignored", "--exact", test, "--nocapture"])
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("1 passed"), "{}", text(&output));
}

#[test]
fn the_network_is_set_up() {
    in_own(&["--net"], "inside_the_network_is_set_up");
}

#[test]
#[ignore = "run by the_network_is_set_up, in an own network"]
fn inside_the_network_is_set_up() {
    let network = GuestNetwork {
        address: "10.9.8.7/24".parse().expect("valid"),
        gateway: Some("10.9.8.1".parse().expect("valid")),
        dns: Vec::new(),
        mtu: Some(1420),
    };
    // The only interface of a new network. Twice, as what is there already is no error.
    for _ in 0..2 {
        configure_network(&network, "lo").expect("configured");
    }
    let addresses = fs::read_to_string("/proc/self/net/fib_trie").expect("readable");
    assert!(addresses.contains("|-- 10.9.8.7"), "{addresses}");
    let routes = fs::read_to_string("/proc/self/net/route").expect("readable");
    // Interface, destination, gateway (little-endian).
    assert!(routes.lines().any(|line| line.starts_with("lo\t00000000\t0108090A")), "{routes}");
    let link = Command::new("ip").args(["link", "show", "lo"]).output().expect("ip runs").stdout;
    assert!(String::from_utf8_lossy(&link).contains("mtu 1420 "), "{link:?}");

    let problem = configure_network(&network, "eth7").expect_err("there is none").to_string();
    assert!(problem.starts_with("cannot find eth7: "), "{problem}");
}

#[test]
fn the_kernel_is_asked_and_its_no_is_passed_on() {
    // Its own user name space has no rights in the network of the host, root's neither.
    in_own(&[], "inside_no_rights");
}

#[test]
#[ignore = "run by the_kernel_is_asked_and_its_no_is_passed_on, without rights"]
fn inside_no_rights() {
    let network = GuestNetwork {
        address: "10.9.8.7/24".parse().expect("valid"),
        gateway: None,
        dns: Vec::new(),
        mtu: None,
    };
    let problem = configure_network(&network, "lo").expect_err("no rights").to_string();
    assert_eq!(problem, "cannot take lo up: Operation not permitted");
}

#[test]
fn a_tree_becomes_a_sparse_file_system_of_roots() {
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc")).expect("made");
    fs::write(tree.join("etc/name"), "tiny\n").expect("written");
    let image = dir.path().join("out/image.img");

    let script = ". ./lib.sh; work_directory \"$2\"; make_ext4 \"$1\" 64 \"$2\"";
    let output = Command::new("sh")
        .current_dir(scripts())
        .args(["-euc", script, "test"])
        .args([&tree, &image])
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{}", text(&output));

    let data = fs::metadata(&image).expect("made");
    assert_eq!(data.len(), 64 << 20);
    assert!(data.blocks() * 512 < 4 << 20, "{} blocks are allocated", data.blocks());
    let left: Vec<_> = fs::read_dir(dir.path().join("out")).expect("readable").collect();
    assert_eq!(left.len(), 1, "the working directory is removed: {left:?}");

    let debugfs = |request: &str| {
        text(&Command::new("debugfs").args(["-R", request]).arg(&image).output().expect("runs"))
    };
    assert!(debugfs("cat /etc/name").contains("tiny"));
    let stat = debugfs("stat /etc/name");
    assert!(stat.contains("User:     0   Group:     0"), "{stat}");
}

#[test]
fn the_debian_image_has_no_identity_and_waits_for_nothing_before_ssh() {
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path();
    let put = |path: &str, text: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("made");
        fs::write(path, text).expect("written");
    };
    put(
        "lib/systemd/system/ssh.service",
        "[Unit]\nDescription=SSH\nAfter=network.target auditd.service\n\n[Service]\n\
         ExecStartPre=/usr/sbin/sshd -t\nExecStart=/usr/sbin/sshd -D\n\n[Install]\n\
         WantedBy=multi-user.target\n",
    );
    put("etc/ssh/ssh_host_rsa_key", "a key of the builder");
    put("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    put("etc/hostname", "builder\n");
    put("etc/resolv.conf", "nameserver 127.0.0.53\n");
    for directory in [
        "etc/ssh/sshd_config.d",
        "etc/profile.d",
        "etc/default",
        "var",
        "etc/systemd/system/getty.target.wants",
    ] {
        fs::create_dir_all(tree.join(directory)).expect("made");
    }

    let script = scripts().join("debian-customize.sh");
    let output = Command::new("sh").arg(script).arg(tree).output().expect("sh runs");
    assert!(output.status.success(), "{}", text(&output));

    assert_eq!(fs::read_to_string(tree.join("etc/machine-id")).expect("there"), "");
    for gone in ["etc/ssh/ssh_host_rsa_key", "etc/hostname", "etc/resolv.conf"] {
        assert!(!tree.join(gone).exists(), "{gone}");
    }
    let unit = fs::read_to_string(tree.join("etc/systemd/system/ssh.service")).expect("there");
    assert!(!unit.contains("After="), "{unit}");
    assert!(unit.contains("\nDefaultDependencies=no\n"), "{unit}");
    assert!(unit.contains("; ssh-keygen -q -t ed25519 -N \\\"\\\" -f"), "{unit}");
    assert!(unit.ends_with("\n[Install]\nWantedBy=multi-user.target\n"), "{unit}");
    let masked = tree.join("etc/systemd/system/multi-user.target.wants/dbus.service");
    assert_eq!(fs::read_link(masked).expect("a link"), Path::new("/dev/null"));
}

#[test]
fn the_scripts_say_how_they_are_used() {
    for script in ["tiny.sh", "debian.sh"] {
        let output = Command::new(scripts().join(script)).output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{script}");
        assert!(text(&output).contains(&format!("usage: {script} OUTPUT")), "{}", text(&output));
    }
}
