//! What an owner shows to devices: pushes, results, kicks and hints over its streams, and pages of sync.
//!
//! It exists only once the run has read its own Owner record. What is given to it is stored already.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use proto::close::Close;
use proto::{Code, Fault, UserId, v1};
use storage::log::Partition;
use storage::tables::Fence;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};
use v1::down::Down as Kind;

use super::parts::Parts;
use crate::nodes::NodeTable;
use crate::push::{Hail, QueueCaps, StreamEvent, Streams};
use crate::sync::{self, Extent};
use crate::timeline::{Effect, SessionGrant};

/// How long a page waits for a conn node that does not take it.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// How long an ask waits for its turn: half of what its node waits for the answer. What is answered later is read by
/// nobody, and the device has long since asked again.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// A device's ask, and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    /// When it came.
    pub(super) at: Instant,
    pub(super) user: UserId,
    pub(super) ask: v1::SyncAsk,
    pub(super) down: mpsc::Sender<v1::Down>,
}

/// What is shown once everything judged before it is stored.
#[derive(Debug)]
pub(super) enum Visible {
    /// An effect of a record that concerns devices.
    Effect(Effect),
    /// Something that a roster showed to be missing.
    Result(SessionGrant),
    Kick(Fence, Close),
    Hint(Fence, u64),
    /// A page of a timeline that reaches to this extent.
    Page(Ask, Extent),
    /// From here on this run is the owner, under this term.
    Term(u64),
}

/// An owner's outward side. Its tasks end with it.
pub(super) struct Active {
    parts: Arc<Parts>,
    streams: Streams,
    pages: JoinSet<()>,
    answered: Counter,
    declared: BTreeSet<(String, u64)>,
}

impl Active {
    pub(super) fn new(
        parts: Arc<Parts>,
        partition: Partition,
        term: u64,
        events: mpsc::Sender<StreamEvent>,
    ) -> Self {
        let config = &parts.config;
        let caps = QueueCaps {
            items: config.stream_frames_max,
            bytes: config.stream_bytes_max,
            marks: config.stream_marks_max,
        };
        let hail = Hail { partition, term, owner: config.node.clone() };
        let streams = Streams::new(hail, parts.dial.clone(), caps, events, parts.metrics.clone());
        let answered = parts.metrics.pages();
        Self { parts, streams, pages: JoinSet::new(), answered, declared: BTreeSet::new() }
    }

    /// Follows the node table; the nodes that are gone and that it has not been told of before.
    pub(super) fn follow(&mut self, table: &NodeTable) -> Vec<v1::NodeDown> {
        self.streams.follow(table);
        let gone = table.gone().map(|node| (node.name.clone(), node.incarnation));
        let new = gone.filter(|node| self.declared.insert(node.clone()));
        new.map(|(node, incarnation)| v1::NodeDown { node, incarnation }).collect()
    }

    /// Breaks the stream to a node, for a new roster.
    pub(super) fn break_off(&self, node: &str) {
        if let Some(pipe) = self.streams.to(node) {
            pipe.break_off();
        }
    }

    /// Shows one thing.
    pub(super) fn show(&mut self, visible: Visible) {
        match visible {
            Visible::Effect(Effect::Push { user, seq, entry, to }) => {
                self.streams.pipes().for_each(|pipe| pipe.push(&user, seq, &entry, &to));
            }
            Visible::Effect(Effect::Result(grant)) | Visible::Result(grant) => self.result(&grant),
            Visible::Effect(Effect::Kick { fence, close }) | Visible::Kick(fence, close) => {
                let (code, reason) = (close.number(), close.name().to_owned());
                self.control(&fence, |link| Kind::Kick(v1::LinkKick { link: Some(link), code, reason }));
            }
            Visible::Effect(Effect::OutOfOrder { fence, send, .. }) => {
                let error = Fault::new(Code::OutOfOrder, "the send named is missing").to_error(Some(send));
                self.control(&fence, |link| {
                    Kind::Error(v1::LinkError { link: Some(link), error: Some(error) })
                });
            }
            Visible::Hint(fence, head) => {
                self.control(&fence, |link| Kind::Hint(v1::LinkHint { link: Some(link), head }));
            }
            Visible::Page(ask, extent) => self.page(ask, extent),
            Visible::Effect(Effect::Entry(_) | Effect::Owner(..)) | Visible::Term(_) => {}
        }
    }

    /// Asks that are at work.
    pub(super) fn pages(&mut self) -> usize {
        while self.pages.try_join_next().is_some() {}
        self.pages.len()
    }

    /// Answers an ask with a fault. Where the stream has no room for it, the node answers by itself, in time.
    pub(super) fn refuse(ask: &Ask, fault: &Fault) {
        let answer = Kind::SyncAnswer(sync::refusal(&ask.ask, fault));
        let _ = ask.down.try_send(v1::Down { down: Some(answer) });
    }

    /// Frames that wait for streams, and links that are marked.
    pub(super) fn depth(&self) -> (usize, usize) {
        let depths = self.streams.pipes().map(crate::push::Pipe::depth);
        depths.fold((0, 0), |sum, depth| (sum.0 + depth.0, sum.1 + depth.1))
    }

    fn result(&self, grant: &SessionGrant) {
        self.control(&grant.fence, |link| {
            Kind::Result(v1::SessionResult {
                link: Some(link),
                epoch: grant.epoch,
                head: grant.head,
                first: grant.first,
                cursor: grant.cursor,
                best_cursor: grant.best_cursor,
            })
        });
    }

    fn control(&self, fence: &Fence, down: impl FnOnce(v1::LinkRef) -> Kind) {
        if let Some(pipe) = self.streams.to(&fence.node) {
            pipe.control(fence, down);
        }
    }

    fn page(&mut self, ask: Ask, extent: Extent) {
        let (parts, answered) = (self.parts.clone(), self.answered.clone());
        self.pages.spawn(async move {
            // Kept until the page has left.
            let turn = timeout_at((ask.at + TURN_WITHIN).into(), parts.pages.acquire()).await;
            let answer = match &turn {
                Ok(Ok(_)) => sync::answer(&*parts.store, &ask.user, &ask.ask, extent).await,
                Ok(Err(_)) => return,
                Err(_) => sync::refusal(&ask.ask, &Fault::new(Code::Busy, "too many syncs were before it")),
            };
            let down = v1::Down { down: Some(Kind::SyncAnswer(answer)) };
            // A stream that broke answers its asks itself.
            let _ = timeout(SEND_WITHIN, ask.down.send(down)).await;
            answered.inc();
        });
    }
}
