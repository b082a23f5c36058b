//! The image `debian`; a guest that is told nonsense; a disk that has no room for one more VM.

mod common;

use std::process::Command;

use common::{Home, Load, guest_by_hand, in_own_mounts, runtime_dir, skip};

#[test]
fn debian_boots_whole_lets_only_the_key_in_and_shuts_down_politely() {
    let test = "debian_boots_whole_lets_only_the_key_in_and_shuts_down_politely";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    if !runtime_dir().join("images/debian.img").is_file() {
        return skip(test, "the runtime directory has no image debian");
    }
    home.ok(&["create", "deb", "--image", "debian", "--start", "--wait=600"]);
    let version = home.ok(&["ssh", "deb", "cat /etc/debian_version; hostname; whoami"]);
    let lines: Vec<&str> = version.lines().collect();
    assert!(lines[0].starts_with("12."), "{version}");
    assert_eq!(lines[1..], ["deb", "root"]);

    let running = home.run(&["ssh", "deb", "systemctl is-system-running --wait"]);
    assert_eq!(running.out, "running\n", "{running:?}");
    assert_eq!(home.ok(&["ssh", "deb", "systemctl --failed --no-legend --plain"]), "");
    assert_eq!(
        home.ok(&["ssh", "deb", "systemctl is-active systemd-udevd ssh"]),
        "active\nactive\n"
    );

    let sshd = home.ok(&["ssh", "deb", "sshd -T"]);
    let has = |line: &str| sshd.lines().any(|have| have == line);
    assert!(has("usepam yes"), "{sshd}");
    assert!(has("permitrootlogin without-password"), "{sshd}");
    assert_eq!(home.ok(&["ssh", "deb", "getent shadow root | cut -d: -f2 | cut -c1"]), "*\n");
    // Without the key there is no way in.
    let port = home.vm("deb")["ssh"]["port"].as_u64().expect("a port").to_string();
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no"]);
    ssh.args(["-o", "NumberOfPasswordPrompts=1", "-p", &port, "root@127.0.0.1", "true"]);
    ssh.env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", "/bin/echo");
    let refused = home.run_with(ssh, b"");
    assert_eq!(refused.code, Some(255), "{refused:?}");
    assert!(refused.err.contains("Permission denied"), "{refused:?}");

    home.ok(&["stop", "deb"]);
    let vm = home.vm("deb");
    assert_eq!(vm["state"], "stopped", "{vm}");
    assert_eq!(vm["last_exit"]["by"], "power-button", "{vm}");
    assert_eq!(vm["last_exit"]["clean"], true, "{vm}");
    home.ok(&["rm", "--yes", "deb"]);
    home.assert_nothing_runs();
}

/// What a guest says that is started by hand with these parameters and no disk.
fn by_hand(home: &Home, parameters: &str) -> String {
    let mut command = guest_by_hand(parameters);
    // So that it goes with its home if it hangs.
    command.arg("-name").arg(home.path());
    let said = home.run_with(command, b"");
    assert_eq!(said.code, Some(0), "it powers off: {said:?}");
    assert!(!said.out.contains("Kernel panic"), "{said:?}");
    said.out
}

#[test]
fn a_guest_that_is_told_nonsense_says_what_and_powers_off() {
    let test = "a_guest_that_is_told_nonsense_says_what_and_powers_off";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let said = by_hand(
        &home,
        "root=/dev/vda banger.host=No_Label banger.addr=10.0.2.300/24 banger.typo=1",
    );
    for parameter in ["banger.host: ", "banger.addr: ", "banger.typo: "] {
        assert!(said.contains(parameter), "{parameter} in {said}");
    }
    let said = by_hand(&home, "root=/dev/vda rootfstype=ext4 rw");
    assert!(said.contains("banger.host: "), "{said}");
    // What is asked for is right, but there is no disk.
    let said = by_hand(&home, "root=/dev/vda rootfstype=ext4 rw banger.host=web");
    assert!(said.contains("/dev/vda"), "{said}");
}

#[test]
fn a_full_disk_is_said_and_nothing_is_left_of_the_vm() {
    let test = "a_full_disk_is_said_and_nothing_is_left_of_the_vm";
    let Some(home) = Home::with_runtime(test, Load::Light) else { return };
    let script = format!(
        "mount -t tmpfs -o size=4m,mode=700 tmpfs {}",
        home.layout().state.to_str().expect("UTF-8")
    );
    if home.run_with(in_own_mounts(&script, &Command::new("true")), b"").code != Some(0) {
        return skip(test, "no mount namespace with a tmpfs can be made here");
    }
    // All in one shell: its mounts are gone with it.
    let mut shell = home.command(&[]);
    let banger = shell.get_program().to_owned();
    shell = {
        let mut sh = Command::new("sh");
        sh.arg("-c").arg(
            "\"$1\" create web --image tiny --start; echo code=$?; \"$1\" ls --json; \
             find \"$BANGER_STATE_DIR/vms\" \"$2\" -mindepth 1; \
             echo whole >\"$BANGER_STATE_DIR/room\" && echo room again",
        );
        sh.arg("sh").arg(banger).arg(&home.layout().run).envs(home.variables().iter().cloned());
        sh
    };
    let said = home.run_with(in_own_mounts(&script, &shell), b"");
    assert_eq!(said.code, Some(0), "{said:?}");
    let (code, rest) = said.out.split_once('\n').expect("lines");
    assert_eq!(code, "code=1", "{said:?}");
    assert!(said.err.contains("error: ") && said.err.contains("No space left"), "{said:?}");
    assert!(said.err.contains("make room"), "{said:?}");
    let (list, after) = rest.rsplit_once("}\n").expect("JSON");
    assert!(list.contains("\"vms\": []") || list.contains("\"vms\":[]"), "{said:?}");
    assert_eq!(after, "room again\n", "nothing is left: {said:?}");
}
