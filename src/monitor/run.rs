//! The monitor's main function.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::PathBuf,
    sync::Arc,
};

use serde_json::json;
use tokio::{
    net::UnixListener,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{
    backend::{Runner, Wanted, runner},
    clear::clear,
    clock::Clock,
    console::{Console, LOG_LIMIT, pump},
    elsewhere::elsewhere,
    ground::{Ground, write_down},
    log::BoundedLog,
    machine::{Life, enter},
    order::Order,
    overlay,
    plan::Plan,
    room::{self, Room, Snapshot},
    server::{Service, serve},
    stage::HostStage,
};
use crate::{
    bundle::Bundle,
    domain::{
        BootTimes, ExitReason, ExitRecord, Layout, MonitorPhase, MonitorReply, MonitorStatus,
        NamesSettings, NetworkKind, OverlayKind, Problem, StopLadder, Tag, VmId, VmPaths, VmmKind,
    },
    host::{dm, facts, fault, lock::FileLock, ops::Operate, pty},
    store::{LedgerKind, Store, VmRow, VmState},
};

/// Ladders and markers that wait to be taken; more than anybody sends at once.
const QUEUE: usize = 16;
/// The monitor's own log is begun anew above this.
const OWN_LOG_LIMIT: u64 = 1024 * 1024;

/// What `banger monitor` is told. All of it explicit: it must not depend on where it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorArgs {
    /// The VM.
    pub vm: VmId,
    /// Where everything of the user's lies.
    pub layout: Layout,
    /// The runtime directory.
    pub runtime: PathBuf,
    /// What is to run the VM.
    pub vmm: VmmKind,
    /// How it is to reach the world.
    pub network: NetworkKind,
    /// Whether Firecracker is to run in its jailer; `None`: if it can.
    pub jailer: Option<bool>,
    /// How names are made known.
    pub names: NamesSettings,
    /// Milliseconds the guest is given when the host shuts down.
    pub stop_timeout_ms: u64,
}

/// Runs a VM until it is off and nothing of it is left on the host.
///
/// The first line on standard output is a [`MonitorReply`] as JSON: `Ok` once the lock is held
/// and the socket can be connected to. After it, standard output and error are the monitor's
/// log.
///
/// Returns the exit code: 0 unless the VM could not be taken over.
#[must_use]
pub fn main(args: &MonitorArgs) -> i32 {
    // Known by the time that the rest is prepared.
    facts::tsc_begin();
    fault::arm("monitor");
    let clock = Clock::start();
    let paths = args.layout.vm(&args.vm);
    let prepared = Prepared::new(args, &paths, clock);
    let reply = match &prepared {
        Ok(_) => MonitorReply::Ok,
        Err(problem) => MonitorReply::Denied { problem: problem.clone() },
    };
    if let Err(error) = answer(&reply) {
        // Whoever started us is gone; the VM is wanted all the same.
        tracing::warn!(%error, "nobody takes the first reply");
    }
    fault::point("the first reply");
    match prepared {
        Ok(prepared) => {
            if let Err(error) = own_log(&paths) {
                tracing::warn!(%error, "no log of its own");
            }
            prepared.run(args, &paths, clock);
            0
        }
        Err(_) => 1,
    }
}

fn answer(reply: &MonitorReply) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, reply)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Turns standard output and error, and with them panics and tracing, into the monitor's log.
fn own_log(paths: &VmPaths) -> io::Result<()> {
    let path = paths.monitor_log();
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > OWN_LOG_LIMIT) {
        fs::rename(&path, BoundedLog::older(&path))?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    nix::unistd::dup2_stdout(&file)?;
    nix::unistd::dup2_stderr(&file)?;
    tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).init();
    Ok(())
}

/// A monitor that holds the lock and can be connected to.
struct Prepared {
    lock: FileLock,
    store: Store,
    tag: Tag,
    ops: Result<Arc<dyn Operate>, Problem>,
    row: VmRow,
    bundle: Bundle,
    runner: Runner,
    public_key: String,
    listener: std::os::unix::net::UnixListener,
    master: OwnedFd,
    slave: OwnedFd,
}

impl Prepared {
    fn new(args: &MonitorArgs, paths: &VmPaths, clock: Clock) -> Result<Self, Problem> {
        let what = format!("cannot start the VM {}", args.vm);
        let fail = |why: String, hint: &str| Problem::new(what.clone(), why, hint);
        let io_fail = |what: &str, e: io::Error| {
            fail(format!("{what}: {e}"), "`banger doctor` checks the directories")
        };

        let store = Store::open(&args.layout.database())?;
        if let Some(there) = elsewhere(&store, &args.layout, &args.vm)? {
            let why = format!("it is running already, with its sockets in {}", there.run.display());
            return Err(fail(why, "set XDG_RUNTIME_DIR as it was where it was started"));
        }
        let lock = FileLock::try_exclusive(paths.run_lock())
            .map_err(|e| io_fail("its lock", e))?
            .ok_or_else(|| fail("it is running already".into(), ""))?
            // Whatever fails from here on must not leave the file of a VM that is no more.
            .remove_on_drop();
        fault::point("the lock was taken");
        // Read under the lock: it may have been deleted a moment ago.
        let row = store.vm(&args.vm)?.ok_or_else(|| fail("it does not exist".into(), ""))?;
        if row.state != VmState::Ready {
            return Err(fail("it is being made or removed".into(), "wait, and try again"));
        }
        let ground = Ground::find(&store, &args.layout)?;
        let left = clear(&ground, &args.vm);
        if !left.is_empty() {
            let hint = "`banger doctor` lists what is left of it; remove that and try again";
            return Err(fail(format!("of an earlier run is left: {}", left.join("; ")), hint));
        }
        let bundle = Bundle::open(&args.runtime)?;
        let wanted = Wanted {
            vmm: args.vmm,
            vm: &args.vm,
            paths,
            overlay: row.overlay,
            jailer: args.jailer,
        };
        let runner = runner(&wanted, &bundle)?;
        let key = args.layout.ssh_key().with_extension("pub");
        let public_key = fs::read_to_string(&key)
            .map_err(|e| io_fail(&format!("the SSH key {}", key.display()), e))?;

        store.record_start(&args.vm, clock.now(), args.vmm, None)?;
        store.record_network(&args.vm, args.network)?;
        fault::point("the run was opened");
        let made = Self::make(&ground, &args.vm, paths).map_err(|e| io_fail("its sockets", e));
        let (listener, master, slave) = made.inspect_err(|problem| {
            let reason = ExitReason::StartFailed { why: problem.why.clone() };
            finish(&ground, &args.vm, clock, reason);
        })?;
        let Ground { tag, ops, .. } = ground;
        Ok(Self { lock, store, tag, ops, row, bundle, runner, public_key, listener, master, slave })
    }

    fn make(
        ground: &Ground<'_>,
        vm: &VmId,
        paths: &VmPaths,
    ) -> io::Result<(std::os::unix::net::UnixListener, OwnedFd, OwnedFd)> {
        let note = |kind, path: &std::path::Path| {
            ground.note(vm, kind, &path.to_string_lossy(), &json!(null)).map_err(io::Error::other)
        };
        note(LedgerKind::Directory, paths.run_dir())?;
        DirBuilder::new().mode(0o700).create(paths.run_dir())?;
        fault::point("the directory of sockets was made");
        note(LedgerKind::Socket, &paths.monitor_socket())?;
        let listener = std::os::unix::net::UnixListener::bind(paths.monitor_socket())?;
        fault::point("the monitor's socket was made");
        listener.set_nonblocking(true)?;
        let (master, slave) = pty::open_raw()?;
        Ok((listener, master, slave))
    }

    fn run(self, args: &MonitorArgs, paths: &VmPaths, clock: Clock) {
        let reason = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.live(args, paths, clock)),
            Err(error) => ExitReason::StartFailed { why: error.to_string() },
        };
        finish(&self.ground(&args.layout), &args.vm, clock, reason);
        if let Err(error) = self.lock.unlink() {
            tracing::warn!(%error, "the lock's file stays");
        }
    }
}

impl Prepared {
    fn ground<'a>(&'a self, layout: &'a Layout) -> Ground<'a> {
        Ground { store: &self.store, layout, tag: self.tag.clone(), ops: self.ops.clone() }
    }

    /// The room for what the guest writes.
    fn room(&self, layout: &Layout, paths: &VmPaths) -> Room {
        let snapshot = match (&self.ops, self.row.overlay) {
            (Ok(ops), OverlayKind::DmSnapshot) => {
                let cow = paths.cow();
                // As large as it was made for the worst case, if it was not made larger since.
                let disk = fs::metadata(overlay::base(layout, &self.row)).map_or(0, |m| m.len());
                let disk = self.row.spec.disk_mib.map_or(disk, |mib| disk.max(mib << 20));
                Some(Snapshot { ops: Arc::clone(ops), cow, worst: dm::cow_bytes(disk) })
            }
            _ => None,
        };
        Room { vm: self.row.id.clone(), state: layout.state.clone(), snapshot }
    }

    async fn live(&self, args: &MonitorArgs, paths: &VmPaths, clock: Clock) -> ExitReason {
        let start_failed = |what: &str, e: &dyn std::fmt::Display| ExitReason::StartFailed {
            why: format!("{what}: {e}"),
        };
        let (console, typed) = Console::new();
        let console = Arc::new(console);
        let (marked, markers) = mpsc::channel(QUEUE);
        let (orders_in, orders) = mpsc::channel(QUEUE);
        let (status, watched) = watch::channel(MonitorStatus {
            vm: args.vm.clone(),
            pid: std::process::id(),
            vmm_pid: None,
            vmm: args.vmm,
            phase: MonitorPhase::Preparing,
            since: clock.now(),
            ssh: None,
            boot: BootTimes::default(),
            network: args.network,
            address: None,
            dns_name: None,
            fill: None,
            problem: None,
        });

        let listener = self.listener.try_clone().and_then(UnixListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(e) => return start_failed("its socket", &e),
        };
        let service =
            Service { console: Arc::clone(&console), status: watched, orders: orders_in.clone() };
        tokio::spawn(serve(listener, service));

        let log = BoundedLog::open(&paths.console_log(), LOG_LIMIT)
            .inspect_err(|error| tracing::warn!(%error, "no console log"))
            .ok();
        let ends = self.master.try_clone().and_then(|m| Ok((m, self.slave.try_clone()?)));
        let (master, slave) = match ends {
            Ok(ends) => ends,
            Err(e) => return start_failed("its console", &e),
        };
        tokio::spawn(async move {
            if let Err(error) = pump(master, &console, typed, log, marked).await {
                tracing::error!(%error, "the console is lost");
            }
        });
        tokio::spawn(host_goes_down(orders_in.clone(), args.stop_timeout_ms));
        tokio::spawn(room::watch(self.room(&args.layout, paths), orders_in, status.clone()));

        let record = |call| write_down(&self.store, &call);
        let mut life = Life {
            name: self.row.spec.name.as_str(),
            backend: self.runner.backend.as_ref(),
            console: slave,
            markers,
            orders,
            status: &status,
            record: &record,
            clock,
        };
        let mut stage = HostStage {
            ground: self.ground(&args.layout),
            row: &self.row,
            network: args.network,
            owner: self.runner.owner,
            names: &args.names,
            server: None,
            status: status.clone(),
            runtime: Handle::current(),
            publishing: None,
            plan: Plan {
                id: &args.vm,
                spec: &self.row.spec,
                paths,
                bundle: self.bundle.clone(),
                backend: self.runner.backend.as_ref(),
                public_key: &self.public_key,
                extra_keys: args.layout.extra_keys(),
            },
            last_port: self.row.ssh_port,
        };
        let reason = life.run(&mut stage).await;
        stage.published();
        if let Some(server) = stage.server.take() {
            server.stop();
        }
        enter(&status, clock, MonitorPhase::Clearing);
        let boot = status.borrow().boot.clone();
        if let Err(error) = self.store.record_boot(&args.vm, &boot) {
            tracing::warn!(%error, "the boot times are lost");
        }
        reason
    }
}

/// SIGTERM is the host shutting down, or somebody who wants the VM gone: a polite stop. The
/// terminal's other signals do not reach a session of its own.
async fn host_goes_down(orders: mpsc::Sender<Order>, polite_ms: u64) {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return };
    while term.recv().await.is_some() {
        tracing::info!("SIGTERM");
        let _ = orders.try_send(Order::Stop(StopLadder::polite(polite_ms)));
    }
}

/// Clears up and writes down why the run ended; the lock is still held.
fn finish(ground: &Ground<'_>, vm: &VmId, clock: Clock, reason: ExitReason) {
    tracing::info!(reason = reason.sentence(), "off");
    for line in clear(ground, vm) {
        tracing::error!(line, "left on the host");
    }
    if let Err(error) = ground.store.record_exit(vm, &ExitRecord { at: clock.now(), reason }) {
        tracing::error!(%error, "the end of the run is not written down");
    }
    fault::point("the end of the run was written down");
}
