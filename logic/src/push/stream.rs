//! The task of one stream: dial, open, gather the roster, then carry frames down and asks up, until it
//! breaks; and again after a pause.
//!
//! Nothing but Open goes down before the node has said which incarnation it is: link numbers mean
//! something only within one.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use v1::up::Up as Kind;

use super::dial::{Dial, Ends};
use super::pipe::{Pipe, Popped};
use crate::metrics::StreamMetrics;
use crate::nodes::NodeInfo;
use crate::run::Backoff;
use crate::timeline::CompleteRoster;

/// How long a node may take to begin its roster.
const ROSTER_WITHIN: Duration = Duration::from_secs(10);
/// Pauses before dialling again.
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);

/// What the owner says of itself on every stream.
#[derive(Clone, Debug)]
pub(crate) struct Hail {
    pub(crate) partition: u32,
    pub(crate) term: u64,
    pub(crate) owner: String,
}

/// What a stream tells the run.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// The node's roster, complete, its parts made one.
    Roster { node: String, roster: CompleteRoster },
    /// A device asks for what it missed; answers go to `down`.
    Ask { node: String, ask: v1::SyncAsk, down: mpsc::Sender<v1::Down> },
    /// The node knows an owner of this higher term.
    Refused { term: u64 },
}

/// The task's own.
pub(super) struct Stream {
    pub(super) node: NodeInfo,
    pub(super) hail: Hail,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) pipe: Arc<Pipe>,
    pub(super) events: mpsc::Sender<StreamEvent>,
    pub(super) metrics: StreamMetrics,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Dial(#[from] super::dial::DialError),
    #[error("the node closed it")]
    Closed,
    #[error("no roster came in time")]
    Late,
    #[error("the node is of incarnation {0}, not the one in the table")]
    Incarnation(u64),
    #[error("its queue overflowed")]
    Overflow,
    #[error("the node knows a later owner, of term {0}")]
    Refused(u64),
}

impl Stream {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(REDIAL_FIRST, REDIAL_MAX);
        loop {
            let broken = self.session(&mut backoff).await;
            self.pipe.break_off();
            self.metrics.open.set(0);
            self.metrics.breaks.inc();
            match broken {
                Broken::Refused(term) => {
                    let _ = self.events.send(StreamEvent::Refused { term }).await;
                    return;
                }
                Broken::Overflow => {
                    warn!(node = %self.node.name, partition = self.hail.partition, "a push stream overflowed");
                }
                cause => {
                    debug!(node = %self.node.name, partition = self.hail.partition, %cause, "a push stream ended");
                }
            }
            sleep(backoff.pause()).await;
        }
    }

    /// One stream, from dialling to its end.
    async fn session(&mut self, backoff: &mut Backoff) -> Broken {
        match self.open().await {
            Err(broken) => broken,
            Ok((part, (down, mut up))) => {
                self.metrics.open.set(1);
                backoff.reset();
                tokio::select! {
                    broken = read(&self.node, &self.events, part, &mut up, &down) => broken,
                    broken = write(&self.pipe, &down) => broken,
                }
            }
        }
    }

    /// Dials, and returns once the first part of the roster has come.
    async fn open(&self) -> Result<(v1::Roster, Ends), Broken> {
        let (down, mut up) = self.dial.dial(&self.node).await?;
        // From here on frames are kept: the roster is taken after Open arrives.
        self.pipe.open();
        let Hail { partition, term, owner } = self.hail.clone();
        let open = v1::down::Down::Open(v1::Open { partition, term, owner });
        down.send(v1::Down { down: Some(open) }).await.map_err(|_| Broken::Closed)?;
        loop {
            let first = timeout(ROSTER_WITHIN, up.recv()).await.map_err(|_| Broken::Late)?;
            match first.ok_or(Broken::Closed)?.up {
                Some(Kind::Roster(roster)) if roster.incarnation == self.node.incarnation => {
                    debug!(node = %self.node.name, partition, term, "a push stream is open");
                    return Ok((roster, (down, up)));
                }
                Some(Kind::Roster(roster)) => return Err(Broken::Incarnation(roster.incarnation)),
                Some(Kind::Refused(refused)) => return Err(Broken::Refused(refused.term)),
                Some(Kind::Sync(_)) | None => {}
            }
        }
    }
}

/// Takes what the node says to the run. A run that is busy makes the node wait.
async fn read(
    node: &NodeInfo,
    events: &mpsc::Sender<StreamEvent>,
    first: v1::Roster,
    up: &mut mpsc::Receiver<v1::Up>,
    down: &mpsc::Sender<v1::Down>,
) -> Broken {
    let mut gathered = CompleteRoster::default();
    let mut next = Some(Kind::Roster(first));
    loop {
        let event = match next {
            Some(Kind::Roster(part)) => {
                if part.incarnation != node.incarnation {
                    return Broken::Incarnation(part.incarnation);
                }
                gathered.incarnation = part.incarnation;
                gathered.links.extend(part.links);
                if !part.bounds.is_empty() {
                    gathered.bounds = part.bounds;
                }
                part.complete.then(|| StreamEvent::Roster {
                    node: node.name.clone(),
                    roster: std::mem::take(&mut gathered),
                })
            }
            Some(Kind::Sync(ask)) => {
                Some(StreamEvent::Ask { node: node.name.clone(), ask, down: down.clone() })
            }
            Some(Kind::Refused(refused)) => return Broken::Refused(refused.term),
            None => None,
        };
        if let Some(event) = event
            && events.send(event).await.is_err()
        {
            return Broken::Closed;
        }
        match up.recv().await {
            Some(part) => next = part.up,
            None => return Broken::Closed,
        }
    }
}

/// Takes what the run left to the node.
async fn write(pipe: &Pipe, down: &mpsc::Sender<v1::Down>) -> Broken {
    loop {
        match pipe.pop() {
            Popped::Down(frame) => {
                if down.send(frame).await.is_err() {
                    return Broken::Closed;
                }
            }
            Popped::Empty => pipe.wait().await,
            Popped::Broken => return Broken::Overflow,
        }
    }
}
