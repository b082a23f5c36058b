//! What a VM gets beside its image: the kernel's modules, keys, user data, a larger disk; and
//! images whose disks of old are gone.

mod common;

use std::{fs, process::Command, time::Instant};

use common::{Home, Load, runtime_dir, skip};

/// Blocks of 1 KiB that the root of a guest has.
fn root_kib(home: &Home, name: &str) -> u64 {
    let said = home.ok(&["ssh", name, "df -k / | tail -n 1"]);
    said.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("df's number")
}

#[test]
fn a_guest_gets_modules_keys_user_data_and_a_larger_disk() {
    let test = "a_guest_gets_modules_keys_user_data_and_a_larger_disk";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let dir = home.path().to_owned();
    let file = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let (key, of_all) = (file("other"), file("of-all"));
    for key in [&key, &of_all] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "other key", "-f", key]);
        assert!(keygen.status().expect("ssh-keygen runs").success());
    }
    let (public, data) = (format!("{key}.pub"), file("data"));
    fs::write(&data, "#cloud-config\npackages: [hello]\n").expect("written");

    let refused = home.fails(&["create", "web", "--image", "tiny", "--user-data", &data]);
    assert!(refused.err.contains("the image tiny has no cloud-init"), "{refused:?}");
    // As far as is looked: there it is.
    let (image, program, script) = (file("with.img"), file("cloud-init"), file("script"));
    fs::copy(runtime_dir().join("images/tiny.img"), &image).expect("copied");
    fs::write(&program, "").expect("written");
    let mut debugfs = Command::new("/usr/sbin/debugfs");
    fs::write(&script, format!("cd /usr/bin\nwrite {program} cloud-init\n")).expect("written");
    debugfs.args(["-w", "-f", &script, &image]);
    assert!(debugfs.output().expect("debugfs runs").status.success());
    home.ok(&["images", "import", &image, "--name", "with"]);

    let with = ["--key", &public, "--user-data", &data, "--overlay", "sparse-copy"];
    let create = ["create", "web", "--image", "with", "--start", "--wait", "--network", "user"];
    home.ok(&[&create[..], &with].concat());

    let modules = "for m in overlay bridge veth nf_tables; do modprobe $m && echo $m; done";
    if runtime_dir().join("modules.img").is_file() {
        assert_eq!(home.ok(&["ssh", "web", modules]), "overlay\nbridge\nveth\nnf_tables\n");
        let seed = "modprobe isofs; mkdir -p /tmp/s; mount -o ro /dev/vdc /tmp/s; cat /tmp/s/*";
        let seed = home.ok(&["ssh", "web", seed]);
        let id = home.vm("web")["id"].as_str().expect("an id").to_owned();
        let meta = format!("instance-id: banger-{id}\nlocal-hostname: web\n");
        assert!(seed.starts_with(&meta), "{seed}");
        assert!(seed.contains("addresses: [10.0.2.15/24]"), "{seed}");
        assert!(seed.ends_with("#cloud-config\npackages: [hello]\n"), "{seed}");
    } else {
        skip(test, "the runtime directory has no modules: those are not tried");
    }
    assert!(home.ok(&["ssh", "web", "cat /proc/cmdline"]).contains(" ds=nocloud "));

    let log_in = |home: &Home, key: &str| {
        let port = home.vm("web")["ssh"]["port"].as_u64().expect("a port").to_string();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]);
        ssh.args(["-i", key, "-p", &port, "root@127.0.0.1", "echo with the other key"]);
        home.run_with(ssh, b"")
    };
    let said = log_in(&home, &key);
    assert_eq!(said.out, "with the other key\n", "{said:?}");
    // A key for all VMs is in force from the next start.
    assert_eq!(log_in(&home, &of_all).code, Some(255));
    home.set("BANGER_EXTRA_KEYS", &format!("{of_all}.pub"));

    let before = root_kib(&home, "web");
    let said = home.ok(&["resize", "web", "1G"]);
    assert_eq!(said, "web: its disk has 1 GiB now (the guest has it at its next start)\n");
    assert_eq!(root_kib(&home, "web"), before, "not yet");
    home.ok(&["ssh", "web", "echo kept >/root/kept && sync"]);
    home.ok(&["restart", "web", "--wait"]);
    for key in [&key, &of_all] {
        let said = log_in(&home, key);
        assert_eq!(said.out, "with the other key\n", "{said:?}");
    }
    let after = root_kib(&home, "web");
    assert!(after > 900 << 10 && before < 300 << 10, "from {before} to {after} KiB");
    assert_eq!(home.ok(&["ssh", "web", "cat /root/kept"]), "kept\n");
    let refused = home.fails(&["resize", "web", "512M"]);
    assert!(refused.err.contains("has 1024 MiB, and disks are never shrunk"), "{refused:?}");

    home.ok(&["stop", "web"]);
    let check = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(home.paths("web").disk()).output();
    let check = check.expect("e2fsck runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    home.assert_nothing_runs();
}

#[test]
fn what_is_wrong_with_given_files_is_said_before_anything_is_made() {
    let test = "what_is_wrong_with_given_files_is_said_before_anything_is_made";
    let Some(mut home) = Home::with_runtime(test, Load::Light) else { return };
    let private = home.path().join("id");
    fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\n").expect("written");
    let private = private.to_str().expect("UTF-8");
    let create = ["create", "web", "--image", "tiny", "--key", private, "--user-data", "/none"];
    let said = home.fails(&create);
    assert!(said.err.contains("key: ") && said.err.contains("line 1: "), "{said:?}");
    assert!(said.err.contains("user-data: /none: No such file"), "{said:?}");
    home.set("BANGER_EXTRA_KEYS", "/none.pub");
    let said = home.fails(&create[..4]);
    assert!(said.err.contains("the keys that all VMs get: /none.pub: No such"), "{said:?}");
    assert!(said.err.contains("correct extra_keys in config.toml"), "{said:?}");
    assert_eq!(home.list(), Vec::<serde_json::Value>::new());
}

#[test]
fn an_older_image_whose_home_and_var_are_gone_boots_without_waiting_for_them() {
    let test = "an_older_image_whose_home_and_var_are_gone_boots_without_waiting_for_them";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    if !runtime_dir().join("images/debian.img").is_file() {
        return skip(test, "the runtime directory has no image debian");
    }
    home.ok(&["create", "old", "--image", "debian", "--overlay", "sparse-copy"]);
    // As images of an older layout had it: each on a disk of its own.
    let table = home.path().join("fstab");
    let lines = "/dev/vda / ext4 defaults 0 1\n\
                 UUID=6b9d1f7e-0000-4000-8000-00000000a0e0 /home ext4 defaults 0 2\n\
                 /dev/vdf /var ext4 defaults 0 2\n";
    fs::write(&table, lines).expect("written");
    let mut debugfs = Command::new("/usr/sbin/debugfs");
    let commands = format!("rm /etc/fstab\nwrite {} /etc/fstab\n", table.display());
    let script = home.path().join("commands");
    fs::write(&script, commands).expect("written");
    debugfs.args(["-w", "-f"]).arg(script).arg(home.paths("old").disk());
    assert!(debugfs.output().expect("debugfs runs").status.success());

    let begun = Instant::now();
    home.ok(&["start", "old", "--wait=600"]);
    assert_eq!(home.ok(&["ssh", "old", "grep -c ext4 /etc/fstab"]), "3\n", "that layout");
    let running = home.run(&["ssh", "old", "systemctl is-system-running --wait"]);
    assert_eq!(running.out, "running\n", "{running:?} after {:?}", begun.elapsed());
    assert_eq!(home.ok(&["ssh", "old", "systemctl list-jobs --no-legend"]), "");
    let masked = home.ok(&["ssh", "old", "systemctl is-enabled home.mount var.mount || true"]);
    assert_eq!(masked, "masked-runtime\nmasked-runtime\n");
    home.ok(&["stop", "old"]);
    home.assert_nothing_runs();
}

/// The host key that a guest makes at its first start is on its disk before anybody is let in, and
/// one that a power cut left empty is made again.
#[test]
fn a_machine_whose_power_goes_when_it_is_just_up_can_be_reached_again() {
    let test = "a_machine_whose_power_goes_when_it_is_just_up_can_be_reached_again";
    let Some(home) = Home::with_runtime(test, Load::Heavy) else { return };
    if !runtime_dir().join("images/debian.img").is_file() {
        return skip(test, "the runtime directory has no image debian");
    }
    home.ok(&["create", "web", "--image", "debian", "--start", "--wait"]);
    home.ok(&["kill", "web"]);
    home.ok(&["start", "web", "--wait"]);
    let key = "/etc/ssh/ssh_host_ed25519_key";
    home.ok(&["ssh", "web", &format!(": >{key}; sync")]);
    home.ok(&["kill", "web"]);
    fs::remove_file(known_hosts(&home)).expect("forgotten: it has another key from now on");
    home.ok(&["start", "web", "--wait"]);
    assert_eq!(home.ok(&["ssh", "web", &format!("test -s {key} && echo made")]), "made\n");
}

/// Where the host keys of the only VM are remembered.
fn known_hosts(home: &Home) -> std::path::PathBuf {
    let id = home.list()[0]["id"].as_str().expect("an id").parse().expect("an id");
    home.layout().vm(&id).known_hosts()
}
