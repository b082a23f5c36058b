//! Waiting for devices by the kernel's own events (netlink, `NETLINK_KOBJECT_UEVENT`).

use std::{
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

use super::{Context as _, Fatal};

/// How long a device may take. It is there at once, or the machine has none: the drivers are
/// loaded, and their buses do not probe in the background.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The stream of the kernel's device events.
pub struct Events(OwnedFd);

impl Events {
    /// Listens from now on.
    pub fn open() -> Result<Self, Fatal> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )
        .context(|| "cannot listen for devices")?;
        // Group 1 is the kernel's; 2 would be that of a udevd.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1)).context(|| "cannot listen for devices")?;
        Ok(Self(fd))
    }

    /// Waits until `there`, looking again at each event. False if it is not so after
    /// [`DEADLINE`].
    pub fn wait(&self, mut there: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + DEADLINE;
        loop {
            if there() {
                return true;
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, timeout) == Ok(0) {
                // Once more: an event may have been lost in a full buffer.
                return there();
            }
            // What they say does not matter; all that have come mean one look.
            let mut event = [0; 4096];
            while recv(self.0.as_raw_fd(), &mut event, MsgFlags::empty()).is_ok() {}
        }
    }
}
