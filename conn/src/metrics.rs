//! What a conn node counts. Every label is from a closed set.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use proto::close::Close;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: u32,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    reactor: u32,
    queue: &'static str,
}

/// The figures of all reactors of a process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) links: Gauge,
    pub(crate) live_links: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) turn: Histogram,
    accepts: Family<Outcome, Counter>,
    sign_ins: Family<Outcome, Counter>,
    closes: Family<Code, Counter>,
    appends: Family<Outcome, Counter>,
    pushes: Family<Outcome, Counter>,
    depth: Family<Queue, Gauge>,
    cap: Family<Queue, Gauge>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            links: Gauge::default(),
            live_links: Gauge::default(),
            streams: Gauge::default(),
            frames_in: Counter::default(),
            frames_out: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            turn: Histogram::new(exponential_buckets(0.000_01, 2.0, 18)),
            accepts: Family::default(),
            sign_ins: Family::default(),
            closes: Family::default(),
            appends: Family::default(),
            pushes: Family::default(),
            depth: Family::default(),
            cap: Family::default(),
        };
        let r = registry;
        r.register("godwit_conn_links", "Links that are open", m.links.clone());
        r.register("godwit_conn_live_links", "Links that are signed in", m.live_links.clone());
        r.register("godwit_conn_streams", "Push streams of owners that are attached", m.streams.clone());
        r.register("godwit_conn_frames_read", "Frames of devices", m.frames_in.clone());
        r.register("godwit_conn_frames_written", "Frames to devices", m.frames_out.clone());
        r.register_with_unit("godwit_conn_read", "Read from devices", Unit::Bytes, m.bytes_in.clone());
        r.register_with_unit("godwit_conn_written", "Queued to devices", Unit::Bytes, m.bytes_out.clone());
        r.register_with_unit("godwit_conn_turn", "A turn, without waiting", Unit::Seconds, m.turn.clone());
        r.register("godwit_conn_accepts", "Links accepted or turned away", m.accepts.clone());
        r.register("godwit_conn_sign_ins", "Tokens and sessions", m.sign_ins.clone());
        r.register("godwit_conn_closes", "Links that this node closed", m.closes.clone());
        r.register("godwit_conn_appends", "Records to the log", m.appends.clone());
        r.register("godwit_conn_pushes", "Pushes for links", m.pushes.clone());
        r.register("godwit_conn_queue_depth", "What waits in bounded queues", m.depth.clone());
        r.register("godwit_conn_queue_cap", "What may wait in bounded queues", m.cap.clone());
        m
    }

    pub(crate) fn accept(&self, outcome: &'static str) {
        self.accepts.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn sign_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn close(&self, close: Close) {
        self.closes.get_or_create(&Code { code: close.number(), reason: close.name() }).inc();
    }

    pub(crate) fn append(&self, outcome: &'static str, count: u64) {
        if count != 0 {
            self.appends.get_or_create(&Outcome { outcome }).inc_by(count);
        }
    }

    pub(crate) fn push(&self, outcome: &'static str, count: u64) {
        if count != 0 {
            self.pushes.get_or_create(&Outcome { outcome }).inc_by(count);
        }
    }

    pub(crate) fn queue(&self, reactor: u32, queue: &'static str, (depth, cap): (usize, usize)) {
        let queue = Queue { reactor, queue };
        self.depth.get_or_create(&queue).set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.cap.get_or_create(&queue).set(i64::try_from(cap).unwrap_or(i64::MAX));
    }
}
