//! The program that runs the VM, and as whom.

use nix::unistd::geteuid;

use crate::{
    bundle::Bundle,
    domain::{OverlayKind, Problem, VmId, VmPaths, VmmKind},
    host::{facts, process},
    vmm::{
        Backend,
        firecracker::{
            Firecracker,
            jailer::{self, Jailer},
        },
        qemu::{Accel, Qemu},
    },
};

/// What runs a VM.
pub struct Runner {
    /// The program.
    pub backend: Box<dyn Backend>,
    /// The user as whom it runs.
    pub owner: u32,
}

/// A VM that is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// By what.
    pub vmm: VmmKind,
    /// Which.
    pub vm: &'a VmId,
    /// Where its files lie.
    pub paths: &'a VmPaths,
    /// What its disk is.
    pub overlay: OverlayKind,
    /// Whether Firecracker is to run in its jailer; `None`: if it can.
    pub jailer: Option<bool>,
}

/// Finds the programs of this host.
///
/// # Errors
/// If one is not there, or a jail is insisted on and cannot be.
pub fn runner(wanted: &Wanted<'_>, bundle: &Bundle) -> Result<Runner, Problem> {
    let ours = geteuid().as_raw();
    let accel = match wanted.vmm {
        VmmKind::Firecracker => return firecracker(wanted, bundle, ours),
        VmmKind::QemuKvm => Accel::Kvm,
        VmmKind::QemuTcg => Accel::Tcg,
    };
    let qemu = Qemu::new(bundle.qemu()?, accel, facts::tsc_khz());
    Ok(Runner { backend: Box::new(qemu.prepared_by(process::die_with_us)), owner: ours })
}

fn firecracker(wanted: &Wanted<'_>, bundle: &Bundle, ours: u32) -> Result<Runner, Problem> {
    let what = "cannot run Firecracker";
    let program = bundle.firecracker().map_err(|why| {
        Problem::new(what, why, "`banger runtime bootstrap` fetches it; or set vmm = \"auto\"")
    })?;
    let firecracker = Firecracker::new(program).prepared_by(process::die_with_us);
    match (wanted.jailer, jail(wanted, bundle, ours == 0)) {
        (Some(false), _) => {}
        (_, Ok(jailer)) => {
            let backend = Box::new(firecracker.jailed_by(jailer));
            return Ok(Runner { backend, owner: jailer::uid(wanted.vm) });
        }
        (Some(true), Err(why)) => {
            let hint = "or do without: jailer = \"auto\" in config.toml";
            return Err(Problem::new("cannot run Firecracker in its jailer", why, hint));
        }
        (None, Err(why)) => tracing::info!(why, "Firecracker runs without its jailer"),
    }
    Ok(Runner { backend: Box::new(firecracker), owner: ours })
}

/// The jailer, or why there is no jail.
fn jail(wanted: &Wanted<'_>, bundle: &Bundle, root: bool) -> Result<Jailer, String> {
    if !root {
        return Err("banger is not root".to_owned());
    }
    if wanted.overlay != OverlayKind::DmSnapshot {
        // A jail's user may not open the user's file, and cannot be given it without a copy.
        return Err(format!("the VM's disk is a file ({})", wanted.overlay.label()));
    }
    let jailer = Jailer::new(bundle.jailer()?, wanted.paths.jail());
    match jailer::cgroup_root() {
        Ok(root) => Ok(jailer.in_cgroups_of(root)),
        Err(why) => {
            tracing::info!(why, "no control group");
            Ok(jailer)
        }
    }
}
