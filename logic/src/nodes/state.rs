//! The node table: what the `nodes` log says, up to a record. Pure: log time only, no clock, no I/O.
//!
//! A node is declared down only after [`DOWN_AFTER_US`] of log time *and* [`RENEWALS_PROVING`] renewals by
//! every other live node since its last: a step of the log's clock alone proves nothing. Nobody judges a
//! node that is alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::partition::Partition;
use proto::{Tick, v1};
use storage::log::Topic;

/// How long a node counts on its lease, and twice this long do the others: T, in microseconds.
pub(crate) const LEASE_US: u64 = 30_000_000;
/// Log time without a renewal before a node can be declared down.
const DOWN_AFTER_US: u64 = 2 * LEASE_US;
/// Renewals of every other live node since a node's last, before it can be declared down.
const RENEWALS_PROVING: usize = 10;
/// Log time after which a node that is gone is forgotten.
const FORGET_AFTER_US: u64 = 24 * 3600 * 1_000_000;
/// Skips that are remembered; past it the oldest go.
const SKIPS_MAX: usize = 1024;

/// A node as the log last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name, the key of the table.
    pub name: String,
    /// The tick of its Join record.
    pub incarnation: u64,
    /// Drawn by the process that joined.
    pub nonce: u64,
    /// Where it takes push streams; empty without the conn role.
    pub stream_address: String,
    /// Where it answers calls; empty without the api role.
    pub api_address: String,
    /// Whether it runs the stages.
    pub logic: bool,
    /// The tick of its last renewal, or of its Join.
    pub renewed: Tick,
    /// How many renewals this incarnation made.
    pub renewals: u64,
    /// Links it held at its last renewal.
    pub links: u64,
    /// Whether it is on its way out.
    pub draining: bool,
    /// It said farewell; its sessions are over.
    pub left: bool,
    recent: VecDeque<Tick>,
}

/// A record that an operator had skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Skipped {
    /// Which record of the partition.
    pub tick: Tick,
    /// Of which log; see [`topic_number`].
    pub topic: u32,
    /// Of which partition.
    pub partition: Partition,
}

/// The number of a topic in a `Skip` record.
#[must_use]
pub fn topic_number(topic: Topic) -> u32 {
    match topic {
        Topic::Messages => 0,
        Topic::Timelines => 1,
        Topic::Nodes => 2,
    }
}

/// Every node, and every skip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTable {
    tick: Tick,
    nodes: BTreeMap<String, NodeInfo>,
    skips: BTreeSet<Skipped>,
}

/// A record of the nodes log, with what is needed to apply it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeEvent {
    pub(crate) offset: u64,
    pub(crate) append_us: u64,
    pub(crate) record: v1::NodeRecord,
}

impl NodeTable {
    /// The table after `events`, which begin at the beginning of the log or before the last snapshot.
    pub(crate) fn recover(events: &[NodeEvent]) -> Self {
        let snapshots = events.iter().filter_map(|event| match &event.record.record {
            Some(v1::node_record::Record::Snapshot(snapshot)) => Some(snapshot),
            _ => None,
        });
        let snapshot = snapshots.max_by_key(|snapshot| snapshot.next_offset);
        let from = snapshot.map_or(0, |s| s.next_offset);
        let mut table = snapshot.map(Self::from_snapshot).unwrap_or_default();
        for event in events.iter().filter(|event| event.offset >= from) {
            table.apply(event.append_us, &event.record);
        }
        table
    }

    /// Applies the next record of the log and returns its tick. A snapshot changes nothing: it repeats.
    pub fn apply(&mut self, append_us: u64, record: &v1::NodeRecord) -> Tick {
        use v1::node_record::Record;
        self.tick = self.tick.next(append_us);
        match &record.record {
            Some(Record::Join(join)) => self.join(join),
            Some(Record::Renewal(renewal)) => self.renew(renewal),
            Some(Record::Leave(leave)) => self.leave(leave),
            Some(Record::Skip(skip)) => self.skip(skip),
            Some(Record::Snapshot(_)) | None => {}
        }
        self.forget();
        self.tick
    }

    /// The tick of the last record.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// A node by name, gone or not.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// The nodes that are not gone.
    pub fn live(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|node| !self.is_gone(node))
    }

    /// The nodes that are not gone and take push streams.
    pub fn conns(&self) -> impl Iterator<Item = &NodeInfo> {
        self.live().filter(|node| !node.stream_address.is_empty())
    }

    /// The nodes whose sessions are over: they left, or are down by the log's own evidence.
    pub fn gone(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|node| self.is_gone(node))
    }

    /// The ticks that operators had skipped in a partition.
    pub fn skips(&self, topic: Topic, partition: Partition) -> impl Iterator<Item = Tick> {
        let topic = topic_number(topic);
        self.skips.iter().filter(move |s| s.topic == topic && s.partition == partition).map(|s| s.tick)
    }

    /// Everything in the table, for a snapshot that stands for the log below `next_offset`.
    pub(crate) fn to_snapshot(&self, next_offset: u64) -> v1::NodeSnapshot {
        v1::NodeSnapshot {
            tick: self.tick.0,
            nodes: self.nodes.values().map(NodeInfo::to_state).collect(),
            skips: self
                .skips
                .iter()
                .map(|s| v1::Skip { topic: s.topic, partition: s.partition, tick: s.tick.0 })
                .collect(),
            next_offset,
        }
    }

    fn from_snapshot(snapshot: &v1::NodeSnapshot) -> Self {
        let mut table = Self { tick: Tick(snapshot.tick), ..Self::default() };
        for node in snapshot.nodes.iter().filter_map(NodeInfo::from_state) {
            table.nodes.insert(node.name.clone(), node);
        }
        snapshot.skips.iter().for_each(|skip| table.skip(skip));
        table
    }

    fn join(&mut self, join: &v1::Join) {
        let node = NodeInfo::joined(join, self.tick);
        self.nodes.insert(node.name.clone(), node);
    }

    fn renew(&mut self, renewal: &v1::Renewal) {
        let tick = self.tick;
        let Some(node) = self.nodes.get_mut(&renewal.node) else { return };
        if node.incarnation != renewal.incarnation || node.left {
            return;
        }
        node.renewed = tick;
        node.renewals += 1;
        node.links = renewal.links;
        node.draining = renewal.draining;
        node.recent.push_back(tick);
        if node.recent.len() > RENEWALS_PROVING {
            node.recent.pop_front();
        }
    }

    fn leave(&mut self, leave: &v1::Leave) {
        if let Some(node) = self.nodes.get_mut(&leave.node)
            && node.incarnation == leave.incarnation
        {
            node.left = true;
        }
    }

    fn skip(&mut self, skip: &v1::Skip) {
        self.skips.insert(Skipped { tick: Tick(skip.tick), topic: skip.topic, partition: skip.partition });
        if self.skips.len() > SKIPS_MAX {
            self.skips.pop_first();
        }
    }

    fn forget(&mut self) {
        let old = |node: &NodeInfo| self.tick.0.saturating_sub(node.renewed.0) > FORGET_AFTER_US;
        let names: Vec<String> = self.gone().filter(|n| old(n)).map(|n| n.name.clone()).collect();
        for name in names {
            self.nodes.remove(&name);
        }
    }

    fn is_gone(&self, node: &NodeInfo) -> bool {
        node.left || self.is_down(node)
    }

    fn is_down(&self, node: &NodeInfo) -> bool {
        if !self.is_stale(node) {
            return false;
        }
        let mut others = self
            .nodes
            .values()
            .filter(|other| other.name != node.name && !other.left && !self.is_stale(other))
            .peekable();
        others.peek().is_some() && others.all(|other| other.renewed_often_since(node.renewed))
    }

    fn is_stale(&self, node: &NodeInfo) -> bool {
        self.tick.0.saturating_sub(node.renewed.0) >= DOWN_AFTER_US
    }
}

impl NodeInfo {
    fn joined(join: &v1::Join, tick: Tick) -> Self {
        Self {
            name: join.node.clone(),
            incarnation: tick.0,
            nonce: join.nonce,
            stream_address: join.stream_address.clone(),
            api_address: join.api_address.clone(),
            logic: join.logic,
            renewed: tick,
            renewals: 0,
            links: 0,
            draining: false,
            left: false,
            recent: VecDeque::new(),
        }
    }

    fn renewed_often_since(&self, tick: Tick) -> bool {
        self.recent.len() == RENEWALS_PROVING && self.recent.front().is_some_and(|first| *first > tick)
    }

    fn to_state(&self) -> v1::NodeState {
        v1::NodeState {
            join: Some(v1::Join {
                node: self.name.clone(),
                nonce: self.nonce,
                stream_address: self.stream_address.clone(),
                api_address: self.api_address.clone(),
                logic: self.logic,
            }),
            incarnation: self.incarnation,
            renewed_tick: self.renewed.0,
            renewals: self.renewals,
            links: self.links,
            draining: self.draining,
            left: self.left,
        }
    }

    /// Which renewals were recent is not in a snapshot: whoever begins with one waits for new evidence.
    fn from_state(state: &v1::NodeState) -> Option<Self> {
        let mut node = Self::joined(state.join.as_ref()?, Tick(state.incarnation));
        node.renewed = Tick(state.renewed_tick);
        node.renewals = state.renewals;
        node.links = state.links;
        node.draining = state.draining;
        node.left = state.left;
        Some(node)
    }
}

#[cfg(test)]
mod tests;
