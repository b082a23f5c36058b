//! QMP, the control protocol of QEMU: JSON lines over a UNIX socket.
//!
//! The server greets, the client negotiates with `qmp_capabilities`, then every command is
//! answered with `return` or `error` and the command's `id`, and events come in between (QEMU's
//! `docs/interop/qmp-spec.txt`).

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{VmmError, rest::rest};

/// The longest line that is accepted. The greeting has some 100 bytes, events a few hundred;
/// nothing that we ask for is answered with more.
const LINE_MAX: usize = 64 * 1024;

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Its first line.
    Greeting,
    /// A command succeeded.
    Return {
        /// The command's.
        id: Option<u64>,
        /// What it gave.
        value: Value,
    },
    /// A command failed.
    Error {
        /// The command's; none if not even that could be read.
        id: Option<u64>,
        /// In words.
        message: String,
    },
    /// Something happened.
    Event(Event),
}

/// Something that happened to the VM.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Which: `SHUTDOWN`.
    pub name: String,
    /// Its particulars; null if there are none.
    pub data: Value,
}

/// A line that is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Too long.
    #[error("a line of more than {LINE_MAX} bytes")]
    TooLong,
    /// Not JSON, or not of a known kind.
    #[error("not a QMP message: {0}")]
    Unknown(String),
}

/// Cuts a stream into messages, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Parser {
    /// Takes what came, and gives the messages that are complete with it. Never holds more than
    /// one line of at most 64 KiB.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Result<Message, BadLine>> {
        let mut messages = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if !self.skipping {
                if self.line.len() + text.len() > LINE_MAX {
                    self.skipping = true;
                    self.line.clear();
                    messages.push(Err(BadLine::TooLong));
                } else {
                    self.line.extend_from_slice(text);
                }
            }
            if complete {
                if !self.skipping && !self.line.trim_ascii().is_empty() {
                    messages.push(parse(&self.line));
                }
                self.skipping = false;
                self.line.clear();
            }
        }
        messages
    }
}

/// Any line the server may write.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    // Present even if null.
    #[serde(rename = "return", default, deserialize_with = "present")]
    returned: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

fn parse(line: &[u8]) -> Result<Message, BadLine> {
    let quote = || {
        let text = String::from_utf8_lossy(line);
        text.chars().filter(|c| !c.is_control()).take(80).collect::<String>()
    };
    let line: Line = serde_json::from_slice(line).map_err(|_| BadLine::Unknown(quote()))?;
    Ok(match line {
        Line { returned: Some(value), id, .. } => Message::Return { id, value },
        Line { error: Some(error), id, .. } => Message::Error { id, message: error.desc },
        Line { event: Some(name), data, .. } => Message::Event(Event { name, data }),
        Line { greeting: Some(_), .. } => Message::Greeting,
        _ => return Err(BadLine::Unknown(quote())),
    })
}

/// A connection that is ready for commands. A task of its own reads all the time, so events are
/// heard while nobody asks anything, and a caller that gives up waiting disturbs nobody.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    task: Option<JoinHandle<()>>,
    /// Tells the task to take what is there, and end.
    over: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Command {
    name: &'static str,
    reply: oneshot::Sender<Result<Value, VmmError>>,
}

impl Client {
    /// Waits for the greeting and negotiates. `on_event` hears every event, those before that, too.
    ///
    /// # Errors
    /// If the other side is no QMP server.
    pub async fn start(
        stream: UnixStream,
        mut on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<Self, VmmError> {
        let mut connection =
            Connection { stream, parser: Parser::default(), heard: <_>::default() };
        loop {
            match connection.next().await? {
                Message::Greeting => break,
                // QEMU may start its machine before its monitor's thread has greeted, and until then
                // sends events to whoever is connected (monitor_qapi_event_emit asks only whether
                // capabilities are being negotiated).
                Message::Event(event) => on_event(event),
                other => return Err(VmmError::Control(format!("no greeting but {other:?}"))),
            }
        }
        connection.send("qmp_capabilities", 0).await?;
        loop {
            match connection.next().await? {
                Message::Return { id: Some(0), .. } => break,
                Message::Event(event) => on_event(event),
                Message::Error { message, .. } => {
                    return Err(VmmError::Refused {
                        command: "qmp_capabilities".to_owned(),
                        message,
                    });
                }
                other => return Err(VmmError::Control(format!("unasked for: {other:?}"))),
            }
        }
        let (commands, orders) = mpsc::channel(8);
        let (over, is_over) = oneshot::channel();
        let task = tokio::spawn(serve(connection, orders, is_over, on_event));
        Ok(Self { commands, task: Some(task), over: Some(over) })
    }

    /// Runs a command without arguments.
    ///
    /// # Errors
    /// What the server says; or that the connection is gone.
    pub async fn execute(&self, name: &'static str) -> Result<Value, VmmError> {
        let gone = |_| VmmError::Control(format!("closed before {name} was answered"));
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command { name, reply }).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }

    /// Has everything heard that the server has written; the last, for one that is dead: it is
    /// not waited for more. However late this is called, and whatever the machine did meanwhile,
    /// nothing of it is lost, nor by dropping the future.
    pub async fn drained(&mut self) {
        if let Some(over) = self.over.take() {
            // It is gone only if the connection is at its end.
            let _ = over.send(());
        }
        if let Some(task) = &mut self.task {
            // A task that panicked hears no more either.
            let _ = task.await;
            self.task = None;
        }
    }
}

struct Connection {
    stream: UnixStream,
    parser: Parser,
    heard: VecDeque<Result<Message, BadLine>>,
}

impl Connection {
    /// The next message. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Message, VmmError> {
        loop {
            if let Some(message) = self.heard.pop_front() {
                return message.map_err(|bad| VmmError::Control(bad.to_string()));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Err(VmmError::Control("closed by the VMM".to_owned())),
                Ok(n) => self.heard.extend(self.parser.feed(&buffer[..n])),
                Err(error) => return Err(VmmError::Control(error.to_string())),
            }
        }
    }

    /// Takes what is there, without waiting.
    fn rest(&mut self) {
        let Self { stream, parser, heard } = self;
        rest(&*stream, |bytes| heard.extend(parser.feed(bytes)));
    }

    async fn send(&mut self, command: &str, id: u64) -> Result<(), VmmError> {
        let line = format!("{}\n", json!({ "execute": command, "id": id }));
        let sent = self.stream.write_all(line.as_bytes()).await;
        sent.map_err(|error| VmmError::Control(error.to_string()))
    }
}

/// Carries commands out and messages in, until the connection ends or talks nonsense, or it is over:
/// then what is there is the last. Those who still wait for an answer then learn that there will be
/// none.
async fn serve(
    connection: Connection,
    orders: mpsc::Receiver<Command>,
    over: oneshot::Receiver<()>,
    on_event: impl FnMut(Event),
) {
    let mut service = Service { connection, waiting: HashMap::new(), on_event };
    tokio::select! {
        biased;
        Ok(()) = over => {}
        // Also if the client is dropped without a word: events still count.
        () = service.go_on(orders) => return,
    }
    service.connection.rest();
    while let Some(Ok(message)) = service.connection.heard.pop_front() {
        service.hear(message);
    }
}

struct Service<F> {
    connection: Connection,
    /// Commands that have no answer yet, by their ids.
    waiting: HashMap<u64, Command>,
    on_event: F,
}

impl<F: FnMut(Event)> Service<F> {
    /// Until the connection ends or talks nonsense. Dropping the future loses nothing heard.
    async fn go_on(&mut self, mut orders: mpsc::Receiver<Command>) {
        let mut last_id = 0;
        let mut ordering = true;
        loop {
            tokio::select! {
                order = orders.recv(), if ordering => {
                    let Some(command) = order else {
                        // The client is dropped; events still count.
                        ordering = false;
                        continue;
                    };
                    last_id += 1;
                    // If this fails, so does reading, which tells why.
                    if self.connection.send(command.name, last_id).await.is_ok() {
                        self.waiting.insert(last_id, command);
                    }
                }
                message = self.connection.next() => match message {
                    Ok(message) => self.hear(message),
                    Err(_) => return,
                }
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Event(event) => (self.on_event)(event),
            Message::Return { id: Some(id), value } => self.answer(id, Ok(value)),
            Message::Error { id: Some(id), message } => self.answer(id, Err(message)),
            // Nothing that we asked for.
            Message::Greeting | Message::Return { .. } | Message::Error { .. } => {}
        }
    }

    fn answer(&mut self, id: u64, result: Result<Value, String>) {
        if let Some(command) = self.waiting.remove(&id) {
            let refused = |message| VmmError::Refused { command: command.name.to_owned(), message };
            // Whoever asked may have given up waiting.
            let _ = command.reply.send(result.map_err(refused));
        }
    }
}

#[cfg(test)]
mod tests;
