//! What the network takes: TAPs, forwarding, addresses nobody else has, firewalls that let through.

use nix::unistd::geteuid;

use crate::{
    domain::{CheckView, Problem},
    host::{dm, helper, net},
    monitor::Ground,
};

const TUN: &str = "/dev/net/tun";

/// Who does what takes privileges.
pub(super) fn helper() -> CheckView {
    const ID: &str = "helper";
    if geteuid().is_root() {
        return CheckView::ok(ID, "no root helper is needed", "banger runs as root");
    }
    match helper::hello(&helper::socket_path()) {
        Ok(hello) => CheckView::ok(ID, format!("the root helper is version {}", hello.version), ""),
        Err(problem) => CheckView::warning(
            ID,
            problem.what,
            format!(
                "{}; with it VMs have addresses and names of their own, disks that share their \
                 image's data on any file system, and Firecracker",
                problem.why
            ),
            problem.hint,
        ),
    }
}

/// Whether VMMs can have TAPs.
pub(super) fn tap() -> CheckView {
    const ID: &str = "tap";
    if geteuid().is_root() {
        return match net::tap_access() {
            Ok(()) => CheckView::ok(ID, "TAPs can be made", ""),
            Err(why) => CheckView::warning(ID, "TAPs cannot be made", why, "sudo modprobe tun"),
        };
    }
    match net::tap_attachable() {
        Ok(()) => CheckView::ok(ID, format!("{TUN} can be opened"), "the root helper makes TAPs"),
        Err(why) if helper::available().is_err() => {
            CheckView::ok(ID, "TAPs cannot be used", format!("{why}; nothing here uses them"))
        }
        Err(why) => CheckView::warning(
            ID,
            "TAPs cannot be used",
            format!("{why}; the root helper makes TAPs, but the VMM opens them as you"),
            format!("sudo modprobe tun; sudo chmod 0666 {TUN}"),
        ),
    }
}

/// Whether device-mapper makes snapshots.
pub(super) fn device_mapper() -> CheckView {
    const ID: &str = "device-mapper";
    if !geteuid().is_root() {
        let why = "only root can ask it; the root helper does when a disk is made";
        return CheckView::ok(ID, "device-mapper was not asked", why);
    }
    match dm::usable() {
        Ok(()) => CheckView::ok(ID, "device-mapper makes snapshots", ""),
        Err(why) => CheckView::warning(
            ID,
            "device-mapper cannot be used",
            format!("{why}; disks are copies of their images, or share data where reflinks do"),
            "sudo modprobe dm-snapshot loop",
        ),
    }
}

/// Whether the kernel forwards.
pub(super) fn forwarding() -> CheckView {
    const ID: &str = "forwarding";
    match net::is_forwarding() {
        Ok(true) => CheckView::ok(ID, "the kernel forwards IPv4", ""),
        Ok(false) => CheckView::ok(
            ID,
            "the kernel does not forward IPv4",
            "banger turns that on with the first VM on the bridge, and off with the last",
        ),
        Err(error) => CheckView::warning(
            ID,
            "whether the kernel forwards IPv4 cannot be seen",
            error.to_string(),
            "is /proc mounted?",
        ),
    }
}

/// The VMs' addresses.
pub(super) fn subnet(ground: &Ground<'_>) -> CheckView {
    const ID: &str = "subnet";
    let subnet = match ground.store.subnet() {
        Ok(Some(subnet)) => subnet,
        Ok(None) => {
            let why = "the first VM on the bridge chooses what nobody else here has";
            return CheckView::ok(ID, "VMs have no addresses yet", why);
        }
        Err(error) => return CheckView::failed(ID, Problem::from(error)),
    };
    match net::collision(&ground.tag, subnet) {
        Ok(None) => {
            CheckView::ok(ID, format!("VMs have addresses of {subnet}, and nobody else has"), "")
        }
        Ok(Some(with)) => CheckView::failed(
            ID,
            Problem::new(
                format!("the VMs' network {subnet} is somebody else's, too"),
                with,
                "leave that network or VPN; VMs on the bridge do not start until then",
            ),
        ),
        Err(problem) => CheckView::failed(ID, problem),
    }
}

/// Firewalls of others, a check each; Docker's is one.
pub(super) fn firewalls(ground: &Ground<'_>) -> Vec<CheckView> {
    const ID: &str = "firewall";
    if !geteuid().is_root() {
        let why = "only root may list their rules: sudo nft list ruleset";
        return vec![CheckView::ok(ID, "firewalls were not looked at", why)];
    }
    let found = match net::firewalls(&ground.tag) {
        Ok(found) => found,
        Err(problem) => {
            return vec![CheckView::warning(ID, problem.what, problem.why, problem.hint)];
        }
    };
    if found.is_empty() {
        return vec![CheckView::ok(ID, "no firewall but banger's own rules", "")];
    }
    let check = |firewall: net::Firewall| {
        let name = &firewall.name;
        let why = match (firewall.drops_forward, firewall.drops_input) {
            (false, false) => {
                return CheckView::ok(ID, format!("{name} lets VMs through"), "");
            }
            (true, false) => "VMs do not reach the outside",
            (false, true) => "VMs do not reach this host, nor learn names from it",
            (true, true) => "VMs reach neither the outside nor this host",
        };
        CheckView::warning(ID, format!("{name} drops what VMs send"), why, firewall.fix)
    };
    found.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{CheckLevel, Layout, Tag},
        store::Store,
    };

    #[test]
    fn a_subnet_that_is_somebody_elses_is_a_failure() {
        let dir = tempfile::tempdir().expect("temp");
        let layout = Layout { state: dir.path().join("s"), run: dir.path().join("r") };
        let store = Store::open(&layout.database()).expect("store");
        let ground = Ground {
            store: &store,
            layout: &layout,
            tag: Tag::from_bytes([7, 7, 7]),
            ops: Err(Problem::new("nobody", "", "")),
        };
        assert_eq!(subnet(&ground).level, CheckLevel::Ok);
        // Loopback's own: every host has it.
        let taken = "127.0.0.0/22".parse().expect("a subnet");
        store.set_subnet(taken).expect("stored");
        let check = subnet(&ground);
        assert_eq!(check.level, CheckLevel::Failed, "{check:?}");
        assert!(check.why.contains("127.0.0.1"), "{check:?}");
    }
}
