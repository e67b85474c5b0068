//! Appends a conversation partition's outputs to the timelines log, and knows which are durable.
//!
//! Each output names, as `prev`, the one that this run appended to the same partition before it. A
//! producer that is full makes them wait; one failed report ends the run, and so does a dead producer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::v1;
use storage::log::{Append, Log, Partition, Producer, Tag, Topic};

use super::parts::End;
use super::reports::{Outcome, Reports};
use super::window::Window;
use crate::clock;
use crate::metrics::RunMetrics;

/// The tag of a run's own records, which are outputs of none.
const OWN: Tag = Tag(u64::MAX, 1);
/// Encoding space that is taken from the allocator at once.
const CHUNK: usize = 64 * 1024;
/// What is full is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// An output on its way, and the record that caused it.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) position: u64,
    pub(crate) partition: Partition,
    pub(crate) output: v1::Output,
    /// What it counts for while it waits.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
enum Waiting {
    Output(Pending),
    /// All outputs of the records below are before this.
    Upto(u64),
}

/// The producing end of a run.
pub(crate) struct Emit {
    producer: Box<dyn Producer>,
    reports: Arc<Reports>,
    outcomes: Vec<Outcome>,
    under_way: usize,
    window: Window,
    /// Records of the run's own that found no room; they go before outputs.
    own: VecDeque<(Topic, Partition, Bytes)>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// What is next found no room.
    full: bool,
    /// By timelines partition: the source of the last output appended.
    prev: Vec<u64>,
    emitted_at: VecDeque<(u64, Instant)>,
    space: BytesMut,
}

impl Emit {
    pub(crate) fn new(log: &dyn Log, records_max: usize) -> Result<Self, End> {
        let reports = Reports::new();
        let timelines = usize::try_from(log.partitions().timelines).unwrap_or(0);
        Ok(Self {
            producer: log.producer(records_max, reports.clone())?,
            reports,
            outcomes: Vec::new(),
            under_way: 0,
            window: Window::default(),
            own: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            full: false,
            prev: vec![0; timelines],
            emitted_at: VecDeque::new(),
            space: BytesMut::new(),
        })
    }

    /// Counts a record as judged; its position.
    pub(crate) fn judged(&mut self) -> u64 {
        self.window.judged()
    }

    /// The position after the last judged record.
    pub(crate) fn upto(&self) -> u64 {
        self.window.upto()
    }

    /// The position up to which all outputs are durable.
    pub(crate) fn done(&self) -> u64 {
        self.window.done()
    }

    /// Records judged whose outputs, or those of one before, are not durable.
    pub(crate) fn staged(&self) -> usize {
        self.window.len()
    }

    /// Bytes of outputs that wait for room.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes the outputs of all records below `upto` that were not released before; their history is
    /// stored.
    pub(crate) fn release(&mut self, outputs: Vec<Pending>, upto: u64) {
        self.waiting_bytes += outputs.iter().map(|pending| pending.bytes).sum::<usize>();
        self.waiting.extend(outputs.into_iter().map(Waiting::Output));
        self.waiting.push_back(Waiting::Upto(upto));
    }

    /// Appends a record of the run's own, once there is room for it. Of these there are few.
    pub(crate) fn append_own(
        &mut self,
        topic: Topic,
        partition: Partition,
        record: &impl Message,
    ) -> Result<(), End> {
        self.own.push_back((topic, partition, record.encode_to_vec().into()));
        self.append_first()
    }

    /// Appends a record of the run's own, if there is room for it now.
    pub(crate) fn append_own_now(
        &mut self,
        topic: Topic,
        partition: Partition,
        record: &impl Message,
    ) -> Result<bool, End> {
        Ok(self.own.is_empty() && self.append(topic, partition, record.encode_to_vec().into(), OWN)?)
    }

    /// Waits for outcomes, or until what is full is worth asking again. Cancel-safe.
    pub(crate) async fn reported(&self) {
        let again = async {
            match self.full {
                true => tokio::time::sleep(ASK_AGAIN).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.reports.wait() => {}
            () = again => {}
        }
    }

    /// Takes what was reported, and appends what the producer then takes.
    pub(crate) fn advance(&mut self, metrics: &mut RunMetrics) -> Result<(), End> {
        self.take_reports()?;
        self.append_first()?;
        self.append_waiting(metrics)?;
        while let Some((_, since)) = self.emitted_at.pop_front_if(|(upto, _)| *upto <= self.window.done()) {
            metrics.durable.observe((clock::now() - since).as_secs_f64());
        }
        let (depth, cap) = self.producer.depth();
        metrics.producer.set(depth, cap);
        Ok(())
    }

    fn take_reports(&mut self) -> Result<(), End> {
        self.reports.take(&mut self.outcomes);
        for (tag, outcome) in self.outcomes.drain(..) {
            self.under_way -= 1;
            outcome.map_err(|error| End::Failed(format!("an append was not confirmed: {error}")))?;
            if tag != OWN {
                self.window.reported(tag.0);
            }
        }
        Ok(())
    }

    /// What goes before outputs.
    fn append_first(&mut self) -> Result<(), End> {
        self.full = false;
        while !self.full
            && let Some((topic, partition, record)) = self.own.front()
        {
            if self.append(*topic, *partition, record.clone(), OWN)? {
                self.own.pop_front();
            }
        }
        Ok(())
    }

    fn append_waiting(&mut self, metrics: &RunMetrics) -> Result<(), End> {
        while !self.full
            && let Some(next) = self.waiting.pop_front()
        {
            match next {
                Waiting::Upto(upto) => {
                    self.window.emitted(upto);
                    if self.window.done() < upto {
                        self.emitted_at.push_back((upto, clock::now()));
                    }
                }
                Waiting::Output(pending) => {
                    let bytes = pending.bytes;
                    if let Some(pending) = self.append_output(pending)? {
                        self.waiting.push_front(Waiting::Output(pending));
                    } else {
                        self.waiting_bytes -= bytes;
                        metrics.outputs.inc();
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the output back where it was not taken.
    fn append_output(&mut self, mut pending: Pending) -> Result<Option<Pending>, End> {
        let index = usize::try_from(pending.partition).unwrap_or(usize::MAX);
        let unknown = "the stage knows how many partitions there are";
        pending.output.prev = *self.prev.get(index).expect(unknown);
        let record = encode(&pending.output, &mut self.space);
        if !self.append(Topic::Timelines, pending.partition, record, Tag(pending.position, 0))? {
            return Ok(Some(pending));
        }
        *self.prev.get_mut(index).expect(unknown) = pending.output.source;
        self.window.appended(pending.position);
        Ok(None)
    }

    /// False where there is no room.
    fn append(&mut self, topic: Topic, partition: Partition, record: Bytes, tag: Tag) -> Result<bool, End> {
        match self.producer.append(topic, partition, record, tag) {
            Append::Queued => {
                self.under_way += 1;
                Ok(true)
            }
            Append::Full => {
                self.full = true;
                Ok(false)
            }
            Append::Dead => Err(End::Failed("the producer is dead".into())),
        }
    }
}

/// A `TimelineRecord` with this output, out of a shared allocation.
fn encode(output: &v1::Output, space: &mut BytesMut) -> Bytes {
    const OUTPUT: u32 = 1;
    let len = prost::encoding::message::encoded_len(OUTPUT, output);
    if space.capacity() < len {
        *space = BytesMut::with_capacity(CHUNK.max(len));
    }
    prost::encoding::message::encode(OUTPUT, output, space);
    space.split().freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_encoded_as_the_record_that_holds_it() {
        let output = v1::Output { source: 7, prev: 3, source_partition: 1, ..Default::default() };
        let record = v1::TimelineRecord { record: Some(v1::timeline_record::Record::Output(output.clone())) };
        assert_eq!(encode(&output, &mut BytesMut::new()), record.encode_to_vec());
    }
}
