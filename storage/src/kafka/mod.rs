//! The scaled-out log: Kafka. Three topics, one shared producer, one shared consumer for all readers, and
//! a consumer group that shares the partitions out. Never commits an offset: where to read on from is
//! the reader's knowledge.

mod config;
mod context;
mod engine;
mod fetcher;
mod lane;
mod log;
mod member;
mod outlet;
mod place;
mod reader;
mod settings;
mod topics;
mod wake;

use std::sync::Arc;
use std::time::Duration;

pub use self::place::check_url;

use crate::log::{Log, LogError, Partitions};

/// What a broker answers a fetch with at the most: the client library's own limit, `fetch.max.bytes`.
const ANSWER_BYTES: u64 = 50 * 1024 * 1024;

/// What can be set about a Kafka log.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many partitions the topics are created with, and must have.
    pub partitions: Partitions,
    /// How long until a record that nobody confirmed is reported as failed. Brokers take 9 s to notice
    /// that one of them is gone, and then elect, controllers first: 14 s were seen until appends went on.
    /// With less, they fail whenever a broker crashes, and leave copies; with more, whoever waits learns
    /// later of an outage that lasts.
    pub append_timeout: Duration,
    /// Records that all producers of this process together may have queued.
    pub queued_max: usize,
    /// Bytes that all producers of this process together may have queued.
    pub queued_bytes_max: usize,
}

impl Options {
    /// The usual ones.
    #[must_use]
    pub fn new(partitions: Partitions) -> Self {
        Self {
            partitions,
            append_timeout: Duration::from_secs(30),
            queued_max: 100_000,
            queued_bytes_max: 64 * 1024 * 1024,
        }
    }

    /// Bytes of records that the log holds in memory at the most: queued, here and in the client library; read ahead;
    /// and in the answers that brokers send.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        let queued = u64::try_from(self.queued_bytes_max).unwrap_or(u64::MAX).saturating_mul(2);
        let prefetched = self.partitions.both() * u64::from(config::PREFETCH_KBYTES) * 1024;
        queued.saturating_add(prefetched + ANSWER_BYTES)
    }
}

/// Opens the log at `kafka://host:port[,host:port]/prefix`, creating topics that are not there.
///
/// # Errors
/// No broker answers within about five seconds; or a topic has other partitions than asked for, or a
/// setting with which messages would be lost: the text then names topic, setting and remedy.
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn Log>, LogError> {
    let log = log::KafkaLog::open(place::Place::parse(url)?, options).await?;
    Ok(Arc::new(log))
}
