//! What the tests of both shells have in common: a deployment around the double, and records to put in.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use proto::{ConversationId, Tick, UserId, v1};
use storage::log::{Partition, Topic};
use tokio::sync::{Semaphore, mpsc, watch};

use super::double::{Double, DoubleLog, DoubleStore};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::nodes::{NodeInfo, NodeTable};
use crate::push::{Dial, DialError, Ends};
use crate::run::{Health, Parts, Supervised};

pub(super) const NODE: &str = "n1";

/// The far ends of the streams that were dialled.
#[derive(Default)]
pub(super) struct Far(Mutex<Vec<(mpsc::Receiver<v1::Down>, mpsc::Sender<v1::Up>)>>);

impl Far {
    pub(super) fn take(&self) -> Option<(mpsc::Receiver<v1::Down>, mpsc::Sender<v1::Up>)> {
        self.0.lock().unwrap().pop()
    }
}

struct Dialler(Arc<Far>);

impl Dial for Dialler {
    fn dial(&self, _: &NodeInfo) -> BoxFuture<'_, Result<Ends, DialError>> {
        let ((down, down_far), (up_far, up)) = (mpsc::channel(64), mpsc::channel(64));
        self.0.0.lock().unwrap().push((down_far, up_far));
        async move { Ok((down, up)) }.boxed()
    }
}

/// One process, as far as a partition sees it.
pub(super) struct Deployment {
    pub(super) double: Arc<Double>,
    pub(super) far: Arc<Far>,
    pub(super) parts: Arc<Parts>,
    pub(super) nodes: watch::Sender<Arc<NodeTable>>,
}

impl Deployment {
    pub(super) fn new() -> Self {
        Self::with(|_| {}, None)
    }

    pub(super) fn with(change: impl FnOnce(&mut Config), breaks_at: Option<u64>) -> Self {
        let (double, far) = (Double::new(), Arc::new(Far::default()));
        let (nodes, table) = watch::channel(Arc::new(NodeTable::default()));
        let mut config = Config::new(NODE);
        change(&mut config);
        assert_eq!(config.mistakes(), Vec::<String>::new());
        let parts = Arc::new(Parts {
            pages: Arc::new(Semaphore::new(config.sync_pages_max)),
            config,
            log: Arc::new(DoubleLog(double.clone())),
            store: Arc::new(DoubleStore(double.clone())),
            dial: Arc::new(Dialler(far.clone())),
            nodes: table,
            metrics: Metrics::register(&mut Registry::default()),
            health: Health::default(),
            breaks_at: breaks_at.map(Tick),
        });
        Self { double, far, parts, nodes }
    }

    pub(super) fn run(&self, topic: Topic, partition: Partition) -> Supervised {
        Supervised::start(self.parts.clone(), topic, partition)
    }

    /// Applies a record to the node table.
    pub(super) fn node_record(&self, append_us: u64, record: v1::node_record::Record) {
        self.nodes.send_modify(|table| {
            Arc::make_mut(table).apply(append_us, &v1::NodeRecord { record: Some(record) });
        });
    }

    pub(super) fn send_text(&self, n: u64) -> u64 {
        self.double.append(Topic::Messages, 0, &submission(n))
    }

    pub(super) fn send_texts(&self, ns: std::ops::RangeInclusive<u64>) {
        for n in ns {
            self.send_text(n);
        }
    }

    /// Lets everything happen that happens without further input within a while.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Ann's n-th text to Bob, in epoch 1.
pub(super) fn submission(n: u64) -> v1::MessageRecord {
    let message = v1::Message { kind: 1, data: Bytes::from(format!("text {n}")) };
    let send = v1::Send {
        to: Some(v1::send::To::User("bob".into())),
        epoch: 1,
        n,
        body: Some(v1::send::Body::Message(message)),
    };
    v1::MessageRecord {
        record: Some(v1::message_record::Record::Submission(v1::Submission {
            conversation: ConversationId::direct(&user("ann"), &user("bob")).to_bytes(),
            user: "ann".into(),
            device: "phone".into(),
            send: Some(send),
        })),
    }
}
