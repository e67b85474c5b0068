//! Reads a partition in batches, sized so that large records do not make large batches.

use std::collections::BTreeSet;

use prost::Message;
use proto::Tick;
use storage::log::{LogError, Reader, Record};

use super::slot::Slot;

type Read = (Box<dyn Reader>, Result<Vec<Record>, LogError>);

/// A record as it is judged.
#[derive(Debug)]
pub(crate) struct Fetched<M> {
    pub(crate) offset: u64,
    pub(crate) append_us: u64,
    pub(crate) record: M,
}

/// The reading end of a partition.
pub(crate) struct Fetch {
    reader: Option<Box<dyn Reader>>,
    reading: Slot<Read>,
    records_max: usize,
    bytes_max: usize,
    /// What a record had lately, on average.
    record_bytes: usize,
}

impl Fetch {
    pub(crate) fn new(reader: Box<dyn Reader>, records_max: usize, bytes_max: usize) -> Self {
        Self { reader: Some(reader), reading: Slot::default(), records_max, bytes_max, record_bytes: 256 }
    }

    /// The next batch; not empty. Cancel-safe.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Vec<Fetched<M>>, LogError> {
        if let Some(mut reader) = self.reader.take() {
            let max = (self.bytes_max / self.record_bytes.max(1)).clamp(1, self.records_max);
            self.reading.start(async move {
                let records = reader.next(max).await;
                (reader, records)
            });
        }
        let (reader, records) = self.reading.done().await;
        self.reader = Some(reader);
        let records = records?;
        self.measure(&records);
        Ok(records.into_iter().map(decode).collect())
    }

    fn measure(&mut self, records: &[Record]) {
        let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
        let now = bytes / records.len().max(1);
        self.record_bytes = if now > self.record_bytes { now } else { (7 * self.record_bytes + now) / 8 };
    }
}

/// A record that does not decode is judged as one that says nothing.
fn decode<M: Message + Default>(record: Record) -> Fetched<M> {
    let Record { offset, append_us, bytes } = record;
    let record = M::decode(bytes).unwrap_or_else(|error| {
        tracing::error!(offset, %error, "a record of the log does not decode, and is left out");
        M::default()
    });
    Fetched { offset, append_us, record }
}

/// The ticks that a run skips: what the table said when it began, and is not known to have had effects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skips(BTreeSet<Tick>);

impl Skips {
    pub(crate) fn new(ticks: impl IntoIterator<Item = Tick>) -> Self {
        Self(ticks.into_iter().collect())
    }

    /// Whether the record after `last`, appended at `append_us`, is to be skipped.
    pub(crate) fn has(&self, last: Tick, append_us: u64) -> bool {
        !self.0.is_empty() && self.0.contains(&last.next(append_us))
    }
}
