//! The name server's sockets.
//!
//! hickory-server reads and writes the messages; its own loops are not used: they take as many
//! connections and have as many queries under way as come in, and a guest is not to be trusted.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

use super::{
    Records, Upstreams,
    relay::{self, write},
    slots::Slots,
    zone::{QUERY_MAX, Side, Verdict, Zones},
};
use crate::host::sockets;

/// Relayed queries under way, in all and of one guest. Each takes a socket and a buffer of 64 KiB.
const RELAYED: (usize, usize) = (128, 32);
/// Connections, in all and of one address.
const CONNECTIONS: (usize, usize) = (64, 8);
/// How long a connection may stay without a whole query, and how long it may take to read an answer.
const IDLE: Duration = Duration::from_secs(10);
/// The pause after an error of a socket (no memory, no descriptors), so that one that stays does not
/// take the CPU.
const PAUSE: Duration = Duration::from_millis(50);

/// What the loops share.
pub(super) struct Server {
    pub zones: Zones,
    pub records: Arc<dyn Records>,
    pub upstreams: Upstreams,
    relayed: Slots,
    connections: Slots,
}

/// The two sockets of an address.
#[derive(Debug)]
pub(super) struct Pair {
    at: Ipv4Addr,
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Pair {
    /// Takes a port of an address, for both.
    pub fn bind(at: SocketAddrV4) -> io::Result<Self> {
        Ok(Self { at: *at.ip(), udp: sockets::udp(at)?, tcp: sockets::tcp(at)? })
    }
}

impl Server {
    /// For these zones.
    pub fn new(zones: Zones, records: Arc<dyn Records>, upstreams: Upstreams) -> Self {
        let slots = |(all, each)| Slots::new(all, each);
        let (relayed, connections) = (slots(RELAYED), slots(CONNECTIONS));
        Self { zones, records, upstreams, relayed, connections }
    }

    /// Has the current runtime serve this pair, for as long as that runs.
    ///
    /// # Errors
    /// If the runtime does not take the sockets.
    pub fn attend(self: &Arc<Self>, pair: Pair) -> io::Result<()> {
        let udp = Arc::new(UdpSocket::from_std(pair.udp)?);
        let tcp = TcpListener::from_std(pair.tcp)?;
        tokio::spawn(Arc::clone(self).packets(pair.at, udp));
        tokio::spawn(Arc::clone(self).streams(pair.at, tcp));
        Ok(())
    }

    async fn packets(self: Arc<Self>, at: Ipv4Addr, socket: Arc<UdpSocket>) {
        // One more than is looked at, so that what is longer is seen to be.
        let mut buffer = vec![0; QUERY_MAX + 1];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                sleep(PAUSE).await;
                continue;
            };
            let (Some(side), IpAddr::V4(whose)) = (self.zones.side(at, from), from.ip()) else {
                continue;
            };
            let packet = &buffer[..length];
            match self.zones.answer(packet, from, side, true, &*self.records) {
                Verdict::Silence => {}
                // What cannot be sent now is lost, as packets are.
                Verdict::Answer(answer) => drop(socket.send_to(&answer, from).await),
                Verdict::Relay { failed } => {
                    // Whoever gets no place asks again, as if the packet had been lost.
                    let Some(slot) = self.relayed.take(whose) else { continue };
                    let (server, socket) = (Arc::clone(&self), Arc::clone(&socket));
                    let query = packet.to_vec();
                    tokio::spawn(async move {
                        let answer = relay::ask(&server.upstreams, &query, true).await;
                        drop(socket.send_to(&answer.unwrap_or(failed), from).await);
                        drop(slot);
                    });
                }
            }
        }
    }

    async fn streams(self: Arc<Self>, at: Ipv4Addr, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let (Some(side), IpAddr::V4(whose)) = (self.zones.side(at, from), from.ip()) else {
                continue;
            };
            let Some(slot) = self.connections.take(whose) else { continue };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                // A connection that ends, for whatever reason, has ended.
                let _ = server.converse(stream, from, side, whose).await;
                drop(slot);
            });
        }
    }

    /// Answers a connection's queries one after the other, until it ends or is idle.
    async fn converse(
        &self,
        mut stream: TcpStream,
        from: SocketAddr,
        side: Side,
        whose: Ipv4Addr,
    ) -> io::Result<()> {
        loop {
            let query = timeout(IDLE, read(&mut stream)).await??;
            let answer = match self.zones.answer(&query, from, side, false, &*self.records) {
                Verdict::Silence => return Ok(()),
                Verdict::Answer(answer) => answer,
                Verdict::Relay { failed } => {
                    let Some(_slot) = self.relayed.take(whose) else { return Ok(()) };
                    relay::ask(&self.upstreams, &query, false).await.unwrap_or(failed)
                }
            };
            timeout(IDLE, write(&mut stream, &answer)).await??;
        }
    }
}

/// A query behind its length.
async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUERY_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no query is that long"));
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(query)
}
