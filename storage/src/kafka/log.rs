//! The `Log` seam over Kafka: hands out producers, readers and memberships of one cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use proto::limits::RECORD_BYTES_MAX;
use rdkafka::admin::AdminOptions;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::context::Aside;
use super::engine::Engine;
use super::fetcher::Fetcher;
use super::lane::Waiting;
use super::member::KafkaMembership;
use super::outlet::Outlet;
use super::place::Place;
use super::reader::KafkaReader;
use super::topics::{self, Admin};
use super::{Options, config};
use crate::log::{
    Append, Log, LogError, Membership, Partition, Partitions, Producer, Reader, Report, Tag, Topic,
};

/// How long brokers may take to answer a question.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the leader that is known may take, before it is looked up again.
const LEADER_ANSWER: Duration = Duration::from_secs(2);

/// What handles need of an open log.
pub(super) struct Shared {
    place: Place,
    options: Options,
    admin: Arc<Admin>,
}

impl Shared {
    pub(super) fn failure(&self, error: &KafkaError) -> LogError {
        topics::failure(&self.place, error)
    }

    /// The first offset of a partition and the one after its last. The client may still believe in a
    /// leader that is gone, and asks only that one: then it looks again who leads.
    pub(super) async fn bounds(&self, topic: Topic, partition: Partition) -> Result<(u64, u64), LogError> {
        let number = self.number(topic, partition)?;
        let (admin, name) = (self.admin.clone(), self.place.topic(topic));
        let asked = move || {
            let client = admin.inner();
            client.fetch_watermarks(&name, number, LEADER_ANSWER).or_else(|_| {
                client.fetch_metadata(None, ANSWER)?;
                client.fetch_watermarks(&name, number, ANSWER)
            })
        };
        let (low, high) = blocking(asked).await?.map_err(|error| self.failure(&error))?;
        Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
    }

    /// Looks again who leads where the leader that is known does not answer, as [`Shared::bounds`] does.
    async fn trim(&self, topic: Topic, partition: Partition, below: u64) -> Result<(), LogError> {
        let number = self.number(topic, partition)?;
        let below = i64::try_from(below).map_err(|_| LogError::Refused(format!("{below} is no offset")))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.place.topic(topic), number, Offset::Offset(below))
            .map_err(|error| self.failure(&error))?;
        if self.delete(&list, LEADER_ANSWER).await.is_ok() {
            return Ok(());
        }
        let admin = self.admin.clone();
        let looked = blocking(move || admin.inner().fetch_metadata(None, ANSWER).map(drop)).await?;
        looked.map_err(|error| self.failure(&error))?;
        self.delete(&list, ANSWER).await.map_err(|error| self.failure(&error))
    }

    async fn delete(&self, list: &TopicPartitionList, patience: Duration) -> KafkaResult<()> {
        let options = AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience));
        let deleted = self.admin.delete_records(list, &options).await?;
        deleted.elements().iter().try_for_each(|element| element.error())
    }

    fn number(&self, topic: Topic, partition: Partition) -> Result<i32, LogError> {
        let known = partition < self.options.partitions.of(topic);
        let number = i32::try_from(partition).ok().filter(|_| known);
        number.ok_or_else(|| LogError::Refused(format!("{topic} has no partition {partition}")))
    }
}

pub(super) struct KafkaLog {
    shared: Arc<Shared>,
    fetcher: Arc<Fetcher>,
    /// The producer that handles made now share.
    engine: Mutex<Arc<Engine>>,
}

impl KafkaLog {
    pub(super) async fn open(place: Place, options: Options) -> Result<Self, LogError> {
        let admin = Admin::from_config_and_context(&config::admin(&place), Aside);
        let admin = Arc::new(admin.map_err(|error| topics::failure(&place, &error))?);
        topics::prepare(&admin, &place, options.partitions).await?;
        let engine = Engine::new(&place, &options)?;
        let fetcher =
            Fetcher::new(&config::reader(&place)).map_err(|error| topics::failure(&place, &error))?;
        let shared = Arc::new(Shared { place, options, admin });
        Ok(Self { shared, fetcher, engine: Mutex::new(engine) })
    }

    /// The shared producer; a new one where a fatal error killed it.
    fn engine(&self) -> Result<Arc<Engine>, LogError> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.is_dead() {
            let Shared { place, options, .. } = &*self.shared;
            *engine = Engine::new(place, options)?;
        }
        Ok(engine.clone())
    }

    async fn read(&self, topic: Topic, partition: Partition, offset: u64) -> Result<KafkaReader, LogError> {
        let (first, end) = self.shared.bounds(topic, partition).await?;
        let position = if offset == 0 { first } else { offset };
        let start = i64::try_from(position).ok().filter(|_| (first..=end).contains(&position));
        let Some(start) = start else {
            return Err(LogError::OutOfRange { topic, partition, offset, earliest: first });
        };
        let spot = (self.shared.place.topic(topic), self.shared.number(topic, partition)?);
        let ready = Arc::new(Notify::new());
        let (shared, common, told) = (self.shared.clone(), self.fetcher.clone(), ready.clone());
        let taking = move || {
            let tell = |told: &Arc<Notify>| {
                let told = told.clone();
                move || told.notify_one()
            };
            if let Some(taken) = common.take(spot.clone(), start, tell(&told))? {
                return Ok(Some(taken));
            }
            // Another reader here has the partition: while an owner goes and the next one comes.
            Fetcher::new(&config::reader(&shared.place))?.take(spot, start, tell(&told))
        };
        let taken = blocking(taking).await?.map_err(|error| self.shared.failure(&error))?;
        let taken = taken.ok_or_else(|| LogError::Failed("a new client is in use".into()))?;
        let shared = self.shared.clone();
        Ok(KafkaReader { shared, topic, partition, position, taken, ready, failed: None })
    }
}

impl Log for KafkaLog {
    fn partitions(&self) -> Partitions {
        self.shared.options.partitions
    }

    fn producer(&self, queued_max: usize, report: Arc<dyn Report>) -> Result<Box<dyn Producer>, LogError> {
        let outlet = Arc::new(Outlet::new(queued_max, report));
        Ok(Box::new(KafkaProducer { engine: self.engine()?, outlet }))
    }

    fn reader(
        &self,
        topic: Topic,
        partition: Partition,
        offset: u64,
    ) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        async move { Ok(Box::new(self.read(topic, partition, offset).await?) as Box<dyn Reader>) }.boxed()
    }

    fn join(&self) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(KafkaMembership::join(&self.shared.place)?))
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<(u64, u64), LogError>> {
        self.shared.bounds(topic, partition).boxed()
    }

    fn trim(&self, topic: Topic, partition: Partition, below: u64) -> BoxFuture<'_, Result<(), LogError>> {
        self.shared.trim(topic, partition, below).boxed()
    }
}

struct KafkaProducer {
    engine: Arc<Engine>,
    outlet: Arc<Outlet>,
}

impl Producer for KafkaProducer {
    fn append(&self, topic: Topic, partition: Partition, record: Bytes, tag: Tag) -> Append {
        if !self.outlet.reserve() {
            return Append::Full;
        }
        let waiting = Waiting { record, tag, outlet: self.outlet.clone() };
        let lane = self.engine.lane(topic, partition).filter(|_| waiting.record.len() <= RECORD_BYTES_MAX);
        let appended = match lane {
            Some(lane) => self.engine.append(lane, waiting),
            None => self.engine.reject(&waiting),
        };
        if appended != Append::Queued {
            self.outlet.release();
        }
        appended
    }

    fn depth(&self) -> (usize, usize) {
        self.outlet.depth()
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.outlet.silence();
    }
}

/// Runs what waits for an answer on a thread where waiting is allowed.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<T, LogError> {
    tokio::task::spawn_blocking(run).await.map_err(|error| LogError::Failed(error.to_string()))
}
