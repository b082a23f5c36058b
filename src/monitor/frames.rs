//! Frames over an asynchronous socket, for both ends.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::session::wire::{Decoder, Frame, encode_control};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Frames from the other end.
pub struct Frames {
    read: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Frames {
    pub fn new(read: OwnedReadHalf) -> Self {
        Self { read, decoder: Decoder::new(), buffer: vec![0; CHUNK] }
    }

    /// The next frame; nothing at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Frame>, BoxError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.read.read(&mut self.buffer).await? {
                0 => return Ok(None),
                n => self.decoder.feed(&self.buffer[..n]),
            }
        }
    }
}

/// Sends a message in a frame of its own.
pub async fn send<T: serde::Serialize + Sync>(
    write: &mut OwnedWriteHalf,
    message: &T,
) -> Result<(), BoxError> {
    let mut out = Vec::new();
    encode_control(message, &mut out)?;
    Ok(write.write_all(&out).await?)
}
