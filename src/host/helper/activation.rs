//! The socket: systemd's, or one of our own.

use std::{
    env, fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::Path,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket,
        sockopt,
    },
};

use super::packet::Connection;
use crate::domain::Problem;

/// The first descriptor that systemd passes: sd_listen_fds(3).
const FIRST: RawFd = 3;
/// Connections that wait to be taken.
const BACKLOG: i32 = 128;

/// The socket that systemd has passed to us, if it has.
///
/// # Errors
/// If what it passed is not such a socket.
pub(super) fn passed() -> Result<Option<OwnedFd>, Problem> {
    let var = |name| env::var(name).ok();
    if !is_for_us(var("LISTEN_PID").as_deref(), std::process::id()) {
        return Ok(None);
    }
    let wrong = |why: String| {
        let hint = "sudo banger helper install puts the units right";
        Problem::new("cannot use the socket of systemd", why, hint)
    };
    if var("LISTEN_FDS").as_deref() != Some("1") {
        return Err(wrong("one socket is expected".to_owned()));
    }
    // SAFETY: fcntl(2) takes a number, and says so if no descriptor has it.
    if unsafe { libc::fcntl(FIRST, libc::F_GETFD) } < 0 {
        return Err(wrong("there is none".to_owned()));
    }
    // SAFETY: systemd passes it to this process (LISTEN_PID) as its own, it is open, and this
    // function is called once, before anything else could have taken it.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    let failed = |errno: nix::Error| wrong(errno.to_string());
    let kind = getsockopt(&socket, sockopt::SockType).map_err(failed)?;
    let listens = getsockopt(&socket, sockopt::AcceptConn).map_err(failed)?;
    if kind != SockType::SeqPacket || !listens {
        return Err(wrong("it is none of packets that listens".to_owned()));
    }
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(failed)?;
    Ok(Some(socket))
}

fn is_for_us(listen_pid: Option<&str>, pid: u32) -> bool {
    listen_pid.and_then(|text| text.parse().ok()) == Some(pid)
}

/// A socket of our own. One that nobody listens at any more is replaced.
///
/// # Errors
/// If it cannot be made, or somebody listens there.
pub(super) fn own(path: &Path) -> Result<OwnedFd, Problem> {
    let failed = |error: io::Error| {
        let what = format!("cannot listen at {}", path.display());
        Problem::new(what, error.to_string(), "give another path with --socket")
    };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            if Connection::to(path, Duration::from_secs(1)).is_ok() {
                let why = "a helper listens there already";
                return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, why)));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(failed(io::Error::other("there is a file that is no socket"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let make = || -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        // Anybody may knock: who it is the kernel says.
        fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(socket)
    };
    make().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_for_another_process_is_not_ours() {
        assert!(is_for_us(Some("42"), 42));
        for other in [None, Some("43"), Some(""), Some("-42"), Some("42x")] {
            assert!(!is_for_us(other, 42), "{other:?}");
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_and_a_file_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = own(&path).expect("new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert!(own(&path).unwrap_err().why.contains("already"));
        drop(first);
        drop(own(&path).expect("stale"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(own(&path).unwrap_err().why.contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
