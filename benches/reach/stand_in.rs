//! Many VMs in the store, and stand-ins for the monitors of those that are to run.

use std::{
    io::Read,
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use banger::{
    domain::{
        BootTimes, MonitorEvent, MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus,
        NetworkKind, OverlayKind, SshEndpoint, UnixMs, VmId, VmSpec, VmmKind, Wanted, Wishes,
    },
    host::{dirs, lock::FileLock},
    session::wire::{self, FrameReader},
    store::{Store, VmRow, VmState},
};

use crate::{Outcome, place::Place};

/// The chunks in which a monitor sends its console.
const CHUNK: usize = 16 * 1024;

/// The fleet.
pub struct Fleet {
    /// Set it, and all attached consoles flood.
    pub flood: Arc<AtomicBool>,
    _locks: Vec<FileLock>,
}

/// The name of the nth VM.
pub fn name(n: u32) -> String {
    format!("vm-{n:04}")
}

impl Fleet {
    /// `count` VMs, of which the first `up` seem to run.
    pub fn make(place: &Place, count: u32, up: u32, console: &Arc<Vec<u8>>) -> Outcome<Self> {
        dirs::prepare(&place.layout)?;
        let store = Store::open(&place.layout.database())?;
        let flood = Arc::new(AtomicBool::new(false));
        let mut locks = Vec::new();
        for n in 0..count {
            let id = VmId::from_bytes(n.to_be_bytes());
            let spec = VmSpec {
                name: name(n).parse()?,
                image: "tiny".into(),
                vcpus: 1,
                memory_mib: 128,
                disk_mib: None,
                restore: false,
                wishes: Wishes::default(),
                extras: Box::default(),
            };
            let mut row =
                VmRow::new(id.clone(), spec, OverlayKind::SparseCopy, UnixMs(1_800_000_000_000));
            row.state = VmState::Ready;
            if n < up {
                row.wanted = Wanted::Running;
                row.started = Some(UnixMs(1_800_000_000_000));
            }
            store.insert_vm(&row)?;
            if n < up {
                let paths = place.layout.vm(&id);
                std::fs::create_dir_all(paths.run_dir())?;
                let lock = FileLock::try_exclusive(paths.run_lock())?;
                locks.push(lock.ok_or("a fresh lock is held")?);
                let listener = UnixListener::bind(paths.monitor_socket())?;
                let (flood, console) = (Arc::clone(&flood), Arc::clone(console));
                thread::spawn(move || serve(&listener, &id, &flood, &console));
            }
        }
        Ok(Self { flood, _locks: locks })
    }
}

fn serve(listener: &UnixListener, id: &VmId, flood: &Arc<AtomicBool>, console: &Arc<Vec<u8>>) {
    for stream in listener.incoming().flatten() {
        let (id, flood, console) = (id.clone(), Arc::clone(flood), Arc::clone(console));
        // Its errors are those of a client that leaves.
        thread::spawn(move || answer(stream, id, &flood, &console).ok());
    }
}

fn answer(stream: UnixStream, vm: VmId, flood: &AtomicBool, console: &[u8]) -> Outcome<()> {
    let mut frames = FrameReader::new(stream.try_clone()?);
    let mut stream = stream;
    let Some(frame) = frames.read_frame()? else { return Ok(()) };
    wire::write_control(&mut stream, &MonitorReply::Ok)?;
    match frame.message::<MonitorRequest>()? {
        MonitorRequest::Watch => {
            let status = MonitorStatus {
                vm,
                pid: std::process::id(),
                vmm_pid: None,
                vmm: VmmKind::QemuTcg,
                phase: MonitorPhase::Ready,
                since: UnixMs(1_800_000_000_000),
                ssh: Some(SshEndpoint { host: "127.0.0.1".to_owned(), port: 9 }),
                boot: BootTimes::default(),
                network: NetworkKind::User,
                address: None,
                dns_name: None,
                fill: None,
                problem: None,
            };
            wire::write_control(&mut stream, &MonitorEvent::Status { status })?;
            // Until the client leaves.
            stream.read_to_end(&mut Vec::new())?;
        }
        MonitorRequest::Attach { .. } => {
            while !flood.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
            loop {
                for chunk in console.chunks(CHUNK) {
                    wire::write_data(&mut stream, chunk)?;
                }
            }
        }
        MonitorRequest::Stop { .. } | MonitorRequest::Pause | MonitorRequest::Resume => {}
    }
    Ok(())
}
