//! Looking at the host: its runtime directory, its size, what can run VMs.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tokio::sync::mpsc;

use crate::{
    bundle::{Bundle, locate},
    domain::{BundleView, HostView, OverlayKind, Problem, VmId, VmPaths, VmmKind, Wishes},
    host::{
        Host, LinuxHost, dm,
        facts::{self, KvmState},
        helper, net,
    },
    image::Catalog,
    supervisor::{Options, core::Input},
    vmm::choose::{Choice, Findings, choose},
};

/// The runtime directory, opened.
///
/// # Errors
/// Where it was looked for, or what is wrong with it.
pub fn bundle(options: &Options) -> Result<Bundle, Problem> {
    Bundle::open(&locate(&options.runtime_dir)?.dir)
}

/// All images: those of the runtime directory, if there is one, and the user's.
#[must_use]
pub fn catalog(options: &Options) -> Catalog {
    Catalog::new(&options.layout, bundle(options).ok().as_ref(), &options.packages)
}

/// Tells the core what the runtime directory is like.
pub fn tell_bundle(options: &Options, inputs: &mpsc::UnboundedSender<Input>) {
    let (view, bundle) = match bundle(options) {
        Ok(bundle) => (BundleView::Ready { dir: bundle.dir().to_owned() }, Some(bundle)),
        Err(problem) => (BundleView::Missing { problem }, None),
    };
    let catalog = Catalog::new(&options.layout, bundle.as_ref(), &options.packages);
    let _ = inputs.send(Input::Images(catalog.list()));
    let _ = inputs.send(Input::Bundle(view));
}

/// Tells the core which images there are.
pub fn tell_images(options: &Options, inputs: &mpsc::UnboundedSender<Input>) {
    let _ = inputs.send(Input::Images(catalog(options).list()));
}

/// What runs a VM with these wishes here, how it reaches the world, and why. A VM's own wishes go
/// before those of the configuration.
///
/// # Errors
/// If what is wished cannot work here.
pub fn choice(options: &Options, wishes: Wishes) -> Result<Choice, Problem> {
    let vmm = wishes.vmm.or(options.vmm);
    let insists = matches!(vmm, Some(VmmKind::QemuKvm | VmmKind::Firecracker)).then_some(true);
    let kvm = match facts::kvm(insists) {
        KvmState::Usable => Ok(()),
        KvmState::Unusable { reason } => Err(reason),
    };
    let firecracker = match bundle(options) {
        Ok(bundle) => bundle.firecracker().map(drop),
        Err(problem) => Err(problem.why),
    };
    choose(&Findings { kvm, firecracker, tap: taps() }, vmm, wishes.network.or(options.network))
}

/// Whether VMs can have TAPs: made by us, or by the root helper. The VMM is ours even then and
/// attaches with our rights.
fn taps() -> Result<(), String> {
    if geteuid().is_root() {
        return net::tap_access();
    }
    helper::available().map_err(|problem| problem.why)?;
    net::tap_attachable()
}

/// The state directory; while it is not there yet, the nearest one above it that is: looking does
/// not wait until it is made, and both are most likely on one file system.
fn state_or_above(options: &Options) -> &Path {
    let state = options.layout.state.as_path();
    state.ancestors().find(|dir| dir.is_dir()).unwrap_or(state)
}

/// How new disks share their image's data, and why.
///
/// # Errors
/// If the configuration asks for what cannot work here.
fn overlay(options: &Options) -> Result<(OverlayKind, String), String> {
    let snapshots = if geteuid().is_root() {
        dm::usable()
    } else {
        // What the kernel has anyone may see; the helper tells the rest when it is asked for a disk.
        helper::available().map_err(|problem| problem.why).and_then(|()| dm::present())
    };
    let of_disk = LinuxHost.overlay_kind(state_or_above(options)).map_err(|e| e.to_string());
    match (options.overlay, snapshots, of_disk) {
        (Some(OverlayKind::DmSnapshot), Err(why), _) => Err(why),
        (Some(OverlayKind::Reflink), _, Ok(OverlayKind::SparseCopy)) => {
            Err("the file system of the state directory has no reflinks".to_owned())
        }
        (Some(kind), ..) => Ok((kind, "asked for".to_owned())),
        (None, Ok(()), _) => Ok((OverlayKind::DmSnapshot, "device-mapper can be used".to_owned())),
        (None, Err(why), Ok(kind)) => Ok((kind, format!("no snapshots: {why}"))),
        (None, Err(_), Err(why)) => Err(why),
    }
}

/// What the host is like now.
pub fn host(options: &Options) -> HostView {
    let facts = LinuxHost.facts(state_or_above(options)).unwrap_or_default();
    let (vmm, vmm_reason, network, network_reason) = match choice(options, Wishes::default()) {
        Ok(c) => (Some(c.vmm), c.vmm_reason, Some(c.network), c.network_reason),
        Err(problem) => (None, problem.why.clone(), None, problem.why),
    };
    let (overlay, overlay_reason) = match overlay(options) {
        Ok((kind, reason)) => (Some(kind), reason),
        Err(reason) => (None, reason),
    };
    HostView {
        bundle: BundleView::Unknown,
        vmm,
        vmm_reason,
        overlay,
        overlay_reason,
        network,
        network_reason,
        cpus: facts.cpus,
        memory_total: facts.memory_total,
        memory_available: facts.memory_available,
        disk_total: facts.disk_total,
        disk_available: facts.disk_available,
    }
}

/// What a VM's disk takes on the host, in bytes.
pub fn disk_used(paths: &VmPaths) -> Option<u64> {
    let used = |path: PathBuf| LinuxHost.used_bytes(&path).ok();
    used(paths.disk()).or_else(|| used(paths.cow()))
}

/// What every VM's disk takes on the host.
pub fn disks(options: &Options) -> Vec<(VmId, u64)> {
    let Ok(entries) = std::fs::read_dir(options.layout.state.join("vms")) else {
        return Vec::new();
    };
    let used = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse::<VmId>().ok()?;
        let used = disk_used(&options.layout.vm(&id))?;
        Some((id, used))
    };
    entries.filter_map(|entry| used(entry.ok()?)).collect()
}
