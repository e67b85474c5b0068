//! A TCP link cut into messages. Whoever adds another transport gives these two halves another inside;
//! nothing else in this crate knows about sockets.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::frame::{self, Decoder};
use proto::{limits, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Without a connection for this long, another address is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are read at a time.
const READ_BYTES: usize = 4 * 1024;
/// Bytes that wait to be written, beyond which no more frames are taken.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Connects to `host:port`.
pub(crate) async fn dial(address: &str) -> io::Result<(Reader, Writer)> {
    let connect = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address));
    let stream = connect.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let reader = Reader { half: read, decoder: Decoder::new(limits::SERVER_FRAME_BYTES_MAX) };
    Ok((reader, Writer { half: write, out: BytesMut::new() }))
}

/// What comes in.
#[derive(Debug)]
pub(crate) struct Reader {
    half: OwnedReadHalf,
    decoder: Decoder,
}

/// What became of reading.
#[derive(Debug)]
pub(crate) enum Read {
    /// There may be messages now.
    Some,
    /// There will be none.
    Closed,
}

impl Reader {
    /// Waits for bytes. May be dropped while it waits: nothing is lost.
    pub(crate) async fn read(&mut self) -> Read {
        self.decoder.buffer().reserve(READ_BYTES);
        match self.half.read_buf(self.decoder.buffer()).await {
            Ok(0) | Err(_) => Read::Closed,
            Ok(_) => Read::Some,
        }
    }

    /// The next whole message.
    pub(crate) fn message(&mut self) -> Result<Option<Bytes>, frame::FrameError> {
        self.decoder.next_frame()
    }
}

/// What goes out.
#[derive(Debug)]
pub(crate) struct Writer {
    half: OwnedWriteHalf,
    out: BytesMut,
}

impl Writer {
    /// Whether another frame is taken.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Queues a frame; to be asked only when there is room.
    pub(crate) fn push(&mut self, message: &v1::ClientFrame) {
        debug_assert!(message.encoded_len() <= limits::CLIENT_FRAME_BYTES_MAX, "sends are checked");
        frame::encode(message, &mut self.out);
    }

    /// Writes some of what is queued. May be dropped while it waits: nothing is lost or doubled.
    pub(crate) async fn write(&mut self) -> io::Result<()> {
        self.half.write_buf(&mut self.out).await?;
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        Ok(())
    }
}
