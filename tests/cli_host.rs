//! The verbs about the host: `doctor`, `doctor --clean`, `ran`.

#![allow(clippy::unwrap_used)]

mod cli_kit;

use std::fs;

use cli_kit::Home;

/// A home with a directory of a VM that its database does not know.
fn with_something_left() -> (Home, std::path::PathBuf) {
    let home = Home::new();
    home.ok(&["ls"]);
    let left = home.state().join("vms/0badcafe");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("root.img"), "a disk").unwrap();
    (home, left)
}

#[test]
fn what_is_left_over_is_shown_with_the_command_that_removes_it() {
    let (home, left) = with_something_left();
    let ran = home.run(&["doctor"]);
    let path = left.to_str().unwrap();
    assert!(ran.out.contains("warning  orphans:") && ran.out.contains(path), "{ran}");
    assert!(ran.out.contains("banger doctor --clean"), "{ran}");
    fs::remove_dir_all(&left).expect("looking removes nothing");
}

#[test]
fn cleaning_shows_everything_and_needs_a_yes() {
    let (home, left) = with_something_left();
    let ran = home.run(&["doctor", "--clean"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(ran.out.contains(&format!("  rm -r {}", left.display())), "{ran}");
    assert!(ran.err.contains("banger doctor --clean --yes"), "{ran}");
    assert!(left.exists());

    let out = home.ok(&["doctor", "--clean", "--yes"]);
    assert!(out.contains(&format!("directory {}: removed", left.display())), "{out}");
    assert!(!left.exists());
    assert!(left.parent().unwrap().exists(), "just what was shown");
    assert_eq!(home.ok(&["doctor", "--clean"]), "nothing is left over on this host\n");
}

#[test]
fn a_host_without_a_state_directory_is_looked_at_all_the_same() {
    let home = Home::new();
    assert!(!home.state().exists());
    let ran = home.run(&["doctor"]);
    assert!(ran.out.contains("ok       overlay: "), "{ran}");
    assert!(!ran.out.contains("No such file"), "{ran}");
}

#[test]
fn options_that_make_no_sense_together_are_refused() {
    let home = Home::new();
    home.run(&["doctor", "--yes"]).fails(2, &["--clean"]);
    home.run(&["doctor", "--clean", "--json"]).fails(2, &["--json"]);
    home.run(&["ran", "some"]).fails(2, &["some"]);
}

#[test]
fn what_was_done_is_listed_even_before_anything_was() {
    let home = Home::new();
    assert_eq!(home.ok(&["ran"]), "");
    assert!(!home.state().exists(), "looking makes nothing");
    let json: serde_json::Value = serde_json::from_str(&home.ok(&["ran", "--json"])).unwrap();
    assert_eq!(json, serde_json::json!({ "version": 1, "calls": [] }));
}

#[test]
fn a_vm_that_is_off_is_neither_paused_nor_resumed() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web", "--network", "user", "--overlay", "sparse-copy"]);
    home.run(&["pause", "web", "nope"]).fails(1, &["cannot pause web", "there is no VM “nope”"]);
    home.run(&["resume", "web"]).fails(1, &["cannot resume web", "it is stopped"]);
    home.run(&["create", "db", "--vmm", "xen"]).fails(1, &["vmm: “xen”: it is auto"]);
    let list: serde_json::Value = serde_json::from_str(&home.ok(&["ls", "--json"])).unwrap();
    assert_eq!(list["vms"][0]["overlay"], "sparse-copy");
    assert_eq!(list["vms"][0]["network"], serde_json::Value::Null);
}
