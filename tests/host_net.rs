//! The network of VMs for real, in namespaces: the host, what is outside of it, and guests.
//!
//! A guest here is a namespace whose cable ends on banger's bridge, where a VM's TAP would be.
//! Packets are sent and must arrive, or not. What VMs themselves do with it is seen in the lab.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use banger::{
    domain::{Subnet, Tag, VmId, tap_name},
    host::{
        net,
        ops::{Done, Inventory, LinuxOps, Op, Operate},
        testing::{Netns, alone},
    },
};

/// How long something may take that happens at once on a machine with time.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long is waited for what must not come: only a packet that is late by this much is missed.
const SILENCE: Duration = Duration::from_millis(300);
/// The address of the outside, and the host's own there.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const UPLINK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

fn tag() -> Tag {
    Tag::from_bytes([0x3f, 0xa2, 0xc1])
}

fn subnet() -> Subnet {
    "172.30.4.0/22".parse().expect("a subnet")
}

fn vm(n: u8) -> VmId {
    VmId::from_bytes([0x0a, 0x1b, 0x2c, n])
}

/// Says what a program said; it must succeed.
fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().expect(program);
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

/// The world beyond the host's uplink. It knows no way to the VMs' addresses but through the host,
/// as a host of the same LAN could be told.
fn outside() -> Netns {
    let outside = Netns::new().expect("a namespace");
    ip(&format!("link add up0 type veth peer name eth0 netns {}", outside.tid()));
    ip(&format!("addr add {UPLINK}/24 dev up0"));
    ip("link set up0 up");
    ip(&format!("route add default via {OUTSIDE}"));
    outside.run(|| {
        ip(&format!("addr add {OUTSIDE}/24 dev eth0"));
        ip("link set eth0 up");
        ip(&format!("route add 172.30.4.0/22 via {UPLINK}"));
    });
    outside
}

/// A guest with this place in the subnet.
fn guest(place: u16) -> (Netns, Ipv4Addr) {
    let guest = Netns::new().expect("a namespace");
    let address = subnet().guest(place).expect("a place");
    ip(&format!("link add g{place} type veth peer name eth0 netns {}", guest.tid()));
    ip(&format!("link set g{place} master {} up", tag().bridge()));
    guest.run(move || {
        ip(&format!("addr add {address}/22 dev eth0"));
        ip("link set eth0 up");
        ip(&format!("route add default via {}", subnet().gateway()));
    });
    (guest, address)
}

/// Everything that is made for VMs, and the kernel told to forward.
fn set_up(dns: Option<u16>) {
    net::bridge(&tag(), subnet(), 1500).expect("a bridge");
    net::rules(&tag(), subnet(), dns).expect("rules");
    net::forwarding().expect("forwarding");
}

/// A server that answers each datagram, and each connection, with the address it came from, for as
/// long as the process lives. To be called where it shall serve.
fn serve(port: u16) {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a socket");
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a socket");
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((_, from)) = udp.recv_from(&mut bytes) {
            udp.send_to(from.ip().to_string().as_bytes(), from).expect("sent");
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("a connection");
            let from = stream.peer_addr().expect("somebody").ip().to_string();
            stream.write_all(from.as_bytes()).expect("written");
        }
    });
}

/// What a server answers over UDP; `None` if nothing comes.
fn ask_udp(from: SocketAddr, to: SocketAddr, patience: Duration) -> Option<String> {
    let socket = UdpSocket::bind(from).expect("a socket");
    socket.set_read_timeout(Some(patience)).expect("set");
    // A first packet may be lost while neighbours are found.
    socket.send_to(b"?", to).expect("sent");
    let mut bytes = [0; 64];
    match socket.recv_from(&mut bytes) {
        Ok((length, from)) => {
            assert_eq!(from, to, "an answer from whom it was asked");
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}

fn ask_tcp(to: SocketAddr, patience: Duration) -> Option<String> {
    let mut text = String::new();
    let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
    stream.set_read_timeout(Some(patience)).expect("set");
    stream.read_to_string(&mut text).expect("an answer");
    Some(text)
}

/// Who the server takes the caller for, over UDP and TCP; both say the same.
fn who_am_i(to: Ipv4Addr, port: u16, patience: Duration) -> Option<String> {
    let to = SocketAddr::from((to, port));
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let (udp, tcp) = (ask_udp(any, to, patience), ask_tcp(to, patience));
    assert_eq!(udp, tcp, "UDP and TCP to {to}");
    udp
}

#[test]
fn guests_reach_each_other_and_the_world_and_only_the_host_reaches_them() {
    alone("guests_reach_each_other_and_the_world_and_only_the_host_reaches_them", || {
        let before = run("ip", "-d link");
        let outside = outside();
        set_up(None);
        let ((a, a_at), (b, b_at)) = (guest(2), guest(3));
        outside.run(|| serve(7000));
        b.run(|| serve(7000));

        let seen = a.run(|| who_am_i(OUTSIDE, 7000, PATIENCE));
        assert_eq!(seen, Some(UPLINK.to_string()), "the world sees the host");
        let seen = a.run(move || who_am_i(b_at, 7000, PATIENCE));
        assert_eq!(seen, Some(a_at.to_string()), "guests see each other");
        let seen = who_am_i(b_at, 7000, PATIENCE);
        assert_eq!(seen, Some(subnet().gateway().to_string()), "the host comes from the bridge");
        let seen = outside.run(move || who_am_i(b_at, 7000, SILENCE));
        assert_eq!(seen, None, "the world comes in only when asked");

        // Unless the user has it so.
        run("nft", "add table ip mine");
        run("nft", "add chain ip mine in { type nat hook prerouting priority -100 ; }");
        run(
            "nft",
            &format!(
                "add rule ip mine in iifname up0 meta l4proto {{ tcp, udp }} th dport 7001 dnat to {b_at}:7000"
            ),
        );
        let seen = outside.run(move || who_am_i(UPLINK, 7001, PATIENCE));
        assert_eq!(seen, Some(OUTSIDE.to_string()), "a port that the user forwards");
        run("nft", "delete table ip mine");

        for cable in ["g2", "g3", "up0"] {
            ip(&format!("link delete {cable}"));
        }
        net::rules_gone(&tag()).expect("the rules go");
        net::bridge_gone(&tag()).expect("the bridge goes");
        assert_eq!(run("ip", "-d link"), before);
        assert_eq!(run("nft", "list ruleset"), "");
    });
}

#[test]
fn a_guest_cannot_speak_for_others() {
    alone("a_guest_cannot_speak_for_others", || {
        let outside = outside();
        set_up(None);
        let (a, _) = guest(2);
        outside.run(|| serve(7000));
        serve(7000);
        a.run(|| ip("addr add 203.0.113.9/32 dev eth0"));
        // The host knows the way back, so that only the rules can be why nothing comes.
        ip(&format!("route add 203.0.113.9 dev {}", tag().bridge()));
        let ask = |to: Ipv4Addr, patience| {
            let to = SocketAddr::from((to, 7000));
            a.run(move || ask_udp("203.0.113.9:0".parse().expect("an address"), to, patience))
        };
        assert_eq!(ask(OUTSIDE, SILENCE), None);
        assert_eq!(ask(subnet().gateway(), SILENCE), None);
        net::rules_gone(&tag()).expect("the rules go");
        assert_eq!(ask(subnet().gateway(), PATIENCE).as_deref(), Some("203.0.113.9"));
    });
}

#[test]
fn questions_for_names_go_to_the_name_server() {
    alone("questions_for_names_go_to_the_name_server", || {
        set_up(Some(5300));
        let (a, a_at) = guest(2);
        serve(5300);
        let seen = a.run(|| who_am_i(subnet().gateway(), 53, PATIENCE));
        assert_eq!(seen, Some(a_at.to_string()));
        // What asks others is left alone, and the host's own port 53 is its own.
        let (b, b_at) = guest(3);
        b.run(|| serve(53));
        assert_eq!(a.run(move || who_am_i(b_at, 53, PATIENCE)), Some(a_at.to_string()));
        assert_eq!(who_am_i(subnet().gateway(), 53, SILENCE), None);
        // It may move, and stop.
        net::rules(&tag(), subnet(), Some(5301)).expect("rules");
        assert_eq!(a.run(|| who_am_i(subnet().gateway(), 53, SILENCE)), None);
        serve(5301);
        let seen = a.run(|| who_am_i(subnet().gateway(), 53, PATIENCE));
        assert_eq!(seen, Some(a_at.to_string()));
    });
}

#[test]
fn docker_drops_what_it_does_not_know_and_is_told() {
    alone("docker_drops_what_it_does_not_know_and_is_told", || {
        run("nft", "add table ip filter");
        run("nft", "add chain ip filter DOCKER-USER");
        run(
            "nft",
            "add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
        );
        run("nft", "add rule ip filter FORWARD counter jump DOCKER-USER");
        run("nft", "add rule ip filter DOCKER-USER counter return");
        let before = run("nft", "list table ip filter");
        let outside = outside();
        outside.run(|| serve(7000));
        set_up(None);
        let (a, a_at) = guest(2);
        a.run(|| serve(7000));
        assert_eq!(a.run(|| who_am_i(OUTSIDE, 7000, PATIENCE)), Some(UPLINK.to_string()));
        assert_eq!(outside.run(move || who_am_i(a_at, 7000, SILENCE)), None, "still not inwards");
        net::rules_gone(&tag()).expect("the rules go");
        assert_eq!(a.run(|| who_am_i(OUTSIDE, 7000, SILENCE)), None, "as it was");
        let counters = |text: String| -> Vec<String> {
            text.lines().map(|l| l.split("packets").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(counters(run("nft", "list table ip filter")), counters(before));
    });
}

/// The most bytes that both ends of a connection put into a segment: those of the far end, and of
/// this one.
fn segments(to: SocketAddr) -> (usize, usize) {
    let text = ask_tcp(to, PATIENCE).expect("an answer");
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
    let near = getsockopt(&stream, TcpMaxSeg).expect("an option of TCP");
    (text.parse().expect("a number"), near as usize)
}

#[test]
fn segments_fit_through_a_narrow_uplink() {
    alone("segments_fit_through_a_narrow_uplink", || {
        let outside = outside();
        outside.run(|| {
            let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7000)).expect("a socket");
            thread::spawn(move || {
                for stream in server.incoming() {
                    let mut stream = stream.expect("a connection");
                    let most = getsockopt(&stream, TcpMaxSeg).expect("an option of TCP");
                    // Who only looked is gone already.
                    let _gone = stream.write_all(most.to_string().as_bytes());
                }
            });
        });
        // A tunnel, as the host sees it; the bridge is of before.
        ip("link set up0 mtu 1300");
        assert_eq!(net::uplink_mtu(), Some(1300));
        set_up(None);
        let (a, _) = guest(2);
        let to = SocketAddr::from((OUTSIDE, 7000));
        let (far, near) = a.run(move || segments(to));
        // 40 bytes of headers, and 12 of options.
        assert!(far <= 1260 && near <= 1260, "{far} and {near}");
        net::rules_gone(&tag()).expect("the rules go");
        run("nft", "add table ip mine");
        run("nft", "add chain ip mine post { type nat hook postrouting priority 100 ; }");
        run("nft", "add rule ip mine post oifname up0 masquerade");
        let (far, _) = a.run(move || segments(to));
        assert!(far > 1260, "without the rules: {far}");
    });
}

#[test]
fn ten_taps_at_once() {
    alone("ten_taps_at_once", || {
        let here = File::open("/proc/thread-self/ns/net").expect("a namespace");
        let ops = LinuxOps::new(tag(), 0);
        thread::scope(|scope| {
            for n in 0..10 {
                let (here, ops) = (&here, &ops);
                scope.spawn(move || {
                    nix::sched::setns(here, nix::sched::CloneFlags::CLONE_NEWNET).expect("entered");
                    // Each as if it were the first.
                    for op in [
                        Op::Bridge { subnet: subnet(), mtu: 1500 },
                        Op::Rules { subnet: subnet(), dns: None },
                        Op::Tap { vm: vm(n), mtu: 1500, owner: 0 },
                    ] {
                        assert_eq!(ops.run(&op, &[]).expect("done"), Done::So, "{op:?}");
                    }
                });
            }
        });
        let inventory = || match ops.run(&Op::Inventory, &[]).expect("a look") {
            Done::Inventory(inventory) => inventory,
            other => panic!("{other:?}"),
        };
        let mut all = inventory();
        all.taps.sort();
        let taps = (0..10).map(vm).collect();
        assert_eq!(all, Inventory { bridge: true, rules: true, taps, ..Inventory::default() });
        for n in 0..10 {
            assert!(run("ip", &format!("link show {}", tap_name(&vm(n)))).contains("master bgr-"));
            ops.run(&Op::TapGone { vm: vm(n) }, &[]).expect("gone");
        }
        ops.run(&Op::RulesGone, &[]).expect("gone");
        ops.run(&Op::BridgeGone, &[]).expect("gone");
        assert_eq!(inventory(), Inventory::default());
    });
}

#[test]
fn nobody_makes_a_tap_for_somebody_else() {
    alone("nobody_makes_a_tap_for_somebody_else", || {
        net::bridge(&tag(), subnet(), 1500).expect("a bridge");
        let ops = LinuxOps::new(tag(), 1000);
        let tap = |owner| ops.run(&Op::Tap { vm: vm(1), mtu: 1500, owner }, &[]);
        assert!(tap(0).expect_err("root's").why.contains("user 1000"));
        assert!(tap(1001).is_err());
        tap(1000).expect("one's own");
    });
}
