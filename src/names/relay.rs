//! Asking the host's own resolvers on behalf of a guest.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::zone;
use crate::{domain::Subnet, host::resolver};

/// How long a server is waited for. Three of them are tried within the five seconds that a guest's
/// C library gives us (`RES_TIMEOUT`).
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The same over TCP, where answers are long and come in pieces.
const PATIENCE_TCP: Duration = Duration::from_secs(3);

/// The servers to ask, in order. Asked anew for each query: a laptop changes its networks.
pub type Upstreams = Arc<dyn Fn() -> Vec<SocketAddr> + Send + Sync>;

/// What the host itself asks, but never the gateway of these VMs: that is us.
#[must_use]
pub fn host_upstreams(subnet: Subnet) -> Upstreams {
    let ours = move |ip: IpAddr| ip == IpAddr::V4(subnet.gateway());
    Arc::new(move || resolver::upstreams(Path::new("/"), ours))
}

/// What the first server says that knows something to say; if none does, what one said who does
/// not; `None` if all are silent.
pub(super) async fn ask(upstreams: &Upstreams, query: &[u8], udp: bool) -> Option<Vec<u8>> {
    let id = query.first_chunk::<2>()?;
    let mut unhelpful = None;
    for server in upstreams() {
        let answer = if udp { by_udp(server, query).await } else { by_tcp(server, query).await };
        let Ok(mut answer) = answer else { continue };
        answer[..2].copy_from_slice(id);
        // No error, or "no such name"; all else may be that server's trouble only.
        if matches!(answer[3] & 0x0f, 0 | 3) {
            return Some(answer);
        }
        unhelpful.get_or_insert(answer);
    }
    unhelpful
}

/// The query under an id of our own, which nobody who did not see it can know.
fn renumbered(query: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let mut query = query.to_vec();
    query[..2].copy_from_slice(&id);
    Ok((u16::from_be_bytes(id), query))
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket for each query: the kernel gives it a port that cannot be guessed, and hands us only
    // what comes from that server.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let (id, asked) = renumbered(query)?;
    let answer = async {
        socket.send(&asked).await?;
        let mut answer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = socket.recv(&mut answer).await?;
            if zone::is_reply(&asked, id, &answer[..length]) {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    };
    timeout(PATIENCE, answer).await?
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let (id, asked) = renumbered(query)?;
    let answer = async {
        let mut stream = TcpStream::connect(server).await?;
        write(&mut stream, &asked).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        if zone::is_reply(&asked, id, &answer) {
            Ok(answer)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "that is no answer to this"))
        }
    };
    timeout(PATIENCE_TCP, answer).await?
}

/// Writes a message behind its length (RFC 1035, 4.2.2), in one piece.
pub(super) async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "longer than a message can be"))?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}
