//! Packets with descriptors over a `SOCK_SEQPACKET` socket: unix(7).

use std::{
    io::{self, IoSlice},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials,
            connect, getsockopt, sendmsg, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::wire::FILES_MAX;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

/// What came.
#[derive(Debug)]
pub(super) struct Packet {
    /// The bytes, or as many as fitted.
    pub bytes: Vec<u8>,
    /// The descriptors, or as many as fitted.
    pub files: Vec<OwnedFd>,
    /// Whether bytes or descriptors did not fit.
    pub truncated: bool,
}

impl Connection {
    /// Connects to a socket, and gives up on that, and on sending, after `patience`.
    ///
    /// # Errors
    /// As connect(2).
    pub fn to(path: &std::path::Path, patience: Duration) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        // Before it is connected: a queue that is full is waited for, too.
        setsockopt(&socket, sockopt::SendTimeout, &time_val(patience))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self(socket))
    }

    /// Takes over a connected socket.
    pub const fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// How long to wait for what is received and sent; then it is [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_patience(&self, receive: Duration, send: Duration) -> io::Result<()> {
        setsockopt(&self.0, sockopt::ReceiveTimeout, &time_val(receive))?;
        setsockopt(&self.0, sockopt::SendTimeout, &time_val(send))?;
        Ok(())
    }

    /// Who connected, as the kernel noted it at that moment.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn peer(&self) -> io::Result<UnixCredentials> {
        Ok(getsockopt(&self.0, sockopt::PeerCredentials)?)
    }

    /// Sends a packet, whole or not at all.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, files, MsgFlags::empty())
    }

    /// As [`Connection::send`], but fails instead of waiting.
    ///
    /// # Errors
    /// As sendmsg(2).
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_with(bytes, &[], MsgFlags::MSG_DONTWAIT)
    }

    fn send_with(&self, bytes: &[u8], files: &[BorrowedFd<'_>], flags: MsgFlags) -> io::Result<()> {
        let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[_] = if raw.is_empty() { &[] } else { &rights };
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        loop {
            let data = [IoSlice::new(bytes)];
            match sendmsg::<UnixAddr>(self.0.as_raw_fd(), &data, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for a packet of at most `max` bytes and [`FILES_MAX`] descriptors; `None` at the end.
    ///
    /// The kernel installs no more descriptors than there is room for, so that a flood of them
    /// costs nobody else a descriptor.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn receive(&self, max: usize) -> io::Result<Option<Packet>> {
        let mut bytes = vec![0; max];
        // Aligned as a cmsghdr must be; room for FILES_MAX descriptors and not one more.
        let mut control = [0_u64; CONTROL_WORDS];
        let mut data = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: a msghdr of zeros is a valid one, with nothing in it.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        let length = loop {
            // SAFETY: all that the header points to outlives the call and has the lengths it says.
            let got = unsafe {
                libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
            };
            match Errno::result(got) {
                Ok(length) => break length.unsigned_abs(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        // SAFETY: the kernel has filled the header in, and this is the only look at it, so that
        // each descriptor gets one owner.
        let files = unsafe { take_files(&message) };
        let truncated = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
        if length == 0 {
            // The end, or an empty packet, which says nothing either.
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(Packet { bytes, files, truncated }))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Room for [`FILES_MAX`] descriptors: cmsg(3). A header has 16 bytes, a descriptor 4.
const CONTROL_WORDS: usize =
    (mem::size_of::<libc::cmsghdr>() + FILES_MAX * mem::size_of::<libc::c_int>()) / 8;

/// The descriptors that came with a message.
///
/// # Safety
/// `message` is as recvmsg(2) left it, what it points to is alive, and this is called only once.
unsafe fn take_files(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    // SAFETY: the kernel wrote the control messages, within the room it was given; these walk
    // over them as cmsg(3) says.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let rights =
                (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS;
            if rights {
                let empty = libc::CMSG_LEN(0) as usize;
                let bytes = ((*header).cmsg_len as usize).saturating_sub(empty);
                let first = libc::CMSG_DATA(header).cast::<libc::c_int>();
                for i in 0..bytes / mem::size_of::<libc::c_int>() {
                    let fd = ptr::read_unaligned(first.add(i));
                    files.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    files
}

fn time_val(duration: Duration) -> TimeVal {
    TimeVal::milliseconds(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File};

    use nix::sys::socket::socketpair;

    use super::*;

    pub(crate) fn pair() -> (Connection, Connection) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (Connection::of(a), Connection::of(b))
    }

    #[test]
    fn packets_and_descriptors_arrive_as_they_were_sent() {
        let (a, b) = pair();
        let file = tempfile::tempfile().unwrap();
        a.send(b"one", &[file.as_fd(), file.as_fd()]).unwrap();
        a.send(b"two", &[]).unwrap();
        let one = b.receive(3).unwrap().unwrap();
        assert_eq!((&one.bytes[..], one.files.len(), one.truncated), (&b"one"[..], 2, false));
        let same = |fd: &OwnedFd| {
            let file = File::from(fd.try_clone().unwrap());
            std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap())
        };
        assert_eq!(same(&one.files[0]), same(&file.into()));
        let two = b.receive(9).unwrap().unwrap();
        assert_eq!((&two.bytes[..], two.files.len(), two.truncated), (&b"two"[..], 0, false));
        drop(a);
        assert!(b.receive(9).unwrap().is_none());
    }

    #[test]
    fn what_does_not_fit_is_told_and_closed() {
        let (a, b) = pair();
        a.send(b"four", &[]).unwrap();
        assert!(b.receive(3).unwrap().unwrap().truncated);

        // A pipe tells when the last descriptor of its other end is closed.
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let many = vec![writer.as_fd(); 253];
        a.send(b"x", &many).unwrap();
        drop(many);
        drop(writer);
        let packet = b.receive(3).unwrap().unwrap();
        assert!(packet.truncated);
        assert_eq!(packet.files.len(), FILES_MAX, "no more than that were installed");
        drop(packet);
        let mut end = String::new();
        io::Read::read_to_string(&mut File::from(reader), &mut end).unwrap();
    }

    #[test]
    fn an_empty_packet_with_descriptors_leaves_none_behind() {
        let (a, b) = pair();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        a.send(b"", &[writer.as_fd()]).unwrap();
        drop(writer);
        assert!(b.receive(3).unwrap().is_none());
        let mut end = String::new();
        io::Read::read_to_string(&mut File::from(reader), &mut end).unwrap();
    }

    #[test]
    fn received_descriptors_are_closed_on_exec() {
        let (a, b) = pair();
        a.send(b"x", &[tempfile::tempfile().unwrap().as_fd()]).unwrap();
        let packet = b.receive(3).unwrap().unwrap();
        let info = format!("/proc/self/fdinfo/{}", packet.files[0].as_raw_fd());
        let info = fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & libc::O_CLOEXEC, 0);
    }

    #[test]
    fn waiting_ends() {
        let (_a, b) = pair();
        b.set_patience(Duration::from_millis(10), Duration::from_millis(10)).unwrap();
        assert_eq!(b.receive(3).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let full = (0..10_000).find_map(|_| b.send(&[0; 1024], &[]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}
