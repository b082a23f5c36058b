//! A close look at the host: is everything there that banger needs, and is nothing there that it
//! forgot? For `doctor`, which works without a running supervisor, and for the Host screen.
//!
//! Each check works without the others: a doctor is needed most when something is broken. All of
//! it blocks, for some hundred milliseconds.

mod choices;
mod files;
mod firecracker;
mod host;
mod ledger;
mod names;
mod network;

use std::{env, path::PathBuf, time::SystemTime};

use super::{Options, Origin, audit, driver::look};
use crate::{
    bundle::Configured,
    domain::{
        CheckView, HostReport, Layout, NetworkKind, OrphanView, OverlayKind, Problem, UnixMs,
        VmmKind,
    },
    host::dirs,
    monitor::{self, Ground},
    store::Store,
};

/// What is looked at, and with which settings.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Where everything of the user's lies; `None` if that cannot be told.
    pub layout: Option<Layout>,
    /// See [`Options::runtime_dir`].
    pub runtime_dir: Configured,
    /// See [`Options::vmm`].
    pub vmm: Option<VmmKind>,
    /// See [`Options::overlay`].
    pub overlay: Option<OverlayKind>,
    /// See [`Options::network`].
    pub network: Option<NetworkKind>,
    /// See [`Options::jailer`].
    pub jailer: Option<bool>,
}

impl From<&Options> for Subject {
    fn from(options: &Options) -> Self {
        Self {
            layout: Some(options.layout.clone()),
            runtime_dir: options.runtime_dir.clone(),
            vmm: options.vmm,
            overlay: options.overlay,
            network: options.network,
            jailer: options.jailer,
        }
    }
}

impl Subject {
    /// As a supervisor would be told; without a layout, for what needs none.
    fn options(&self) -> Options {
        let nowhere = || Layout { state: "/".into(), run: "/".into() };
        Options {
            layout: self.layout.clone().unwrap_or_else(nowhere),
            program: PathBuf::new(),
            runtime_dir: self.runtime_dir.clone(),
            vmm: self.vmm,
            overlay: self.overlay,
            network: self.network,
            jailer: self.jailer,
            names: crate::domain::NamesSettings::default(),
            extra_keys: Vec::new(),
            stop_timeout_ms: 0,
            packages: PathBuf::new(),
            origin: Origin::Script,
        }
    }
}

/// How many of the last things that were done to the host a report has.
const CALLS: u32 = 200;

/// Looks at everything.
#[must_use]
pub fn report(subject: &Subject) -> HostReport {
    let path = env::var("PATH").unwrap_or_default();
    let host = look::host(&subject.options());
    let mut checks = vec![choices::vmm(subject, &host), host::qemu(&path)];
    checks.extend(firecracker::firecracker(subject));
    checks.extend([choices::network(&host), network::helper(), network::tap()]);
    checks.push(network::forwarding());
    checks.push(files::bundle(subject));
    let mut report =
        HostReport { at: now(), checks, made: Vec::new(), orphans: Vec::new(), calls: Vec::new() };
    if let Some(layout) = &subject.layout {
        report.checks.push(directories(layout));
        report.checks.extend(files::images(layout));
        report.checks.extend(host::space(layout));
        report.checks.push(choices::overlay(&host));
        report.checks.push(network::device_mapper());
        files::database(layout, CALLS, &mut report);
    }
    report.checks.push(host::ssh(&path));
    report.checks.push(host::resize(&path));
    report
}

/// Removes what a report lists as left over, each after another look at it. All are tried; `tell`
/// hears of each what came of it.
///
/// # Errors
/// What is still there, and why.
pub fn clean(
    layout: &Layout,
    orphans: &[OrphanView],
    tell: &mut dyn FnMut(usize, &Result<(), Problem>),
) -> Result<(), Problem> {
    let store = Store::open(&layout.database())?;
    let layout = monitor::in_force(&store, layout.clone())?;
    let ground = Ground::find(&store, &layout)?;
    let mut left = Vec::new();
    audit::remove(&ground, orphans, now(), &mut |index, removed| {
        if let (Err(problem), Some(orphan)) = (removed, orphans.get(index)) {
            left.push(format!("{}: {}", orphan.what, problem.why));
        }
        tell(index, removed);
    })?;
    if left.is_empty() {
        return Ok(());
    }
    let hint = "`banger doctor` lists what is left, with the commands that remove it";
    Err(Problem::new("the host could not be cleaned of everything", left.join("; "), hint))
}

fn directories(layout: &Layout) -> CheckView {
    match dirs::prepare(layout) {
        Ok(()) => CheckView::ok(
            "directories",
            format!("{} and {} can be written", layout.state.display(), layout.run.display()),
            "VMs and their disks lie in the first, sockets and locks in the second",
        ),
        Err(problem) => CheckView::failed("directories", problem),
    }
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
