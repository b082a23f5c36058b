//! Route netlink messages (rtnetlink(7)), as bytes.
//!
//! Five of them are needed; a crate for it would be larger than the whole init.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

// Message types and flags (linux/netlink.h, linux/rtnetlink.h).
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const HEADER: usize = 16;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

/// A request to the kernel's network configuration.
pub struct Request(Vec<u8>);

impl Request {
    /// Takes an interface up.
    pub fn link_up(index: u32) -> Self {
        let mut request = Self::new(RTM_NEWLINK, 0);
        // ifinfomsg: family, padding, type; index; flags; the flags that change.
        request.0.extend([0; 4]);
        request.u32(index).u32(IFF_UP).u32(IFF_UP);
        request
    }

    /// Says how many bytes a packet of an interface can have.
    pub fn mtu(index: u32, mtu: u16) -> Self {
        let mut request = Self::new(RTM_NEWLINK, 0);
        request.0.extend([0; 4]);
        // No flag changes.
        request.u32(index).u32(0).u32(0);
        request.attribute(IFLA_MTU, u32::from(mtu).to_ne_bytes());
        request
    }

    /// Gives an interface an address.
    pub fn address(index: u32, address: Ipv4Addr, prefix: u8) -> Self {
        let mut request = Self::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
        // ifaddrmsg: family, prefix length, flags, scope; index.
        request.0.extend([AF_INET, prefix, 0, RT_SCOPE_UNIVERSE]);
        request.u32(index);
        request.attribute(IFA_LOCAL, address.octets());
        request.attribute(IFA_ADDRESS, address.octets());
        // A network of one or two addresses has none for all (RFC 3021).
        if prefix < 31 {
            let broadcast = address.to_bits() | (u32::MAX >> prefix);
            request.attribute(IFA_BROADCAST, broadcast.to_be_bytes());
        }
        request
    }

    /// Sends everything that has no better route through a gateway.
    pub fn default_route(index: u32, gateway: Ipv4Addr) -> Self {
        let mut request = Self::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
        // rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type;
        // flags.
        request.0.extend([AF_INET, 0, 0, 0]);
        request.0.extend([RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST]);
        request.u32(0);
        request.attribute(RTA_GATEWAY, gateway.octets());
        request.attribute(RTA_OIF, index.to_ne_bytes());
        request
    }

    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.resize(HEADER, 0);
        Self(bytes)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// An attribute of four bytes; with its own head of four it needs no padding.
    fn attribute(&mut self, kind: u16, value: [u8; 4]) {
        self.0.extend(8_u16.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
    }

    /// The message with its length filled in.
    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("a message of some tens of bytes");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// A conversation with the kernel's network configuration.
pub struct Route(OwnedFd);

impl Route {
    /// Opens it.
    pub fn open() -> nix::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(Self)
    }

    /// Asks for something and waits for the answer, which the kernel gives at once.
    pub fn ask(&self, request: Request) -> nix::Result<()> {
        // A socket that is connected to nobody talks to the kernel (netlink(7)).
        send(self.0.as_raw_fd(), &request.finish(), MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        read_answer(&answer[..length])
    }
}

/// Reads the acknowledgement: the header, then an error number, negative or 0.
fn read_answer(answer: &[u8]) -> nix::Result<()> {
    let field = |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok());
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, field(HEADER).map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(errno)) => Err(Errno::from_raw(-errno)),
        _ => Err(Errno::EBADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_they_say() {
        let gateway = Ipv4Addr::new(10, 0, 2, 2);
        for (request, length) in [
            (Request::link_up(1), 32),
            (Request::mtu(1, 1500), 40),
            (Request::address(2, gateway, 24), 48),
            (Request::address(2, gateway, 31), 40),
            (Request::default_route(2, gateway), 44),
        ] {
            let bytes = request.finish();
            assert_eq!(bytes.len(), length);
            assert_eq!(bytes[..4], u32::try_from(length).expect("small").to_ne_bytes());
        }
    }

    #[test]
    fn the_broadcast_address_ends_the_network() {
        let bytes = Request::address(2, Ipv4Addr::new(10, 0, 2, 15), 20).finish();
        assert_eq!(bytes[44..], [10, 0, 15, 255]);
    }

    #[test]
    fn answers_are_read() {
        let answer = |kind: u16, errno: i32| {
            let mut bytes = vec![0; HEADER];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes.extend(errno.to_ne_bytes());
            bytes
        };
        assert_eq!(read_answer(&answer(NLMSG_ERROR, 0)), Ok(()));
        assert_eq!(read_answer(&answer(NLMSG_ERROR, -1)), Err(Errno::EPERM));
        assert_eq!(read_answer(&answer(3, 0)), Err(Errno::EBADMSG));
        assert_eq!(read_answer(&[0; 7]), Err(Errno::EBADMSG));
    }
}
