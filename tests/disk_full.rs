//! The disk of the state directory is full to the last byte: what there is can be seen, and
//! removed.

mod common;

use std::process::Command;

use common::{Home, Load, Said, in_own_mounts, skip};

/// As many bytes as SQLite's log is likely to need, and the disk of one VM, beside what is set
/// aside.
const SIZE: &str = "96m";

/// Runs lines of shell with the state directory on a small disk of its own, where `$B` is banger,
/// and `fill` leaves no byte of it free.
fn on_a_small_disk(test: &str, home: &Home, script: &str) -> Option<Said> {
    let state = home.layout().state.to_str().expect("UTF-8");
    let mount = format!("mount -t tmpfs -o size={SIZE},mode=700 tmpfs {state}");
    if home.run_with(in_own_mounts(&mount, &Command::new("true")), b"").code != Some(0) {
        skip(test, "no mount namespace with a tmpfs can be made here");
        return None;
    }
    let banger = home.command(&[]).get_program().to_owned();
    let fill = "fill() { cat /dev/zero >>\"$BANGER_STATE_DIR/fill\" 2>/dev/null || true; }\n\
                spares() { ls \"$BANGER_STATE_DIR\" | grep -c spare; true; }\n";
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(format!("{fill}{script}")).envs(home.variables().iter().cloned());
    sh.env("B", banger);
    Some(home.run_with(in_own_mounts(&mount, &sh), b""))
}

#[test]
fn on_a_full_disk_all_is_seen_and_removed_and_room_is_set_aside_again() {
    let test = "on_a_full_disk_all_is_seen_and_removed_and_room_is_set_aside_again";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let script = r#"
        set -e
        "$B" create web --image tiny >&2
        "$B" images export tiny "$HOME/tiny.export" >&2
        "$B" images import "$HOME/tiny.export" --name mine >&2
        fill; echo "before: $(spares)"
        "$B" ls --json | grep -c '"name": *"web"'; fill
        "$B" rename web shop; fill
        "$B" doctor | grep -A2 ' spare: '; fill
        "$B" images rm --yes mine; fill
        "$B" rm --yes shop
        test "$(spares)" -lt 8
        fill; "$B" ls --json | grep -c '"vms": *\[\]'
        rm "$BANGER_STATE_DIR/fill"
        "$B" ls >&2
        echo "after: $(spares)"
    "#;
    let Some(said) = on_a_small_disk(test, &home, script) else { return };
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut lines = said.out.lines();
    let mut next = || lines.next().unwrap_or_default();
    assert_eq!(next(), "before: 8", "{said:?}");
    assert_eq!(next(), "1", "the VM is listed: {said:?}");
    assert_eq!(next(), "web: is shop now", "{said:?}");
    assert!(next().contains("MiB of 8 MiB set aside"), "{said:?}");
    assert!(next().contains("on a disk that is full"), "{said:?}");
    assert!(next().contains("`banger rm`"), "{said:?}");
    assert_eq!([next(), next()], ["mine: removed", "shop: removed"], "{said:?}");
    assert_eq!([next(), next()], ["1", "after: 8"], "{said:?}");
}

#[test]
fn with_nothing_set_aside_the_full_disk_is_named_and_what_to_do() {
    let test = "with_nothing_set_aside_the_full_disk_is_named_and_what_to_do";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let script = r#"
        "$B" create web --image tiny >&2 || exit 1
        rm "$BANGER_STATE_DIR"/banger.db-spare-*
        fill; "$B" ls; echo "code=$?"
        "$B" rm --yes web; echo "code=$?"
        rm "$BANGER_STATE_DIR/fill"; "$B" rm --yes web
    "#;
    let Some(said) = on_a_small_disk(test, &home, script) else { return };
    assert_eq!(said.out, "code=1\ncode=1\nweb: removed\n", "{said:?}");
    let told = format!("the disk of {} is full", home.layout().state.display());
    assert_eq!(said.err.matches(&told).count(), 2, "{said:?}");
    assert!(said.err.contains("by hand") && said.err.contains("banger.log"), "{said:?}");
}

#[test]
fn a_monitor_on_a_full_disk_goes_on_and_writes_down_how_its_run_ended() {
    let test = "a_monitor_on_a_full_disk_goes_on_and_writes_down_how_its_run_ended";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    // Both boot times and the end are written while not a byte is free; who fills goes on at it.
    let script = r#"
        "$B" create web --image tiny --start --wait=150 >&2 || exit 1
        fill; "$B" ls; fill
        "$B" stop web; fill
        "$B" ls --json
    "#;
    let Some(said) = on_a_small_disk(test, &home, script) else { return };
    assert_eq!(said.code, Some(0), "{said:?}");
    let (text, json) = said.out.split_at(said.out.find('{').expect("a list"));
    assert!(text.contains("web: stopped"), "{said:?}");
    let list: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let vm = &list["vms"][0];
    assert_eq!(vm["state"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["kind"], "stopped", "{vm}");
}
