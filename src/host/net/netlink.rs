//! Conversations with the kernel's network configuration (rtnetlink(7)), one request at a time.
//!
//! The messages are rtnetlink's; its socket is used as it is, blocking: the kernel answers
//! before `send` returns, so that an event loop would only add to it.

use std::io;

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_MULTIPART,
        NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// How often a listing is begun again because something changed while it was made.
const DUMP_TRIES: u32 = 5;

/// An open conversation, in the network namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // A refusal need not repeat what was asked.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a change of what is there.
    pub fn set(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.acknowledged(message, 0)
    }

    /// Asks for something new; `AlreadyExists` if it is there.
    pub fn create(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.acknowledged(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Asks for something to be there, whether it is or not.
    pub fn ensure(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.acknowledged(message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Asks for one thing.
    pub fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.send(message, 0)?;
        let mut answer = None;
        self.receive(|inner| answer = Some(inner), &mut false)?;
        answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Asks for all there is. If something keeps changing meanwhile, the last listing counts.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut all = Vec::new();
        for _ in 0..DUMP_TRIES {
            all.clear();
            let mut interrupted = false;
            self.send(message.clone(), NLM_F_DUMP)?;
            self.receive(|inner| all.push(inner), &mut interrupted)?;
            if !interrupted {
                break;
            }
        }
        Ok(all)
    }

    fn acknowledged(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_ACK | flags)?;
        self.receive(|_| {}, &mut false)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(message);
        self.sequence += 1;
        message.header.sequence_number = self.sequence;
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Reads to the end of the answer: an acknowledgement, the end of a listing, or the only
    /// message of it.
    fn receive(
        &mut self,
        mut take: impl FnMut(RouteNetlinkMessage),
        interrupted: &mut bool,
    ) -> io::Result<()> {
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while let Some(length) = message_length(rest) {
                let (one, after) = rest.split_at(length);
                // Messages are padded to four bytes (NLMSG_ALIGN).
                rest = after.get(length.next_multiple_of(4) - length..).unwrap_or_default();
                let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                    Ok(message) => message,
                    // A kernel newer than the package: one link that it cannot read does not
                    // hide the others.
                    Err(error) if is_one_of_many(one) => {
                        tracing::warn!(%error, "a netlink message that cannot be read");
                        continue;
                    }
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                };
                let header = message.header;
                if header.sequence_number != self.sequence {
                    continue;
                }
                *interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::InnerMessage(inner) => {
                        take(inner);
                        if header.flags & NLM_F_MULTIPART == 0 {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The length of the message that the bytes begin with; `None` if none does.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    (16..=bytes.len()).contains(&length).then_some(length)
}

/// Whether the header (linux/netlink.h) says that more of a listing follows.
fn is_one_of_many(message: &[u8]) -> bool {
    let flags = message.get(6..8).and_then(|bytes| bytes.try_into().ok());
    flags.is_some_and(|flags| u16::from_ne_bytes(flags) & NLM_F_MULTIPART != 0)
}
