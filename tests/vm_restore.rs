//! What outlives a power cut, and what comes back from it.

mod common;

use std::{fs, path::Path};

use banger::store::{Store, VmState};
use common::{Home, Load, lives, signal, until};
use nix::sys::signal::Signal;

/// What a power cut does: every process is gone at once, and with it all of the run directory.
fn cut_the_power(home: &Home) {
    let all: Vec<i32> = home.monitors().into_iter().chain(home.vmms()).collect();
    for pid in &all {
        // A VMM may be gone with its monitor already.
        if lives(*pid) {
            signal(*pid, Signal::SIGKILL);
        }
    }
    until("the end of all processes", || home.processes("").is_empty());
    fs::remove_dir_all(&home.layout().run).expect("the run directory goes");
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find(|line| line.starts_with(&format!("{name}: ")));
    found.unwrap_or_else(|| panic!("no line of {name}: {text}"))
}

#[test]
fn after_a_power_cut_restore_brings_back_what_was_wanted() {
    let test = "after_a_power_cut_restore_brings_back_what_was_wanted";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    home.ok(&["create", "ran", "--image", "tiny", "--start", "--wait"]);
    home.ok(&["create", "marked", "--image", "tiny", "--restore-at-login"]);
    home.ok(&["create", "off", "--image", "tiny"]);
    home.ok(&["create", "stopped", "--image", "tiny", "--start", "--wait"]);
    home.ok(&["ssh", "ran", "echo kept >/root/file && sync"]);
    home.ok(&["stop", "stopped"]);
    cut_the_power(&home);

    let said = home.run(&["--restore"]);
    assert_eq!(said.code, Some(0), "{said:?}\n{}", home.report());
    // A line for each that is to run; the others are left alone.
    assert_eq!(said.out.lines().count(), 2, "{said:?}");
    assert!(line(&said.out, "ran").starts_with("ran: started; it had crashed"), "{said:?}");
    assert!(line(&said.out, "marked").starts_with("marked: started; it never ran"), "{said:?}");
    assert_eq!((home.state("off"), home.state("stopped")), ("stopped".into(), "stopped".into()));
    assert_eq!(home.ok(&["ssh", "ran", "cat /root/file"]), "kept\n");
    assert_eq!(home.monitors().len(), 2);

    // Once more: what runs is adopted.
    let monitors = home.monitors();
    let again = home.run(&["--restore"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(line(&again.out, "ran"), "ran: adopted: it is up");
    assert_eq!(home.monitors(), monitors);

    // One that cannot come back: said, with the reason, and the others are brought back.
    cut_the_power(&home);
    fs::remove_file(home.paths("marked").disk()).expect("its disk goes");
    let said = home.run(&["--restore"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let failed = line(&said.out, "marked");
    assert!(failed.starts_with("marked: failed: ") && failed.contains("root.img"), "{said:?}");
    assert!(line(&said.out, "ran").starts_with("ran: started"), "{said:?}");

    home.ok(&["rm", "--yes", "--force", "ran", "marked", "off", "stopped"]);
    home.assert_nothing_runs();
}

#[test]
fn what_was_interrupted_in_the_middle_is_removed_by_the_next_banger() {
    let test = "what_was_interrupted_in_the_middle_is_removed_by_the_next_banger";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    for (name, state) in [("made", VmState::Creating), ("going", VmState::Deleting)] {
        home.ok(&["create", name, "--image", "tiny"]);
        let id = home.vm(name)["id"].as_str().expect("an id").parse().expect("an id");
        let store = Store::open(&home.layout().database()).expect("the database");
        // As the power cut found it.
        store.set_state(&id, state).expect("written");
        home.fails(&["start", name]);
        let restored = home.run(&["--restore"]);
        assert_eq!(restored.code, Some(0), "it is not wanted: {restored:?}");
        until("nothing to be left of it", || home.list().is_empty());
        home.assert_nothing_runs();
    }
}

#[test]
fn renamed_removed_and_refused() {
    let Some(home) = Home::with_runtime("renamed_removed_and_refused", Load::Light) else {
        return;
    };
    let before = entries(home.path());
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    home.ok(&["rename", "web", "db"]);
    assert_eq!(home.ok(&["ssh", "db", "hostname"]), "web\n", "until its next start");
    home.ok(&["restart", "db", "--wait"]);
    assert_eq!(home.ok(&["ssh", "db", "hostname"]), "db\n");

    home.ok(&["create", "other", "--image", "tiny"]);
    for (args, words) in [
        (["rename", "db", "other"].as_slice(), "other"),
        (&["rename", "db", "Not A Label"], "name"),
        (&["create", "db", "--image", "tiny"], "already"),
        (&["create", "x", "--image", "tinny"], "tiny"),
        (&["create", "x", "--image", "tiny", "--memory", "10T"], "memory"),
        (&["create", "x", "--image", "tiny", "--disk", "1M"], "disk"),
        (&["start", "nobody"], "nobody"),
    ] {
        let said = home.fails(args);
        assert!(said.err.contains(words), "{args:?}: {said:?}");
    }
    // What runs is not removed, and nothing is without a yes.
    let said = home.run(&["rm", "--yes", "db"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(home.state("db"), "running");
    let said = home.run(&["rm", "other"]);
    assert!(said.code != Some(0) && said.err.contains("--yes"), "{said:?}");
    home.ok(&["rm", "--yes", "--force", "db", "other"]);
    home.assert_nothing_runs();
    // The database, the key and the logs are the user's; nothing else stays.
    let new: Vec<String> =
        entries(home.path()).into_iter().filter(|path| !before.contains(path)).collect();
    let known = ["r/banger", "s/banger.", "s/ssh", "s/vms"];
    let odd: Vec<&String> =
        new.iter().filter(|path| !known.iter().any(|k| path.starts_with(k))).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(!new.iter().any(|path| path.starts_with("s/vms/")), "{new:?}");
}

/// All that lies below a directory, as paths relative to it.
fn entries(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let path = entry.expect("an entry").path();
            found.push(path.strip_prefix(dir).expect("below").to_string_lossy().into_owned());
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}

/// As in a cron job, or behind `su`: `XDG_RUNTIME_DIR` is not what it was where the VM was started.
#[test]
fn who_has_another_runtime_directory_finds_what_runs_and_does_it_no_harm() {
    let test = "who_has_another_runtime_directory_finds_what_runs_and_does_it_no_harm";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start"]);
    let monitor = home.only("monitor", &home.monitors());
    let other = home.path().join("r2");
    let elsewhere = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("XDG_RUNTIME_DIR", &other);
        let said = home.run_with(command, b"");
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}\n{}", home.report());
        said.out
    };
    let list: serde_json::Value =
        serde_json::from_str(&elsewhere(&["ls", "--json"])).expect("JSON");
    let is_up = |state: &str| ["booting", "running"].contains(&state);
    assert!(is_up(list["vms"][0]["state"].as_str().expect("a word")), "{list}");
    assert_eq!(elsewhere(&["doctor", "--clean", "--yes"]), "nothing is left over on this host\n");
    assert_eq!(home.only("monitor", &home.monitors()), monitor);
    elsewhere(&["start", "web", "--wait"]);
    assert_eq!(elsewhere(&["ssh", "web", "hostname"]), "web\n");
    elsewhere(&["kill", "web"]);
    home.assert_nothing_runs();
    // None runs: it is theirs who start it now.
    elsewhere(&["start", "web"]);
    assert!(is_up(&home.state("web")));
    home.ok(&["kill", "web"]);
    home.assert_nothing_runs();
}
