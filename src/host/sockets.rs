//! Sockets on addresses that may not be there yet.

use std::{
    io,
    net::{SocketAddrV4, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
    sockopt,
};

/// Connections that wait to be accepted; a guest's cannot be many.
const BACKLOG: i32 = 64;

/// A UDP socket for tokio on an address that this host will have: a bridge comes and goes, and who
/// listens on its address stays (`IP_FREEBIND`, ip(7)).
///
/// # Errors
/// If the port is taken.
pub fn udp(address: SocketAddrV4) -> io::Result<UdpSocket> {
    Ok(UdpSocket::from(bound(SockType::Datagram, address)?))
}

/// As [`udp`], a socket that listens for connections.
///
/// # Errors
/// If the port is taken.
pub fn tcp(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = bound(SockType::Stream, address)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(socket))
}

fn bound(kind: SockType, address: SocketAddrV4) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, kind, flags, None)?;
    setsockopt(&fd, sockopt::IpFreebind, &true)?;
    if kind == SockType::Stream {
        // Connections of one who is gone do not keep the port (TIME_WAIT). Not for UDP, where it
        // would let two take the same port.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrIn::from(address))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_that_is_not_there_can_be_listened_on_and_a_taken_port_cannot() {
        // TEST-NET-1 (RFC 5737): nobody's.
        let nobody = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 0);
        udp(nobody).expect("UDP");
        tcp(nobody).expect("TCP");
        let first = udp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let std::net::SocketAddr::V4(taken) = first.local_addr().expect("bound") else {
            panic!("IPv4 was asked for")
        };
        assert_eq!(udp(taken).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        let first = tcp(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let std::net::SocketAddr::V4(taken) = first.local_addr().expect("bound") else {
            panic!("IPv4 was asked for")
        };
        assert_eq!(tcp(taken).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }
}
