//! From a machine to the requests that make it, in order.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::body;
use crate::{
    domain::VmId,
    vmm::{MachineSpec, Nic, VmmError, mac_text},
};

/// Seconds between two looks of the balloon at the guest's memory. Each is an interrupt that
/// wakes an idle guest.
const BALLOON_SECONDS: u32 = 5;

/// The lowest and the highest context id that a guest can have (vsock(7)): 0 to 2 are the
/// hypervisor's, the loopback's and the host's, and all ones is "any".
const CIDS: (u32, u32) = (3, u32::MAX - 1);

/// Where a machine's files are for the Firecracker that runs it: in a jail, elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) disks: Vec<PathBuf>,
    pub(super) metrics: PathBuf,
    pub(super) vsock: PathBuf,
}

/// One request: a `PUT`.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub(super) path: String,
    pub(super) body: Value,
    /// What it is about, for the user: `the disk /vms/x/disk.img`.
    pub(super) what: String,
}

/// All that a machine is made of, but for its start. The logger is not among it: it must be
/// there from the first line on, which would else go to the guest's console.
///
/// # Errors
/// What Firecracker cannot do.
pub(super) fn steps(spec: &MachineSpec, places: &Places) -> Result<Vec<Step>, VmmError> {
    let mut steps = Vec::new();
    let metrics = body::Metrics { metrics_path: text(&places.metrics)? };
    push(&mut steps, "/metrics", &metrics, "its metrics".to_owned())?;
    let machine =
        body::MachineConfig { vcpu_count: spec.vcpus, mem_size_mib: spec.memory_mib, smt: false };
    let what = format!("{} vCPUs and {} MiB of memory", spec.vcpus, spec.memory_mib);
    push(&mut steps, "/machine-config", &machine, what)?;
    let source = body::BootSource {
        kernel_image_path: text(&places.kernel)?,
        initrd_path: text(&places.initrd)?,
        boot_args: &spec.cmdline,
    };
    let what = format!("the kernel {}", spec.kernel.display());
    push(&mut steps, "/boot-source", &source, what)?;
    for (n, (disk, place)) in spec.disks.iter().zip(&places.disks).enumerate() {
        let drive_id = &format!("disk{n}");
        let drive = body::Drive {
            drive_id,
            path_on_host: text(place)?,
            is_root_device: false,
            is_read_only: disk.read_only,
            cache_type: "Writeback",
            io_engine: "Sync",
        };
        let what = format!("the disk {}", disk.path.display());
        push(&mut steps, &format!("/drives/{drive_id}"), &drive, what)?;
    }
    for (n, nic) in spec.nics.iter().enumerate() {
        let Nic::Tap { device, mac } = nic else {
            return Err(VmmError::Refused {
                command: "the network".to_owned(),
                message: "Firecracker has no network of its own; it needs a TAP of the host: run \
                          the VM with QEMU, or let banger make TAPs (`banger doctor` says how)"
                    .to_owned(),
            });
        };
        let iface_id = &format!("eth{n}");
        let nic =
            body::NetworkInterface { iface_id, host_dev_name: device, guest_mac: &mac_text(*mac) };
        let what = format!("the network interface {device}");
        push(&mut steps, &format!("/network-interfaces/{iface_id}"), &nic, what)?;
    }
    let vsock = body::Vsock { guest_cid: guest_cid(&spec.vm), uds_path: text(&places.vsock)? };
    push(&mut steps, "/vsock", &vsock, "its vsock".to_owned())?;
    push(&mut steps, "/entropy", &body::Entropy {}, "its source of entropy".to_owned())?;
    let balloon = body::Balloon {
        amount_mib: 0,
        deflate_on_oom: true,
        stats_polling_interval_s: BALLOON_SECONDS,
    };
    push(&mut steps, "/balloon", &balloon, "its balloon".to_owned())?;
    Ok(steps)
}

/// What comes after all of them: the machine runs.
pub(super) fn start() -> Result<Step, VmmError> {
    step("/actions", &body::Action { action_type: "InstanceStart" }, "the start".to_owned())
}

fn push(
    steps: &mut Vec<Step>,
    path: &str,
    body: &impl Serialize,
    what: String,
) -> Result<(), VmmError> {
    steps.push(step(path, body, what)?);
    Ok(())
}

fn step(path: &str, body: &impl Serialize, what: String) -> Result<Step, VmmError> {
    let body = serde_json::to_value(body).map_err(|e| VmmError::Control(e.to_string()))?;
    Ok(Step { path: path.to_owned(), body, what })
}

/// JSON has text only.
fn text(path: &Path) -> Result<&str, VmmError> {
    path.to_str().ok_or_else(|| VmmError::Refused {
        command: format!("the path {}", path.display()),
        message: "it is not UTF-8, and Firecracker takes no other".to_owned(),
    })
}

/// The guest's address on the vsock: its VM's own number, moved into what is allowed.
fn guest_cid(vm: &VmId) -> u32 {
    let (low, high) = CIDS;
    // An id is eight hex digits by construction.
    let number = u32::from_str_radix(vm.as_str(), 16).unwrap_or(low);
    low + number % (high - low + 1)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    use serde_json::json;

    use super::*;
    use crate::vmm::Disk;

    fn spec() -> MachineSpec {
        MachineSpec {
            vm: VmId::from_bytes([0, 0, 1, 0]),
            vcpus: 3,
            memory_mib: 512,
            kernel: "/rt/vmlinux".into(),
            initrd: "/rt/initrd".into(),
            cmdline: "console=ttyS0 root=/dev/vda".to_owned(),
            disks: vec![
                Disk { path: "/dev/dm-0".into(), read_only: false },
                Disk { path: "/seed".into(), read_only: true },
            ],
            nics: vec![Nic::Tap { device: "bang0".to_owned(), mac: [2, 0, 0, 0, 0, 9] }],
            socket: "/run/x/vmm.sock".into(),
        }
    }

    fn places() -> Places {
        Places {
            kernel: "/vmlinux".into(),
            initrd: "/initrd".into(),
            disks: vec!["/disk0".into(), "/disk1".into()],
            metrics: "/run/x/metrics".into(),
            vsock: "/run/x/vsock".into(),
        }
    }

    #[test]
    fn a_machine_is_made_in_this_order() {
        let steps = steps(&spec(), &places()).expect("steps");
        let all: Vec<_> =
            steps.iter().map(|step| (step.path.as_str(), step.body.clone())).collect();
        let drive = |id: &str, path: &str, read_only: bool| {
            json!({"drive_id": id, "path_on_host": path, "is_root_device": false,
                   "is_read_only": read_only, "cache_type": "Writeback", "io_engine": "Sync"})
        };
        assert_eq!(
            all,
            [
                ("/metrics", json!({"metrics_path": "/run/x/metrics"})),
                ("/machine-config", json!({"vcpu_count": 3, "mem_size_mib": 512, "smt": false})),
                (
                    "/boot-source",
                    json!({"kernel_image_path": "/vmlinux", "initrd_path": "/initrd",
                           "boot_args": "console=ttyS0 root=/dev/vda"})
                ),
                ("/drives/disk0", drive("disk0", "/disk0", false)),
                ("/drives/disk1", drive("disk1", "/disk1", true)),
                (
                    "/network-interfaces/eth0",
                    json!({"iface_id": "eth0", "host_dev_name": "bang0",
                           "guest_mac": "02:00:00:00:00:09"})
                ),
                ("/vsock", json!({"guest_cid": 259, "uds_path": "/run/x/vsock"})),
                ("/entropy", json!({})),
                (
                    "/balloon",
                    json!({"amount_mib": 0, "deflate_on_oom": true, "stats_polling_interval_s": 5})
                ),
            ]
        );
        assert_eq!(steps[3].what, "the disk /dev/dm-0", "as the user knows it");
    }

    #[test]
    fn what_firecracker_cannot_do_is_said_before_it_runs() {
        let user = MachineSpec { nics: vec![Nic::User { forwards: vec![] }], ..spec() };
        let error = steps(&user, &places()).expect_err("no user network").to_string();
        assert!(error.contains("needs a TAP") && error.contains("QEMU"), "{error}");
        let odd = PathBuf::from(OsString::from_vec(b"/vms/\xff".to_vec()));
        let error = steps(&spec(), &Places { kernel: odd, ..places() }).expect_err("no text");
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }

    #[test]
    fn context_ids_are_allowed_ones_and_differ() {
        let cid = |bytes| guest_cid(&VmId::from_bytes(bytes));
        assert_eq!(cid([0; 4]), 3);
        assert_eq!(cid([0, 0, 0, 1]), 4);
        assert_eq!(cid([0xff, 0xff, 0xff, 0xfb]), u32::MAX - 1);
        assert_eq!(cid([0xff, 0xff, 0xff, 0xfc]), 3);
    }
}
