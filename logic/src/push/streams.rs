//! The streams of one owner, one per live conn node of the table. Their tasks end with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::dial::Dial;
use super::pipe::Pipe;
use super::queue::QueueCaps;
use super::stream::{Hail, Stream, StreamEvent};
use crate::metrics::Metrics;
use crate::nodes::NodeTable;

/// Every stream of a run.
pub(crate) struct Streams {
    hail: Hail,
    dial: Arc<dyn Dial>,
    caps: QueueCaps,
    events: mpsc::Sender<StreamEvent>,
    metrics: Metrics,
    open: BTreeMap<String, Running>,
}

struct Running {
    incarnation: u64,
    pipe: Arc<Pipe>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Streams {
    pub(crate) fn new(
        hail: Hail,
        dial: Arc<dyn Dial>,
        caps: QueueCaps,
        events: mpsc::Sender<StreamEvent>,
        metrics: Metrics,
    ) -> Self {
        Self { hail, dial, caps, events, metrics, open: BTreeMap::new() }
    }

    /// Starts the streams that the table asks for, and ends those that it no longer does.
    pub(crate) fn follow(&mut self, table: &NodeTable) {
        self.open.retain(|name, running| {
            table.conns().any(|node| node.name == *name && node.incarnation == running.incarnation)
        });
        for node in table.conns() {
            if self.open.contains_key(&node.name) {
                continue;
            }
            let pipe = Arc::new(Pipe::new(node.name.clone(), node.incarnation, self.caps));
            let stream = Stream {
                node: node.clone(),
                hail: self.hail.clone(),
                dial: self.dial.clone(),
                pipe: pipe.clone(),
                events: self.events.clone(),
                metrics: self.metrics.of_stream(),
            };
            let task = tokio::spawn(stream.run()).abort_handle();
            self.open.insert(node.name.clone(), Running { incarnation: node.incarnation, pipe, task });
        }
    }

    /// The queue towards a node, where there is a stream.
    pub(crate) fn to(&self, node: &str) -> Option<&Pipe> {
        self.open.get(node).map(|running| &*running.pipe)
    }

    /// Every queue.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        self.open.values().map(|running| &*running.pipe)
    }
}
