//! Pseudo-terminals.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    pty::{grantpt, posix_openpt, unlockpt},
    sys::termios::{OutputFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr},
};

/// A PTY whose bytes pass unchanged in both directions: master and slave. Both are closed on
/// exec, and neither becomes anybody's controlling terminal.
///
/// The line discipline is raw, and stays so when QEMU's `stdio` character device switches output
/// processing on again, because then there is nothing left for it to do.
///
/// # Errors
/// If the system has no PTY left.
pub fn open_raw() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    // SAFETY: TIOCGPTPEER (ioctl_tty(2), Linux 4.13) takes flags and gives a new descriptor. By
    // name, the slave would not be found if /dev/pts were another mount.
    let slave = unsafe {
        let raw = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits());
        OwnedFd::from_raw_fd(Errno::result(raw)?)
    };
    let mut termios = tcgetattr(&slave)?;
    cfmakeraw(&mut termios);
    termios.output_flags = OutputFlags::empty();
    tcsetattr(&slave, SetArg::TCSANOW, &termios)?;
    // SAFETY: the descriptor is taken out of the PtyMaster, which will not close it any more.
    let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
    Ok((master, slave))
}

/// Tells the terminal its size in cells.
///
/// # Errors
/// If it is no terminal.
pub fn set_size(pty: impl AsFd, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ (ioctl_tty(2)) reads one winsize, which lives for the call.
    let done = unsafe { libc::ioctl(pty.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(done)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use nix::{
        fcntl::{FcntlArg, fcntl},
        sys::termios::LocalFlags,
    };

    use super::*;

    #[test]
    fn bytes_pass_unchanged_both_ways_even_with_output_processing_on() {
        let (master, slave) = open_raw().expect("pty");
        // What QEMU's stdio character device does (chardev/char-stdio.c).
        let mut termios = tcgetattr(&slave).expect("termios");
        termios.output_flags |= OutputFlags::OPOST;
        termios.local_flags &= !LocalFlags::ISIG;
        tcsetattr(&slave, SetArg::TCSANOW, &termios).expect("set");

        let (mut master, mut slave) = (File::from(master), File::from(slave));
        let all: Vec<u8> = (0..=255).collect();
        let mut got = vec![0; 256];
        slave.write_all(&all).expect("write");
        master.read_exact(&mut got).expect("read");
        assert_eq!(got, all, "from the guest");
        master.write_all(&all).expect("write");
        slave.read_exact(&mut got).expect("read");
        assert_eq!(got, all, "to the guest");
    }

    #[test]
    fn the_master_ends_when_the_slave_is_closed_and_neither_is_inherited() {
        let (master, slave) = open_raw().expect("pty");
        for end in [&master, &slave] {
            let flags = fcntl(end, FcntlArg::F_GETFD).expect("flags");
            assert_ne!(flags & libc::FD_CLOEXEC, 0);
        }
        set_size(&master, 132, 50).expect("size");
        drop(slave);
        let error = File::from(master).read(&mut [0]).expect_err("EIO is the end of a PTY");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
}
