//! Push streams between the owner of a timelines partition and a conn node: by channels within the
//! process, by gRPC between processes. Carries frames both ways and looks into none.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use logic::nodes::NodeInfo;
use logic::push::{Dial, DialError, Ends};
use proto::limits::SERVER_FRAME_BYTES_MAX;
use proto::v1;
use proto::v1::push_stream_client::PushStreamClient;
use proto::v1::push_stream_server::{PushStream, PushStreamServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::peers::{CONNECT_WITHIN, Peers};

/// Frames that wait between the two ends, each way. More wait in the owner's own bounded queue.
const FRAMES_MAX: usize = 64;
/// Bytes of a message on a stream: a frame, and the links that it is for.
const MESSAGE_BYTES_MAX: usize = 4 * SERVER_FRAME_BYTES_MAX;
/// Opens streams to conn nodes; to the one in this process without a detour.
pub(super) struct Dialer {
    own: Option<(String, Arc<conn::Node>)>,
    peers: Peers,
}

impl Dialer {
    /// `own` is the conn node of this process under its name, if it has one.
    pub(super) fn new(own: Option<(String, Arc<conn::Node>)>) -> Self {
        Self { own, peers: Peers::default() }
    }

    async fn remote(&self, node: &NodeInfo) -> Result<Ends, String> {
        let channel = self.peers.channel(&node.stream_address)?;
        let mut client = PushStreamClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (down, down_out) = mpsc::channel(FRAMES_MAX);
        let (up_in, up) = mpsc::channel(FRAMES_MAX);
        let opening = client.attach(ReceiverStream::new(down_out));
        let answer = tokio::time::timeout(CONNECT_WITHIN, opening)
            .await
            .map_err(|_| "no answer in time".to_owned())?;
        let stream = answer.map_err(|status| status.message().to_owned())?.into_inner();
        tokio::spawn(carry(stream, up_in));
        Ok((down, up))
    }
}

impl Dial for Dialer {
    fn dial(&self, node: &NodeInfo) -> BoxFuture<'_, Result<Ends, DialError>> {
        if let Some((_, own)) = self.own.as_ref().filter(|(name, _)| *name == node.name) {
            let (down, down_out) = mpsc::channel(FRAMES_MAX);
            let (up_in, up) = mpsc::channel(FRAMES_MAX);
            own.attach(down_out, up_in);
            return futures::future::ready(Ok((down, up))).boxed();
        }
        let node = node.clone();
        async move { self.remote(&node).await.map_err(|cause| DialError { node: node.name.clone(), cause }) }
            .boxed()
    }
}

/// Takes streams from owners in other processes.
pub(super) struct PushService {
    node: Arc<conn::Node>,
}

impl PushService {
    /// The service for this conn node.
    pub(super) fn server(node: Arc<conn::Node>) -> PushStreamServer<Self> {
        PushStreamServer::new(Self { node }).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl PushStream for PushService {
    type AttachStream = futures::stream::Map<ReceiverStream<v1::Up>, fn(v1::Up) -> Result<v1::Up, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::Down>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (down_in, down) = mpsc::channel(FRAMES_MAX);
        let (up, up_out) = mpsc::channel(FRAMES_MAX);
        self.node.attach(down, up);
        tokio::spawn(carry(request.into_inner(), down_in));
        Ok(Response::new(ReceiverStream::new(up_out).map(Ok)))
    }
}

/// Moves messages from the network to a channel until either ends; then both do.
async fn carry<T>(mut stream: Streaming<T>, to: mpsc::Sender<T>) {
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = to.closed() => return,
        };
        match next {
            Some(Ok(message)) => {
                if to.send(message).await.is_err() {
                    return;
                }
            }
            Some(Err(status)) => {
                tracing::debug!(code = %status.code(), "a push stream broke");
                return;
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use logic::nodes::NodeTable;
    use prometheus_client::registry::Registry;
    use storage::embedded;
    use storage::log::Partitions;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;
    use v1::{down::Down, up::Up};

    use super::*;

    const INCARNATION: u64 = 7;

    fn node_at(address: &str) -> NodeInfo {
        let join =
            v1::Join { node: "far".into(), nonce: 1, stream_address: address.into(), ..Default::default() };
        let mut table = NodeTable::default();
        table.apply(1, &v1::NodeRecord { record: Some(v1::node_record::Record::Join(join)) });
        table.get("far").unwrap().clone()
    }

    /// A conn node behind a port, and how others see it.
    async fn conn_node(dir: &std::path::Path) -> NodeInfo {
        let partitions = Partitions { messages: 2, timelines: 2 };
        let data = embedded::open(dir, embedded::Options::new(partitions)).unwrap();
        let config =
            conn::Config { listen: "127.0.0.1:0".parse().unwrap(), reactors: 1, ..conn::Config::default() };
        let (calls, _) = mpsc::channel(1);
        let node = conn::Node::start(config, data.log(), conn::Keys::new(), calls, &mut Registry::default())
            .unwrap();
        node.set_incarnation(INCARNATION);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder().add_service(PushService::server(Arc::new(node)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        node_at(&address)
    }

    async fn open(dialer: &Dialer, node: &NodeInfo, term: u64) -> Ends {
        let (down, up) = dialer.dial(node).await.unwrap();
        let open = v1::Open { partition: 1, term, owner: "owner".into() };
        down.send(v1::Down { down: Some(Down::Open(open)) }).await.unwrap();
        (down, up)
    }

    async fn next(up: &mut mpsc::Receiver<v1::Up>) -> Option<Up> {
        tokio::time::timeout(Duration::from_secs(20), up.recv()).await.unwrap().map(|up| up.up.unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_over_the_network_is_a_stream() {
        let dir = tempfile::tempdir().unwrap();
        let (node, dialer) = (conn_node(dir.path()).await, Dialer::new(None));
        let (down, mut up) = open(&dialer, &node, 5).await;
        let Some(Up::Roster(roster)) = next(&mut up).await else { panic!("no roster") };
        assert_eq!((roster.incarnation, roster.complete), (INCARNATION, true));

        let (_late, mut refused) = open(&dialer, &node, 4).await;
        assert_eq!(next(&mut refused).await, Some(Up::Refused(v1::Refused { term: 5 })));

        drop(down);
        assert_eq!(next(&mut up).await, None, "the end is passed on");
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_an_error_in_time() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        drop(taken);
        let failed = Dialer::new(None).dial(&node_at(&address)).await.unwrap_err();
        assert_eq!(failed.node, "far");
    }
}
