use std::os::unix::fs::symlink;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDi0 dev@work";

fn params() -> GuestParams {
    GuestParams {
        network: Some(GuestNetwork {
            address: "10.0.2.15/24".parse().expect("valid"),
            gateway: None,
            dns: vec!["10.0.2.3".parse().expect("valid"), "9.9.9.9".parse().expect("valid")],
            mtu: None,
        }),
        ssh_key: Some(KEY.parse().expect("valid")),
        ..GuestParams::new("web".parse().expect("valid"))
    }
}

/// A root with the directories that every image has.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["etc", "root"] {
        fs::create_dir(dir.path().join(name)).expect("made");
    }
    dir
}

fn text(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).expect(path)
}

fn mode(root: &Path, path: &str) -> u32 {
    fs::metadata(root.join(path)).expect(path).permissions().mode() & 0o7777
}

#[test]
fn an_empty_image_gets_all_of_it() {
    let root = root();
    assert_eq!(apply(root.path(), &params(), &[]), Vec::<String>::new());
    let root = root.path();
    assert_eq!(text(root, "etc/hostname"), "web\n");
    assert_eq!(text(root, "etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tweb\n");
    assert_eq!(text(root, "etc/resolv.conf"), "nameserver 10.0.2.3\nnameserver 9.9.9.9\n");
    assert_eq!(text(root, "root/.ssh/authorized_keys"), format!("{KEY_NOTE}\n{KEY}\n"));
    assert_eq!(mode(root, "root/.ssh"), 0o700);
    assert_eq!(mode(root, "root/.ssh/authorized_keys"), 0o600);
}

#[test]
fn nothing_is_written_that_is_so_already() {
    use std::os::unix::fs::MetadataExt as _;
    let root = root();
    apply(root.path(), &params(), &[]);
    let paths = ["etc/hostname", "etc/hosts", "etc/resolv.conf", "root/.ssh/authorized_keys"];
    // A file that is replaced has another inode.
    let inode = |path: &&str| fs::metadata(root.path().join(path)).expect("there").ino();
    let before: Vec<_> = paths.iter().map(inode).collect();
    apply(root.path(), &params(), &[]);
    assert_eq!(paths.iter().map(inode).collect::<Vec<_>>(), before);
}

#[test]
fn the_users_own_keys_stay_and_ours_is_replaced() {
    let old = format!("ssh-rsa AAAA mine\n{KEY_NOTE}\nssh-rsa BBBB old\n# a note\nssh-rsa CCCC x");
    let key = KEY.parse().expect("valid");
    assert_eq!(
        authorized_keys(&old, &[&key]),
        format!("ssh-rsa AAAA mine\n# a note\nssh-rsa CCCC x\n{KEY_NOTE}\n{KEY}\n")
    );
    let two = authorized_keys("", &[&key, &key]);
    assert_eq!(two, format!("{KEY_NOTE}\n{KEY}\n").repeat(2));
    assert_eq!(authorized_keys(&two, &[&key]), format!("{KEY_NOTE}\n{KEY}\n"));
    assert_eq!(authorized_keys(&old, &[]), "ssh-rsa AAAA mine\n# a note\nssh-rsa CCCC x\n");
}

#[test]
fn without_a_key_no_file_is_made() {
    let root = root();
    let params = GuestParams { ssh_key: None, ..params() };
    assert_eq!(apply(root.path(), &params, &[]), Vec::<String>::new());
    assert!(!root.path().join("root/.ssh").exists());
}

#[test]
fn the_host_name_takes_the_place_of_the_one_before() {
    assert_eq!(
        hosts("127.0.0.1 localhost\n127.0.1.1 db\n::1 x\n", "web"),
        "127.0.0.1 localhost\n127.0.1.1\tweb\n::1 x\n"
    );
    let with_aliases = "127.0.1.1 web.example.org web\n";
    assert_eq!(hosts(with_aliases, "web"), with_aliases);
}

#[test]
fn links_are_followed_inside_the_image_only() {
    let root = root();
    symlink("/run/resolve/stub.conf", root.path().join("etc/resolv.conf")).expect("made");
    symlink("../../../../srv/name", root.path().join("etc/hostname")).expect("made");
    assert_eq!(apply(root.path(), &params(), &[]), Vec::<String>::new());
    assert!(text(root.path(), "run/resolve/stub.conf").starts_with("nameserver"));
    assert_eq!(text(root.path(), "srv/name"), "web\n");
    assert!(root.path().join("etc/resolv.conf").is_symlink());
}

#[test]
fn what_cannot_be_written_is_a_warning_and_the_rest_is_done() {
    let root = root();
    symlink("hosts", root.path().join("etc/hosts")).expect("made");
    fs::create_dir(root.path().join("etc/hostname")).expect("made");
    let warnings = apply(root.path(), &params(), &[]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("cannot write /etc/hostname: "), "{warnings:?}");
    assert_eq!(warnings[1], "cannot write /etc/hosts: too many links");
    assert!(root.path().join("root/.ssh/authorized_keys").exists());
}

#[test]
fn a_stricter_mode_stays() {
    let root = root();
    let path = root.path().join("etc/hosts");
    fs::write(&path, "127.0.0.1 localhost\n").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    apply(root.path(), &params(), &[]);
    assert_eq!(mode(root.path(), "etc/hosts"), 0o600);
}
