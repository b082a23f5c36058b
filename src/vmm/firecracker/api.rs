//! Firecracker's API: HTTP/1.1 over a UNIX socket, one request after the other.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use nix::fcntl::OFlag;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use super::body::Fault;
use crate::{domain::SOCKET_PATH_MAX, vmm::VmmError};

/// How often a socket that is not there yet is tried: a part of the 10 ms or more that
/// Firecracker needs; nothing runs meanwhile, so the wait is one for the user.
const CONNECT_RETRY: Duration = Duration::from_millis(2);

/// How long Firecracker may take until it listens. Usually 10 ms, behind its jailer 30 ms; on an
/// emulated host that starts many VMs at once, half a minute.
const CONNECT_PATIENCE: Duration = Duration::from_secs(120);

/// How long an answer may take. The slow one is that of the start, which reads kernel and
/// initrd: 0.2 s from a warm cache, seconds where the host itself is emulated.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read. The longest known, all metrics in one line, is not asked for
/// here; statistics and faults have a few hundred bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// What Firecracker said no to, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

/// What can become of a request.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was answered, with a no.
    Refused(Refusal),
    /// It was not answered, or not in a way that can be understood.
    Lost(String),
}

impl Failure {
    /// The same, for whoever asked for `command`.
    pub(super) fn of(self, command: &str) -> VmmError {
        match self {
            Self::Refused(Refusal(message)) => {
                VmmError::Refused { command: command.to_owned(), message }
            }
            Self::Lost(why) => VmmError::Control(format!("{command}: {why}")),
        }
    }
}

/// A client of one Firecracker. Its connection is kept, and made again when it broke or when the
/// last caller did not wait for its answer.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Connects as soon as Firecracker listens.
    pub(super) async fn connect(socket: &Path) -> Result<Self, VmmError> {
        let mut client = Self { socket: socket.to_owned(), connection: None };
        let deadline = Instant::now() + CONNECT_PATIENCE;
        loop {
            match open(socket).await {
                Ok(stream) => {
                    let shaken = client.shake(stream).await;
                    shaken.map_err(VmmError::Control)?;
                    return Ok(client);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) => {}
                Err(error) => return Err(VmmError::Control(error.to_string())),
            }
            if Instant::now() >= deadline {
                let seconds = CONNECT_PATIENCE.as_secs();
                return Err(VmmError::Control(format!("no answer within {seconds} s")));
            }
            sleep(CONNECT_RETRY).await;
        }
    }

    /// `GET` of something.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| Failure::Lost(error.to_string()))
    }

    /// `PUT` of something.
    pub(super) async fn put(&mut self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.send(Method::PUT, path, encode(body)?).await.map(drop)
    }

    /// `PATCH` of something.
    pub(super) async fn patch(&mut self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.send(Method::PATCH, path, encode(body)?).await.map(drop)
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let lost = |why: String| Failure::Lost(why);
        match timeout(ANSWER_PATIENCE, self.exchange(method, path, body)).await {
            Ok(Ok((status, body))) if status.is_success() => Ok(body),
            Ok(Ok((status, body))) => Err(match serde_json::from_slice::<Fault>(&body) {
                Ok(Fault { fault_message }) => Failure::Refused(Refusal(fault_message)),
                Err(_) => lost(format!("answered with {status}")),
            }),
            Ok(Err(why)) => Err(lost(why)),
            Err(_) => {
                self.connection = None;
                Err(lost(format!("no answer within {} s", ANSWER_PATIENCE.as_secs())))
            }
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(hyper::StatusCode, Bytes), String> {
        // A caller that gave up leaves a connection behind that still waits for its answer.
        if self.connection.as_ref().is_none_or(|sender| !sender.is_ready()) {
            let stream = open(&self.socket).await.map_err(|error| error.to_string())?;
            self.shake(stream).await?;
        }
        let Some(sender) = &mut self.connection else { return Err("no connection".to_owned()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }

    async fn shake(&mut self, stream: UnixStream) -> Result<(), String> {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        // It ends with the sender, or when the other side is gone: both are seen elsewhere.
        tokio::spawn(async move { connection.await.ok() });
        let sender = self.connection.insert(sender);
        sender.ready().await.map_err(|error| error.to_string())
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes, Failure> {
    let text = serde_json::to_vec(body).map_err(|error| Failure::Lost(error.to_string()))?;
    Ok(text.into())
}

/// Connects to a socket whatever the length of its path: in a jail it lies deep below the state
/// directory, although its own name within the jail is short.
async fn open(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
        return UnixStream::connect(socket).await;
    }
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(dir)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}
