//! Reads one partition forward from what is fetched ahead. Never blocks a thread.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::Notify;

use super::fetcher::Taken;
use super::log::Shared;
use crate::log::{LogError, Partition, Reader, Record, Topic};

pub(super) struct KafkaReader {
    pub(super) shared: Arc<Shared>,
    pub(super) topic: Topic,
    pub(super) partition: Partition,
    /// The next offset.
    pub(super) position: u64,
    pub(super) taken: Taken,
    pub(super) ready: Arc<Notify>,
    /// What ended it.
    pub(super) failed: Option<KafkaError>,
}

impl KafkaReader {
    async fn page(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            let mut records = Vec::new();
            self.drain(max.max(1), &mut records);
            if !records.is_empty() {
                return Ok(records);
            }
            if let Some(error) = self.failed.clone() {
                return Err(self.explain(&error).await);
            }
            // A permit stays where the callback came before this: nothing is missed.
            self.ready.notified().await;
        }
    }

    fn drain(&mut self, max: usize, records: &mut Vec<Record>) {
        let Some(queue) = self.taken.queue() else { return };
        while records.len() < max && self.failed.is_none() {
            match queue.poll(Duration::ZERO) {
                None => return,
                Some(Err(error)) => self.failed = Some(error),
                Some(Ok(message)) => {
                    let record = record(&message);
                    self.position = record.offset + 1;
                    records.push(record);
                }
            }
        }
    }

    async fn explain(&self, error: &KafkaError) -> LogError {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                match self.shared.bounds(self.topic, self.partition).await {
                    Ok((earliest, _)) => LogError::OutOfRange {
                        topic: self.topic,
                        partition: self.partition,
                        offset: self.position,
                        earliest,
                    },
                    Err(error) => error,
                }
            }
            _ => self.shared.failure(error),
        }
    }
}

impl Reader for KafkaReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Record>, LogError>> {
        self.page(max).boxed()
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let append_ms = match message.timestamp() {
        Timestamp::LogAppendTime(ms) | Timestamp::CreateTime(ms) => u64::try_from(ms).unwrap_or(0),
        Timestamp::NotAvailable => 0,
    };
    Record {
        offset: u64::try_from(message.offset()).unwrap_or(0),
        append_us: append_ms.saturating_mul(1_000),
        bytes: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
    }
}
