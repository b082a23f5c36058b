//! Builds in a VM that are killed or interrupted, with real VMs: nothing of their helpers stays, and
//! nothing of a step that was interrupted meets its next try.

mod common;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use common::{Home, Load, Running, screen::Tui, signal, skip, until, until_or};
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, killpg},
    unistd::{Pid, geteuid},
};

/// Writes a recipe into the home; its path.
fn recipe(home: &Home, text: &str) -> String {
    let path = home.path().join("recipe.toml");
    fs::write(&path, text).expect("the recipe");
    path.to_str().expect("UTF-8").to_owned()
}

/// The names in a directory of the state.
fn names(home: &Home, dir: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(home.layout().state.join(dir)).into_iter().flatten();
    entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
}

/// What the build that is under way has said.
fn log(home: &Home) -> String {
    let staged = names(home, "images").into_iter().next().unwrap_or_default();
    let log = home.layout().state.join("images").join(staged).join("build.log");
    fs::read_to_string(log).unwrap_or_default()
}

/// Builds an image in a VM, without anybody at a terminal.
fn build(home: &Home, recipe: &str) -> Running {
    let words = ["images", "build", recipe, "--yes", "--engine", "vm"];
    let mut command = home.command(&words);
    Running::of(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

#[test]
fn a_build_in_a_vm_that_is_killed_at_any_stage_leaves_nothing() {
    let test = "a_build_in_a_vm_that_is_killed_at_any_stage_leaves_nothing";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    let path = |script: &str| {
        let text = format!("name = \"a\"\nbase = \"tiny\"\nscript = \"{script}\"\n");
        recipe(&home, &text)
    };
    let helper = |name: &str| home.list().iter().any(|vm| vm["name"] == name);
    let stages: [(&str, &str, &dyn Fn() -> bool); 3] = [
        ("its builder boots", "true", &|| !home.vmms().is_empty()),
        ("a step runs", "echo begun; sleep 86395", &|| log(&home).contains("    begun")),
        ("its test boots", "true", &|| {
            log(&home).contains("==> test boot") && helper("test-a") && !home.vmms().is_empty()
        }),
    ];
    for (stage, script, is_there) in stages {
        let running = build(&home, &path(script));
        until_or(
            stage,
            || is_there().then_some(()),
            || format!("{}\n{}", log(&home), home.report()),
        );
        signal(running.pid(), Signal::SIGKILL);
        drop(running);
        // Whoever looks next ends what was left.
        until_or(
            &format!("nothing is left after a kill when {stage}"),
            || {
                let gone = home.list().is_empty() && home.processes("").is_empty();
                gone.then_some(())
            },
            || home.report(),
        );
        until_or(
            &format!("no directory is left after a kill when {stage}"),
            || {
                home.ok(&["ls"]);
                let left = ["images", "bases", "vms"].map(|dir| names(&home, dir));
                left.iter().all(BTreeSet::is_empty).then_some(())
            },
            || format!("{:?}", ["images", "bases", "vms"].map(|dir| names(&home, dir))),
        );
        home.assert_nothing_runs();
    }
}

#[test]
fn a_step_that_was_interrupted_has_ended_when_it_is_tried_again() {
    let test = "a_step_that_was_interrupted_has_ended_when_it_is_tried_again";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    // The second time it looks for what the first has left.
    let script = "[ -e /root/first ] || { touch /root/first; setsid sleep 86394 & sleep 86394; }; \
        ! ps | grep -v grep | grep 'sleep 86394' || exit 9; touch /root/second";
    let text = format!("name = \"a\"\nbase = \"tiny\"\nscript = \"{script}\"\n");
    let path = recipe(&home, &text);
    let words = [env!("CARGO_BIN_EXE_banger"), "images", "build", &path];
    let options = ["--yes", "--engine", "vm", "--no-test-boot"];
    let mut tui = Tui::program(&home, &[&words[..], &options].concat(), (120, 50));
    tui.see("3/5 script");
    let in_vm = |command: &str| {
        let mut ssh = home.command(&["ssh", "build-a", command]);
        ssh.output().is_ok_and(|run| run.status.success())
    };
    until("the step is at its first sleep", || in_vm("[ -e /root/first ]"));
    tui.keys("\u{3}");
    tui.see("[r]etry");
    tui.keys("r\n");
    tui.see("a is ready");
    assert_eq!(tui.end(), 0);
    let image = fs::read_to_string(home.layout().state.join("images/a/image.json")).expect("image");
    let image: serde_json::Value = serde_json::from_str(&image).expect("JSON");
    let disk = home.layout().base(image["sha256"].as_str().expect("a sum"));
    let mut debugfs = Command::new("/sbin/debugfs");
    let run = debugfs.args(["-R", "stat /root/second"]).arg(disk).output().expect("debugfs");
    assert!(String::from_utf8_lossy(&run.stdout).contains("Inode:"), "{run:?}");
    home.assert_nothing_runs();
}

#[test]
fn a_debian_that_is_killed_in_the_making_leaves_no_mount() {
    let test = "a_debian_that_is_killed_in_the_making_leaves_no_mount";
    if !geteuid().is_root() {
        return skip(test, "needs root: what a normal user mounts is in a namespace anyway");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let mut command = Command::new("sh");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/image/debian.sh"));
    command.arg(dir.path().join("debian.img")).env("TMPDIR", dir.path()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(File::create(&log).expect("a log"));
    let mut script = command.process_group(0).spawn().expect("sh");
    let mounts = |process: &str| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
        let places = text.lines().filter_map(|line| line.split(' ').nth(4));
        places
            .filter(|place| place.starts_with(&*dir.path().to_string_lossy()))
            .map(Into::into)
            .collect()
    };
    until_or(
        "something mounted",
        || {
            let ended = script.try_wait().expect("its status");
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&log).expect("a log"));
            let mut all = fs::read_dir("/proc").expect("/proc").flatten();
            all.any(|entry| {
                let process = entry.file_name();
                process.to_str().is_some_and(|process| !mounts(process).is_empty())
            })
            .then_some(())
        },
        || fs::read_to_string(&log).expect("a log"),
    );
    killpg(Pid::from_raw(script.id().cast_signed()), Signal::SIGKILL).expect("killed");
    script.wait().expect("its end");
    let left = mounts("self");
    // The directory is removed, and must not reach into the host.
    for place in left.iter().rev() {
        umount2(place.as_str(), MntFlags::MNT_DETACH).expect("unmounted");
    }
    assert_eq!(left, [""; 0]);
}
