//! A listener that no client can use up: at most [`CONNECTIONS_MAX`] connections, each for at most
//! [`LIFE`]. Over the cap the oldest connection makes room, so that silent ones keep nobody out.

use std::collections::VecDeque;
use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Connections held at the same time.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How long one may last: a scrape takes milliseconds, a slow one seconds.
const LIFE: Duration = Duration::from_secs(10);
/// The pause after a failed accept: descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Bounded {
    inner: TcpListener,
    /// The oldest first; dropping one ends its connection.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Bounded {
    /// Takes connections from `inner`.
    pub(super) fn new(inner: TcpListener) -> Self {
        Self { inner, open: VecDeque::new() }
    }

    fn hold(&mut self, stream: TcpStream) -> Connection {
        self.open.retain(|end| !end.is_closed());
        if self.open.len() >= CONNECTIONS_MAX {
            self.open.pop_front();
        }
        let (end, ended) = oneshot::channel();
        self.open.push_back(end);
        Connection { stream, ended, life: Box::pin(tokio::time::sleep(LIFE)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.inner.accept().await {
                Ok((stream, from)) => return (self.hold(stream), from),
                Err(error) => {
                    tracing::warn!(%error, "operations port: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that ends by itself.
pub(super) struct Connection {
    stream: TcpStream,
    ended: oneshot::Receiver<()>,
    life: Pin<Box<Sleep>>,
}

impl Connection {
    /// An error once its time is over or its place was needed.
    fn over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let over =
            self.life.as_mut().poll(context).is_ready() || Pin::new(&mut self.ended).poll(context).is_ready();
        if over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.over(context)?;
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.over(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.over(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
