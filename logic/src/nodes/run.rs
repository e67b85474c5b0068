//! A node's shell around the `nodes` log: joins, renews, publishes the table, writes snapshots and leaves.
//!
//! One task. It finds its own Join by a nonce; everything before it is then known as well. Snapshots are
//! written by the live node of the lowest name, so that the log does not grow without bound.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use proto::v1;
use storage::log::{Append, Log, LogError, Producer, Reader, Record, Tag, Topic};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{error, info, warn};
use v1::node_record;

use super::lease::{Lease, Renewals};
use super::state::{LEASE_US, NodeEvent, NodeTable};
use crate::clock;
use crate::run::{Backoff, Reports};

/// How often a node renews.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Records after a snapshot until the next one.
const SNAPSHOT_EVERY: u64 = 4096;
/// Records read at once.
const READ_MAX: usize = 512;
/// Appends on their way at most.
const QUEUED_MAX: usize = 64;
/// Pause before the log is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(200);
/// How long a farewell may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What a node says of itself when it joins.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name: stays the same over restarts, and is no other node's.
    pub name: String,
    /// host:port on which it takes push streams (anything but empty in one process with the stages); empty
    /// without the conn role.
    pub stream_address: String,
    /// host:port on which it answers calls; empty without the api role.
    pub api_address: String,
    /// Whether it runs the stages.
    pub logic: bool,
}

/// What a node says of itself in every renewal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Links it holds.
    pub links: u64,
    /// Whether it is on its way out.
    pub draining: bool,
}

/// A node's place in the table. Dropping it stops renewing without a farewell.
#[derive(Debug)]
pub struct Nodes {
    table: watch::Receiver<Arc<NodeTable>>,
    lease: watch::Receiver<Lease>,
    load: watch::Sender<Load>,
    leave: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Nodes {
    /// Joins, and goes on renewing in a task of its own.
    #[must_use]
    pub fn start(log: Arc<dyn Log>, me: Member) -> Self {
        let (table_out, table) = watch::channel(Arc::new(NodeTable::default()));
        let (lease_out, lease) = watch::channel(Lease::Joining);
        let (load, load_in) = watch::channel(Load::default());
        let (leave, leaving) = oneshot::channel();
        let shell =
            Shell { log, me, nonce: rand::random(), table: table_out, lease: lease_out, load: load_in };
        let task = tokio::spawn(shell.run(leaving));
        Self { table, lease, load, leave: Some(leave), task }
    }

    /// The table as it was last read. Empty until the node's own Join has been read back.
    #[must_use]
    pub fn table(&self) -> watch::Receiver<Arc<NodeTable>> {
        self.table.clone()
    }

    /// This node's lease.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.lease.clone()
    }

    /// What the next renewals say. A change of `draining` is said at once.
    pub fn set_load(&self, load: Load) {
        self.load.send_replace(load);
    }

    /// Says farewell, after which the node's sessions are over, and stops.
    pub async fn leave(mut self) {
        if let Some(leave) = self.leave.take() {
            let _ = leave.send(());
        }
        if tokio::time::timeout(LEAVE_WITHIN, &mut self.task).await.is_err() {
            warn!("the farewell of this node was not confirmed in time");
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shell {
    log: Arc<dyn Log>,
    me: Member,
    nonce: u64,
    table: watch::Sender<Arc<NodeTable>>,
    lease: watch::Sender<Lease>,
    load: watch::Receiver<Load>,
}

/// Why a term in the table ended.
enum End {
    /// As asked for.
    Left,
    /// Another process has the name.
    Replaced,
    /// The log failed, or the lease was lost: join again.
    Again,
}

impl Shell {
    async fn run(mut self, mut leaving: oneshot::Receiver<()>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.term(&mut leaving, &mut backoff).await {
                Ok(End::Left) => return,
                Ok(End::Replaced) => {
                    error!(node = %self.me.name, "another process joined under this node's name");
                    self.lease.send_replace(Lease::Replaced);
                    return;
                }
                Ok(End::Again) => {}
                Err(cause) => {
                    warn!(%cause, "the nodes log failed");
                    // It joins again, and so under another incarnation: the lease of this one is over.
                    self.lease.send_if_modified(|lease| {
                        let held = matches!(lease, Lease::Held { .. });
                        *lease = if held { Lease::Lost } else { *lease };
                        held
                    });
                }
            }
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                _ = &mut leaving => return,
            }
        }
    }

    /// Joins and stays until something ends it.
    async fn term(
        &mut self,
        leaving: &mut oneshot::Receiver<()>,
        backoff: &mut Backoff,
    ) -> Result<End, LogError> {
        let mut term = tokio::select! {
            joined = Term::join(&self.log, &self.me, self.nonce) => joined?,
            _ = &mut *leaving => return Ok(End::Left),
        };
        if term.is_replaced(self.nonce) {
            return Ok(End::Replaced);
        }
        backoff.reset();
        info!(node = %self.me.name, incarnation = term.incarnation, "joined");
        self.publish(&term);
        self.lease.send_replace(Lease::Held { incarnation: term.incarnation });
        let mut renew = tokio::time::interval(RENEW_EVERY);
        let mut draining = self.load.borrow_and_update().draining;
        loop {
            tokio::select! {
                // First of all: a process that was stopped must not renew what it has lost meanwhile.
                biased;
                () = sleep_until(Instant::from_std(term.renewals.until())) => {
                    error!(node = %self.me.name, "the lease was lost: no renewal came back in time");
                    self.lease.send_replace(Lease::Lost);
                    return Ok(End::Again);
                }
                _ = &mut *leaving => return Ok(term.farewell().await),
                records = term.reader.next(READ_MAX) => {
                    match records {
                        Ok(records) => records.into_iter().for_each(|record| term.read(record)),
                        Err(cause) => term.reopen(&self.log, &cause).await,
                    }
                    self.publish(&term);
                    if term.is_replaced(self.nonce) {
                        return Ok(End::Replaced);
                    }
                    term.snapshot_when_due(&self.log).await;
                }
                _ = renew.tick() => term.renew(*self.load.borrow()),
                Ok(()) = self.load.changed() => {
                    let load = *self.load.borrow_and_update();
                    if load.draining != draining {
                        draining = load.draining;
                        term.renew(load);
                    }
                }
                () = term.reports.wait() => term.reported(&self.log)?,
            }
        }
    }

    fn publish(&self, term: &Term) {
        self.table.send_replace(term.table.clone());
    }
}

/// One stay in the table, from a Join on.
struct Term {
    producer: Box<dyn Producer>,
    reports: Arc<Reports>,
    reader: Box<dyn Reader>,
    table: Arc<NodeTable>,
    name: String,
    incarnation: u64,
    next_offset: u64,
    renewals: Renewals,
    since_snapshot: u64,
    snapshotting: bool,
    trim_below: Option<u64>,
}

impl Term {
    /// Appends a Join and reads the log up to it.
    async fn join(log: &Arc<dyn Log>, me: &Member, nonce: u64) -> Result<Self, LogError> {
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
        if append(&*producer, node_record::Record::Join(join)) == Append::Refused {
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

    fn read(&mut self, record: Record) {
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
                if std::mem::take(&mut self.snapshotting) {
                    self.trim_below = Some(snapshot.next_offset);
                }
            }
            _ => {}
        }
    }

    /// Reads on from where it was, unless the lease ends before that.
    async fn reopen(&mut self, log: &Arc<dyn Log>, cause: &LogError) {
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
    fn is_replaced(&mut self, nonce: u64) -> bool {
        let Some(node) = self.table.get(&self.name) else { return false };
        if node.nonce == nonce {
            self.incarnation = node.incarnation;
        }
        node.nonce != nonce
    }

    fn renew(&mut self, load: Load) {
        if !self.renewals.sent(clock::now()) {
            return;
        }
        let renewal = v1::Renewal {
            node: self.name.clone(),
            incarnation: self.incarnation,
            links: load.links,
            draining: load.draining,
        };
        if append(&*self.producer, node_record::Record::Renewal(renewal)) == Append::Refused {
            self.renewals.lost();
        }
    }

    /// A failed append is not repeated: the next renewal follows soon.
    fn reported(&mut self, log: &Arc<dyn Log>) -> Result<(), LogError> {
        let mut outcomes = Vec::new();
        self.reports.take(&mut outcomes);
        if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
            self.renewals.lost();
            self.snapshotting = false;
            (self.producer, self.reports) = producer(log)?;
        }
        Ok(())
    }

    async fn snapshot_when_due(&mut self, log: &Arc<dyn Log>) {
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

    async fn farewell(&mut self) -> End {
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
        End::Left
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::double::{Double, DoubleLog};

    fn member() -> Member {
        Member { name: "one".into(), stream_address: "x".into(), api_address: String::new(), logic: true }
    }

    async fn held(lease: &mut watch::Receiver<Lease>) -> u64 {
        match *lease.wait_for(|lease| matches!(lease, Lease::Held { .. })).await.unwrap() {
            Lease::Held { incarnation } => incarnation,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_kept_by_renewals_and_lost_without_them() {
        let double = Double::new();
        let nodes = Nodes::start(Arc::new(DoubleLog(double.clone())), member());
        let mut lease = nodes.lease();
        let first = held(&mut lease).await;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(*lease.borrow(), Lease::Held { incarnation: first });
        double.faults(|faults| faults.hold_reads = true);
        let begun = clock::now();
        lease.wait_for(|lease| *lease == Lease::Lost).await.unwrap();
        let lasted = clock::now() - begun;
        assert!(lasted >= Duration::from_secs(19) && lasted <= Duration::from_secs(30), "{lasted:?}");
        double.faults(|faults| faults.hold_reads = false);
        assert!(held(&mut lease).await > first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_does_not_take_old_renewals_for_news() {
        let double = Double::new();
        let nodes = Nodes::start(Arc::new(DoubleLog(double.clone())), member());
        let mut lease = nodes.lease();
        held(&mut lease).await;
        sleep(Duration::from_secs(15)).await;
        // As a stopped process: time passes, and nothing of it runs.
        tokio::time::advance(Duration::from_secs(60)).await;
        lease.wait_for(|lease| *lease == Lease::Lost).await.unwrap();
    }
}
