//! What is killed, and what does not want to die: monitors, VMMs, deaf guests.

mod common;

use common::{Home, Load, lives, signal, until};
use nix::sys::signal::Signal;

#[test]
fn a_killed_monitor_takes_its_vmm_along_and_the_next_banger_clears_up() {
    let test = "a_killed_monitor_takes_its_vmm_along_and_the_next_banger_clears_up";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    let monitor = home.only("monitor", &home.monitors());
    let vmm = home.only("VMM", &home.vmms());
    let run_dir = home.paths("web").run_dir().to_owned();
    signal(monitor, Signal::SIGKILL);
    until("the end of the VMM", || !lives(vmm));
    assert!(run_dir.exists() && !home.ledger().is_empty(), "nobody has cleared up yet");

    let vm = home.vm("web");
    assert_eq!(vm["state"], "crashed", "{vm}");
    assert_eq!(vm["last_exit"]["kind"], "monitor-lost", "{vm}");
    assert_eq!(vm["wanted"], "running", "{vm}");
    home.assert_nothing_runs();

    home.ok(&["start", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "echo back"]), "back\n");
    home.ok(&["stop", "web"]);
    home.assert_nothing_runs();
}

#[test]
fn a_killed_monitor_is_cleared_up_after_by_a_start_and_by_a_removal() {
    let test = "a_killed_monitor_is_cleared_up_after_by_a_start_and_by_a_removal";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    // At once: the VMM may still be ending.
    home.ok(&["start", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "echo back"]), "back\n");
    assert_eq!((home.monitors().len(), home.vmms().len()), (1, 1));

    signal(home.only("monitor", &home.monitors()), Signal::SIGKILL);
    home.ok(&["rm", "--yes", "web"]);
    assert!(home.list().is_empty());
    home.assert_nothing_runs();
}

#[test]
fn a_killed_vmm_is_recorded_and_its_monitor_clears_up_by_itself() {
    let test = "a_killed_vmm_is_recorded_and_its_monitor_clears_up_by_itself";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    signal(home.only("VMM", &home.vmms()), Signal::SIGKILL);
    // Without any other banger at work.
    until("the end of the monitor", || home.monitors().is_empty());
    assert_eq!(home.ledger(), []);
    assert_eq!(std::fs::read_dir(&home.layout().run).expect("the directory").count(), 0);
    let vm = home.vm("web");
    assert_eq!(vm["state"], "crashed", "{vm}");
    assert_eq!(vm["last_exit"]["kind"], "vmm-exited", "{vm}");
    assert_eq!(vm["last_exit"]["signal"], 9, "{vm}");
    home.assert_nothing_runs();
    let logs = home.ok(&["ls"]);
    assert!(logs.contains("crashed"), "{logs}");
    home.ok(&["start", "web", "--wait"]);
    home.ok(&["kill", "web"]);
    let vm = home.vm("web");
    assert_eq!(vm["state"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["by"], "kill", "{vm}");
    home.assert_nothing_runs();
}

/// A guest that does nothing when the power button is pressed.
fn deafen(home: &Home) {
    let script = "kill -STOP $(pidof banger-guest) && pidof banger-guest >/dev/null && echo deaf";
    assert_eq!(home.ok(&["ssh", "web", script]), "deaf\n");
}

#[test]
fn a_guest_that_ignores_every_polite_request_is_stopped_by_the_next_rung() {
    let test = "a_guest_that_ignores_every_polite_request_is_stopped_by_the_next_rung";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    home.set("BANGER_STOP_TIMEOUT", "2");
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    deafen(&home);
    home.ok(&["stop", "web"]);
    let vm = home.vm("web");
    assert_eq!(vm["state"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["by"], "vmm-quit", "{vm}");
    home.assert_nothing_runs();
}

#[test]
fn a_vmm_that_hears_nothing_either_is_killed() {
    let test = "a_vmm_that_hears_nothing_either_is_killed";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    home.set("BANGER_STOP_TIMEOUT", "1");
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    // Stopped by a signal it answers neither its control socket nor SIGTERM.
    signal(home.only("VMM", &home.vmms()), Signal::SIGSTOP);
    home.ok(&["stop", "web"]);
    let vm = home.vm("web");
    assert_eq!(vm["state"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["by"], "kill", "{vm}");
    home.assert_nothing_runs();
}

#[test]
fn a_kill_takes_over_from_a_stop_that_waits() {
    let test = "a_kill_takes_over_from_a_stop_that_waits";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    home.set("BANGER_STOP_TIMEOUT", "3600");
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    deafen(&home);
    let stop = home.spawn(&["stop", "web"]);
    home.wait_state("web", "stopping");
    // A second stop joins the first.
    let again = home.spawn(&["stop", "web"]);
    home.ok(&["kill", "web"]);
    for stop in [stop, again] {
        let said = stop.end();
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let vm = home.vm("web");
    assert_eq!(vm["last_exit"]["by"], "kill", "{vm}");
    home.assert_nothing_runs();
}

#[test]
fn a_monitor_asked_to_end_shuts_its_guest_down_and_the_vm_is_still_wanted() {
    let test = "a_monitor_asked_to_end_shuts_its_guest_down_and_the_vm_is_still_wanted";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    signal(home.only("monitor", &home.monitors()), Signal::SIGTERM);
    until("the end of the monitor", || home.monitors().is_empty());
    let vm = home.vm("web");
    assert_eq!(vm["last_exit"]["by"], "power-button", "{vm}");
    assert_eq!(vm["wanted"], "running", "as after a shutdown of the host: {vm}");
    home.assert_nothing_runs();
}

#[test]
fn a_monitor_of_a_vm_that_was_removed_meanwhile_says_so_and_leaves_nothing() {
    let home = Home::new(Load::Light);
    home.ok(&["ls"]);
    let layout = home.layout().clone();
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (state, run) = (path(&layout.state), path(&layout.run));
    let places = ["--state", &state, "--run", &run, "--runtime", "/nonexistent"];
    let names = r#"{"route":"none"}"#;
    let rest =
        ["--vmm", "qemu-tcg", "--network", "user", "--names", names, "--stop-timeout-ms", "1000"];
    let said = home.run(&[&["monitor", "0000abcd"], &places[..], &rest[..]].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("it does not exist"), "{said:?}");
    home.assert_nothing_runs();
}
