//! The server with real sockets, on loopback: all of 127.0.0.0/8 is this host, so a subnet in it has
//! a gateway to listen on, and guests to ask from.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType as T,
};

use super::{
    NameServer, Settings, Upstreams, port, sweep,
    testing::{Fake, query, record},
};
use crate::{
    domain::{Subnet, Tag},
    host::lock::FileLock,
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for an answer on loopback that will not come.
const SILENCE: Duration = Duration::from_millis(200);

struct Home {
    dir: tempfile::TempDir,
    fake: Arc<Fake>,
    settings: Settings,
}

/// A home of its own net, so that tests do not meet.
fn home(net: u8, upstreams: Upstreams) -> Home {
    let dir = tempfile::tempdir().expect("temp");
    let subnet = Subnet::at(Ipv4Addr::new(127, 30, net, 0)).expect("a subnet");
    let (run, tag) = (dir.path().to_owned(), Tag::from_bytes([0, 7, net]));
    let fake = Arc::new(Fake::with(&[("web", 2)]));
    Home { dir, fake, settings: Settings { run, tag, subnet, upstreams } }
}

impl Home {
    fn server(&self) -> NameServer {
        let records = Arc::clone(&self.fake);
        NameServer::start(self.settings.clone(), records).expect("a thread")
    }

    fn gateway(&self) -> Ipv4Addr {
        self.settings.subnet.gateway()
    }

    fn guest(&self, place: u16) -> Ipv4Addr {
        self.settings.subnet.guest(place).expect("a place")
    }
}

fn nobody() -> Upstreams {
    Arc::new(Vec::new)
}

fn socket(at: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((at, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    socket
}

fn udp(from: Ipv4Addr, to: SocketAddrV4, packet: &[u8]) -> Message {
    let socket = socket(from);
    socket.send_to(packet, to).expect("sent");
    let mut answer = [0; 4_096];
    let (length, by) = socket.recv_from(&mut answer).expect("an answer");
    assert_eq!(by, SocketAddr::V4(to));
    Message::from_vec(&answer[..length]).expect("a message")
}

fn tcp(stream: &mut TcpStream, packet: &[u8]) -> Message {
    let length = u16::try_from(packet.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], packet].concat()).expect("sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("all of it");
    Message::from_vec(&answer).expect("a message")
}

fn connect(to: SocketAddrV4) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|r| r.data.ip_addr()).collect()
}

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An upstream that says 192.0.2.7 to everything, over both, and counts; after saying something
/// else under another id.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let udp = UdpSocket::bind((LOCAL, 0)).expect("a socket");
    let at = udp.local_addr().expect("bound");
    let tcp = TcpListener::bind(at).expect("the same port");
    let count = Arc::new(AtomicUsize::new(0));
    let said = |packet: &[u8], last: u8| {
        let mut message = Message::from_vec(packet).expect("a query").into_response();
        let name = message.queries[0].name().clone();
        let data = hickory_proto::rr::RData::A(Ipv4Addr::new(192, 0, 2, last).into());
        message.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, data));
        message.to_vec().expect("bytes")
    };
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut packet = [0; 4_096];
        while let Ok((length, from)) = udp.recv_from(&mut packet) {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut forged = said(&packet[..length], 66);
            forged[0] ^= 0xff;
            udp.send_to(&forged, from).expect("sent");
            udp.send_to(&said(&packet[..length], 7), from).expect("sent");
        }
    });
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("a connection");
            counted.fetch_add(1, Ordering::SeqCst);
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut packet).expect("a query");
            let answer = said(&packet, 7);
            let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).expect("sent");
        }
    });
    (at, count)
}

#[test]
fn names_are_answered_on_both_sides_and_both_ways() {
    let home = home(4, nobody());
    let server = home.server();
    let port = server.port_within(PATIENCE).expect("it serves");
    let web = query("web.vm.", T::A);
    let expected: [IpAddr; 1] = [record("web", 2).address.into()];
    for (from, to) in [(LOCAL, LOCAL), (home.guest(3), home.gateway())] {
        let to = SocketAddrV4::new(to, port);
        assert_eq!(addresses(&udp(from, to, &web)), expected);
    }
    let mut stream = connect(SocketAddrV4::new(LOCAL, port));
    for _ in 0..3 {
        assert_eq!(addresses(&tcp(&mut stream, &web)), expected, "one connection, many queries");
    }
    home.fake.0.lock().expect("whole").clear();
    let gone = udp(LOCAL, SocketAddrV4::new(LOCAL, port), &web);
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain, "gone at once");
    server.stop();
}

#[test]
fn a_guest_hears_of_the_outside_and_a_forged_answer_is_not_passed_on() {
    let (at, count) = upstream();
    // The first is nobody: a closed port.
    let closed = UdpSocket::bind((LOCAL, 0)).expect("a socket").local_addr().expect("bound");
    let home = home(8, Arc::new(move || vec![closed, at]));
    let server = home.server();
    let port = server.port_within(PATIENCE).expect("it serves");
    let outside = query("example.org.", T::A);
    let bridge = SocketAddrV4::new(home.gateway(), port);
    let expected: [IpAddr; 1] = [Ipv4Addr::new(192, 0, 2, 7).into()];
    let answer = udp(home.guest(2), bridge, &outside);
    assert_eq!((addresses(&answer).as_slice(), answer.metadata.id), (&expected[..], 0x1234));
    let local = SocketAddrV4::new(LOCAL, port);
    assert_eq!(udp(LOCAL, local, &outside).metadata.response_code, ResponseCode::Refused);
    assert_eq!(count.load(Ordering::SeqCst), 1, "the host's question went nowhere");
    server.stop();
}

#[test]
fn the_outside_is_reached_over_tcp_and_its_silence_is_an_error() {
    let (at, _count) = upstream();
    let home = home(12, Arc::new(move || vec![at]));
    let server = home.server();
    let port = server.port_within(PATIENCE).expect("it serves");
    // The host's own address on the bridge counts as the host, so the guest's must be bound.
    let ask = |packet: &[u8]| {
        let socket = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let to = SocketAddr::from((home.gateway(), port));
        let stream = socket.expect("a runtime").block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind((home.guest(2), 0).into()).expect("bound");
            socket.connect(to).await.expect("connected").into_std().expect("a stream")
        });
        stream.set_nonblocking(false).expect("set");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        tcp(&mut { stream }, packet)
    };
    let answer = ask(&query("example.org.", T::A));
    assert_eq!(addresses(&answer), [IpAddr::from([192, 0, 2, 7])]);
    server.stop();

    let home = self::home(16, nobody());
    let server = home.server();
    let port = server.port_within(PATIENCE).expect("it serves");
    let to = SocketAddrV4::new(home.gateway(), port);
    let answer = udp(home.guest(2), to, &query("example.org.", T::A));
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    server.stop();
}

#[test]
fn strangers_and_junk_get_nothing_and_the_server_goes_on() {
    let home = home(20, nobody());
    let server = home.server();
    let port = server.port_within(PATIENCE).expect("it serves");
    let bridge = SocketAddrV4::new(home.gateway(), port);
    let stranger = socket(Ipv4Addr::new(127, 99, 0, 1));
    stranger.set_read_timeout(Some(SILENCE)).expect("set");
    stranger.send_to(&query("web.vm.", T::A), bridge).expect("sent");
    assert!(stranger.recv(&mut [0; 512]).is_err(), "not even an error");
    let guest = socket(home.guest(2));
    for size in [0, 1, 11, 13, 512, 4_096, 4_097, 60_000] {
        guest.send_to(&vec![0xff; size], bridge).expect("sent");
    }
    // A connection that says less than it announced, and one that announces too much, keep nothing.
    let mut short = connect(SocketAddrV4::new(LOCAL, port));
    short.write_all(&[0, 100, 1, 2, 3]).expect("sent");
    let mut long = connect(SocketAddrV4::new(LOCAL, port));
    long.write_all(&[0xff, 0xff]).expect("sent");
    assert_eq!(long.read(&mut [0; 16]).expect("closed"), 0);
    let answer = udp(home.guest(3), bridge, &query("web.vm.", T::A));
    assert_eq!(answer.answers.len(), 1);
    server.stop();
}

#[test]
fn a_guest_that_floods_with_questions_takes_its_own_share() {
    // An upstream that never answers holds each place for as long as it is waited for.
    let silent = UdpSocket::bind((LOCAL, 0)).expect("a socket");
    let at = silent.local_addr().expect("bound");
    let (good, _count) = upstream();
    let turn = Arc::new(AtomicUsize::new(0));
    let turns = Arc::clone(&turn);
    let upstreams = move || {
        let first = turns.fetch_add(1, Ordering::SeqCst) < 32;
        if first { vec![at] } else { vec![good] }
    };
    let home = home(24, Arc::new(upstreams));
    let server = home.server();
    let port = server.port_within(PATIENCE).expect("it serves");
    let bridge = SocketAddrV4::new(home.gateway(), port);
    let flood = socket(home.guest(2));
    for _ in 0..200 {
        flood.send_to(&query("example.org.", T::A), bridge).expect("sent");
    }
    // This comes behind the flood, so all of that has been looked at.
    let names = udp(home.guest(2), bridge, &query("web.vm.", T::A));
    assert_eq!(names.answers.len(), 1);
    assert_eq!(turn.load(Ordering::SeqCst), 32, "a guest's share");
    let answer = udp(home.guest(3), bridge, &query("example.org.", T::A));
    assert_eq!(addresses(&answer), [IpAddr::from([192, 0, 2, 7])], "another's question is asked");
    server.stop();
}

#[test]
fn the_next_one_goes_on_at_the_same_port_and_of_the_last_nothing_stays() {
    let home = home(28, nobody());
    let first = home.server();
    let begun = first.port_within(PATIENCE).expect("it serves");
    // The home's own port is another's now: the next one must not go back to it.
    let second = home.server();
    let third = home.server();
    assert_eq!(second.port_within(PATIENCE), Ok(begun));
    assert_eq!(third.port_within(PATIENCE), Ok(begun));
    assert!(second.serving().borrow().is_none() && third.serving().borrow().is_none());
    // One that waits and goes gives its turn away when it comes.
    third.stop();
    first.stop();
    let mut serving = second.serving();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let port = runtime.expect("a runtime").block_on(async {
        let found = tokio::time::timeout(PATIENCE, serving.wait_for(Option::is_some)).await;
        *found.expect("in time").expect("alive")
    });
    assert_eq!(port, Some(begun));
    let answer = udp(LOCAL, SocketAddrV4::new(LOCAL, begun), &query("web.vm.", T::A));
    assert_eq!(answer.answers.len(), 1);
    second.stop();
    assert_eq!(self::port(home.dir.path()), None);
    // The one that was stopped while it waited comes into the lock by and by, and goes; if it finds
    // the lock's file gone, it makes one for a moment.
    let begin = Instant::now();
    while std::fs::read_dir(home.dir.path()).expect("a directory").count() > 0 {
        assert!(begin.elapsed() < PATIENCE, "something stays");
        let lock = FileLock::exclusive(home.dir.path().join("names.lock")).expect("free");
        drop(lock.remove_on_drop());
        thread::yield_now();
    }
}

#[test]
fn a_taken_port_is_left_to_its_owner() {
    let home = home(32, nobody());
    let server = home.server();
    let own = server.port_within(PATIENCE).expect("it serves");
    server.stop();
    let _other = UdpSocket::bind((LOCAL, own)).expect("free again");
    let server = home.server();
    let next = server.port_within(PATIENCE).expect("it serves");
    assert_ne!(next, own);
    assert!(super::PORTS.contains(&next));
    server.stop();
}

#[test]
fn what_a_killed_server_left_is_swept_but_not_a_living_ones() {
    let home = home(36, nobody());
    let run = home.dir.path();
    std::fs::write(run.join("names.lock"), "1\n").expect("written");
    std::fs::write(run.join("names.port"), "1 21000\n").expect("written");
    assert_eq!(port(run), None, "nobody holds the lock");
    sweep(run).expect("swept");
    assert_eq!(std::fs::read_dir(run).expect("a directory").count(), 0);
    sweep(run).expect("nothing to do");

    let server = home.server();
    let begun = server.port_within(PATIENCE).expect("it serves");
    sweep(run).expect("nothing to do");
    assert_eq!(port(run), Some(begun));
    server.stop();
}
