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
        let answer = tokio::time::timeout(CONNECT_WITHIN, opening).await.map_err(|_| "no answer in time".to_owned())?;
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
        async move {
            self.remote(&node).await.map_err(|cause| DialError { node: node.name.clone(), cause })
        }
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

    async fn attach(&self, request: Request<Streaming<v1::Down>>) -> Result<Response<Self::AttachStream>, Status> {
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
