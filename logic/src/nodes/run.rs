//! A node's shell around the `nodes` log: joins, renews, publishes the table, writes snapshots and leaves.
//!
//! One task. It finds its own Join by a nonce; everything before it is then known as well. Snapshots are
//! written by the live node of the lowest name, so that the log does not grow without bound.

use std::sync::Arc;
use std::time::Duration;

use storage::log::{Log, LogError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::lease::Lease;
use super::state::NodeTable;
use super::term::{READ_MAX, Term};
use crate::run::Backoff;

/// How often a node renews.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// And so soon where the log had no room for the last one.
const RENEW_AGAIN: Duration = Duration::from_millis(100);
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

    /// The links that the next renewals tell of.
    pub fn set_links(&self, links: u64) {
        self.load.send_modify(|load| load.links = links);
    }

    /// Tells at once, and from now on, that the node is on its way out, with so many links.
    pub fn set_draining(&self, links: u64) {
        self.load.send_replace(Load { links, draining: true });
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
                _ = &mut *leaving => {
                    term.farewell().await;
                    return Ok(End::Left);
                }
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
                _ = renew.tick() => {
                    if !term.renew(*self.load.borrow()) {
                        renew.reset_after(RENEW_AGAIN);
                    }
                }
                Ok(()) = self.load.changed() => {
                    let load = *self.load.borrow_and_update();
                    if load.draining != draining {
                        draining = load.draining;
                        renew.reset_immediately();
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

#[cfg(test)]
mod tests;
