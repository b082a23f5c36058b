//! The real binary with bad input: one clear message with the next step, an exit code that is
//! not 0, nothing lost and nothing left behind.

#![allow(clippy::unwrap_used)]

mod cli_kit;

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
};

use cli_kit::{BANGER, Home, Ran, skip};

/// Runs a line of shell in a mount namespace of its own, where `$S` is the state directory and
/// `$B` banger. Root is not stopped by permissions, but by a file system that is read-only or
/// full.
fn in_own_mounts(home: &Home, script: &str) -> Option<Ran> {
    let mut command = home.command(&[]);
    let env: Vec<_> =
        command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    let user = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
    command = Command::new("unshare");
    command.args([user, "sh", "-euc", script]).env_clear().envs(env).stdin(Stdio::null());
    command.env("S", home.state()).env("B", BANGER);
    let probe = Command::new("unshare").args([user, "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("no mount namespace can be made here (unshare)");
        return None;
    }
    Some(Ran::new(&[script], &command.output().unwrap()))
}

#[test]
fn bad_values_are_told_all_at_once_and_leave_nothing() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web"]);
    let before = home.listing();
    let long = "x".repeat(300);
    let cases: &[(&[&str], &[&str])] = &[
        (&["Web"], &["error: name: 'W' cannot be in a name"]),
        (&["a.b"], &["error: name: "]),
        (&[""], &["error: name: a name is needed"]),
        (&[&long], &["at most 63 characters, this one has 300"]),
        (&["web"], &["error: name: there is a VM web already"]),
        (&["db", "--memory", "0"], &["error: memory: ", "64 MiB to 1 TiB"]),
        (&["db", "--memory", "-1"], &["error: memory: ", "no size"]),
        (&["db", "--memory", "10TiB"], &["error: memory: ", "64 MiB to 1 TiB"]),
        (&["db", "--image", "tiyn"], &["error: image: ", "did you mean tiny?"]),
        (&["db", "--vcpus", "99"], &["error: vcpus: ", "1 to 32"]),
        (&["db", "--disk", "huge"], &["error: disk: "]),
        (
            &["-x-", "--image", "no", "--vcpus", "0", "--memory", "0", "--disk", "0"],
            &[
                "error: name: ",
                "error: image: ",
                "error: vcpus: ",
                "error: memory: ",
                "error: disk",
            ],
        ),
    ];
    for (args, says) in cases {
        home.run(&[&["create"], *args].concat()).fails(1, says);
        assert_eq!(home.listing(), before, "{args:?}");
    }
    home.run(&["rename", "web", "W"]).fails(1, &["error: name: "]);
    home.run(&["rename", "nope", "web"]).fails(1, &["there is no VM “nope”", "hint: "]);
    assert_eq!(home.names(), ["web"]);
}

#[test]
fn an_image_that_is_missing_truncated_or_no_file_system_is_refused() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web"]);
    let before = home.listing();
    let image = home.path().join("runtime/images/tiny.img");
    fs::File::options().write(true).open(&image).unwrap().set_len(4096).unwrap();
    home.run(&["create", "db"]).fails(1, &["error: ", "tiny", "hint: "]);
    fs::write(&image, vec![b'x'; 16 << 20]).unwrap();
    home.run(&["create", "db"]).fails(1, &["tiny", "no ext4 file system", "hint: "]);
    fs::remove_file(&image).unwrap();
    home.run(&["create", "db"]).fails(1, &["error: ", "tiny", "hint: "]);
    assert_eq!(home.listing(), before);
    assert_eq!(home.names(), ["web"]);
}

#[test]
fn without_a_runtime_directory_the_places_and_the_command_are_named() {
    let home = Home::new();
    home.run(&["create", "web"]).fails(1, &["no-runtime", "banger runtime bootstrap"]);
    assert!(home.names().is_empty());
}

#[test]
fn unknown_words_get_the_nearest_known() {
    let home = Home::new();
    home.run(&["strat", "web"]).fails(2, &["'strat'", "'start'"]);
    home.run(&["start"]).fails(2, &["NAME"]);
    home.run(&["ls", "--jsno"]).fails(2, &["--json"]);
    home.run(&["create", "web", "--wait"]).fails(2, &["--wait needs --start"]);
    home.run(&[]).fails(2, &["terminal", "banger --help"]);
    assert!(!home.state().exists() || home.names().is_empty());
}

#[test]
fn what_can_be_done_is_done_and_the_exit_code_says_the_rest() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "a"]);
    home.ok(&["create", "b"]);
    let ran = home.run(&["rm", "--yes", "a", "nope", "a", "b"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert_eq!(ran.err.matches("there is no VM “nope”").count(), 1, "{ran}");
    let mut told: Vec<_> = ran.out.lines().collect();
    told.sort_unstable();
    assert_eq!(told, ["a: removed", "b: removed"]);
    assert!(home.names().is_empty());
}

#[test]
fn removing_is_not_done_unasked() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web"]);
    home.run(&["rm", "web"]).fails(2, &["will not remove web", "banger rm --yes web"]);
    assert_eq!(home.names(), ["web"]);
}

#[test]
fn what_needs_a_running_vm_says_how_to_start_it() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web"]);
    home.run(&["ssh", "web", "true"]).fails(1, &["it is stopped", "banger start --wait web"]);
    home.run(&["console", "web"]).fails(1, &["error: ", "hint: "]);
    let ran = home.run(&["stop", "web"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(home.ok(&["logs", "web"]), "");
}

#[test]
fn a_configuration_with_an_unknown_key_names_the_nearest() {
    let home = Home::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("config.toml"), "stop_timeuot = 3\n").unwrap();
    home.run(&["ls"]).fails(1, &["config.toml", "stop_timeuot", "stop_timeout"]);
    assert!(!home.state().exists());
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.out.contains("stop_timeuot"), "{ran}");
}

#[test]
fn a_damaged_database_is_not_touched_and_the_backup_is_offered() {
    let home = Home::new();
    home.ok(&["ls"]);
    let database = home.state().join("banger.db");
    fs::copy(&database, home.state().join("banger.db.bak")).unwrap();
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(home.state().join(format!("banger.db{end}")));
    }
    fs::write(&database, "this was a database once").unwrap();
    home.run(&["ls"]).fails(1, &["banger.db", "hint: ", "banger.db.bak"]);
    assert_eq!(fs::read(&database).unwrap(), b"this was a database once");
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.out.contains("FAILED   database"), "{ran}");
    fs::remove_file(&database).unwrap();
}

#[test]
fn a_newer_database_is_not_touched() {
    let home = Home::new();
    home.ok(&["ls"]);
    let database = home.state().join("banger.db");
    // The version is a big-endian number at byte 60 (https://www.sqlite.org/fileformat.html).
    let mut bytes = fs::read(&database).unwrap();
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    fs::write(&database, &bytes).unwrap();
    home.run(&["ls"]).fails(1, &["newer", "hint: "]);
    assert_eq!(fs::read(&database).unwrap(), bytes);
    fs::remove_file(&database).unwrap();
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told() {
    let home = Home::new();
    let with = |name: &str, value: &str, args: &[&str]| {
        Ran::new(args, &home.command(args).env(name, value).output().unwrap())
    };
    with("BANGER_STATE_DIR", "relative/dir", &["ls"]).fails(1, &["BANGER_STATE_DIR", "hint: "]);
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    with("BANGER_STATE_DIR", file.to_str().unwrap(), &["ls"]).fails(1, &["file", "hint: "]);
    // Sockets are in the run directory: its length is what matters.
    let long = format!("{}/{}", home.path().display(), "d".repeat(200));
    with("XDG_RUNTIME_DIR", &long, &["ls"]).fails(1, &["107", "XDG_RUNTIME_DIR"]);
    assert!(!std::path::Path::new(&long).exists());
    let ran = with("BANGER_STATE_DIR", &long, &["ls"]);
    assert_eq!(ran.code, 0, "a long state directory is no problem: {ran}");
}

#[test]
fn a_read_only_state_directory_is_told() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web"]);
    let before = home.listing();
    let script = "mount --bind \"$S\" \"$S\"; mount -o remount,ro,bind \"$S\"; \"$B\" create db";
    if let Some(ran) = in_own_mounts(&home, script) {
        ran.fails(1, &["read-only", "hint: ", "BANGER_STATE_DIR"]);
    }
    assert_eq!(home.listing(), before);
}

#[test]
fn a_full_state_directory_is_told_and_nothing_half_made_is_left() {
    let home = Home::with_fake_runtime();
    fs::create_dir(home.state()).unwrap();
    let script = "mount -t tmpfs -o size=2m,mode=0700 none \"$S\"; \"$B\" create db 2>&1 && exit 9;
        ls \"$S\"/vms 2>/dev/null || true; \"$B\" ls";
    let Some(ran) = in_own_mounts(&home, script) else { return };
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("error: ") && ran.out.contains("hint: "), "{ran}");
    assert!(
        ran.out.contains("full") || ran.out.contains("room") || ran.out.contains("space"),
        "{ran}"
    );
    assert!(!ran.out.contains("\ndb "), "the VM is listed: {ran}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let home = Home::new();
    for args in [&["--help"] as &[&str], &["ls", "--json"], &["doctor"]] {
        let mut child =
            home.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn a_disk_that_takes_no_output_is_an_error() {
    let home = Home::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = home.command(&["ls", "--json"]).stdout(full).stderr(Stdio::piped()).output();
    let ran = Ran::new(&["ls", "--json"], &output.unwrap());
    ran.fails(1, &["cannot write the output"]);
}

#[test]
fn the_list_for_scripts_has_what_is_documented() {
    let home = Home::with_fake_runtime();
    home.ok(&["create", "web", "--memory", "256M", "--vcpus", "2"]);
    let list = home.list();
    assert_eq!(list["version"], 1);
    let vm = &list["vms"][0];
    assert_eq!((&vm["name"], &vm["state"]), (&"web".into(), &"stopped".into()));
    assert_eq!((&vm["memory_mib"], &vm["vcpus"]), (&256.into(), &2.into()));
    assert!(list["host"]["vmm"].is_string(), "{list}");
    let table = home.ok(&["ls"]);
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("\nweb   stopped"), "{table}");
}
