//! What the guest is told, on the kernel command line.
//!
//! | parameter | value | needed |
//! |---|---|---|
//! | `banger.host` | host name, one DNS label | yes |
//! | `banger.addr` | address and prefix length of the first interface: `10.0.2.15/24` | no |
//! | `banger.gw` | default gateway | no; only with `banger.addr` |
//! | `banger.dns` | name servers, separated by `,` | no; only with `banger.addr` |
//! | `banger.mtu` | bytes of a packet, 1280 to 65535 | no; only with `banger.addr` |
//! | `banger.key` | who may log in as root: see [`AuthorizedKey`] | no |
//! | `banger.modules` | the disk that holds all modules of this kernel: `/dev/vdb` | no |
//! | `systemd.mask` | a unit not to be started; once for each unit. Read by systemd itself | no |
//! | `root`, `rootfstype`, `ro`, `rw` | the root file system: see [`RootFs`] | no |
//!
//! Everything else with the prefix `banger.` is a problem, and so is a parameter that comes
//! twice: a typing mistake must not become a machine that is silently half configured.

mod types;

use std::{fmt::Write as _, net::Ipv4Addr};

use crate::domain::VmName;

pub use types::{AuthorizedKey, Ipv4Cidr, RootFs, UnitName};

/// The longest kernel command line in bytes: `COMMAND_LINE_SIZE` of x86 is 2048 with the NUL
/// (Linux, arch/x86/include/asm/setup.h). The kernel cuts off what is longer, silently.
pub const CMDLINE_MAX: usize = 2047;

/// What the init of a guest is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestParams {
    /// The host name.
    pub hostname: VmName,
    /// How the first interface is set up; `None` leaves it down.
    pub network: Option<GuestNetwork>,
    /// Who may log in as root over SSH.
    pub ssh_key: Option<AuthorizedKey>,
    /// The device of the file system that is to be mounted where this kernel's modules belong, if
    /// the image has none.
    pub modules: Option<String>,
    /// Units systemd is not to start, for this boot only.
    pub mask: Vec<UnitName>,
    /// The root file system.
    pub root: RootFs,
}

/// The network of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestNetwork {
    /// Its own address.
    pub address: Ipv4Cidr,
    /// Where everything else goes.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Bytes of a packet, 1,280 to 65,535; `None` leaves it to the driver. Firecracker's
    /// interfaces, unlike QEMU's, do not tell the driver.
    pub mtu: Option<u16>,
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct ParamProblem {
    /// Its name: `banger.addr`.
    pub parameter: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The command line does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel command line has {length} bytes, {CMDLINE_MAX} are possible; \
     use a shorter SSH key (ed25519) or mask fewer units"
)]
pub struct CmdlineTooLong {
    /// Its length in bytes.
    pub length: usize,
}

impl GuestParams {
    /// Parameters with nothing but a host name, and the root file system on the first disk.
    #[must_use]
    pub fn new(hostname: VmName) -> Self {
        Self {
            hostname,
            network: None,
            ssh_key: None,
            modules: None,
            mask: Vec::new(),
            root: RootFs::default(),
        }
    }

    /// The guest's part of the kernel command line.
    #[must_use]
    pub fn to_cmdline(&self) -> String {
        let root = &self.root;
        let mode = if root.read_only { "ro" } else { "rw" };
        let mut line = format!("root={} rootfstype={} {mode}", root.device(), root.fstype());
        let mut add = |key: &str, value: &dyn std::fmt::Display| {
            write!(line, " {key}={value}").expect("writing to a string cannot fail");
        };
        add("banger.host", &self.hostname);
        if let Some(network) = &self.network {
            add("banger.addr", &network.address);
            if let Some(gateway) = network.gateway {
                add("banger.gw", &gateway);
            }
            if !network.dns.is_empty() {
                let servers: Vec<_> = network.dns.iter().map(Ipv4Addr::to_string).collect();
                add("banger.dns", &servers.join(","));
            }
            if let Some(mtu) = network.mtu {
                add("banger.mtu", &mtu);
            }
        }
        if let Some(key) = &self.ssh_key {
            add("banger.key", &key.to_parameter());
        }
        if let Some(device) = &self.modules {
            add("banger.modules", device);
        }
        for unit in &self.mask {
            add("systemd.mask", unit);
        }
        line
    }

    /// The whole command line: what the VMM needs, then the guest's part.
    ///
    /// # Errors
    /// If the kernel would cut it off.
    pub fn compose(&self, vmm_part: &str) -> Result<String, CmdlineTooLong> {
        let line = format!("{} {}", vmm_part.trim(), self.to_cmdline());
        if line.len() > CMDLINE_MAX {
            return Err(CmdlineTooLong { length: line.len() });
        }
        Ok(line)
    }

    /// Reads a kernel command line. Parameters that are not ours are left alone.
    ///
    /// # Errors
    /// All problems at once, in the order they are met; a missing `banger.host` comes last.
    pub fn parse(cmdline: &str) -> Result<Self, Vec<ParamProblem>> {
        let mut reader = Reader::default();
        for word in cmdline.split_ascii_whitespace() {
            reader.word(word);
        }
        reader.finish()
    }
}

/// The state of [`GuestParams::parse`].
#[derive(Default)]
struct Reader {
    seen: Vec<String>,
    problems: Vec<ParamProblem>,
    hostname: Option<VmName>,
    address: Option<Ipv4Cidr>,
    gateway: Option<Ipv4Addr>,
    dns: Vec<Ipv4Addr>,
    mtu: Option<u16>,
    ssh_key: Option<AuthorizedKey>,
    modules: Option<String>,
    mask: Vec<UnitName>,
    device: Option<String>,
    fstype: Option<String>,
    read_only: bool,
}

impl Reader {
    fn word(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.starts_with("banger.") {
            if self.seen.iter().any(|seen| seen == key) {
                return self.problem(key, "is given twice");
            }
            self.seen.push(key.to_owned());
        }
        match key {
            "banger.host" => self.hostname = self.value(key, value.parse()),
            "banger.addr" => self.address = self.value(key, value.parse()),
            "banger.gw" => self.gateway = self.value(key, address(value)),
            "banger.dns" => {
                let servers = value.split(',').map(address).collect::<Result<_, _>>();
                self.dns = self.value(key, servers).unwrap_or_default();
            }
            "banger.mtu" => self.mtu = self.value(key, mtu(value)),
            "banger.key" => self.ssh_key = self.value(key, AuthorizedKey::from_parameter(value)),
            "banger.modules" => self.modules = self.value(key, RootFs::check_device(value)),
            "systemd.mask" => {
                let unit = self.value(key, value.parse());
                self.mask.extend(unit);
            }
            // As in the kernel itself, the last of these counts.
            "root" => self.device = self.value(key, RootFs::check_device(value)),
            "rootfstype" => self.fstype = self.value(key, RootFs::check_fstype(value)),
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            _ if key.starts_with("banger.") => self.problem(
                key,
                "is not known; there are banger.host, banger.addr, banger.gw, banger.dns, \
                 banger.mtu, banger.key and banger.modules",
            ),
            _ => {}
        }
    }

    fn value<T>(&mut self, key: &str, result: Result<T, impl ToString>) -> Option<T> {
        result.map_err(|e| self.problem(key, e.to_string())).ok()
    }

    fn problem(&mut self, key: &str, message: impl Into<String>) {
        let parameter = key.chars().take(40).collect();
        self.problems.push(ParamProblem { parameter, message: message.into() });
    }

    fn finish(mut self) -> Result<GuestParams, Vec<ParamProblem>> {
        for key in ["banger.gw", "banger.dns", "banger.mtu"] {
            let has = |key: &str| self.seen.iter().any(|seen| seen == key);
            if has(key) && !has("banger.addr") {
                self.problem(key, "is of no use without banger.addr");
            }
        }
        if let (Some(address), Some(gateway)) = (self.address, self.gateway)
            && !address.reaches(gateway)
        {
            self.problem("banger.gw", format!("{gateway} is not in the network of {address}"));
        }
        if !self.seen.iter().any(|seen| seen == "banger.host") {
            self.problem("banger.host", "is missing: the machine needs a host name");
        }
        match self.hostname {
            Some(hostname) if self.problems.is_empty() => {
                let (gateway, dns, mtu) = (self.gateway, self.dns, self.mtu);
                let network =
                    self.address.map(|address| GuestNetwork { address, gateway, dns, mtu });
                let root = RootFs::from_checked(self.device, self.fstype, self.read_only);
                let Self { ssh_key, modules, mask, .. } = self;
                Ok(GuestParams { hostname, network, ssh_key, modules, mask, root })
            }
            _ => Err(self.problems),
        }
    }
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("“{}” is not an IPv4 address such as 10.0.2.2", types::clip(text)))
}

/// What an interface can be told: the least of IPv6 (RFC 8200), so that it is not lost, and the most
/// of virtio-net.
fn mtu(text: &str) -> Result<u16, String> {
    // Plain digits only: `parse` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mtu = text.parse().ok().filter(|mtu| digits && *mtu >= 1280);
    mtu.ok_or_else(|| format!("“{}” is not a number of bytes, 1280 to 65535", types::clip(text)))
}

#[cfg(test)]
mod tests;
