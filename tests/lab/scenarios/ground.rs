//! What the lab is, and that its pictures show what they should.

use std::{
    fs::{self, File},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
};

use super::sh;
use crate::{Home, Scenario, User, common::until, picture::Picture};

pub const ALL: &[Scenario] = &[
    Scenario::new("ground::kvm_can_be_used", &User::ALL, kvm_can_be_used),
    Scenario::new("ground::the_host_is_complete", &[User::Root], the_host_is_complete),
    Scenario::new("ground::pictures_show_every_leftover", &[User::Root], pictures),
    Scenario::new("ground::what_udev_runs_is_no_leftover", &[User::Root], beside_udev),
];

fn kvm_can_be_used(home: &Home) {
    let cpus = fs::read_to_string("/proc/cpuinfo").expect("readable");
    assert!(cpus.split_whitespace().any(|flag| flag == "svm"), "{cpus}");
    File::options().read(true).write(true).open("/dev/kvm").expect("/dev/kvm");
    let said = home.ok(&["doctor"]);
    assert!(said.contains("KVM is usable"), "{said}");
}

fn the_host_is_complete(_: &Home) {
    assert_eq!(sh("systemctl is-system-running"), "running\n");
    assert!(sh("dmsetup targets").contains("snapshot "));
    // Asked through NSS, of resolved's own names and of a link's.
    assert!(sh("getent ahosts lab").contains("127.0.0.1"));
    assert!(sh("resolvectl query _gateway").contains("198.51.100.1"));
    sh("ping -c 1 -W 20 198.51.100.1");
    for path in
        ["/dev/net/tun", "/dev/loop-control", "/dev/vhost-vsock", "/sys/fs/cgroup/cgroup.procs"]
    {
        assert!(Path::new(path).exists(), "{path}");
    }
}

fn pictures(_: &Home) {
    let all = |_: &Path| false;
    let before = Picture::take(all);
    assert_eq!(before.difference(&Picture::of_text(&before.to_text())), "");

    let mut child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn().expect("sleep");
    let socket = UnixListener::bind("/run/left.sock").expect("a socket");
    sh("truncate -s 1M /var/tmp/left.img
        loop=$(losetup --find --show /var/tmp/left.img)
        dmsetup create left --table \"0 2048 linear $loop 0\"
        ip link add left0 type dummy
        ip tuntap add left1 mode tap
        ip addr add 198.51.100.1/24 dev left0
        ip link set left0 up
        nft add table inet left
        mkdir /sys/fs/cgroup/left /root/left
        mount -t tmpfs left /root/left
        echo 127.0.0.9 left.vm >>/etc/hosts
        sysctl -q net.ipv4.ip_forward=1");
    let left = before.difference(&Picture::take(all));
    drop(socket);
    sh("umount /root/left
        rmdir /root/left /sys/fs/cgroup/left
        rm /run/left.sock
        sed -i '/left.vm/d' /etc/hosts
        sysctl -q net.ipv4.ip_forward=0
        nft delete table inet left
        ip link del left0
        ip link del left1
        dmsetup remove --retry left
        losetup -D
        rm /var/tmp/left.img");
    child.kill().and_then(|()| child.wait()).expect("its end");
    for line in [
        "+ process: uid 0: sleep 3600",
        "+ socket: /run/left.sock",
        "+ file: /run/left.sock",
        "+ file: /var/tmp/left.img",
        "+ loop: /var/tmp/left.img",
        "+ device-mapper: left:0",
        "+ link: left0 kind dummy",
        "+ link: left1 kind tun",
        "+ address: left0 198.51.100.1/24",
        "+ route: null 198.51.100.0/24",
        "+ nft: table inet left {",
        "+ directory: /sys/fs/cgroup/left",
        "+ mount: /root/left tmpfs left",
        "+ file: /etc/hosts, sum",
        "- file: /etc/hosts, sum",
        "+ sysctl: net/ipv4/ip_forward = 1",
    ] {
        assert!(left.lines().any(|l| l.starts_with(line)), "{line} is not in\n{left}");
    }
}

fn beside_udev(_: &Home) {
    let before = Picture::take(|_: &Path| false);
    // What udev's worker runs for a device that something happens to, and goes on with for longer
    // than anybody waits.
    let rules = Path::new("/run/udev/rules.d");
    fs::create_dir_all(rules).expect("a directory for rules");
    let rule = rules.join("99-lab.rules");
    let text = r#"KERNEL=="full", SUBSYSTEM=="mem", RUN+="/bin/sh -c 'sleep 3601; true'""#;
    fs::write(&rule, text).expect("a rule");
    sh("udevadm control --reload; udevadm trigger --action=change /sys/class/mem/full");
    let pids = || sh("pgrep -x -f 'sleep 3601' || true");
    until("udev to run it", || !pids().is_empty());
    let left = before.difference(&Picture::take(|_: &Path| false));
    fs::remove_file(rule).expect("removed");
    fs::remove_dir(rules).expect("removed");
    sh(&format!("udevadm control --reload; kill {}", pids().trim()));
    assert_eq!(left, "");
}
