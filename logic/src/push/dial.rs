//! How an owner reaches a conn node: by a channel within the process, or by a stream over the network.

use futures::future::BoxFuture;
use proto::v1;
use tokio::sync::mpsc;

use crate::nodes::NodeInfo;

/// Both ends of a stream. It is broken when either is closed.
pub type Ends = (mpsc::Sender<v1::Down>, mpsc::Receiver<v1::Up>);

/// Opens streams.
pub trait Dial: Send + Sync {
    /// Opens a stream to a node. Nothing is sent on it yet.
    fn dial(&self, node: &NodeInfo) -> BoxFuture<'_, Result<Ends, DialError>>;
}

/// Why there is no stream. Always worth another try.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {node} cannot be reached: {cause}")]
pub struct DialError {
    /// The node.
    pub node: String,
    /// What was said from below.
    pub cause: String,
}
