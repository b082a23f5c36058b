//! Two homes with VMs on bridges at once, in one network namespace that the test makes: each has its own,
//! and when both have ended the host is as it was, whichever ended first and however.

mod common;

use std::{fs, path::Path, process::Command};

use banger::host::testing::in_own_netns;
use common::{Home, Load, Said, in_own_mounts, signal, skip, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Two homes whose VMs are on bridges, each with one, in a namespace that does not forward.
fn in_a_world(test: &str, work: impl FnOnce(Home, Home) + Send) {
    let done = in_own_netns(|| {
        let home = || {
            let mut home = Home::with_runtime(test, Load::Light)?;
            home.set("BANGER_NETWORK", "tap");
            home.set("BANGER_VMM", "qemu-tcg");
            home.ok(&["create", "web", "--image", "tiny"]);
            Some(home)
        };
        // A namespace begins as its host is.
        fs::write(FORWARDING, "0").expect("turned off");
        let (Some(first), Some(second)) = (home(), home()) else { return };
        work(first, second);
    });
    if let Err(error) = done {
        skip(test, &format!("no network namespace can be made here: {error}"));
    }
}

fn forwards() -> bool {
    fs::read_to_string(FORWARDING).expect("there") != "0\n"
}

/// Everything of the network that could be left over.
fn network() -> String {
    let looks = "ip -o -d link; ip -o address; ip route; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward";
    let output = Command::new("sh").args(["-c", looks]).output().expect("sh");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_last_home_that_ends_turns_forwarding_off() {
    in_a_world("the_last_home_that_ends_turns_forwarding_off", |a, b| {
        let before = network();
        for (first, second) in [(&a, &b), (&b, &a)] {
            a.ok(&["start", "web"]);
            assert!(forwards());
            b.ok(&["start", "web"]);
            first.ok(&["kill", "web"]);
            assert!(forwards(), "the other needs it");
            second.ok(&["kill", "web"]);
            assert_eq!(network(), before);
            for home in [first, second] {
                home.assert_nothing_runs();
                let ran = home.ok(&["ran"]);
                assert!(ran.contains("sysctl net.ipv4.ip_forward=0"), "{ran}");
            }
        }
    });
}

#[test]
fn a_home_that_was_killed_gives_forwarding_back_when_it_is_cleared_up() {
    in_a_world("a_home_that_was_killed_gives_forwarding_back_when_it_is_cleared_up", |a, b| {
        let before = network();
        // Of the one that was killed, cleared up before the other ends or after.
        for (dead, other, late) in
            [(&a, &b, true), (&a, &b, false), (&b, &a, true), (&b, &a, false)]
        {
            a.ok(&["start", "web"]);
            b.ok(&["start", "web"]);
            signal(dead.only("monitor", &dead.monitors()), Signal::SIGKILL);
            until("the monitor's end", || dead.monitors().is_empty());
            if late {
                other.ok(&["kill", "web"]);
                assert!(forwards(), "the bridge of the dead is there");
            }
            dead.run(&["doctor", "--clean", "--yes"]);
            dead.assert_nothing_runs();
            if !late {
                assert!(forwards(), "the other needs it");
                other.ok(&["kill", "web"]);
            }
            assert_eq!(network(), before, "late: {late}");
            other.assert_nothing_runs();
        }
    });
}

/// Runs banger where `/etc/hosts` is a file of the test's.
fn with_hosts(home: &Home, hosts: &Path, args: &[&str]) -> Said {
    let mount = format!("mount --bind '{}' /etc/hosts", hosts.display());
    home.run_with(in_own_mounts(&mount, &home.command(args)), b"")
}

#[test]
fn names_of_two_homes_are_side_by_side_and_go_also_if_all_end_at_once() {
    let test = "names_of_two_homes_are_side_by_side_and_go_also_if_all_end_at_once";
    in_a_world(test, |mut a, mut b| {
        for home in [&mut a, &mut b] {
            home.set("BANGER_NAMES_ROUTE", "hosts");
            home.ok(&["create", "db", "--image", "tiny"]);
        }
        let hosts = a.path().join("hosts");
        let before = "127.0.0.1 localhost\n";
        fs::write(&hosts, before).expect("written");
        let lines = || {
            let text = fs::read_to_string(&hosts).expect("there");
            text.lines().filter(|line| line.ends_with(".vm")).count()
        };
        for home in [&a, &b] {
            let said = with_hosts(home, &hosts, &["start", "web", "db"]);
            if said.err.contains("mount: ") {
                return skip(test, &format!("no mounts here: {}", said.err));
            }
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        until("all names", || lines() == 4);
        for (home, left) in [(&a, 2), (&b, 0)] {
            let said = with_hosts(home, &hosts, &["kill", "web", "db"]);
            assert_eq!(said.code, Some(0), "{said:?}");
            home.assert_nothing_runs();
            assert_eq!(lines(), left, "{}", fs::read_to_string(&hosts).expect("there"));
        }
        assert_eq!(fs::read_to_string(&hosts).expect("there"), before);
    });
}

/// A check of `doctor`'s, which goes well or not as a whole for reasons of the machine's.
fn check(home: &Home, id: &str) -> Value {
    let report: Value = serde_json::from_str(&home.run(&["doctor", "--json"]).out).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["id"] == id).expect("it is made").clone()
}

/// That a home's only VM runs, its guest finds it by name, and doctor misses and finds nothing.
fn is_whole(home: &Home) {
    let vm = home.vm("web");
    assert_eq!(vm["state"], "running", "{vm}");
    let found = home.ok(&["ssh", "web", "--", "nslookup web.vm"]);
    assert!(found.contains(vm["address"].as_str().expect("an address")), "{vm}: {found}");
    for id in ["ledger", "orphans"] {
        let check = check(home, id);
        assert_eq!(check["state"], "ok", "{check}");
    }
    let left = home.ok(&["doctor", "--clean", "--yes"]);
    assert_eq!(left, "nothing is left over on this host\n");
}

#[test]
fn two_homes_of_one_user_have_names_each_and_nothing_of_each_other() {
    let test = "two_homes_of_one_user_have_names_each_and_nothing_of_each_other";
    in_a_world(test, |mut a, mut b| {
        let user = tempfile::Builder::new().prefix("bgr").tempdir().expect("a directory");
        a.set_user(user.path());
        b.set_user(user.path());
        // The same home by another way: its link, in a directory that is written with a way back.
        let link = b.path().join("link");
        std::os::unix::fs::symlink(&b.layout().state, &link).expect("a link");
        for home in [&a, &b] {
            home.ok(&["start", "web", "--wait"]);
        }
        for home in [&a, &b] {
            is_whole(home);
        }
        let mut same = b.command(&["ls", "--json"]);
        same.env("BANGER_STATE_DIR", b.path().join("c/../link"));
        let same = b.run_with(same, b"");
        assert!(same.out.contains("\"running\""), "{same:?}");

        signal(b.only("VMM", &b.vmms()), Signal::SIGKILL);
        let monitors = b.monitors();
        signal(b.only("monitor", &monitors), Signal::SIGKILL);
        until("their end", || b.processes("").is_empty());
        is_whole(&a);
        b.wait_state("web", "crashed");
        b.assert_nothing_runs();
        is_whole(&a);
        b.ok(&["start", "web", "--wait"]);
        a.ok(&["kill", "web"]);
        a.assert_nothing_runs();
        is_whole(&b);
        b.ok(&["kill", "web"]);
        b.assert_nothing_runs();
    });
}
