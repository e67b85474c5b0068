//! The `Log` seam: producers, readers, and the one member that owns everything. Reads the engine, never
//! writes it.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::engine::{Engine, EngineError, row};
use super::mailbox::Pushed;
use super::place::{Place, View};
use super::work::{Appending, Outlet, Work};
use super::{Handle, key, value};
use crate::log::{
    Append, Assignment, Log, LogError, Membership, Partition, Partitions, Producer, Reader, Record, Report,
    Tag, Topic,
};

/// Bytes after which a page of records ends early, whatever is asked.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct EmbeddedLog {
    handle: Arc<Handle>,
}

impl EmbeddedLog {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    fn place(&self, topic: Topic, partition: Partition) -> Result<(usize, &Place), LogError> {
        let places = &self.handle.core.places;
        let found = places.index(topic, partition).and_then(|index| Some((index, places.get(index)?)));
        found.ok_or_else(|| LogError::Refused(format!("{topic} has no partition {partition}")))
    }

    fn read_from(&self, topic: Topic, partition: Partition, offset: u64) -> Result<EmbeddedReader, LogError> {
        let (index, place) = self.place(topic, partition)?;
        let view = place.view();
        let position = if offset == 0 { view.first } else { offset };
        if position < view.first || position > view.next {
            return Err(LogError::OutOfRange { topic, partition, offset, earliest: view.first });
        }
        Ok(EmbeddedReader { handle: self.handle.clone(), index, position, view: place.watch() })
    }

    async fn give_up(&self, topic: Topic, partition: Partition, below: u64) -> Result<(), LogError> {
        let (place, _) = self.place(topic, partition)?;
        let (reply, answer) = oneshot::channel();
        let closed = || LogError::Failed(EngineError::Closed.to_string());
        if !self.handle.core.mailbox.send(Work::Trim { place, below, reply }).await {
            return Err(closed());
        }
        answer.await.map_err(|_| closed())?.map_err(LogError::Failed)
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self) -> Partitions {
        self.handle.core.places.partitions()
    }

    fn producer(&self, queued_max: usize, report: Arc<dyn Report>) -> Result<Box<dyn Producer>, LogError> {
        let bytes_max = self.handle.core.options.producer_bytes;
        let outlet = Arc::new(Outlet::new(queued_max, bytes_max, report));
        Ok(Box::new(EmbeddedProducer { handle: self.handle.clone(), outlet }))
    }

    fn reader(
        &self,
        topic: Topic,
        partition: Partition,
        offset: u64,
    ) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        let reader = self.read_from(topic, partition, offset);
        async move { Ok(Box::new(reader?) as Box<dyn Reader>) }.boxed()
    }

    fn join(&self) -> Result<Box<dyn Membership>, LogError> {
        let counts = self.partitions();
        let of = |topic| (0..counts.of(topic)).map(move |partition| Assignment::Assigned(topic, partition));
        let all: Vec<_> = of(Topic::Messages).chain(of(Topic::Timelines)).collect();
        Ok(Box::new(Everything(all.into_iter())))
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<(u64, u64), LogError>> {
        let bounds = self.place(topic, partition).map(|(_, place)| (place.view().first, place.view().next));
        async move { bounds }.boxed()
    }

    fn trim(&self, topic: Topic, partition: Partition, below: u64) -> BoxFuture<'_, Result<(), LogError>> {
        self.give_up(topic, partition, below).boxed()
    }
}

struct EmbeddedProducer {
    handle: Arc<Handle>,
    outlet: Arc<Outlet>,
}

impl Producer for EmbeddedProducer {
    fn append(&self, topic: Topic, partition: Partition, record: Bytes, tag: Tag) -> Append {
        let core = &self.handle.core;
        let length = record.len();
        if !self.outlet.reserve(length) {
            return Append::Full;
        }
        let place = core.places.index(topic, partition);
        let work = Work::Append(Appending { place, bytes: record, tag, outlet: self.outlet.clone() });
        let refusal = match core.mailbox.push(work) {
            Pushed::Queued => return Append::Queued,
            Pushed::Full(_) => Append::Full,
            Pushed::Closed => Append::Dead,
        };
        self.outlet.release(1, length);
        refusal
    }

    fn depth(&self) -> (usize, usize) {
        self.outlet.depth()
    }
}

impl Drop for EmbeddedProducer {
    fn drop(&mut self) {
        self.outlet.silence();
    }
}

struct EmbeddedReader {
    handle: Arc<Handle>,
    index: usize,
    position: u64,
    view: watch::Receiver<View>,
}

impl EmbeddedReader {
    async fn page(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            let view = *self.view.borrow_and_update();
            if self.position < view.next {
                let records = self.read(view, max.max(1))?;
                self.position = records.last().map_or(self.position, |last| last.offset + 1);
                return Ok(records);
            }
            let gone = self.view.changed().await.is_err();
            if gone || !self.view.borrow().open {
                return Err(EngineError::Closed.into());
            }
        }
    }

    /// Reads without waiting: the newest records from memory, older ones from the engine, inline,
    /// because a page is bounded and mostly in the caches.
    fn read(&self, view: View, max: usize) -> Result<Vec<Record>, LogError> {
        let core = &self.handle.core;
        let place = core.places.get(self.index).ok_or(EngineError::Closed)?;
        let (topic, partition, offset) = (place.topic, place.partition, self.position);
        let trimmed = |earliest| LogError::OutOfRange { topic, partition, offset, earliest };
        if offset < view.first {
            return Err(trimmed(view.first));
        }
        if let Some(records) = place.newest(self.position, max, PAGE_BYTES_MAX) {
            return Ok(records);
        }
        let (from, to) =
            (key::record(topic, partition, self.position), key::record(topic, partition, view.next));
        let records = core.slot.with(|engine| records(engine, &from, &to, max))?;
        if records.first().is_some_and(|record| record.offset == offset) {
            return Ok(records);
        }
        // Offsets are dense, so the record was trimmed during the read, or it is lost.
        let first = place.view().first;
        Err(if first > offset { trimmed(first) } else { EngineError::Damaged("log").into() })
    }
}

impl Reader for EmbeddedReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Record>, LogError>> {
        self.page(max).boxed()
    }
}

/// Up to `max` records of `from..to`, at least one where there is one.
fn records(engine: &Engine, from: &[u8], to: &[u8], max: usize) -> Result<Vec<Record>, EngineError> {
    let damaged = || EngineError::Damaged("log");
    let mut records = Vec::new();
    let mut bytes_read = 0;
    for guard in engine.log.range(from..to).take(max) {
        let (key, value) = row(guard)?;
        let (append_us, bytes) = value::stamp(&value).ok_or_else(damaged)?;
        let offset = key::offset(&key).ok_or_else(damaged)?;
        // Offsets are dense. Whoever reads on finds that this one is not the next.
        if records.last().is_some_and(|last: &Record| last.offset + 1 != offset) {
            break;
        }
        bytes_read += bytes.len();
        records.push(Record { offset, append_us, bytes: Bytes::copy_from_slice(bytes) });
        if bytes_read >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(records)
}

/// The one process has every partition, from the start and for good.
struct Everything(std::vec::IntoIter<Assignment>);

impl Membership for Everything {
    fn next(&mut self) -> BoxFuture<'_, Result<Assignment, LogError>> {
        match self.0.next() {
            Some(assignment) => async move { Ok(assignment) }.boxed(),
            None => futures::future::pending().boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::draft::Draft;
    use super::super::options::Options;
    use super::*;
    use crate::log::Partitions;

    #[test]
    fn a_page_ends_where_a_record_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Partitions { messages: 1, timelines: 1 });
        let engine = Engine::open(dir.path(), &options).unwrap();
        let mut draft = Draft::new(&engine);
        for offset in [3, 4, 6, 7] {
            draft.record(
                Topic::Messages,
                0,
                &Record { offset, append_us: 1, bytes: Bytes::from_static(b"x") },
            );
        }
        draft.commit().unwrap();
        let key = |offset| key::record(Topic::Messages, 0, offset);
        let offsets = |from| {
            let page = records(&engine, &key(from), &key(9), 10).unwrap();
            page.into_iter().map(|record| record.offset).collect::<Vec<_>>()
        };
        assert_eq!((offsets(3), offsets(5)), (vec![3, 4], vec![6, 7]));
    }
}
