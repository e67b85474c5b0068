//! Binds listen addresses, and says which setting is to blame where that fails.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use logic::api::Api;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use super::calls::CallService;
use super::push::PushService;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// Streams and queries of one connection at the same time: the partitions of a topic, and some more.
const STREAMS_MAX: u32 = 8192;
/// How often a silent connection is probed, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(3);

/// A listener on an address, with the address that the system made of it.
pub(super) async fn bind(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = TcpListener::bind(address).await.and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| failure(key, address, error))
}

/// A failed bind as the process's end.
pub(super) fn failure(key: &'static str, address: SocketAddr, error: io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{key}: {address} is in use by another process; choose another port")
        }
        io::ErrorKind::AddrNotAvailable => format!("{key}: {address} is not an address of this machine"),
        io::ErrorKind::PermissionDenied => format!("{key}: {address} needs rights that this process lacks"),
        _ => {
            return Failure::from(
                anyhow::Error::new(error).context(format!("{key}: listening on {address}")),
            );
        }
    };
    Failure::new(Exit::Address, anyhow::Error::new(error).context(what))
}

/// The ports for other processes: bound where there can be others, and nowhere else.
pub(super) struct Peers {
    push: Option<(TcpListener, SocketAddr)>,
    api: Option<(TcpListener, SocketAddr)>,
}

impl Peers {
    /// Binds what the settings open.
    pub(super) async fn bind(settings: &Settings) -> Result<Self, Failure> {
        let (mut push, mut api) = (None, None);
        for (key, address) in settings.listens() {
            match key {
                "node.listen" => push = Some(bind(key, address).await?),
                "api.listen" => api = Some(bind(key, address).await?),
                _ => {}
            }
        }
        Ok(Self { push, api })
    }

    /// Where push streams are taken.
    pub(super) fn push_address(&self) -> Option<SocketAddr> {
        self.push.as_ref().map(|(_, address)| *address)
    }

    /// Where queries are taken.
    pub(super) fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|(_, address)| *address)
    }

    /// Serves what was bound.
    pub(super) fn serve(
        self,
        conn: Option<Arc<conn::Node>>,
        api: Option<Arc<Api>>,
        queries_max: usize,
    ) -> Vec<JoinHandle<()>> {
        let push = self.push.zip(conn).map(|((listener, _), conn)| {
            let server = server().add_service(PushService::server(conn));
            tokio::spawn(run("node.listen", server.serve_with_incoming(TcpListenerStream::new(listener))))
        });
        let api = self.api.zip(api).map(|((listener, _), api)| {
            let server = server().add_service(CallService::server(api, queries_max));
            tokio::spawn(run("api.listen", server.serve_with_incoming(TcpListenerStream::new(listener))))
        });
        push.into_iter().chain(api).collect()
    }
}

/// A process has one stream per partition, and as many queries as it answers devices.
fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(PROBE_EVERY))
        .http2_keepalive_timeout(Some(PROBE_EVERY))
}

async fn run(key: &'static str, serving: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "{key} failed");
    }
}
