//! Several VMs at once, and several banger processes at one VM.

mod common;

use std::collections::BTreeSet;

use common::{Home, Load, Said, until_or};

/// Runs all commands at the same time.
fn at_once(home: &Home, commands: &[&[&str]]) -> Vec<Said> {
    let running: Vec<_> = commands.iter().map(|args| home.spawn(args)).collect();
    running.into_iter().map(common::Running::end).collect()
}

/// What no two bangers may bring about, whatever they are told.
fn assert_told_clearly(said: &Said) {
    match said.code {
        Some(0) => {}
        Some(1) => assert!(said.err.starts_with("error: "), "{said:?}"),
        _ => panic!("{said:?}"),
    }
    for word in ["panicked", "database is locked", "corrupt", "disk image is malformed"] {
        assert!(!said.err.contains(word), "{said:?}");
    }
}

#[test]
fn four_start_at_once_and_four_stop() {
    let Some(home) = Home::with_runtime("four_start_at_once_and_four_stop", Load::Heavy) else {
        return;
    };
    let names = ["a", "b", "c", "d"];
    for name in names {
        home.ok(&["create", name, "--image", "tiny"]);
    }
    let started = home.ok(&["start", "a", "b", "c", "d", "--wait"]);
    assert_eq!(started.lines().count(), 4, "{started}");
    let mut ports = BTreeSet::new();
    for vm in home.list() {
        assert_eq!(vm["state"], "running", "{vm}");
        ports.insert(vm["ssh"]["port"].as_u64().expect("a port"));
    }
    assert_eq!(ports.len(), 4);
    for name in names {
        assert_eq!(home.ok(&["ssh", name, "hostname"]), format!("{name}\n"));
    }
    assert_eq!((home.monitors().len(), home.vmms().len()), (4, 4));
    // A name that is not there does not keep the others from being stopped.
    let said = home.run(&["stop", "a", "nobody", "b", "c", "d"]);
    assert_eq!((said.code, said.out.lines().count()), (Some(1), 4), "{said:?}");
    assert!(said.err.contains("nobody"), "{said:?}");
    for vm in home.list() {
        assert_eq!(vm["state"], "stopped", "{vm}");
        assert_eq!(vm["last_exit"]["by"], "power-button", "{vm}");
    }
    home.assert_nothing_runs();
}

#[test]
fn two_bangers_at_one_vm_never_make_two_of_it() {
    let test = "two_bangers_at_one_vm_never_make_two_of_it";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };

    // One name: one wins, and the other is told.
    let create: &[&str] = &["create", "web", "--image", "tiny"];
    let said = at_once(&home, &[create, create, create]);
    said.iter().for_each(assert_told_clearly);
    let won = said.iter().filter(|said| said.code == Some(0)).count();
    assert_eq!((won, home.list().len()), (1, 1), "{said:?}");
    let lost = said.iter().find(|said| said.code == Some(1)).expect("one lost");
    assert!(lost.err.contains("web"), "{lost:?}");
    home.assert_nothing_runs();

    // One VM, started twice: one monitor, and both are content.
    let start: &[&str] = &["start", "web", "--wait"];
    for said in at_once(&home, &[start, start]) {
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    assert_eq!((home.monitors().len(), home.vmms().len()), (1, 1), "{}", home.report());

    // Stopped twice: both are content.
    let stop: &[&str] = &["stop", "web"];
    for said in at_once(&home, &[stop, stop]) {
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    assert_eq!(home.state("web"), "stopped");
    home.assert_nothing_runs();

    // Started and removed: either, but all of it.
    let said = at_once(&home, &[&["start", "web"], &["rm", "--yes", "web"]]);
    said.iter().for_each(assert_told_clearly);
    assert!(said.iter().any(|said| said.code == Some(0)), "{said:?}");
    let left = home.list();
    if said[1].code == Some(0) {
        assert!(left.is_empty(), "{said:?}");
    } else {
        assert_eq!(left.len(), 1, "{said:?}");
        home.ok(&["kill", "web"]);
        home.ok(&["rm", "--yes", "web"]);
    }
    home.assert_nothing_runs();
}

#[test]
fn eight_at_once_at_two_vms_corrupt_nothing() {
    let test = "eight_at_once_at_two_vms_corrupt_nothing";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    for name in ["a", "b"] {
        home.ok(&["create", name, "--image", "tiny"]);
    }
    let all: [&[&str]; 10] = [
        &["start", "a", "b"],
        &["stop", "a"],
        &["kill", "b"],
        &["restart", "a"],
        &["rename", "b", "c"],
        &["rename", "c", "b"],
        &["ls"],
        &["kill", "a", "b"],
        &["start", "b"],
        &["stop", "a", "b"],
    ];
    // The same order each time: a generator of Park and Miller, begun with 1.
    let mut random = 1_u64;
    for _ in 0..4 {
        let commands: Vec<&[&str]> = (0..8)
            .map(|_| {
                random = random * 48271 % 2_147_483_647;
                all[usize::try_from(random).expect("small") % all.len()]
            })
            .collect();
        let said = at_once(&home, &commands);
        for (args, said) in commands.iter().zip(&said) {
            assert!(matches!(said.code, Some(0 | 1)), "{args:?}: {said:?}");
            assert_told_clearly(said);
        }
        assert!(home.monitors().len() <= 2 && home.vmms().len() <= 2, "{}", home.report());
        assert_eq!(home.list().len(), 2);
    }
    let names: Vec<String> =
        home.list().iter().map(|vm| vm["name"].as_str().expect("a name").to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    home.ok(&[&["kill"], names.as_slice()].concat());
    home.assert_nothing_runs();
    home.ok(&[&["start"], names.as_slice(), &["--wait"]].concat());
    for name in &names {
        assert_eq!(home.ok(&["ssh", name, "echo whole"]), "whole\n");
    }
    home.ok(&[&["rm", "--yes", "--force"], names.as_slice()].concat());
    until_or("the list is empty", || home.list().is_empty().then_some(()), || home.report());
    home.assert_nothing_runs();
}
