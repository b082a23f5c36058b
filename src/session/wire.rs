//! The frames that monitors and their clients exchange.
//!
//! A frame is one byte for its [kind](Frame), the length of its payload as four bytes
//! (big-endian), and the payload. A client begins with one [`MonitorRequest`], the monitor
//! answers with one [`MonitorReply`]; what follows depends on the request: [`Frame::Data`] both
//! ways after an attach, [`MonitorEvent`]s after a watch.
//!
//! [`Decoder`] is fed with whatever arrived and suits blocking and async code alike;
//! [`FrameReader`], [`write_control`] and [`write_data`] are the blocking API.
//!
//! [`MonitorRequest`]: crate::domain::MonitorRequest
//! [`MonitorReply`]: crate::domain::MonitorReply
//! [`MonitorEvent`]: crate::domain::MonitorEvent

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The longest payload of a frame, in bytes. Longer console data goes into several frames.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes before a payload: kind and length.
pub const HEADER: usize = 5;

const CONTROL: u8 = 1;
const DATA: u8 = 2;

/// How much [`FrameReader`] asks for at once.
const READ_CHUNK: usize = 64 * 1024;

/// What one side sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Kind 1: JSON of a request, a reply or an event.
    Control(Vec<u8>),
    /// Kind 2: console bytes, as they are.
    Data(Vec<u8>),
}

impl Frame {
    /// The message in a control frame.
    ///
    /// # Errors
    /// [`WireError::BadMessage`] if it is a data frame, no JSON, or not a `T`.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        match self {
            Self::Control(json) => {
                serde_json::from_slice(json).map_err(|e| WireError::BadMessage(e.to_string()))
            }
            Self::Data(_) => Err(WireError::BadMessage(
                "console data came where a message was expected".to_owned(),
            )),
        }
    }
}

/// What is wrong with what the other side sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first byte of a frame is none that we know.
    #[error("a frame of the unknown kind {0}: the other side is no banger, or of another version")]
    UnknownKind(u8),
    /// The length of a frame is over [`MAX_PAYLOAD`].
    #[error("a frame of {0} bytes, at most {MAX_PAYLOAD} are allowed")]
    Oversize(usize),
    /// A control frame that is not the message that was expected.
    #[error("a message that cannot be read: {0}")]
    BadMessage(String),
}

impl From<WireError> for io::Error {
    fn from(error: WireError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Appends a control frame to `out`.
///
/// # Errors
/// [`WireError::Oversize`] if the JSON is longer than [`MAX_PAYLOAD`], [`WireError::BadMessage`]
/// if it cannot be made; `out` is then unchanged.
pub fn encode_control<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    let json = serde_json::to_vec(message).map_err(|e| WireError::BadMessage(e.to_string()))?;
    if json.len() > MAX_PAYLOAD {
        return Err(WireError::Oversize(json.len()));
    }
    push_frame(CONTROL, &json, out);
    Ok(())
}

/// Appends as many data frames to `out` as `bytes` need; none if it is empty.
pub fn encode_data(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(MAX_PAYLOAD) {
        push_frame(DATA, chunk, out);
    }
}

fn push_frame(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    // The callers keep to MAX_PAYLOAD, which fits.
    let length = payload.len() as u32;
    out.reserve(HEADER + payload.len());
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Takes bytes in whatever pieces they come and gives frames.
///
/// Holds at most one unfinished frame plus what was fed since [`Decoder::next_frame`] last said
/// `None`: feed a chunk, take all frames, and it never holds more than [`HEADER`] +
/// [`MAX_PAYLOAD`] bytes and a chunk. After an error it stays at that error and keeps nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the next frame begins in `buffer`.
    start: usize,
    failed: Option<WireError>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// As soon as the header of a frame shows it: an unknown kind, a length over
    /// [`MAX_PAYLOAD`]. The stream cannot be read on; close it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        match self.try_next() {
            Ok(frame) => Ok(frame),
            Err(error) => {
                self.buffer = Vec::new();
                self.start = 0;
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Bytes held that no frame was made of yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn try_next(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let rest = &self.buffer[self.start..];
        let Some(&kind) = rest.first() else { return Ok(None) };
        if kind != CONTROL && kind != DATA {
            return Err(WireError::UnknownKind(kind));
        }
        let Some(length) = rest.get(1..HEADER) else { return Ok(None) };
        let length = length.iter().fold(0_usize, |n, &b| (n << 8) | usize::from(b));
        if length > MAX_PAYLOAD {
            return Err(WireError::Oversize(length));
        }
        let Some(payload) = rest.get(HEADER..HEADER + length) else { return Ok(None) };
        let payload = payload.to_vec();
        self.start += HEADER + length;
        Ok(Some(if kind == CONTROL { Frame::Control(payload) } else { Frame::Data(payload) }))
    }
}

/// Reads frames from a blocking stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    decoder: Decoder,
    chunk: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, decoder: Decoder::new(), chunk: vec![0; READ_CHUNK] }
    }

    /// Waits for the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// What the stream says; `InvalidData` with a [`WireError`]; `UnexpectedEof` if it ends
    /// within a frame.
    pub fn read_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.inner.read(&mut self.chunk) {
                Ok(0) if self.decoder.pending() == 0 => return Ok(None),
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection ended within a frame",
                    ));
                }
                Ok(n) => self.decoder.feed(&self.chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The stream itself. Bytes already read from it are in here, not in there.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }
}

/// Sends a message.
///
/// # Errors
/// What the stream says; `InvalidData` as [`encode_control`].
pub fn write_control<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let mut out = Vec::new();
    encode_control(message, &mut out)?;
    to.write_all(&out)?;
    to.flush()
}

/// Sends console data.
///
/// # Errors
/// What the stream says.
pub fn write_data(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.chunks(MAX_PAYLOAD) {
        // One write per frame: half a frame in a packet of its own would only cost wake-ups.
        let mut out = Vec::new();
        push_frame(DATA, chunk, &mut out);
        to.write_all(&out)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{MonitorReply, MonitorRequest, Problem};

    fn drain(decoder: &mut Decoder) -> Result<Vec<Frame>, WireError> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn the_bytes_of_a_frame_are_as_documented() {
        let mut out = Vec::new();
        encode_data(b"hi", &mut out);
        encode_control(&MonitorRequest::Attach { replay: true }, &mut out).unwrap();
        assert_eq!(&out[..7], b"\x02\0\0\0\x02hi");
        assert_eq!(&out[7..], b"\x01\0\0\0\x22{\"request\":\"attach\",\"replay\":true}");
    }

    #[test]
    fn messages_are_read_back() {
        let denied =
            MonitorReply::Denied { problem: Problem::new("cannot attach", "it stops", "wait") };
        let mut bytes = Vec::new();
        write_control(&mut bytes, &denied).unwrap();
        write_data(&mut bytes, b"").unwrap();
        write_data(&mut bytes, b"x").unwrap();
        let mut reader = FrameReader::new(bytes.as_slice());
        let frame = reader.read_frame().unwrap().unwrap();
        assert_eq!(frame.message::<MonitorReply>(), Ok(denied));
        assert!(matches!(frame.message::<MonitorRequest>(), Err(WireError::BadMessage(_))));
        let frame = reader.read_frame().unwrap().unwrap();
        assert_eq!(frame, Frame::Data(b"x".to_vec()));
        assert!(matches!(frame.message::<MonitorReply>(), Err(WireError::BadMessage(_))));
        assert_eq!(reader.read_frame().unwrap(), None);
    }

    #[test]
    fn data_over_the_limit_goes_into_several_frames() {
        let long = vec![7_u8; 2 * MAX_PAYLOAD + 1];
        let mut bytes = Vec::new();
        write_data(&mut bytes, &long).unwrap();
        let mut reader = FrameReader::new(bytes.as_slice());
        let mut lengths = Vec::new();
        while let Some(Frame::Data(data)) = reader.read_frame().unwrap() {
            lengths.push(data.len());
        }
        assert_eq!(lengths, [MAX_PAYLOAD, MAX_PAYLOAD, 1]);
    }

    #[test]
    fn a_message_over_the_limit_is_refused_and_leaves_nothing() {
        let mut out = b"before".to_vec();
        let result = encode_control(&"x".repeat(MAX_PAYLOAD), &mut out);
        assert_eq!(result, Err(WireError::Oversize(MAX_PAYLOAD + 2)));
        assert_eq!(out, b"before");
    }

    #[test]
    fn bad_headers_are_refused_at_once_and_for_good() {
        let mut decoder = Decoder::new();
        decoder.feed(b"G");
        assert_eq!(decoder.next_frame(), Err(WireError::UnknownKind(b'G')));
        decoder.feed(b"\x02\0\0\0\0");
        assert_eq!(decoder.next_frame(), Err(WireError::UnknownKind(b'G')));
        assert_eq!(decoder.pending(), 0);

        let mut decoder = Decoder::new();
        decoder.feed(b"\x02\x00\x10\x00\x01");
        assert_eq!(decoder.next_frame(), Err(WireError::Oversize(MAX_PAYLOAD + 1)));
    }

    #[test]
    fn an_end_within_a_frame_is_an_error() {
        let mut reader = FrameReader::new(&b"\x02\0\0\0\x02h"[..]);
        let error = reader.read_frame().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let payload = || prop::collection::vec(any::<u8>(), 0..300);
        prop::collection::vec(
            prop_oneof![payload().prop_map(Frame::Control), payload().prop_map(Frame::Data)],
            0..20,
        )
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            frames in frames(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                match frame {
                    Frame::Control(payload) => push_frame(CONTROL, payload, &mut bytes),
                    Frame::Data(payload) => push_frame(DATA, payload, &mut bytes),
                }
            }
            let mut cuts: Vec<_> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut decoder = Decoder::new();
            let mut got = Vec::new();
            let mut from = 0;
            for cut in cuts {
                decoder.feed(&bytes[from..cut]);
                from = cut;
                got.extend(drain(&mut decoder).unwrap());
            }
            prop_assert_eq!(got, frames);
            prop_assert_eq!(decoder.pending(), 0);
        }

        #[test]
        fn garbage_never_panics_and_memory_stays_bounded(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..20),
            kind in 0_u8..4,
            length in 0_u32..(3 << 20),
        ) {
            let mut decoder = Decoder::new();
            let mut header = vec![kind];
            header.extend_from_slice(&length.to_be_bytes());
            decoder.feed(&header);
            let mut failed = None;
            for chunk in chunks {
                decoder.feed(&chunk);
                let result = drain(&mut decoder);
                if let Some(error) = &failed {
                    prop_assert_eq!(result.as_ref().err(), Some(error));
                }
                failed = result.err();
                prop_assert!(decoder.pending() <= HEADER + MAX_PAYLOAD);
                prop_assert!(decoder.buffer.capacity() <= 4 * MAX_PAYLOAD);
            }
        }
    }
}
