//! From a VM's record to the machine that is launched.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use crate::{
    bundle::Bundle,
    domain::{SshEndpoint, VmId, VmPaths, VmSpec},
    guest::{AuthorizedKey, GuestNetwork, GuestParams, Ipv4Cidr},
    vmm::{Backend, Disk, Forward, MachineSpec, Nic},
};

/// The port SSH listens on in the guest.
const SSH_PORT: u16 = 22;

/// What every run of one VM has in common.
pub struct Plan<'a> {
    /// The VM.
    pub id: &'a VmId,
    /// What it is to be.
    pub spec: &'a VmSpec,
    /// Where its files lie.
    pub paths: &'a VmPaths,
    /// Kernel and initrd.
    pub bundle: &'a Bundle,
    /// What runs it.
    pub backend: &'a dyn Backend,
    /// The user's public key: one line of `authorized_keys`.
    pub public_key: &'a str,
}

impl Plan<'_> {
    /// The machine, with its SSH on this port of the host's loopback.
    ///
    /// # Errors
    /// One line: what of the record cannot be used.
    pub fn machine(&self, ssh: &SshEndpoint) -> Result<MachineSpec, String> {
        Ok(MachineSpec {
            vm: self.id.clone(),
            vcpus: self.spec.vcpus,
            memory_mib: self.spec.memory_mib,
            kernel: self.bundle.vmlinux(),
            initrd: self.bundle.initrd(),
            cmdline: self.cmdline()?,
            disks: vec![Disk { path: self.disk()?, read_only: false }],
            nics: vec![Nic::User {
                forwards: vec![Forward { host_port: ssh.port, guest_port: SSH_PORT }],
            }],
            socket: self.paths.vmm_socket(),
        })
    }

    fn disk(&self) -> Result<PathBuf, String> {
        let disk = self.paths.disk();
        match std::fs::metadata(&disk) {
            Ok(meta) if meta.is_file() => Ok(disk),
            Ok(_) => Err(format!("{} is no file", disk.display())),
            Err(error) => Err(format!("its disk {}: {error}", disk.display())),
        }
    }

    fn cmdline(&self) -> Result<String, String> {
        let key = self.public_key.trim().parse::<AuthorizedKey>()?;
        let mut params = GuestParams::new(self.spec.name.clone());
        params.ssh_key = Some(key);
        params.network = Some(user_network()?);
        // Images of an older layout have these on disks of their own, which are not there.
        for unit in ["home.mount", "var.mount"] {
            params.mask.push(unit.parse().map_err(|e| format!("{unit}: {e}"))?);
        }
        params.compose(&self.backend.kernel_cmdline()).map_err(|e| e.to_string())
    }
}

/// What the guest's side of a VMM's own user-mode network is: see [`Nic::User`].
fn user_network() -> Result<GuestNetwork, String> {
    Ok(GuestNetwork {
        address: Ipv4Cidr::new(Ipv4Addr::new(10, 0, 2, 15), 24)?,
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
        mtu: None,
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
pub fn free_port(last: Option<u16>) -> Result<u16, String> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    last.and_then(|port| free(port).ok())
        .map_or_else(|| free(0), Ok)
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| format!("no free port on 127.0.0.1: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_port_is_kept_unless_it_is_taken() {
        let port = free_port(None).expect("a port");
        assert_eq!(free_port(Some(port)), Ok(port));
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
        assert_ne!(free_port(Some(port)).expect("another"), port);
    }
}
