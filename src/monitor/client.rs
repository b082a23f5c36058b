//! How others talk to a monitor.

use std::{io, path::Path};

use tokio::net::{UnixStream, unix::OwnedWriteHalf};

use super::frames::{BoxError, Frames, send};
use crate::domain::{
    MonitorEvent, MonitorReply, MonitorRequest, MonitorStatus, Problem, StopLadder,
};

/// The status of a monitor, now and at each change.
pub struct Watch {
    frames: Frames,
    // Closing this half would tell the monitor that we have left.
    _write: OwnedWriteHalf,
}

impl Watch {
    /// Connects.
    ///
    /// # Errors
    /// If there is no monitor at this socket, or it does not speak as it should.
    pub async fn open(socket: &Path) -> io::Result<Self> {
        let (frames, write, reply) = ask(socket, &MonitorRequest::Watch).await?;
        match reply {
            MonitorReply::Ok => Ok(Self { frames, _write: write }),
            MonitorReply::Denied { problem } => Err(io::Error::other(problem)),
        }
    }

    /// The next status; nothing when the monitor is gone.
    pub async fn next(&mut self) -> Option<MonitorStatus> {
        let frame = self.frames.next().await.ok()??;
        match frame.message::<MonitorEvent>() {
            Ok(MonitorEvent::Status { status }) => Some(status),
            Err(error) => {
                tracing::warn!(%error, "a monitor of another version?");
                None
            }
        }
    }
}

/// Asks a monitor to climb a ladder. True if it accepted, false if there is none.
///
/// # Errors
/// Its refusal, or a socket that does not answer.
pub async fn stop(socket: &Path, ladder: StopLadder) -> Result<bool, Problem> {
    match ask(socket, &MonitorRequest::Stop { ladder }).await {
        Ok((_, _, MonitorReply::Ok)) => Ok(true),
        Ok((_, _, MonitorReply::Denied { problem })) => Err(problem),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Ok(false),
            _ => Err(Problem::new(
                "cannot stop the VM",
                format!("its monitor does not answer: {error}"),
                "kill it",
            )),
        },
    }
}

/// Asks a monitor to let its guest's CPUs stand still, or go on.
///
/// # Errors
/// Its refusal, or that there is no monitor that answers.
pub async fn stand_still(socket: &Path, still: bool) -> Result<(), Problem> {
    let request = if still { MonitorRequest::Pause } else { MonitorRequest::Resume };
    match ask(socket, &request).await {
        Ok((_, _, MonitorReply::Ok)) => Ok(()),
        Ok((_, _, MonitorReply::Denied { problem })) => Err(problem),
        Err(error) => {
            let what = if still { "cannot pause the VM" } else { "cannot resume the VM" };
            Err(Problem::new(what, format!("its monitor does not answer: {error}"), "look again"))
        }
    }
}

async fn ask(
    socket: &Path,
    request: &MonitorRequest,
) -> io::Result<(Frames, OwnedWriteHalf, MonitorReply)> {
    let (read, mut write) = UnixStream::connect(socket).await?.into_split();
    let mut frames = Frames::new(read);
    send(&mut write, request).await.map_err(plain)?;
    let first = frames.next().await.map_err(plain)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let reply = first.message().map_err(io::Error::other)?;
    Ok((frames, write, reply))
}

/// The I/O error itself where it is one, so that its kind is not lost.
fn plain(error: BoxError) -> io::Error {
    match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error),
    }
}
