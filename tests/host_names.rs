//! Names through a real systemd-resolved. It needs root and a running resolved, and makes a bridge
//! on the machine itself, so it runs in the lab only, where that machine is thrown away.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddrV4, ToSocketAddrs},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use banger::{
    domain::{NamesRoute, NamesSettings, Subnet, Tag, VmName},
    host::{
        ops::{LinuxOps, Op, Operate},
        resolver::facts,
    },
    names::{
        Check, Context, NameServer, Piece, Record, Records, Settings, Way, choose, getaddrinfo,
        host_upstreams, plan,
    },
};
use common::{skip, until};

/// VMs that run because the test says so.
#[derive(Default)]
struct Running(Mutex<Vec<Record>>);

impl Records for Running {
    fn by_name(&self, name: &VmName) -> Option<Record> {
        self.all().into_iter().find(|record| record.name == *name)
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Record> {
        self.all().into_iter().find(|record| record.address == address)
    }

    fn all(&self) -> Vec<Record> {
        self.0.lock().expect("whole").clone()
    }
}

fn sh(script: &str) -> String {
    let out = Command::new("sh").args(["-c", script]).output().expect("sh");
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A bridge with a port that has a carrier, as a running VM's TAP has: without one, resolved does not
/// ask a link's servers. All of it goes when this is dropped.
struct Bridge {
    ops: LinuxOps,
    tag: Tag,
}

impl Bridge {
    fn new(tag: &Tag, subnet: Subnet) -> Self {
        let bridge = Self { ops: LinuxOps::new(tag.clone(), 0), tag: tag.clone() };
        bridge.ops.run(&Op::Bridge { subnet, mtu: 1_500 }, &[]).expect("a bridge");
        let said = sh(&format!(
            "ip link add bgp-test type dummy && ip link set bgp-test master {} up",
            tag.bridge()
        ));
        assert_eq!(said, "", "a port");
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        sh("ip link delete bgp-test");
        let _ = self.ops.run(&Op::Hosts { names: Vec::new() }, &[]);
        let _ = self.ops.run(&Op::BridgeGone, &[]);
        assert!(!sh("ip link").contains(&self.tag.bridge()), "the bridge stays");
    }
}

#[test]
fn names_work_through_resolved_and_through_hosts_and_go() {
    const TEST: &str = "names_work_through_resolved_and_through_hosts_and_go";
    let facts = facts(Path::new("/"));
    if !nix::unistd::geteuid().is_root() || !facts.uses_resolved() {
        let why = "needs root, and programs that ask a running systemd-resolved";
        return skip(TEST, &format!("{why}; it runs in the lab"));
    }
    let tag: Tag = "00face".parse().expect("a tag");
    let subnet: Subnet = "172.30.252.0/22".parse().expect("a subnet");
    let dir = tempfile::tempdir().expect("temp");
    let bridge = Bridge::new(&tag, subnet);

    let web =
        Record { name: "web".parse().expect("a name"), address: subnet.guest(2).expect("a place") };
    let running = Arc::new(Running(Mutex::new(vec![web.clone()])));
    let settings = Settings {
        run: dir.path().to_owned(),
        tag: tag.clone(),
        subnet,
        upstreams: host_upstreams(subnet),
    };
    let records = Arc::clone(&running);
    let server = NameServer::start(settings, records).expect("a thread");
    let port = server.port_within(Duration::from_secs(30)).expect("it serves");
    let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);

    let hosts_before = std::fs::read("/etc/hosts").expect("/etc/hosts");
    let others = || Ok(Vec::new());
    let context = Context { ops: Some(&bridge.ops), others: &others, run: dir.path() };
    for route in [NamesRoute::Auto, NamesRoute::Hosts] {
        let way = choose(route, &facts, true);
        let expected = if route == NamesRoute::Auto { Way::Resolved } else { Way::Hosts };
        assert_eq!(way, expected);
        let check = Check { vm: &web, tag: &tag, run: dir.path(), way: &way, facts: &facts };
        let before = check.run(&getaddrinfo());
        assert_eq!(before.len(), 1, "nobody knows it before: {before:?}");

        let pieces: Vec<Piece> = plan(&NamesSettings::default(), &way, &web, at, subnet).pieces;
        for piece in &pieces {
            piece.make(&context).unwrap_or_else(|problem| panic!("{problem}"));
        }
        // resolved takes notice of a link's carrier in its own time.
        common::until_or(
            "web.vm through getaddrinfo",
            || check.run(&getaddrinfo()).is_empty().then_some(()),
            || format!("{:?}\n{}", check.run(&getaddrinfo()), sh("resolvectl status; ip -d addr")),
        );
        if way == Way::Resolved {
            let api = ("api.web.vm", 0).to_socket_addrs().expect("a name before its name");
            assert_eq!(api.map(|a| a.ip()).next(), Some(web.address.into()));
            let back = sh(&format!("getent hosts {}", web.address));
            assert!(back.contains("web.vm"), "from address to name: {back}");
            // Gone at once, but for what resolved remembers: five seconds.
            let records = std::mem::take(&mut *running.0.lock().expect("whole"));
            until("web.vm to be forgotten", || ("web.vm", 0).to_socket_addrs().is_err());
            *running.0.lock().expect("whole") = records;
        }
        running.0.lock().expect("whole").clear();
        for piece in pieces.iter().rev() {
            piece.remove(&context, || Ok(())).unwrap_or_else(|problem| panic!("{problem}"));
        }
        until("web.vm to be gone", || ("web.vm", 0).to_socket_addrs().is_err());
        assert!(!sh(&format!("resolvectl domain {}", tag.bridge())).contains("vm"));
        running.0.lock().expect("whole").push(web.clone());
    }
    assert_eq!(std::fs::read("/etc/hosts").expect("/etc/hosts"), hosts_before);
    server.stop();
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    drop(bridge);
}
