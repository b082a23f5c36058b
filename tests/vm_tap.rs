//! VMs with TAPs on a bridge, in a network namespace that each test makes: addresses, the way to
//! each other, and that nothing of it stays on the host.

mod common;

use std::process::Command;

use banger::host::testing::in_own_netns;
use common::{Home, Load, signal, skip, until, until_or};
use nix::sys::signal::Signal;

/// A home whose VMs are on a bridge, in a namespace where nothing else is.
fn in_a_world(test: &str, work: impl FnOnce(Home) + Send) {
    let done = in_own_netns(|| {
        let Some(mut home) = Home::with_runtime(test, Load::Heavy) else { return };
        home.set("BANGER_NETWORK", "tap");
        work(home);
    });
    if let Err(error) = done {
        skip(test, &format!("no network namespace can be made here: {error}"));
    }
}

/// What a command prints, in the thread's network namespace.
fn say(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Everything of the network that could be left over.
fn network() -> String {
    say(
        "ip -o -d link; ip -o address; ip route; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward",
    )
}

#[test]
fn vms_on_the_bridge_have_addresses_of_their_own_and_leave_nothing() {
    let test = "vms_on_the_bridge_have_addresses_of_their_own_and_leave_nothing";
    in_a_world(test, |home| {
        let before = network();
        for name in ["web", "db"] {
            home.ok(&["create", name, "--image", "tiny", "--start", "--wait"]);
        }
        let (web, db) = (home.vm("web"), home.vm("db"));
        let address = |vm: &serde_json::Value| vm["address"].as_str().expect("one").to_owned();
        assert_eq!(web["network"], "tap", "{web}");
        assert_eq!(web["ssh"]["host"], web["address"], "{web}");
        assert_eq!(web["ssh"]["port"], 22, "{web}");
        assert_ne!(address(&web), address(&db));
        assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
        let ping = format!("ping -c 1 -W 20 {} > /dev/null && echo there", address(&db));
        assert_eq!(home.ok(&["ssh", "web", "--", &ping]), "there\n");
        // The guests' name server knows them all, by name and by address.
        let ping = "ping -c 1 -W 20 db.vm > /dev/null && echo there";
        assert_eq!(home.ok(&["ssh", "web", "--", ping]), "there\n");

        home.ok(&["restart", "web", "--wait"]);
        assert_eq!(address(&home.vm("web")), address(&web), "it keeps its address");
        home.ok(&["ssh", "web", "reboot"]);
        until("the reboot to end", || {
            home.run(&["ssh", "web", "--", "cut -d. -f1 /proc/uptime"]).code == Some(0)
        });

        home.ok(&["stop", "web"]);
        assert!(say("ip -o link").contains("bgr-"), "db still uses the bridge");
        home.ok(&["stop", "db"]);
        assert_eq!(network(), before);
        home.assert_nothing_runs();
        let ran = home.ok(&["ran"]);
        assert!(ran.contains("ip tuntap add bgt-"), "{ran}");
    });
}

#[test]
fn a_killed_monitor_leaves_a_tap_and_whoever_comes_next_removes_it() {
    let test = "a_killed_monitor_leaves_a_tap_and_whoever_comes_next_removes_it";
    in_a_world(test, |home| {
        let before = network();
        home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
        signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
        until("the monitor's end", || home.monitors().is_empty());
        assert!(say("ip -o link").contains("bgt-"), "a monitor that is killed clears up nothing");
        home.wait_state("web", "crashed");
        let all_gone = || (network() == before).then_some(());
        until_or("its network to go", all_gone, || network() + &home.report());
        home.ok(&["start", "web", "--wait"]);
        assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
        home.ok(&["kill", "web"]);
        assert_eq!(network(), before, "{}", home.report());
        home.assert_nothing_runs();
    });
}

#[test]
fn addresses_that_something_else_uses_by_now_are_exchanged_for_others_on_request() {
    let test = "addresses_that_something_else_uses_by_now_are_exchanged_for_others_on_request";
    in_a_world(test, |home| {
        for name in ["web", "db"] {
            home.ok(&["create", name, "--image", "tiny"]);
        }
        assert!(home.ok(&["renumber"]).contains("stays"), "there were none yet");
        home.ok(&["start", "web", "db"]);
        let addresses = || ["web", "db"].map(|name| home.vm(name)["address"].to_string());
        let before = addresses();
        let said = home.fails(&["renumber"]);
        assert!(
            said.err.contains("in use by db, web") || said.err.contains("in use by web, db"),
            "{said:?}"
        );
        home.ok(&["kill", "db", "web"]);
        assert!(home.ok(&["renumber"]).contains("stays"), "nothing else uses them");

        // A VPN, say, with a route to an address that may be web's.
        let web = before[0].trim_matches('"');
        say(&format!(
            "ip link add vpn0 type bridge && ip link set vpn0 up && ip route add {web} dev vpn0"
        ));
        let said = home.fails(&["start", "web"]);
        assert!(
            said.err.contains("cannot be used now") && said.err.contains("banger renumber"),
            "{said:?}"
        );
        let told = home.ok(&["renumber"]);
        assert!(told.contains("is ") && told.contains("has addresses in common with"), "{told}");
        home.ok(&["start", "web", "--wait", "db"]);
        let after = addresses();
        assert!(before.iter().all(|address| !after.contains(address)), "{before:?} {after:?}");
        assert_eq!(home.ok(&["ssh", "web", "hostname"]), "web\n");
        home.ok(&["kill", "web", "db"]);
        home.assert_nothing_runs();
    });
}

/// How many descriptors and threads a process has.
fn belongings(pid: i32) -> [usize; 2] {
    ["fd", "task"]
        .map(|what| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count))
}

#[test]
fn reboots_and_rounds_cost_a_monitor_and_the_host_nothing() {
    let test = "reboots_and_rounds_cost_a_monitor_and_the_host_nothing";
    in_a_world(test, |home| {
        let before = network();
        home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
        let monitor = home.only("monitor", &home.monitors());
        let mut seen = Vec::new();
        for _ in 0..2 {
            let vmm = home.only("VMM", &home.vmms());
            // The connection goes with the guest, or before.
            home.run(&["ssh", "web", "reboot"]);
            until("another VMM", || home.vmms().iter().any(|pid| *pid != vmm));
            home.wait_state("web", "running");
            // Those of whoever looked are closed a moment later.
            let first = *seen.first().unwrap_or(&belongings(monitor));
            until("as many descriptors and threads as before", || {
                let now = belongings(monitor);
                now[0] <= first[0] && now[1] <= first[1]
            });
            seen.push(belongings(monitor));
        }
        assert_eq!(home.only("monitor", &home.monitors()), monitor, "{seen:?}");
        home.ok(&["kill", "web"]);
        for _ in 0..5 {
            home.ok(&["start", "web"]);
            home.ok(&["kill", "web"]);
        }
        assert_eq!(network(), before);
        home.assert_nothing_runs();
    });
}
