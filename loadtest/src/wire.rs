//! The socket of a device: bytes in and out until it would block, cut into frames. Knows nothing of what they
//! say.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;
use prost::Message as _;
use proto::frame::{self, Decoder};
use proto::{limits, v1};
use socket2::SockRef;

use crate::churn::Parting;
use crate::clock::Micros;

/// Bytes that wait to be written, beyond which no more frames are taken.
const OUT_BYTES_MAX: usize = 16 * 1024;

/// Without a connection for this long, as long as the client library waits, another is tried.
const CONNECT_US_MAX: u64 = 10_000_000;

/// Where the socket stands.
#[derive(Debug)]
enum State {
    None,
    /// Until the connection stands, or fails, or it is this late.
    Connecting(TcpStream, Micros),
    Open(TcpStream),
}

/// A socket, or none.
#[derive(Debug)]
pub(crate) struct Wire {
    state: State,
    input: Decoder,
    output: BytesMut,
    /// Whether the socket may take more.
    writable: bool,
    /// A connection that the device has left standing.
    left: Option<TcpStream>,
}

/// What became of a connection that was begun.
pub(crate) enum Connection {
    /// It is still being made; a later edge tells.
    Awaited,
    /// It has just come about.
    Made,
    /// Nothing new: it stands, or there is none.
    AsBefore,
}

/// What a read or write came to.
pub(crate) enum Moved {
    /// Bytes moved.
    Bytes,
    /// Not now.
    Blocked,
    /// The connection is gone.
    Over,
}

/// What came is not frames.
pub(crate) struct Malformed;

impl Wire {
    /// No socket yet.
    pub(crate) fn new() -> Self {
        Self {
            state: State::None,
            input: Decoder::new(limits::SERVER_FRAME_BYTES_MAX),
            output: BytesMut::new(),
            writable: false,
            left: None,
        }
    }

    /// A connection is being made.
    pub(crate) fn connecting(&mut self, now: Micros, stream: TcpStream) {
        self.state = State::Connecting(stream, Micros(now.0.saturating_add(CONNECT_US_MAX)));
        self.writable = false;
    }

    /// When a connection that is being made is given up.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        if let State::Connecting(_, until) = self.state { Some(until) } else { None }
    }

    /// The socket is ready for something. Says why where the connection failed.
    pub(crate) fn ready(&mut self) -> Result<Connection, String> {
        let State::Connecting(stream, _) = &self.state else {
            self.writable = true;
            return Ok(Connection::AsBefore);
        };
        match (stream.take_error(), stream.peer_addr()) {
            (Ok(None), Ok(_)) => {}
            (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => {
                return Ok(Connection::Awaited);
            }
            (Ok(Some(error)) | Err(error), _) | (_, Err(error)) => return Err(error.to_string()),
        }
        if let State::Connecting(stream, _) = std::mem::replace(&mut self.state, State::None) {
            self.state = State::Open(stream);
        }
        self.writable = true;
        Ok(Connection::Made)
    }

    /// Reads once.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> Moved {
        loop {
            let State::Open(stream) = &mut self.state else { return Moved::Blocked };
            match stream.read(scratch) {
                Ok(bytes) if bytes > 0 => {
                    self.input.extend(scratch.get(..bytes).unwrap_or_default());
                    return Moved::Bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Moved::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Moved::Over,
            }
        }
    }

    /// The next frame that was read whole.
    pub(crate) fn next_frame(&mut self) -> Result<Option<v1::ServerFrame>, Malformed> {
        let Some(bytes) = self.input.next_frame().map_err(|_| Malformed)? else { return Ok(None) };
        v1::ServerFrame::decode(bytes).map(Some).map_err(|_| Malformed)
    }

    /// Whether the socket may take more.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether there is room for another frame.
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() < OUT_BYTES_MAX
    }

    /// Takes a frame to be written.
    pub(crate) fn push(&mut self, frame: &v1::ClientFrame) {
        frame::encode(frame, &mut self.output);
    }

    /// Writes all of it, or what the socket takes.
    pub(crate) fn flush(&mut self) -> Moved {
        let State::Open(stream) = &mut self.state else { return Moved::Blocked };
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(bytes) if bytes > 0 => self.output.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Moved::Blocked;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Moved::Over,
            }
        }
        Moved::Bytes
    }

    /// Closes the connection, what is not written included.
    pub(crate) fn close(&mut self) {
        self.state = State::None;
        self.writable = false;
        self.input = Decoder::new(limits::SERVER_FRAME_BYTES_MAX);
        self.output = BytesMut::new();
    }

    /// Ends the connection in one of the ways of the world.
    pub(crate) fn part(&mut self, how: Parting) {
        if let State::Open(stream) = std::mem::replace(&mut self.state, State::None) {
            match how {
                Parting::Close => {}
                // Where it cannot be set, the connection is closed in order.
                Parting::Reset => drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
                Parting::Silence => self.left = Some(stream),
            }
        }
        self.close();
    }

    /// Closes a connection that was left standing.
    pub(crate) fn forget_left(&mut self) {
        self.left = None;
    }
}
