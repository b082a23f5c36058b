//! Looking at the host: its runtime directory, its size, what can run VMs.

use tokio::sync::mpsc;

use crate::{
    bundle::{Bundle, Configured, locate},
    domain::{BundleView, HostView, Problem, VmId, VmmKind},
    host::{
        Host, LinuxHost,
        facts::{self, KvmState},
    },
    supervisor::{Options, core::Input},
    vmm::choose::{Choice, Findings, choose},
};

/// The runtime directory, opened.
///
/// # Errors
/// Where it was looked for, or what is wrong with it.
pub fn bundle(options: &Options) -> Result<Bundle, Problem> {
    Bundle::open(&locate(&configured(options))?.dir)
}

/// What the configuration says of the runtime directory.
pub fn configured(options: &Options) -> Configured {
    Configured { runtime_dir: options.runtime_dir.clone(), repo_root: None }
}

/// Tells the core what the runtime directory is like.
pub fn tell_bundle(options: &Options, inputs: &mpsc::UnboundedSender<Input>) {
    let (view, images) = match bundle(options) {
        Ok(bundle) => (BundleView::Ready { dir: bundle.dir().to_owned() }, bundle.images()),
        Err(problem) => (BundleView::Missing { problem }, Vec::new()),
    };
    let _ = inputs.send(Input::Images(images));
    let _ = inputs.send(Input::Bundle(view));
}

/// What runs VMs here, and why.
///
/// # Errors
/// If the configuration asks for what cannot work.
pub fn vmm(options: &Options) -> Result<Choice, Problem> {
    let forced = matches!(options.vmm, Some(VmmKind::QemuKvm)).then_some(true);
    let kvm_unusable = match facts::kvm(forced) {
        KvmState::Usable => None,
        KvmState::Unusable { reason } => Some(reason),
    };
    choose(&Findings { kvm_unusable }, options.vmm).map_err(|why| {
        Problem::new("cannot run VMs as configured", why, "set vmm = \"auto\" in config.toml")
    })
}

/// What the host is like now.
pub fn host(options: &Options) -> HostView {
    let state = &options.layout.state;
    let facts = LinuxHost.facts(state).unwrap_or_default();
    let (vmm, vmm_reason) = match vmm(options) {
        Ok(choice) => (Some(choice.kind), choice.reason),
        Err(problem) => (None, problem.why),
    };
    HostView {
        bundle: BundleView::Unknown,
        vmm,
        vmm_reason,
        overlay: LinuxHost.overlay_kind(state).ok(),
        overlay_reason: String::new(),
        network: Some(crate::domain::NetworkKind::User),
        network_reason: String::new(),
        cpus: facts.cpus,
        memory_total: facts.memory_total,
        memory_available: facts.memory_available,
        disk_total: facts.disk_total,
        disk_available: facts.disk_available,
    }
}

/// What every VM's disk takes on the host.
pub fn disks(options: &Options) -> Vec<(VmId, u64)> {
    let Ok(entries) = std::fs::read_dir(options.layout.state.join("vms")) else {
        return Vec::new();
    };
    let used = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse::<VmId>().ok()?;
        let used = LinuxHost.used_bytes(&options.layout.vm(&id).disk()).ok()?;
        Some((id, used))
    };
    entries.filter_map(|entry| used(entry.ok()?)).collect()
}
