//! The VM's name: this monitor's part in answering for all, and making its own known.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::BorrowedFd,
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{sync::watch, task::spawn_blocking};

use super::{ground::Ground, network};
use crate::{
    domain::{
        Layout, NamesRoute, NamesSettings, NetworkKind, Problem, Subnet, Tag, VmId, VmName, ZONE,
    },
    host::{
        lock,
        ops::{Done, Op, Operate},
        resolver,
    },
    names::{self, Context, NameServer, Piece, Record, Records, Way},
    store::{LedgerEntry, LedgerKind, Store, VmRow},
};

/// How long the first server of a home may take to begin: some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The VMs that run now and have an address, as the database and their locks say.
struct Running {
    store: Store,
    layout: Layout,
}

impl Running {
    fn open(layout: &Layout) -> Result<Self, Problem> {
        Ok(Self { store: Store::open(&layout.database())?, layout: layout.clone() })
    }

    fn record(&self, subnet: Subnet, row: VmRow) -> Option<Record> {
        let address = subnet.guest(row.place?)?;
        let runs = row.network == Some(NetworkKind::Tap)
            && lock::is_held(self.layout.vm(&row.id).run_lock()).unwrap_or(false);
        runs.then_some(Record { name: row.spec.name, address })
    }

    fn find(&self, is: impl Fn(&VmRow) -> bool) -> Option<Record> {
        let subnet = self.store.subnet().ok()??;
        let row = self.store.vms().ok()?.into_iter().find(is)?;
        self.record(subnet, row)
    }
}

impl Records for Running {
    fn by_name(&self, name: &VmName) -> Option<Record> {
        self.find(|row| row.spec.name == *name)
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Record> {
        let subnet = self.store.subnet().ok()??;
        self.find(|row| row.place.and_then(|place| subnet.guest(place)) == Some(address))
    }

    fn all(&self) -> Vec<Record> {
        let (Ok(Some(subnet)), Ok(rows)) = (self.store.subnet(), self.store.vms()) else {
            return Vec::new();
        };
        rows.into_iter().filter_map(|row| self.record(subnet, row)).collect()
    }
}

/// Writes down what pieces do.
struct Recorded<'a>(&'a Ground<'a>, &'a VmId);

impl Operate for Recorded<'_> {
    fn run(&self, op: &Op, files: &[BorrowedFd<'_>]) -> Result<Done, Problem> {
        self.0.run(Some(self.1), op, files)
    }
}

/// Begins to answer for the names of all VMs, or to wait for its turn to.
///
/// # Errors
/// The database, or that there can be no thread.
pub fn serve(layout: &Layout, tag: &Tag, subnet: Subnet) -> Result<NameServer, Problem> {
    let settings = names::Settings {
        run: layout.run.clone(),
        tag: tag.clone(),
        subnet,
        upstreams: names::host_upstreams(subnet),
    };
    NameServer::start(settings, Arc::new(Running::open(layout)?)).map_err(|e| {
        Problem::new("there is no name server", e.to_string(), "restarting the VM tries again")
    })
}

/// The port on which somebody of this home answers.
///
/// # Errors
/// If nobody does.
pub fn port(server: &NameServer) -> Result<u16, Problem> {
    server.port_within(PATIENCE)
}

/// Makes the VM's name known, each piece written down first. Blocks for as long as the host's
/// resolver takes.
///
/// Answers the name, if the host's programs find the VM by it.
///
/// # Errors
/// The first piece that could not be made. The VM is as good without, and the rest is made.
pub fn publish(
    ground: &Ground<'_>,
    settings: &NamesSettings,
    vm: (&VmId, &Record),
    server: SocketAddrV4,
    subnet: Subnet,
) -> Result<Option<String>, Problem> {
    let (id, record) = vm;
    let facts = resolver::facts(Path::new("/"));
    let way = names::choose(settings.route, &facts, ground.ops.is_ok());
    let (recorded, others) = (Recorded(ground, id), || others(ground, id));
    let context = Context { ops: Some(&recorded), others: &others, run: &ground.layout.run };
    let publish = |way: &Way| {
        let plan = names::plan(settings, way, record, server, subnet);
        let mut failed = plan.problem;
        for piece in &plan.pieces {
            let noted = ground.note(id, LedgerKind::DnsRecord, &piece.key(), &json!(piece));
            let made = noted.and_then(|()| piece.make(&context));
            failed = failed.or(made.err());
        }
        failed
    };
    let mut failed = publish(&way);
    if failed.is_some() && (&way, settings.route) == (&Way::Resolved, NamesRoute::Auto) {
        failed = publish(&Way::Hosts);
    }
    match failed {
        Some(problem) => Err(problem),
        None if matches!(way, Way::Nothing(_)) => Ok(None),
        None => Ok(Some(format!("{}.{ZONE}", record.name))),
    }
}

/// Whether the host's resolver was told to ask at another place.
#[must_use]
pub fn is_of_another_server(entry: &LedgerEntry, now: SocketAddrV4) -> bool {
    let piece = serde_json::from_value::<Piece>(entry.detail.clone());
    matches!(piece, Ok(Piece::Resolver { server, .. }) if server != now)
}

/// Tells the host, whenever this monitor begins to answer, where that is.
pub async fn follow(mut serving: watch::Receiver<Option<u16>>, layout: Layout) {
    while serving.changed().await.is_ok() {
        let Some(port) = *serving.borrow_and_update() else { continue };
        let layout = layout.clone();
        let told = spawn_blocking(move || {
            let store = Store::open(&layout.database())?;
            network::redirect(&Ground::find(&store, &layout)?, port)
        });
        if let Ok(Err(problem)) = told.await {
            tracing::warn!(%problem, "names are asked for where nobody answers");
        }
    }
}

/// What is written down of all VMs of the home that run, but this one. Not of dead ones: the next who
/// changes what the host knows leaves out what they had.
fn others(ground: &Ground<'_>, vm: &VmId) -> Result<Vec<Piece>, Problem> {
    let runs = |vm: &VmId| lock::is_held(ground.layout.vm(vm).run_lock()).unwrap_or(false);
    let entries = ground.store.all_entries()?.into_iter();
    let others = entries.filter(|entry| {
        entry.kind == LedgerKind::DnsRecord
            && entry.vm.as_ref().is_some_and(|other| other != vm && runs(other))
    });
    // What another version wrote is for that one's monitor to remove.
    Ok(others.filter_map(|entry| serde_json::from_value(entry.detail).ok()).collect())
}

/// Makes a name unknown, from what was written down alone, and strikes that out.
///
/// # Errors
/// Why it stays.
pub fn withdraw(ground: &Ground<'_>, vm: &VmId, entry: &LedgerEntry) -> Result<(), Problem> {
    let piece: Piece = serde_json::from_value(entry.detail.clone()).map_err(|e| {
        let hint = "was it written by another version of banger?";
        Problem::new("cannot read what was published", e.to_string(), hint)
    })?;
    let (recorded, others) = (Recorded(ground, vm), || others(ground, vm));
    let context = Context { ops: Some(&recorded), others: &others, run: &ground.layout.run };
    piece.remove(&context, || ground.strike_out(entry))
}
