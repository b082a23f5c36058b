//! SIGKILL at every step of starting, stopping, clearing up, making and removing a VM: whoever comes
//! next clears up, nothing is left, and it works again.
//!
//! The steps are those that a debug build passes (`banger::host::fault`): each test takes the next
//! one until nobody dies any more. Here disks are files; in the lab they are snapshots, whose steps
//! have a test of their own. For all steps there time is short: with `FAULT_EVERY=N` only every Nth
//! is taken.

mod common;

use std::{env, fs, path::PathBuf, process::Command};

use banger::host::{dm, testing::in_own_netns};
use common::{Home, Load, Said, lives, signal, skip, until};
use nix::sys::signal::Signal;

/// More steps than there are: where this ends, nobody has come through alive.
const MANY: u32 = 300;

/// Where to die, one place after the other.
fn places() -> impl Iterator<Item = u32> {
    (0..MANY).step_by(every())
}

fn every() -> usize {
    let every = env::var("FAULT_EVERY").ok();
    every.map_or(1, |every| every.parse().expect("FAULT_EVERY is a number"))
}

/// A home whose VMs are on a bridge, in a namespace where nothing else is.
fn in_a_world(test: &str, work: impl FnOnce(Home) + Send) {
    let done = in_own_netns(|| {
        let Some(mut home) = Home::with_runtime(test, Load::Heavy) else { return };
        home.set("BANGER_NETWORK", "tap");
        home.set("BANGER_VMM", "qemu-tcg");
        work(home);
    });
    if let Err(error) = done {
        skip(test, &format!("no network namespace can be made here: {error}"));
    }
}

/// All of the host where something could be left over. What is not of the namespace others use, too:
/// of that, only what bears our name.
fn host(home: &Home) -> String {
    let looks = "ip -o -d link; ip -o address; ip route; nft list ruleset; \
                 cat /proc/sys/net/ipv4/ip_forward; losetup -a | grep \"$0\"; mount | grep \"$0\"; \
                 ls /dev/mapper | grep banger; ls /dev/banger 2>/dev/null; true";
    let output = Command::new("sh").args(["-c", looks]).arg(home.path()).output().expect("sh");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs banger with this fault; it is inherited by the monitors that it starts.
fn with_fault(home: &Home, fault: &str, args: &[&str]) -> Said {
    let mut command = home.command(args);
    command.env("BANGER_FAULT", format!("{fault}:{}", home.path().join("step").display()));
    home.run_with(command, b"")
}

/// After which step a process has died of its fault, if one has.
fn victim(home: &Home) -> Option<String> {
    let says = home.path().join("step");
    let step = fs::read_to_string(&says).ok()?;
    fs::remove_file(says).expect("removed");
    Some(step)
}

/// What whoever comes next sees and does: after one `banger ls` nothing is left.
fn clears_up(home: &Home, before: &str, step: &str) {
    home.ok(&["ls"]);
    home.assert_nothing_runs();
    assert_eq!(host(home), before, "left by a death after: {step}");
}

/// A start that works, as far as the guest's kernel, and an end.
fn works(home: &Home, before: &str) {
    home.ok(&["start", "web"]);
    home.ok(&["kill", "web"]);
    home.assert_nothing_runs();
    assert_eq!(host(home), before);
}

/// A start and an end whose monitor dies at this place; none, if there is no such place.
fn dies_at(home: &Home, place: &str) -> Option<String> {
    let started = with_fault(home, &format!("monitor:{place}"), &["start", "web"]);
    if let Some(step) = victim(home) {
        return Some(step);
    }
    // Not by then: it stops, too.
    assert_eq!(started.code, Some(0), "{started:?}\n{}", home.report());
    home.run(&["kill", "web"]);
    until("the end of the monitor", || home.monitors().is_empty());
    victim(home)
}

#[test]
fn a_monitor_that_dies_at_any_step_of_start_or_stop_leaves_nothing_for_long() {
    let test = "a_monitor_that_dies_at_any_step_of_start_or_stop_leaves_nothing_for_long";
    in_a_world(test, |home| {
        home.ok(&["create", "web", "--image", "tiny"]);
        let before = host(&home);
        let mut steps = Vec::new();
        for nth in places() {
            let Some(step) = dies_at(&home, &nth.to_string()) else { break };
            eprintln!("{nth}: {step}");
            clears_up(&home, &before, &step);
            // Each start goes one step further than the one before; to its end it goes now and then.
            if nth % 8 == 0 && every() == 1 {
                works(&home, &before);
            }
            steps.push(step);
        }
        // It dies where it is wanted to, in the beginning, in the middle, and at the end.
        let has = |part: &str| steps.iter().any(|step| step.contains(part));
        for part in
            ["lock was taken", "ip tuntap add", "VMM was started", "ip link delete", "end of"]
        {
            assert!(every() > 1 || has(part), "{part}: {steps:#?}");
        }
        assert!(steps.len() < MANY as usize, "it comes to an end: {steps:#?}");
        home.ok(&["start", "web", "--wait"]);
        assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
        home.ok(&["stop", "web"]);
        clears_up(&home, &before, "nothing");
    });
}

/// Steps that there are with device-mapper alone, by what is in their names: of a start, and of a
/// stop.
const OF_SNAPSHOTS: [&str; 6] = [
    "loop device of base*was noted",
    "snapshot*was noted",
    "dmsetup create",
    "dmsetup remove",
    "snapshot*is gone",
    "loop device of base*is gone",
];

#[test]
fn a_snapshot_is_cleared_up_after_a_death_at_any_of_its_steps() {
    let test = "a_snapshot_is_cleared_up_after_a_death_at_any_of_its_steps";
    if let Err(why) = dm::usable() {
        return skip(test, &format!("{why}; it runs in the lab"));
    }
    in_a_world(test, |home| {
        let before = host(&home);
        // It is all there or not at all, and a base is nobody's for no longer than that.
        for place in ["the base was written down", "the base was copied"] {
            with_fault(&home, &format!("ui:={place}"), &["create", "web", "--image", "tiny"]);
            assert_eq!(victim(&home).as_deref(), Some(place));
            home.ok(&["ls"]);
            clears_up(&home, &before, place);
            assert_eq!(home.list(), Vec::<serde_json::Value>::new(), "{place}");
        }
        home.ok(&["create", "web", "--image", "tiny"]);
        for place in OF_SNAPSHOTS {
            let step = dies_at(&home, &format!("={place}"));
            let step = step.unwrap_or_else(|| panic!("nobody died: {place}"));
            clears_up(&home, &before, &step);
        }
        // And whoever clears up after one that is dead.
        home.ok(&["start", "web"]);
        let (monitor, vmm) =
            (home.only("monitor", &home.monitors()), home.only("VMM", &home.vmms()));
        signal(monitor, Signal::SIGKILL);
        until("its end and that of its VMM", || !lives(monitor) && !lives(vmm));
        with_fault(&home, "ui:=dmsetup remove", &["ls"]);
        let step = victim(&home).expect("who clears up removes it");
        clears_up(&home, &before, &step);
        works(&home, &before);

        with_fault(&home, "ui:=the base is gone", &["rm", "--yes", "web"]);
        assert_eq!(victim(&home).as_deref(), Some("the base is gone"));
        home.ok(&["ls"]);
        clears_up(&home, &before, "the base is gone");
        assert_eq!(home.list(), Vec::<serde_json::Value>::new());
        assert_eq!(bases(&home), Vec::<PathBuf>::new(), "no VM, no base");
    });
}

/// The bases that are kept.
fn bases(home: &Home) -> Vec<PathBuf> {
    let bases = fs::read_dir(home.layout().state.join("bases"));
    bases.into_iter().flatten().map(|entry| entry.expect("entry").path()).collect()
}

#[test]
fn whoever_clears_up_may_die_as_well() {
    let test = "whoever_clears_up_may_die_as_well";
    in_a_world(test, |home| {
        home.ok(&["create", "web", "--image", "tiny"]);
        let before = host(&home);
        let mut steps = Vec::new();
        for nth in places() {
            home.ok(&["start", "web"]);
            let (monitor, vmm) =
                (home.only("monitor", &home.monitors()), home.only("VMM", &home.vmms()));
            signal(monitor, Signal::SIGKILL);
            until("its end and that of its VMM", || !lives(monitor) && !lives(vmm));
            with_fault(&home, &format!("ui:{nth}"), &["ls"]);
            let Some(step) = victim(&home) else { break };
            eprintln!("{nth}: {step}");
            clears_up(&home, &before, &step);
            steps.push(step);
        }
        let bridge = steps.iter().any(|step| step.contains("bridge"));
        assert!(every() > 1 || bridge, "{steps:#?}");
        assert!(steps.len() < MANY as usize, "it comes to an end: {steps:#?}");
        works(&home, &before);
    });
}

#[test]
fn whoever_makes_or_removes_a_vm_may_die_at_any_step() {
    let test = "whoever_makes_or_removes_a_vm_may_die_at_any_step";
    in_a_world(test, |home| {
        home.ok(&["create", "web", "--image", "tiny"]);
        let before = host(&home);
        let mut steps = Vec::new();
        for verb in [&["create", "db", "--image", "tiny"][..], &["rm", "--yes", "db"]] {
            for nth in places() {
                let removes = verb[0] == "rm";
                let there = |home: &Home| home.list().iter().any(|vm| vm["name"] == "db");
                if removes && !there(&home) {
                    home.ok(&["create", "db", "--image", "tiny"]);
                }
                with_fault(&home, &format!("ui:{nth}"), verb);
                let Some(step) = victim(&home) else { break };
                eprintln!("{} {nth}: {step}", verb[0]);
                // It is all there or not at all.
                home.ok(&["ls"]);
                clears_up(&home, &before, &step);
                if !removes && there(&home) {
                    assert_eq!(home.state("db"), "stopped");
                    home.ok(&["rm", "--yes", "db"]);
                }
                steps.push(step);
            }
        }
        assert!(every() > 1 || steps.len() > 6, "{steps:#?}");
        home.ok(&["rm", "--yes", "web"]);
        clears_up(&home, &before, "nothing");
        assert_eq!(bases(&home), Vec::<PathBuf>::new(), "no VM, no base");
    });
}

#[test]
fn a_vmm_may_die_as_soon_as_it_is_there_and_while_it_is_stopped() {
    let test = "a_vmm_may_die_as_soon_as_it_is_there_and_while_it_is_stopped";
    in_a_world(test, |mut home| {
        home.set("BANGER_STOP_TIMEOUT", "3600");
        home.ok(&["create", "web", "--image", "tiny"]);
        let before = host(&home);

        let start = home.spawn(&["start", "web", "--wait"]);
        until("its VMM", || !home.vmms().is_empty());
        signal(home.only("VMM", &home.vmms()), Signal::SIGKILL);
        let said = start.end();
        assert_eq!(said.code, Some(1), "{said:?}");
        clears_up(&home, &before, "the death of a VMM that begins");

        home.ok(&["start", "web"]);
        let vmm = home.only("VMM", &home.vmms());
        // It hears neither its socket nor SIGTERM: the stop waits.
        signal(vmm, Signal::SIGSTOP);
        let stop = home.spawn(&["stop", "web"]);
        home.wait_state("web", "stopping");
        signal(vmm, Signal::SIGKILL);
        let said = stop.end();
        assert_eq!(said.code, Some(0), "{said:?}");
        clears_up(&home, &before, "the death of a VMM that is stopped");
        works(&home, &before);
    });
}

#[test]
fn whoever_asked_may_die_while_it_waits() {
    let test = "whoever_asked_may_die_while_it_waits";
    in_a_world(test, |mut home| {
        home.set("BANGER_STOP_TIMEOUT", "3600");
        home.ok(&["create", "web", "--image", "tiny"]);
        let before = host(&home);
        let start = home.spawn(&["start", "web", "--wait"]);
        until("its VMM", || !home.vmms().is_empty());
        signal(start.pid(), Signal::SIGKILL);
        start.end();
        assert_eq!(home.monitors().len(), 1, "the VM does not care");

        until("the VM's boot", || home.state("web") != "starting");
        signal(home.only("VMM", &home.vmms()), Signal::SIGSTOP);
        let stop = home.spawn(&["stop", "web"]);
        home.wait_state("web", "stopping");
        signal(stop.pid(), Signal::SIGKILL);
        stop.end();
        home.ok(&["kill", "web"]);
        clears_up(&home, &before, "the death of whoever stops it");
        works(&home, &before);
    });
}
