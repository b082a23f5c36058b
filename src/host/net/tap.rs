//! TAPs: a VM's end of a cable to the bridge.

use std::{
    ffi::c_int,
    fs::{self, File, OpenOptions},
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use nix::libc;
use rtnetlink::{
    LinkUnspec,
    packet_route::{
        RouteNetlinkMessage,
        link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute},
    },
};

use super::{
    bridge, check_mtu,
    links::{self, Link},
    netlink::Netlink,
    refused,
};
use crate::domain::{Problem, Tag, VmId, tap_name};

/// Where TAPs are made and attached to (Linux, Documentation/networking/tuntap.rst).
const TUN: &str = "/dev/net/tun";

/// Raw Ethernet frames, each after a virtio-net header, so that checksums and segmentation can be
/// left to whoever does them best: what both VMMs attach with.
const FLAGS: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
/// Only a new one: fails with `EBUSY` if there is a link of the name (linux/if_tun.h).
const IFF_TUN_EXCL: c_int = 0x8000;

// TUNSETIFF is declared with an int, and takes an ifreq.
nix::ioctl_write_ptr_bad!(
    tun_set_iff,
    nix::request_code_write!(b'T', 202, size_of::<c_int>()),
    libc::ifreq
);
nix::ioctl_write_int!(tun_set_persist, b'T', 203);
nix::ioctl_write_int!(tun_set_owner, b'T', 204);

/// Makes a VM's TAP, or takes it as it is and changes what differs: on the tag's bridge, up, without
/// any address of the host's, for `owner` (and root) to attach to.
///
/// # Errors
/// If the kernel refuses; if there is no bridge; if there is a link of the name that is not the
/// VM's TAP, or that is and is in use with other properties.
pub fn tap(tag: &Tag, vm: &VmId, mtu: u32, owner: u32) -> Result<(), Problem> {
    let name = tap_name(vm);
    let what = format!("cannot make the TAP {name}");
    check_mtu(&what, mtu)?;
    let failed = |error: io::Error| refused(&what, &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    let Some(bridge) = bridge::find(&mut netlink, tag).map_err(failed)? else {
        let why = format!("the bridge {} is not there", tag.bridge());
        return Err(Problem::new(what, why, "start the VM again"));
    };
    let alias = tag.alias(Some(vm));
    if let Some(link) = links::named(&mut netlink, &name).map_err(failed)? {
        if link.alias.as_deref() != Some(&alias) || !link.tun.is_some_and(|tun| tun.tap) {
            let why = format!("there is a link {name} that is not this VM's");
            let hint = format!("if nobody needs it: ip link delete {name}");
            return Err(Problem::new(what, why, hint));
        }
        if fits(&link, owner) {
            return settle(&mut netlink, &link, bridge.index, &alias, mtu).map_err(failed);
        }
        // Its owner and its kind of frames are those it was made with.
        remove(&mut netlink, &link, &what)?;
    }
    // Until it says whose it is, it lives only as long as this descriptor.
    let file = File::options().read(true).write(true).open(TUN).map_err(|error| {
        let why = format!("{TUN}: {error}");
        Problem::new(&what, why, "modprobe tun")
    })?;
    attach(&file, &name, FLAGS | IFF_TUN_EXCL).map_err(failed)?;
    let mut made = || -> io::Result<()> {
        // SAFETY: TUNSETOWNER takes the number itself, and nothing of ours is touched.
        unsafe { tun_set_owner(file.as_raw_fd(), owner.into()) }?;
        let link = links::named(&mut netlink, &name)?
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        settle(&mut netlink, &link, bridge.index, &alias, mtu)?;
        // SAFETY: as above.
        unsafe { tun_set_persist(file.as_raw_fd(), 1) }?;
        Ok(())
    };
    made().map_err(failed)
}

/// A VM's TAP goes.
///
/// # Errors
/// If a program has it open, or the kernel refuses. A link of the name that is not this tag's is
/// left alone, and no error.
pub fn tap_gone(tag: &Tag, vm: &VmId) -> Result<(), Problem> {
    let name = tap_name(vm);
    let what = format!("cannot remove the TAP {name}");
    let failed = |error: io::Error| refused(&what, &error);
    let mut netlink = Netlink::open().map_err(failed)?;
    match links::named(&mut netlink, &name).map_err(failed)? {
        Some(link) if link.tap_of(tag).as_ref() == Some(vm) => remove(&mut netlink, &link, &what),
        _ => Ok(()),
    }
}

/// Whether this process can make TAPs.
///
/// # Errors
/// Why it cannot: a clause for the user.
pub fn tap_access() -> Result<(), String> {
    tun_access(Path::new(TUN))?;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    if may_configure(&status) {
        Ok(())
    } else {
        Err("making interfaces needs root (CAP_NET_ADMIN)".to_owned())
    }
}

/// Whether this process can attach to a TAP of its user's that somebody else made, such as the
/// root helper. That takes no capability, but it does take the device: udev's rules make it 0666
/// (`50-udev-default.rules`), the kernel alone 0600.
///
/// # Errors
/// Why it cannot: a clause for the user, with what to do about it.
pub fn tap_attachable() -> Result<(), String> {
    tun_access(Path::new(TUN))
}

/// Whether the device at `tun` can be opened as a VMM does.
fn tun_access(tun: &Path) -> Result<(), String> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(tun) else { return Ok(()) };
    let tun = tun.display();
    Err(match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {tun} (the kernel's module is tun)"),
        io::ErrorKind::PermissionDenied => {
            format!("{tun} may not be opened by this user (`sudo chmod 0666 {tun}` allows it)")
        }
        _ => format!("{tun} cannot be opened ({error})"),
    })
}

/// Whether `CapEff` of proc_pid_status(5) has `CAP_NET_ADMIN`, which is 12 (capabilities(7)).
fn may_configure(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0) & 1 << 12 != 0
}

/// Makes the TAP with this descriptor, or attaches the descriptor to it.
fn attach(file: impl AsFd, name: &str, flags: c_int) -> io::Result<()> {
    // SAFETY: all of ifreq may be zero: a name, and a union of numbers and addresses.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    debug_assert!(name.len() < request.ifr_name.len(), "IFNAMSIZ, with the NUL");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // The flags are of 16 bits; IFF_TUN_EXCL is the highest.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives for the call.
    unsafe { tun_set_iff(file.as_fd().as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Whether a VMM of `owner` can attach to it as it is.
fn fits(link: &Link, owner: u32) -> bool {
    let wanted = |tun: links::Tun| {
        tun.vnet_hdr && !tun.packet_info && tun.persistent && tun.owner == Some(owner)
    };
    link.tun.is_some_and(wanted)
}

/// Changes what differs.
fn settle(
    netlink: &mut Netlink,
    link: &Link,
    bridge: u32,
    alias: &str,
    mtu: u32,
) -> io::Result<()> {
    let there = link.alias.as_deref() == Some(alias) && link.mtu == mtu;
    if !there || link.master != Some(bridge) {
        // No address of the host's, not even a link-local one.
        let silent = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let message = LinkUnspec::new_with_index(link.index)
            .mtu(mtu)
            .alias(alias)
            .controller(bridge)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![silent]));
        netlink.set(RouteNetlinkMessage::SetLink(message.build()))?;
    }
    if !link.up {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        netlink.set(RouteNetlinkMessage::SetLink(message))?;
    }
    Ok(())
}

/// Removes a TAP that no program has open. The kernel would take it from under one that has, and
/// leave that with a dead descriptor.
fn remove(netlink: &mut Netlink, link: &Link, what: &str) -> Result<(), Problem> {
    // Looking through all descriptors takes its time; without a carrier nobody has it.
    if link.carrier
        && let Some((pid, program)) = holder(&link.name)
    {
        let why = format!("{program} (process {pid}) has it open");
        return Err(Problem::new(what, why, format!("stop the VM, or end process {pid}")));
    }
    links::delete(netlink, link.index).map_err(|error| refused(what, &error))
}

/// Which process has a TAP open: its id and its name. Only root sees other users' descriptors.
fn holder(name: &str) -> Option<(u32, String)> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let dir = process.path();
        let open = fs::read_dir(dir.join("fd")).ok()?.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| target == Path::new(TUN))
                && fs::read_to_string(dir.join("fdinfo").join(fd.file_name()))
                    .is_ok_and(|info| is_attached(&info, name))
        });
        let program = || fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned();
        open.then(|| (pid, program()))
    })
}

/// Whether `/proc/PID/fdinfo/FD` is of a descriptor attached to this interface (the line `iff:` of
/// Linux, drivers/net/tun.c).
fn is_attached(info: &str, name: &str) -> bool {
    info.lines().any(|line| line.strip_prefix("iff:").is_some_and(|iff| iff.trim() == name))
}

/// Opens a TAP as a VMM does.
#[cfg(test)]
pub(super) fn attach_for_test(name: &str) -> File {
    let file = File::options().read(true).write(true).open(TUN).expect("a TUN device");
    attach(&file, name, FLAGS).expect("a TAP of the name");
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::helper::{as_user, is_root};

    #[test]
    fn a_device_that_may_not_be_opened_is_told_with_the_remedy() {
        let missing = tun_access(Path::new("/nonexistent/tun")).expect_err("is not there");
        assert_eq!(missing, "there is no /nonexistent/tun (the kernel's module is tun)");

        // Root's alone, as where there is no udev.
        let tun = tempfile::NamedTempFile::new().expect("a file, with mode 0600");
        let attempt = || tun_access(tun.path());
        assert_eq!(attempt(), Ok(()), "whose it is may");
        if !is_root("a_device_that_may_not_be_opened_is_told_with_the_remedy") {
            return;
        }
        let denied = as_user(1000, attempt).expect_err("nobody else may");
        assert!(denied.contains("may not be opened by this user"), "{denied}");
        assert!(denied.contains(&format!("sudo chmod 0666 {}", tun.path().display())), "{denied}");
    }

    #[test]
    fn the_capability_is_read() {
        assert!(may_configure("Name:\tx\nCapEff:\t0000000000001000\n"));
        assert!(may_configure("CapEff:\t000001ffffffffff\n"));
        assert!(!may_configure("CapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffefff\n"));
        assert!(!may_configure(""));
    }

    #[test]
    fn an_open_descriptor_says_what_it_is_attached_to() {
        let info = "pos:\t0\nflags:\t0104002\nmnt_id:\t26\nino:\t94\niff:\tbgt-0a1b2c3d\n";
        assert!(is_attached(info, "bgt-0a1b2c3d"));
        assert!(!is_attached(info, "bgt-0a1b2c3"));
        assert!(!is_attached("iff:\t\n", "bgt-0a1b2c3d"));
    }
}
