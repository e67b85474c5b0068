//! What the shells tell of themselves. Labels are the stage and closed sets of names, never a partition,
//! user or node.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use storage::log::Topic;

use crate::run::Retries;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StageLabel {
    stage: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QueueLabel {
    stage: &'static str,
    queue: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct EndLabel {
    stage: &'static str,
    cause: &'static str,
}

/// The metrics of all runs of the process.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    queue_depth: Family<QueueLabel, Gauge>,
    queue_cap: Family<QueueLabel, Gauge>,
    ends: Family<EndLabel, Counter>,
    stages: Family<StageLabel, Counter>,
    lag: Family<StageLabel, Gauge>,
    cache_bytes: Family<StageLabel, Gauge>,
    owned: Family<StageLabel, Gauge>,
    poisoned: Family<StageLabel, Gauge>,
    outputs: Counter,
    store_retries: Retries,
    streams: Gauge,
    stream_breaks: Counter,
    marks: Gauge,
    pages: Counter,
    step: Seconds,
    put: Seconds,
    durable: Seconds,
    flush: Seconds,
}

#[derive(Clone)]
struct Seconds(Family<StageLabel, Histogram, fn() -> Histogram>);

impl Default for Seconds {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_05, 2.0, 18))))
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        let r = registry;
        r.register("godwit_logic_records", "Records judged", m.stages.clone());
        r.register("godwit_logic_outputs", "Outputs appended to the timelines log", m.outputs.clone());
        r.register("godwit_logic_lag_records", "Records of owned partitions not judged yet", m.lag.clone());
        r.register("godwit_logic_owned_partitions", "Partitions that are run here", m.owned.clone());
        r.register("godwit_logic_poisoned_partitions", "Partitions stopped by a record", m.poisoned.clone());
        r.register("godwit_logic_run_ends", "Runs that ended without being asked to", m.ends.clone());
        r.register("godwit_logic_queue_depth", "What waits in bounded queues", m.queue_depth.clone());
        r.register("godwit_logic_queue_cap", "What may wait in bounded queues", m.queue_cap.clone());
        r.register("godwit_logic_cache_bytes", "Rows kept in memory", m.cache_bytes.clone());
        r.register(
            "godwit_logic_store_retries",
            "Reads and writes of the store repeated",
            m.store_retries.count.clone(),
        );
        r.register("godwit_logic_streams", "Push streams that are open", m.streams.clone());
        r.register("godwit_logic_stream_breaks", "Push streams that broke", m.stream_breaks.clone());
        r.register(
            "godwit_logic_marked_links",
            "Links that miss a push and wait for a hint",
            m.marks.clone(),
        );
        r.register("godwit_logic_sync_pages", "Syncs answered", m.pages.clone());
        r.register_with_unit("godwit_logic_step", "Judging a batch", Unit::Seconds, m.step.0.clone());
        r.register_with_unit(
            "godwit_logic_put",
            "Storing history or entries",
            Unit::Seconds,
            m.put.0.clone(),
        );
        r.register_with_unit(
            "godwit_logic_durable",
            "From append to report",
            Unit::Seconds,
            m.durable.0.clone(),
        );
        r.register_with_unit(
            "godwit_logic_flush",
            "Writing rows and a checkpoint",
            Unit::Seconds,
            m.flush.0.clone(),
        );
        m
    }

    /// The part that concerns one run.
    pub(crate) fn of(&self, topic: Topic) -> RunMetrics {
        let stage = match topic {
            Topic::Messages => "conversation",
            Topic::Timelines | Topic::Nodes => "timeline",
        };
        let label = StageLabel { stage };
        let queue = |queue| QueueMetrics {
            depth: Share::of(self.queue_depth.get_or_create_owned(&QueueLabel { stage, queue })),
            cap: Share::of(self.queue_cap.get_or_create_owned(&QueueLabel { stage, queue })),
        };
        let end = |cause| self.ends.get_or_create_owned(&EndLabel { stage, cause });
        RunMetrics {
            records: self.stages.get_or_create_owned(&label),
            outputs: self.outputs.clone(),
            lag: Share::of(self.lag.get_or_create_owned(&label)),
            cache_bytes: Share::of(self.cache_bytes.get_or_create_owned(&label)),
            owned: Share::of(self.owned.get_or_create_owned(&label)),
            poisoned: Share::of(self.poisoned.get_or_create_owned(&label)),
            superseded: end("superseded"),
            failed: end("failed"),
            poison: end("poisoned"),
            staged: queue("staged"),
            staged_bytes: queue("staged_bytes"),
            producer: queue("producer"),
            syncs: queue("syncs"),
            stream: queue("stream"),
            store_retries: self.store_retries.clone(),
            marks: Share::of(self.marks.clone()),
            step: self.step.0.get_or_create_owned(&label),
            put: self.put.0.get_or_create_owned(&label),
            durable: self.durable.0.get_or_create_owned(&label),
            flush: self.flush.0.get_or_create_owned(&label),
        }
    }

    /// Why the store keeps the process from being ready.
    pub(crate) fn store_trouble(&self) -> Option<String> {
        self.store_retries.reason()
    }

    /// Syncs answered.
    pub(crate) fn pages(&self) -> Counter {
        self.pages.clone()
    }

    /// The part that concerns one stream.
    pub(crate) fn of_stream(&self) -> StreamMetrics {
        StreamMetrics { open: Share::of(self.streams.clone()), breaks: self.stream_breaks.clone() }
    }
}

/// What one run tells.
pub(crate) struct RunMetrics {
    pub(crate) records: Counter,
    pub(crate) outputs: Counter,
    pub(crate) lag: Share,
    pub(crate) cache_bytes: Share,
    pub(crate) owned: Share,
    pub(crate) poisoned: Share,
    pub(crate) superseded: Counter,
    pub(crate) failed: Counter,
    pub(crate) poison: Counter,
    /// Records judged whose effects are not stored and reported.
    pub(crate) staged: QueueMetrics,
    /// Bytes of effects that are not stored.
    pub(crate) staged_bytes: QueueMetrics,
    /// Appends that are not reported.
    pub(crate) producer: QueueMetrics,
    /// Syncs that wait.
    pub(crate) syncs: QueueMetrics,
    /// Frames that wait for streams.
    pub(crate) stream: QueueMetrics,
    pub(crate) store_retries: Retries,
    pub(crate) marks: Share,
    pub(crate) step: Histogram,
    pub(crate) put: Histogram,
    pub(crate) durable: Histogram,
    pub(crate) flush: Histogram,
}

/// What one stream tells.
pub(crate) struct StreamMetrics {
    pub(crate) open: Share,
    pub(crate) breaks: Counter,
}

/// A queue's depth and cap.
pub(crate) struct QueueMetrics {
    pub(crate) depth: Share,
    pub(crate) cap: Share,
}

impl QueueMetrics {
    pub(crate) fn set(&mut self, depth: usize, cap: usize) {
        self.depth.set(depth);
        self.cap.set(cap);
    }
}

/// One run's share of a gauge that all runs add to; it leaves with the run.
pub(crate) struct Share {
    gauge: Gauge,
    value: i64,
}

impl Share {
    fn of(gauge: Gauge) -> Self {
        Self { gauge, value: 0 }
    }

    pub(crate) fn set(&mut self, value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.gauge.inc_by(value - self.value);
        self.value = value;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.dec_by(self.value);
    }
}
