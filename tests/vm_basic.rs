//! One VM from `tiny`: made, used, stopped; what its guest does by itself; its console.

mod common;

use std::{fs, io::Read};

use common::{Home, Load, until, until_or};

#[test]
fn a_command_runs_in_a_vm_and_its_output_and_exit_code_come_back() {
    let test = "a_command_runs_in_a_vm_and_its_output_and_exit_code_come_back";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let made = home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    assert!(made.contains("web"), "{made}");

    assert_eq!(home.ok(&["ssh", "web", "--", "echo $((6*7)); hostname; id -u"]), "42\nweb\n0\n");
    let failed = home.run(&["ssh", "web", "--", "echo to-stderr >&2; exit 7"]);
    assert_eq!((failed.code, failed.out.as_str()), (Some(7), ""), "{failed:?}");
    assert!(failed.err.contains("to-stderr"), "{failed:?}");
    let echoed = home.run_with(home.command(&["ssh", "web", "--", "wc -c"]), &[b'x'; 100_000]);
    assert_eq!((echoed.code, echoed.out.trim()), (Some(0), "100000"), "{echoed:?}");

    let vm = home.vm("web");
    assert_eq!(vm["state"], "running", "{vm}");
    assert_eq!(vm["wanted"], "running", "{vm}");
    assert_eq!(home.ok(&["ssh", "web", "touch /root/kept && sync"]), "");

    home.ok(&["restart", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", "ls /root"]), "kept\n", "the disk is the same");

    home.ok(&["stop", "web"]);
    let ran = home.ok(&["ran"]);
    let launches: Vec<&str> = ran.lines().filter(|line| line.contains("-accel")).collect();
    assert_eq!(launches.len(), 2, "{ran}");
    assert!(launches[0].contains("qemu-system-") && launches[0].contains(" -append '"), "{ran}");
    assert!(ran.contains("system_powerdown") && ran.contains("UNIX-CONNECT:"), "{ran}");
    let vm = home.vm("web");
    assert_eq!(vm["state"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["kind"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["by"], "power-button", "{vm}");
    home.assert_nothing_runs();
    let off = home.fails(&["ssh", "web", "true"]);
    assert!(off.err.contains("banger start"), "{off:?}");

    home.ok(&["rm", "--yes", "web"]);
    assert_eq!(home.list(), Vec::<serde_json::Value>::new());
    home.assert_nothing_runs();
}

#[test]
fn a_vm_is_what_was_asked_for_and_finds_another_port_when_its_own_is_taken() {
    let test = "a_vm_is_what_was_asked_for_and_finds_another_port_when_its_own_is_taken";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    // The longest name there can be.
    let name = "n".repeat(63);
    let sizes = ["--vcpus", "2", "--memory", "192M", "--disk", "512M"];
    home.ok(&[&["create", &name, "--image", "tiny"], &sizes[..]].concat());
    // Whoever started it may be killed: the VM goes on.
    let start = home.spawn(&["start", &name, "--wait"]);
    until("a VMM", || !home.vmms().is_empty());
    drop(start);
    home.wait_state(&name, "running");
    let ask = "hostname; nproc; cat /sys/block/vda/size; grep MemTotal /proc/meminfo";
    let said = home.ok(&["ssh", &name, ask]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], [&name, "2", "1048576"]);
    let kib: u64 = lines[3].split_whitespace().nth(1).expect("a number").parse().expect("KiB");
    assert!((100 << 10..192 << 10).contains(&kib), "{said}");

    let port = |vm: &serde_json::Value| {
        u16::try_from(vm["ssh"]["port"].as_u64().expect("a port")).expect("16 bits")
    };
    let before = port(&home.vm(&name));
    home.ok(&["stop", &name]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", before)).expect("it is free again");
    home.ok(&["start", &name, "--wait"]);
    assert_ne!(port(&home.vm(&name)), before);
    assert_eq!(home.ok(&["ssh", &name, "echo there"]), "there\n");
    drop(taken);
    home.ok(&["kill", &name]);
    home.assert_nothing_runs();
}

#[test]
fn a_guest_reboots_under_the_same_monitor_powers_off_and_panics() {
    let test = "a_guest_reboots_under_the_same_monitor_powers_off_and_panics";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);
    let boot_id = || home.run(&["ssh", "web", "cat /proc/sys/kernel/random/boot_id"]);
    let first = boot_id();
    assert_eq!(first.code, Some(0), "{first:?}");
    let (monitors, vmms) = (home.monitors(), home.vmms());
    assert_eq!(monitors.len(), 1);

    // A reboot: another VMM, another boot, the same monitor.
    home.run(&["ssh", "web", "reboot"]);
    until("another VMM", || home.vmms().is_disjoint(&vmms) && !home.vmms().is_empty());
    home.wait_state("web", "running");
    let second = boot_id();
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_ne!(first.out, second.out);
    assert_eq!(home.monitors(), monitors);

    // A power-off: clean, and wanted off from then on.
    home.run(&["ssh", "web", "poweroff"]);
    let vm = home.wait_state("web", "stopped");
    assert_eq!(vm["last_exit"]["kind"], "guest-poweroff", "{vm}");
    assert_eq!(vm["last_exit"]["clean"], true, "{vm}");
    assert_eq!(vm["wanted"], "stopped", "{vm}");
    home.assert_nothing_runs();

    // A panic: a crash with its reason, and no second boot.
    home.ok(&["start", "web", "--wait"]);
    home.run(&["ssh", "web", "(usleep 200000; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &"]);
    let vm = home.wait_state("web", "crashed");
    assert_eq!(vm["last_exit"]["kind"], "guest-panic", "{vm}");
    assert_eq!(vm["last_exit"]["clean"], false, "{vm}");
    assert_eq!(vm["wanted"], "running", "{vm}");
    assert!(home.console("web").contains("Kernel panic - not syncing"));
    home.assert_nothing_runs();
    assert!(home.ok(&["ls"]).contains("crashed"));
}

#[test]
fn the_console_is_a_pipe_and_its_log_is_bounded() {
    let test = "the_console_is_a_pipe_and_its_log_is_bounded";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    home.ok(&["create", "web", "--image", "tiny", "--start", "--wait"]);

    // As a pipe: what is piped in is typed, what the guest prints comes out.
    let said = home.run_with(home.command(&["console", "web"]), b"\necho $((6*7))-ok\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("42-ok"), "{said:?}");
    assert!(home.ok(&["logs", "web"]).contains("42-ok"));

    // Who follows sees what comes.
    let mut follower = home.spawn(&["logs", "-f", "web"]);
    let mut stdout = follower.stdout();
    let reader = std::thread::spawn(move || {
        let (mut all, mut chunk) = (Vec::<u8>::new(), [0; 65536]);
        while !all.windows(9).any(|w| w == b"last-line") {
            let n = stdout.read(&mut chunk).expect("its output");
            assert!(n > 0, "it ended early");
            // What came long ago is not needed to find the end.
            let keep = all.len().saturating_sub(100);
            all.drain(..keep);
            all.extend(&chunk[..n]);
        }
    });

    // A flood: files of 4 MiB at most, the newest bytes in them. More than one takes minutes.
    let flood = "yes $(printf %01000d 7) | head -c 4600000 >/dev/console; \
                 echo last-line >/dev/console";
    home.ok(&["ssh", "web", flood]);
    until_or("the follower's last line", || reader.is_finished().then_some(()), || home.report());
    reader.join().expect("the follower");
    let paths = home.paths("web");
    let size = |path: &std::path::Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let newer = size(&paths.console_log());
    let older = size(&paths.console_log().with_extension("log.1"));
    assert!(older > 0, "it was rotated");
    assert!(newer <= 4 << 20 && older <= 4 << 20, "{newer} {older}");
    let logs = home.ok(&["logs", "web"]);
    assert!(logs.len() <= 8 << 20 && logs.trim_end().ends_with("last-line"));
    // The guest is still there, and so is its console for who comes now.
    let said = home.run_with(home.command(&["console", "web"]), b"echo $((40+4))-again\n");
    assert!(said.out.contains("44-again"), "{}", said.err);
    drop(follower);
    home.ok(&["kill", "web"]);
    home.assert_nothing_runs();
}
