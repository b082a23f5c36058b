//! From a VM's record to the machine that is launched.

use core::net::Ipv4Addr;
use std::{fs, io, net::TcpListener, path::PathBuf};

use super::{
    network::{Attached, MTU},
    seed,
};
use crate::{
    bundle::Bundle,
    domain::{Problem, Subnet, VmId, VmPaths, VmSpec},
    guest::{AuthorizedKey, GuestNetwork, GuestParams, Ipv4Cidr, KEYS_FILE},
    vmm::{Backend, Disk, Forward, MachineSpec, Nic},
};

/// The port SSH listens on in the guest.
pub const SSH_PORT: u16 = 22;

/// The guest's name of the second disk.
const MODULES_DEVICE: &str = "/dev/vdb";

/// What every run of one VM has in common.
pub struct Plan<'a> {
    /// The VM.
    pub id: &'a VmId,
    /// What it is to be.
    pub spec: &'a VmSpec,
    /// Where its files lie.
    pub paths: &'a VmPaths,
    /// Kernel and initrd.
    pub bundle: Bundle,
    /// What runs it.
    pub backend: &'a dyn Backend,
    /// The user's public key: one line of `authorized_keys`.
    pub public_key: &'a str,
    /// The file of the keys that all VMs get beside that.
    pub extra_keys: PathBuf,
}

/// How the guest's network card is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the VMM itself: this port of 127.0.0.1 leads to the guest's SSH.
    User(u16),
    /// By a TAP on the bridge.
    Bridge(Attached),
}

/// What a guest is given to start with.
struct Given {
    initrd: PathBuf,
    /// The root, then what only is read.
    disks: Vec<Disk>,
    /// The disk with the kernel's modules, in the guest's words.
    modules: Option<String>,
    /// Whether there is one for cloud-init.
    seeded: bool,
}

impl Plan<'_> {
    /// The machine.
    ///
    /// # Errors
    /// What of the record cannot be used.
    pub fn machine(&self, disk: PathBuf, way: &Way) -> Result<MachineSpec, Problem> {
        let nic = match way {
            Way::User(port) => {
                let forward = Forward { host_port: *port, guest_port: SSH_PORT };
                Nic::User { forwards: vec![forward] }
            }
            Way::Bridge(at) => Nic::Tap { device: at.tap.clone(), mac: at.mac },
        };
        let Given { initrd, disks, modules, seeded } = self.given(disk, way).map_err(|why| {
            let hint = "`banger doctor` checks the directories";
            Problem::new("cannot make what the VM is given at its start", why, hint)
        })?;
        Ok(MachineSpec {
            vm: self.id.clone(),
            vcpus: self.spec.vcpus,
            memory_mib: self.spec.memory_mib,
            kernel: self.bundle.vmlinux(),
            initrd,
            cmdline: self.cmdline(way, modules, seeded).map_err(|why| {
                Problem::new("cannot tell the guest what it is to be", why, "rename the VM")
            })?,
            disks,
            nics: vec![nic],
            socket: self.paths.vmm_socket(),
        })
    }

    /// What the user should know of a machine made with this runtime directory.
    pub fn note(&self) -> Option<Problem> {
        self.bundle.modules().is_none().then(|| {
            let dir = self.bundle.dir().display();
            Problem::new(
                "it runs without the kernel's modules",
                format!("the runtime directory {dir} has no modules.img: an older banger made it"),
                "run `banger runtime bootstrap`, then restart the VM",
            )
        })
    }

    /// All guests of a runtime directory have the same file of modules, and the host's memory
    /// holds it once.
    fn given(&self, root: PathBuf, way: &Way) -> Result<Given, String> {
        let mut disks = vec![Disk { path: root, read_only: false }];
        let mut modules = None;
        if let Some(path) = self.bundle.modules() {
            modules = Some(MODULES_DEVICE.to_owned());
            disks.push(Disk { path, read_only: true });
        }
        let network = guest_network(way)?;
        let seed = self.paths.seed();
        let seeded = seed::make(self.paths, self.id, &self.spec.name, &network)
            .map_err(|e| format!("{}: {e}", seed.display()))?;
        if seeded {
            disks.push(Disk { path: seed, read_only: true });
        }
        let initrd = self.initrd().map_err(|e| format!("its initrd: {e}"))?;
        Ok(Given { initrd, disks, modules, seeded })
    }

    /// The runtime directory's, or for a VM with more keys one with them in it.
    fn initrd(&self) -> io::Result<PathBuf> {
        let mut keys = Vec::new();
        for path in [&self.extra_keys, &self.paths.keys()] {
            match fs::read(path) {
                Ok(lines) => keys.extend(lines),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            // The user may have edited it, and left out the end of the last line.
            if keys.last().is_some_and(|last| *last != b'\n') {
                keys.push(b'\n');
            }
        }
        if keys.is_empty() {
            return Ok(self.bundle.initrd());
        }
        let own = self.paths.initrd();
        fs::write(&own, self.bundle.initrd_with(KEYS_FILE.trim_start_matches('/'), &keys)?)?;
        Ok(own)
    }

    fn cmdline(&self, way: &Way, modules: Option<String>, seeded: bool) -> Result<String, String> {
        let key = self.public_key.trim().parse::<AuthorizedKey>()?;
        let mut params = GuestParams::new(self.spec.name.clone());
        params.ssh_key = Some(key);
        params.network = Some(guest_network(way)?);
        params.modules = modules;
        // Images of an older layout have these on disks of their own, which are not there.
        for unit in ["home.mount", "var.mount"] {
            params.mask.push(unit.parse().map_err(|e| format!("{unit}: {e}"))?);
        }
        let mut machine = self.backend.kernel_cmdline();
        if seeded {
            // cloud-init then looks at the drive only, and waits for no network.
            machine.push_str(" ds=nocloud");
        }
        params.compose(&machine).map_err(|e| e.to_string())
    }
}

/// The guest's side of the network.
fn guest_network(way: &Way) -> Result<GuestNetwork, String> {
    let (address, prefix, gateway, dns, mtu) = match way {
        // What user-mode networks of VMMs are like: see [`Nic::User`].
        Way::User(_) => {
            let at = |host| Ipv4Addr::new(10, 0, 2, host);
            (at(15), 24, at(2), at(3), None)
        }
        Way::Bridge(at) => {
            let gateway = at.subnet.gateway();
            // What every driver begins with need not be said.
            let mtu = u16::try_from(at.mtu).ok().filter(|mtu| u32::from(*mtu) != MTU);
            (at.address, Subnet::PREFIX, gateway, gateway, mtu)
        }
    };
    Ok(GuestNetwork {
        address: Ipv4Cidr::new(address, prefix)?,
        gateway: Some(gateway),
        dns: vec![dns],
        mtu,
    })
}

/// A free TCP port of 127.0.0.1: the one of last time if it still is, so that a VM keeps its
/// address as far as it can.
///
/// Another process may take it before the VMM does; the VMM then says so and a new one is
/// chosen.
///
/// # Errors
/// If there is none.
pub fn free_port(last: Option<u16>) -> Result<u16, Problem> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    last.and_then(|port| free(port).ok())
        .map_or_else(|| free(0), Ok)
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| Problem::new("no free port on 127.0.0.1", e.to_string(), "stop some VMs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_port_is_kept_unless_it_is_taken() {
        // Not of the range that the kernel, and every other test, chooses from.
        let port = (20_000..30_000).find(|port| free_port(Some(*port)) == Ok(*port));
        let port = port.expect("a free one");
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
        assert_ne!(free_port(Some(port)).expect("another"), port);
    }

    #[test]
    fn a_guest_on_the_bridge_asks_the_host_for_everything() {
        let subnet: Subnet = "10.9.8.0/22".parse().expect("a subnet");
        let address = subnet.guest(7).expect("a place");
        let attached = Attached { subnet, address, tap: "bgt-0".into(), mac: [2; 6], mtu: 1500 };
        let network = guest_network(&Way::Bridge(attached)).expect("a network");
        assert_eq!(network.gateway, Some(subnet.gateway()));
        assert_eq!(network.dns, [subnet.gateway()]);
    }
}
