//! What the dead have left to be read.

use std::os::fd::AsFd;

use nix::{errno::Errno, unistd::read};

/// More than a socket or pipe holds unless somebody made it larger (socket(7) `wmem_max`, pipe(7)
/// `pipe-max-size`). A child of the dead that goes on writing is read no further.
const REST_MAX: usize = 4 << 20;

/// Reads what is there, as far as that goes without waiting; of one who is dead, all it has said.
///
/// The kernel is asked, and not the runtime, which learns of what has come only when it looks again:
/// the end of a process can be heard before its last words. `from` must be non-blocking, as all is
/// that the runtime reads.
pub(super) fn rest(from: impl AsFd, mut take: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    let mut taken = 0;
    while taken < REST_MAX {
        match read(&from, &mut buffer) {
            Ok(n @ 1..) => {
                take(&buffer[..n]);
                taken += n;
            }
            Err(Errno::EINTR) => {}
            // Its end; nothing more as yet; or it is broken, and was read until then.
            Ok(0) | Err(_) => return,
        }
    }
}
