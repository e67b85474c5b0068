//! A device that speaks the protocol by hand, frame by frame: also frames that no client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use bytes::Bytes;
use prost::Message;
use proto::Code;
use proto::close::Close;
use proto::frame::{self, Decoder};
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use socket2::{Domain, Socket, Type};

use crate::wait::DEADLINE;

/// A device on a blocking socket. Whatever it waits for and does not get in time ends the test.
#[derive(Debug)]
pub struct Device {
    /// Its end of the link.
    pub stream: TcpStream,
    decoder: Decoder,
}

impl Device {
    /// A link that has said nothing yet.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// The same over a connection that is there already.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream, decoder: Decoder::new(2 * 1024 * 1024) }
    }

    /// Signs in, and waits for the result.
    pub fn sign_in(&mut self, token: &str) -> v1::SignInResult {
        self.send(1, C::SignIn(sign_in(token)));
        match self.next() {
            Some((1, S::SignInResult(result))) => result,
            other => panic!("not signed in: {other:?}"),
        }
    }

    /// Sends a frame.
    pub fn send(&mut self, request_id: u64, frame: C) {
        self.write(&frame_bytes(request_id, frame));
    }

    /// Sends bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame; none where the server closed the link.
    #[allow(clippy::should_implement_trait, reason = "no iterator: it waits, and may end the test")]
    pub fn next(&mut self) -> Option<(u64, S)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                let frame = v1::ServerFrame::decode(frame).unwrap();
                return Some((frame.reply_to, frame.frame.unwrap()));
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.extend(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next frame's content.
    pub fn expect(&mut self) -> S {
        self.next().expect("the link is open").1
    }

    /// The next frame is the ack of a send.
    pub fn expect_ack(&mut self, reply_to: u64) {
        assert_eq!(self.next(), Some((reply_to, S::SendAck(v1::SendAck {}))));
    }

    /// The next frame is an error of this code, in answer to a frame.
    pub fn expect_error(&mut self, reply_to: u64, code: Code) {
        match self.next() {
            Some((id, S::Error(error))) => {
                assert_eq!((id, Code::from_number(error.code)), (reply_to, Some(code)), "{error:?}");
            }
            other => panic!("not an error: {other:?}"),
        }
    }

    /// A kick, and then the end.
    pub fn expect_kick(&mut self, close: Close) {
        match self.next() {
            Some((0, S::Kick(kick))) => assert_eq!(Close::from_number(kick.code), Some(close)),
            other => panic!("not a kick: {other:?}"),
        }
        assert_eq!(self.next(), None);
    }

    /// Closes the link.
    pub fn hang_up(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }
}

/// Connects with so small a window, and segments as small as those of a real network, that the server soon has to
/// keep what is not read: on its own a loopback takes megabytes.
#[must_use]
pub fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.set_tcp_mss(1_000).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// Connects from an address of 127.1.0.0/16.
///
/// # Errors
/// As the system says.
pub fn connect_from(host: u16, to: SocketAddr) -> std::io::Result<TcpStream> {
    let [high, low] = host.to_be_bytes();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)), 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// A token with a signature that is none.
#[must_use]
pub fn forged(token: &str) -> String {
    let (unsigned, signature) = token.rsplit_once('.').unwrap();
    format!("{unsigned}.{}", signature.chars().rev().collect::<String>())
}

/// A frame as it stands on the wire.
#[must_use]
pub fn frame_bytes(request_id: u64, frame: C) -> Bytes {
    frame::to_bytes(&v1::ClientFrame { request_id, frame: Some(frame) })
}

/// A sign-in with nothing unusual in it.
#[must_use]
pub fn sign_in(token: &str) -> v1::SignIn {
    v1::SignIn { token: token.into(), protocol: 1, device_class: "test".into(), ..Default::default() }
}

/// A short message to a user, under a number.
#[must_use]
pub fn text(to: &str, epoch: u64, n: u64) -> C {
    let message = v1::Message { kind: 1, data: Bytes::from_static(b"hello") };
    let (to, body) = (v1::send::To::User(to.into()), v1::send::Body::Message(message));
    C::Send(v1::Send { to: Some(to), epoch, n, body: Some(body) })
}
