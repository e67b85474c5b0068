//! One stay of a node in the table, from its Join to its farewell: what it appends, and what it reads of
//! itself.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use proto::v1;
use storage::log::{Append, Log, LogError, Producer, Reader, Record, Tag, Topic};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;
use v1::node_record;

use super::lease::Renewals;
use super::run::{Load, Member};
use super::state::{LEASE_US, NodeEvent, NodeTable};
use crate::clock;
use crate::run::Reports;

/// Records after a snapshot until the next one.
const SNAPSHOT_EVERY: u64 = 4096;
/// Records read at once.
pub(super) const READ_MAX: usize = 512;
/// Appends on their way at most.
const QUEUED_MAX: usize = 64;
/// Pause before the log is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(200);

/// A stay in the table.
pub(super) struct Term {
    producer: Box<dyn Producer>,
    pub(super) reports: Arc<Reports>,
    pub(super) reader: Box<dyn Reader>,
    pub(super) table: Arc<NodeTable>,
    name: String,
    pub(super) incarnation: u64,
    next_offset: u64,
    pub(super) renewals: Renewals,
    since_snapshot: u64,
    snapshotting: bool,
    trim_below: Option<u64>,
}

impl Term {
    /// Appends a Join and reads the log up to it.
    pub(super) async fn join(log: &Arc<dyn Log>, me: &Member, nonce: u64) -> Result<Self, LogError> {
        let sent = clock::now();
        let (producer, reports) = producer(log)?;
        let join = v1::Join {
            node: me.name.clone(),
            nonce,
            stream_address: me.stream_address.clone(),
            api_address: me.api_address.clone(),
            logic: me.logic,
        };
        let (_, known_end) = log.bounds(Topic::Nodes, 0).await?;
        if append(&*producer, node_record::Record::Join(join)) != Append::Queued {
            return Err(LogError::Failed("the Join record was not taken".into()));
        }
        let mut reader = log.reader(Topic::Nodes, 0, 0).await?;
        let mut events: Vec<NodeEvent> = Vec::new();
        loop {
            let failed = async {
                reports.wait().await;
                let mut outcomes = Vec::new();
                reports.take(&mut outcomes);
                if !outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                records = reader.next(READ_MAX) => events.extend(records?.into_iter().map(decode)),
                () = failed => return Err(LogError::Failed("the Join record was not confirmed".into())),
            }
            if events.iter().rev().any(|e| e.offset >= known_end && is_own_join(e, nonce)) {
                break;
            }
        }
        let table = NodeTable::recover(&events);
        let incarnation = table.get(&me.name).map_or(0, |node| node.incarnation);
        Ok(Self {
            producer,
            reports,
            reader,
            table: Arc::new(table),
            name: me.name.clone(),
            incarnation,
            next_offset: events.last().map_or(0, |event| event.offset + 1),
            renewals: Renewals::new(sent, Duration::from_micros(LEASE_US)),
            since_snapshot: events.len() as u64,
            snapshotting: false,
            trim_below: None,
        })
    }

    pub(super) fn read(&mut self, record: Record) {
        let event = decode(record);
        Arc::make_mut(&mut self.table).apply(event.append_us, &event.record);
        self.next_offset = event.offset + 1;
        self.since_snapshot += 1;
        match &event.record.record {
            Some(node_record::Record::Renewal(r))
                if r.node == self.name && r.incarnation == self.incarnation =>
            {
                self.renewals.seen();
            }
            Some(node_record::Record::Snapshot(snapshot)) => {
                self.since_snapshot = 0;
                if mem::take(&mut self.snapshotting) {
                    self.trim_below = Some(snapshot.next_offset);
                }
            }
            _ => {}
        }
    }

    /// Reads on from where it was, unless the lease ends before that.
    pub(super) async fn reopen(&mut self, log: &Arc<dyn Log>, cause: &LogError) {
        warn!(%cause, "the nodes log cannot be read");
        let reopened = async {
            sleep(REOPEN_AFTER).await;
            log.reader(Topic::Nodes, 0, self.next_offset).await
        };
        if let Ok(Ok(reader)) = timeout_at(Instant::from_std(self.renewals.until()), reopened).await {
            self.reader = reader;
        }
    }

    /// Another process, or a later Join of this one that landed late, holds the name.
    pub(super) fn is_replaced(&mut self, nonce: u64) -> bool {
        let Some(node) = self.table.get(&self.name) else { return false };
        if node.nonce == nonce {
            self.incarnation = node.incarnation;
        }
        node.nonce != nonce
    }

    /// False where the log has no room: the next is due soon.
    pub(super) fn renew(&mut self, load: Load) -> bool {
        if !self.renewals.sent(clock::now()) {
            return true;
        }
        let renewal = v1::Renewal {
            node: self.name.clone(),
            incarnation: self.incarnation,
            links: load.links,
            draining: load.draining,
        };
        let is_taken = append(&*self.producer, node_record::Record::Renewal(renewal)) == Append::Queued;
        if !is_taken {
            self.renewals.not_sent();
        }
        is_taken
    }

    /// A failed append is not repeated: the next renewal follows soon.
    pub(super) fn reported(&mut self, log: &Arc<dyn Log>) -> Result<(), LogError> {
        let mut outcomes = Vec::new();
        self.reports.take(&mut outcomes);
        if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
            self.renewals.lost();
            self.snapshotting = false;
            (self.producer, self.reports) = producer(log)?;
        }
        Ok(())
    }

    pub(super) async fn snapshot_when_due(&mut self, log: &Arc<dyn Log>) {
        if let Some(below) = self.trim_below.take()
            && let Err(cause) = log.trim(Topic::Nodes, 0, below).await
        {
            warn!(%cause, "the nodes log was not trimmed");
        }
        let mine = self.table.live().next().is_some_and(|node| node.name == self.name);
        if self.since_snapshot >= SNAPSHOT_EVERY && mine && !self.snapshotting {
            let snapshot = self.table.to_snapshot(self.next_offset);
            let taken = append(&*self.producer, node_record::Record::Snapshot(snapshot));
            self.snapshotting = taken == Append::Queued;
        }
    }

    /// Says farewell, and waits until everything appended is reported.
    pub(super) async fn farewell(&mut self) {
        let mut outcomes = Vec::new();
        self.reports.take(&mut outcomes);
        let before = self.producer.depth().0;
        let leave = v1::Leave { node: self.name.clone(), incarnation: self.incarnation };
        if append(&*self.producer, node_record::Record::Leave(leave)) == Append::Queued {
            let mut missing = before + 1;
            while missing > 0 {
                self.reports.wait().await;
                outcomes.clear();
                self.reports.take(&mut outcomes);
                missing = missing.saturating_sub(outcomes.len());
            }
        }
    }
}

fn producer(log: &Arc<dyn Log>) -> Result<(Box<dyn Producer>, Arc<Reports>), LogError> {
    let reports = Reports::new();
    Ok((log.producer(QUEUED_MAX, reports.clone())?, reports))
}

fn append(producer: &dyn Producer, record: node_record::Record) -> Append {
    let record = v1::NodeRecord { record: Some(record) };
    producer.append(Topic::Nodes, 0, record.encode_to_vec().into(), Tag(0, 0))
}

/// What does not decode still has a tick.
fn decode(record: Record) -> NodeEvent {
    let Record { offset, append_us, bytes } = record;
    NodeEvent { offset, append_us, record: v1::NodeRecord::decode(bytes).unwrap_or_default() }
}

fn is_own_join(event: &NodeEvent, nonce: u64) -> bool {
    matches!(&event.record.record, Some(node_record::Record::Join(join)) if join.nonce == nonce)
}
