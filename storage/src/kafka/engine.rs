//! The one idempotent producer that all handles of an open log share, and the thread that serves its
//! outcomes. A fatal error kills it for good; the log makes a new one for handles made later.
//!
//! A record that timed out does not: brokers know a producer's records by epoch and number, and take
//! them without a gap. After a gap (a record timed out, or a batch was turned down while later ones were
//! under way) the library waits until nothing is under way in any partition, and numbers what is left
//! anew in the next epoch. A broker takes nothing of an epoch behind the next one's records, so the order
//! holds; but what was sent in the old epoch and never answered is sent again in the new one, where no
//! broker knows it for a copy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};

use super::lane::{Lane, Offer, Waiting};
use super::outlet::{Ending, Outlet};
use super::place::Place;
use super::wake::Wake;
use super::{Options, config, context};
use crate::log::{Append, AppendError, LogError, Partition, Tag, Topic};

/// The serving thread wakes on its own this often; everything else wakes it at once.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Engine {
    producer: Arc<BaseProducer<Outcomes>>,
    thread: Thread,
    lanes: BTreeMap<(Topic, Partition), Arc<Lane>>,
    records_max: usize,
    bytes_max: usize,
}

impl Engine {
    pub(super) fn new(place: &Place, options: &Options) -> Result<Arc<Self>, LogError> {
        let failed = |cause: String| LogError::Failed(format!("the producer cannot be set up: {cause}"));
        let made =
            BaseProducer::from_config_and_context(&config::producer(place, options), Outcomes::default());
        let producer = Arc::new(made.map_err(|error| failed(error.to_string()))?);
        let served = producer.clone();
        let thread = thread::Builder::new().name("kafka-outcomes".into()).spawn(move || serve(&served));
        let thread = thread.map_err(|error| failed(error.to_string()))?.thread().clone();
        let (records_max, bytes_max) = (options.queued_max, options.queued_bytes_max);
        Ok(Arc::new(Self { producer, thread, lanes: lanes(place, options), records_max, bytes_max }))
    }

    /// The lane of a partition; none where there is no such partition.
    pub(super) fn lane(&self, topic: Topic, partition: Partition) -> Option<&Arc<Lane>> {
        self.lanes.get(&(topic, partition))
    }

    /// Whether it will never append again.
    pub(super) fn is_dead(&self) -> bool {
        self.producer.context().dead.load(Ordering::Acquire)
    }

    /// Queues a record for which the outlet has room.
    pub(super) fn append(&self, lane: &Arc<Lane>, waiting: Waiting) -> Append {
        if self.is_dead() {
            // Handles share this producer, so the first append after the end is taken to tell of it.
            return match waiting.outlet.knows_the_end() {
                true => Append::Dead,
                false => self.fail(&waiting, AppendError::Fatal),
            };
        }
        let outcomes = self.producer.context();
        let (records, bytes) = (&outcomes.records, &outcomes.bytes);
        if records.load(Ordering::Relaxed) >= self.records_max
            || bytes.load(Ordering::Relaxed) + waiting.record.len() > self.bytes_max
        {
            return Append::Full;
        }
        outcomes.enter(&waiting);
        let (outlet, tag) = (waiting.outlet.clone(), waiting.tag);
        let size = waiting.record.len();
        if let Some(ending) = lane.add(waiting, |waiting| offer(&self.producer, lane, waiting)) {
            outcomes.leave(&outlet, tag, size, ending);
            self.thread.unpark();
        }
        Append::Queued
    }

    /// Takes a record only to report that the log cannot take it: refusing it would have it tried again.
    pub(super) fn reject(&self, waiting: &Waiting) -> Append {
        self.fail(waiting, AppendError::Rejected)
    }

    fn fail(&self, waiting: &Waiting, error: AppendError) -> Append {
        self.producer.context().note(&waiting.outlet, waiting.tag, Err(error));
        self.thread.unpark();
        Append::Queued
    }
}

fn lanes(place: &Place, options: &Options) -> BTreeMap<(Topic, Partition), Arc<Lane>> {
    let spots = Topic::ALL.into_iter().flat_map(|topic| {
        let partitions = 0..options.partitions.of(topic);
        partitions.filter_map(move |number| Some((topic, number, i32::try_from(number).ok()?)))
    });
    spots.map(|(topic, number, id)| ((topic, number), Lane::new(&place.topic(topic), id))).collect()
}

/// Hands a record to the library.
fn offer(producer: &BaseProducer<Outcomes>, lane: &Arc<Lane>, waiting: &Waiting) -> Offer {
    let bytes = waiting.record.len();
    let pending =
        Box::new(Pending { outlet: waiting.outlet.clone(), tag: waiting.tag, lane: lane.clone(), bytes });
    let record: BaseRecord<'_, (), [u8], _> = BaseRecord::with_opaque_to(&lane.topic, pending);
    match producer.send(record.partition(lane.partition).payload(&waiting.record)) {
        Ok(()) => Offer::Taken,
        Err((error, _)) => Offer::Ended(Err(ending(error.rdkafka_error_code()))),
    }
}

impl Drop for Engine {
    /// The thread abandons what is queued, and ends.
    fn drop(&mut self) {
        self.producer.context().stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Whose a record is, while it is on its way.
struct Pending {
    outlet: Arc<Outlet>,
    tag: Tag,
    lane: Arc<Lane>,
    bytes: usize,
}

/// What happened to records, until the outlets are told.
#[derive(Default)]
struct Outcomes {
    /// Those that have something to tell.
    noted: Mutex<Vec<Arc<Outlet>>>,
    /// Those whose batch has ended while others wait.
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// What is queued, waiting or under way.
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// Counts whatever the library says.
    events: AtomicU64,
    dead: AtomicBool,
    stop: AtomicBool,
}

impl Outcomes {
    fn enter(&self, waiting: &Waiting) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(waiting.record.len(), Ordering::Relaxed);
    }

    fn leave(&self, outlet: &Arc<Outlet>, tag: Tag, bytes: usize, ending: Ending) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.note(outlet, tag, ending);
    }

    /// Sends the next batches of partitions whose last one has ended.
    fn go_on(&self, producer: &BaseProducer<Self>) {
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in &lanes {
            lane.next(
                |waiting| offer(producer, lane, waiting),
                |waiting, ending| self.leave(&waiting.outlet, waiting.tag, waiting.record.len(), ending),
            );
        }
    }

    fn note(&self, outlet: &Arc<Outlet>, tag: Tag, ending: Ending) {
        if outlet.note(tag, ending) {
            self.lock().push(outlet.clone());
        }
    }

    fn tell(&self) {
        let noted = std::mem::take(&mut *self.lock());
        noted.iter().for_each(|outlet| outlet.tell());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Outlet>>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Outcomes {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.events.fetch_add(1, Ordering::Relaxed);
        context::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.fetch_add(1, Ordering::Relaxed);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            tracing::error!(reason, "the kafka producer is dead");
            self.dead.store(true, Ordering::Release);
        } else {
            tracing::debug!(%error, reason, "kafka producer");
        }
    }
}

impl ProducerContext for Outcomes {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let ended = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(ending(error.rdkafka_error_code())),
        };
        if ended == Err(AppendError::Fatal) {
            // The library fails records before it says why. Whoever is told makes a new handle at once.
            self.dead.store(true, Ordering::Release);
        }
        self.leave(&pending.outlet, pending.tag, pending.bytes, ended);
        if pending.lane.ended(ended) {
            self.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(pending.lane.clone());
        }
    }
}

/// Serves outcomes until the engine is dropped. It holds the producer last, so that nobody else waits
/// for its end.
fn serve(producer: &Arc<BaseProducer<Outcomes>>) {
    let outcomes = producer.context().clone();
    let wake = Wake::new(&**producer);
    let mut purged = false;
    while !outcomes.stop.load(Ordering::Acquire) {
        let before = outcomes.events.load(Ordering::Relaxed);
        producer.poll(Duration::ZERO);
        outcomes.go_on(producer);
        outcomes.tell();
        if outcomes.dead.load(Ordering::Acquire) && !purged {
            purged = true;
            producer.purge(PurgeConfig::default().queue().inflight());
        } else if outcomes.events.load(Ordering::Relaxed) == before {
            thread::park_timeout(IDLE);
        }
    }
    drop(wake);
}

/// What a failure means for the record. Where the library's word leaves it open, the record may land.
fn ending(code: Option<RDKafkaErrorCode>) -> AppendError {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::Fatal | Code::PurgeQueue | Code::PurgeInflight) => AppendError::Fatal,
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => AppendError::Rejected,
        _ => AppendError::Timeout,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use bytes::Bytes;
    use rdkafka::bindings as native;

    use super::*;
    use crate::log::{Partitions, Report};

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Told(Mutex<Sender<(Tag, Ending)>>);

    impl Report for Told {
        fn reported(&self, outcomes: &[(Tag, Ending)]) {
            let told = self.0.lock().unwrap();
            outcomes.iter().for_each(|outcome| told.send(*outcome).unwrap());
        }
    }

    fn outlet() -> (Arc<Outlet>, Receiver<(Tag, Ending)>) {
        let (told, outcomes) = channel();
        (Arc::new(Outlet::new(100, Arc::new(Told(Mutex::new(told))))), outcomes)
    }

    /// Of a cluster that is not there.
    fn engine(append_timeout: Duration, queued_max: usize) -> Arc<Engine> {
        let place = Place::parse("kafka://127.0.0.1:1/nowhere").unwrap();
        let options = Options::new(Partitions { messages: 1, timelines: 1 });
        let options = Options { append_timeout, queued_max, ..options };
        Engine::new(&place, &options).unwrap()
    }

    fn append(engine: &Engine, outlet: &Arc<Outlet>, n: u64) -> Append {
        assert!(outlet.reserve());
        let record = Bytes::from_static(b"x");
        engine.append(
            engine.lane(Topic::Messages, 0).unwrap(),
            Waiting { record, tag: Tag(0, n), outlet: outlet.clone() },
        )
    }

    #[test]
    fn unconfirmed_records_time_out_once_and_a_full_queue_refuses() {
        let engine = engine(Duration::from_millis(500), 5);
        let (outlet, outcomes) = outlet();
        for n in 0..5 {
            assert_eq!(append(&engine, &outlet, n), Append::Queued);
        }
        assert_eq!(append(&engine, &outlet, 5), Append::Full);
        for n in 0..5 {
            let expected = (Tag(0, n), Err(AppendError::Timeout));
            assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(expected));
        }
        assert_eq!(append(&engine, &outlet, 6), Append::Queued, "there is room again");
    }

    #[test]
    fn a_fatal_error_ends_it_for_every_handle() {
        let engine = engine(Duration::from_secs(60), 100);
        let ((busy, outcomes), (idle, idle_outcomes)) = (outlet(), outlet());
        assert_eq!(append(&engine, &busy, 0), Append::Queued);
        assert_eq!(append(&engine, &busy, 1), Append::Queued);
        let code = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client lives, and the reason is a C string.
        unsafe {
            native::rd_kafka_test_fatal_error(
                engine.producer.client().native_ptr(),
                code,
                c"a test".as_ptr(),
            );
        }
        for n in 0..2 {
            assert_eq!(outcomes.recv_timeout(PATIENCE), Ok((Tag(0, n), Err(AppendError::Fatal))));
        }
        assert!(engine.is_dead());
        assert_eq!(append(&engine, &busy, 2), Append::Dead);
        assert_eq!(append(&engine, &idle, 3), Append::Queued, "it knows nothing yet");
        assert_eq!(idle_outcomes.recv_timeout(PATIENCE), Ok((Tag(0, 3), Err(AppendError::Fatal))));
        assert_eq!(append(&engine, &idle, 4), Append::Dead);
        assert!(outcomes.try_recv().is_err(), "each was told once");
    }

    #[test]
    fn dropping_it_with_records_queued_is_quick_and_ends_the_thread() {
        let engine = engine(Duration::from_secs(60), 100);
        let (outlet, _outcomes) = outlet();
        assert_eq!(append(&engine, &outlet, 0), Append::Queued);
        let producer = Arc::downgrade(&engine.producer);
        outlet.silence();
        drop(engine);
        let gone = (0..2_000).any(|_| {
            thread::sleep(Duration::from_millis(5));
            producer.strong_count() == 0
        });
        assert!(gone, "the thread still holds the producer");
    }
}
