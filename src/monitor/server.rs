//! The monitor's socket: one connection, one request.

use std::sync::Arc;

use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{mpsc, watch},
};

use super::{
    console::Console,
    frames::{BoxError, Frames, send},
    order::{self, Order},
};
use crate::{
    domain::{
        MonitorEvent, MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus, Problem,
        StopLadder,
    },
    session::wire::{Frame, encode_data},
};

/// Console bytes sent at once.
const CHUNK: usize = 32 * 1024;

/// What a connection needs.
#[derive(Clone)]
pub struct Service {
    /// The console to attach to.
    pub console: Arc<Console>,
    /// The status to watch.
    pub status: watch::Receiver<MonitorStatus>,
    /// Where what is asked of the VM goes.
    pub orders: mpsc::Sender<Order>,
}

/// Accepts until it is dropped.
pub async fn serve(listener: UnixListener, service: Service) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, service).await {
                        tracing::debug!(%error, "a client's connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others must be closed first.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, service: Service) -> Result<(), BoxError> {
    let (read, mut write) = stream.into_split();
    let mut frames = Frames::new(read);
    let Some(first) = frames.next().await? else { return Ok(()) };
    match first.message::<MonitorRequest>()? {
        MonitorRequest::Attach { replay } => {
            send(&mut write, &MonitorReply::Ok).await?;
            attach(frames, write, service, replay).await
        }
        MonitorRequest::Watch => {
            send(&mut write, &MonitorReply::Ok).await?;
            watch_status(frames, write, service).await
        }
        request @ (MonitorRequest::Pause | MonitorRequest::Resume) => {
            let still = request == MonitorRequest::Pause;
            let reply = match order::stand_still(&service.orders, still, None).await {
                Ok(()) => MonitorReply::Ok,
                Err(problem) => MonitorReply::Denied { problem },
            };
            send(&mut write, &reply).await
        }
        MonitorRequest::Stop { ladder } => {
            let phase = service.status.borrow().phase;
            send(&mut write, &stop(&service.orders, phase, ladder)).await
        }
    }
}

/// Takes a ladder. One that is climbed already will do, unless this one is to overtake it.
fn stop(orders: &mpsc::Sender<Order>, phase: MonitorPhase, ladder: StopLadder) -> MonitorReply {
    let under_way = match phase {
        MonitorPhase::Preparing
        | MonitorPhase::Booting
        | MonitorPhase::Ready
        | MonitorPhase::Paused => false,
        MonitorPhase::Stopping { .. } => !ladder.is_kill(),
        MonitorPhase::Clearing => true,
    };
    if under_way || orders.try_send(Order::Stop(ladder)).is_ok() {
        return MonitorReply::Ok;
    }
    let why = "its monitor has too many requests to stop it";
    MonitorReply::Denied { problem: Problem::new("cannot stop", why, "try again") }
}

/// The console both ways, until either side has enough.
async fn attach(
    mut frames: Frames,
    mut write: OwnedWriteHalf,
    service: Service,
    replay: bool,
) -> Result<(), BoxError> {
    let Service { console, .. } = service;
    let mut grown = console.follow();
    let mut position = console.start(replay);
    let output = async {
        let mut out = Vec::with_capacity(CHUNK + 64);
        loop {
            let taken = console.take(position, CHUNK);
            if taken.missed > 0 {
                // Resetting attributes first: the cut may be inside of a coloured stretch.
                let note = format!("\x1b[0m\r\n[{} bytes not shown]\r\n", taken.missed);
                encode_data(note.as_bytes(), &mut out);
            }
            encode_data(&taken.bytes, &mut out);
            position = taken.position;
            if out.is_empty() {
                if grown.changed().await.is_err() {
                    return Ok::<(), BoxError>(());
                }
            } else {
                write.write_all(&out).await?;
                out.clear();
            }
        }
    };
    let input = async {
        while let Some(frame) = frames.next().await? {
            match frame {
                Frame::Data(bytes) => {
                    if !console.type_in(bytes) {
                        tracing::debug!("input dropped: the guest does not read");
                    }
                }
                Frame::Control(_) => return Err("a control frame in an attached console".into()),
            }
        }
        Ok::<(), BoxError>(())
    };
    tokio::select! { ended = output => ended, ended = input => ended }
}

/// The status now and at each change, until the client leaves.
async fn watch_status(
    mut frames: Frames,
    mut write: OwnedWriteHalf,
    service: Service,
) -> Result<(), BoxError> {
    let Service { mut status, .. } = service;
    loop {
        let now = status.borrow_and_update().clone();
        send(&mut write, &MonitorEvent::Status { status: now }).await?;
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return Ok(()) },
            frame = frames.next() => match frame? {
                None => return Ok(()),
                Some(_) => return Err("a frame from a client that watches".into()),
            },
        }
    }
}
