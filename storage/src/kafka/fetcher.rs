//! A consumer client that readers share, each with a queue of its own. Assigned by hand; in no group.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Aside;

/// How long the serving thread may take to notice that it is not needed any more.
const SERVE: Duration = Duration::from_millis(250);

type Spot = (String, i32);

pub(super) struct Fetcher {
    consumer: Arc<BaseConsumer<Aside>>,
    taken: Mutex<HashSet<Spot>>,
    stop: Arc<AtomicBool>,
}

impl Fetcher {
    pub(super) fn new(config: &ClientConfig) -> Result<Arc<Self>, KafkaError> {
        let consumer = Arc::new(BaseConsumer::from_config_and_context(config, Aside)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (consumer.clone(), stop.clone());
        // Errors and log lines come here; records go to the readers' own queues.
        let serve = move || {
            while !stopped.load(Ordering::Acquire) {
                drop(served.poll(SERVE));
            }
        };
        let thread = thread::Builder::new().name("kafka-readers".into()).spawn(serve);
        thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Arc::new(Self { consumer, taken: Mutex::default(), stop }))
    }

    /// Starts to fetch a partition from `offset` on; none where another reader here has it.
    /// `ready` is called when an empty queue gets something.
    pub(super) fn take(
        self: &Arc<Self>,
        spot: Spot,
        offset: i64,
        ready: impl Fn() + Send + Sync + 'static,
    ) -> Result<Option<Taken>, KafkaError> {
        if !self.lock().insert(spot.clone()) {
            return Ok(None);
        }
        let mut taken = Taken { fetcher: self.clone(), spot, queue: None };
        let (topic, partition) = (&taken.spot.0, taken.spot.1);
        let split = self.consumer.split_partition_queue(topic, partition);
        let mut queue = split.ok_or_else(|| KafkaError::Subscription(format!("no queue for {topic}")))?;
        queue.set_nonempty_callback(ready);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        taken.queue = Some(queue);
        self.consumer.incremental_assign(&list)?;
        Ok(Some(taken))
    }

    fn give_back(&self, spot: &Spot) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&spot.0, spot.1);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(%error, topic = spot.0, partition = spot.1, "a partition was not being fetched");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Spot>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// A partition that is being fetched, until this is dropped.
pub(super) struct Taken {
    fetcher: Arc<Fetcher>,
    spot: Spot,
    queue: Option<PartitionQueue<Aside>>,
}

impl Taken {
    pub(super) fn queue(&self) -> Option<&PartitionQueue<Aside>> {
        self.queue.as_ref()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.fetcher.give_back(&self.spot);
        if let Some(queue) = self.queue.take() {
            // What was fetched ahead is outdated now, and goes when it is looked at.
            while queue.poll(Duration::ZERO).is_some() {}
        }
        self.fetcher.lock().remove(&self.spot);
    }
}
