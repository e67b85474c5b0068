//! What a worker is told, and what the two processes say to each other: lines of JSON on the worker's
//! standard input and output.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::circle::Circle;
use crate::outcome::Outcome;

/// One worker's share of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Tells this run's users from other runs'.
    pub(crate) run: String,
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) key: PathBuf,
    /// The number of its first link, and how many it has.
    pub(crate) first: u64,
    pub(crate) links: u64,
    /// Who writes to whom.
    pub(crate) circle: Circle,
    /// Signing all links in may take this long.
    pub(crate) connect_s: u64,
    /// The directory in which everything is kept that its devices did and were told.
    pub(crate) journal: Option<PathBuf>,
    /// None for links that only stay.
    pub(crate) load: Option<Load>,
}

/// What a worker sends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Messages a second, of this worker.
    pub(crate) rate: f64,
    pub(crate) duration_us: u64,
    pub(crate) body_bytes: usize,
    /// Links that end on purpose, a second, of this worker.
    pub(crate) churn: f64,
    /// Everything has to arrive within this time after the last send.
    pub(crate) drain_us: u64,
    /// Latencies are kept by stretches of so many microseconds; 0 keeps none.
    pub(crate) interval_us: u64,
}

/// To a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// So many of its links are to be signed in.
    Links(u64),
    /// Make the groups.
    Found,
    /// Begin the load.
    Go,
    /// Send no more: the load ends before its time.
    Enough,
    /// Leave.
    End,
}

/// What links did so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Live {
    /// Sign-ins that were answered.
    pub(crate) sign_ins: u64,
    /// Pings that went out.
    pub(crate) pings: u64,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// All the links it was told to sign in are.
    Live(Live),
    /// The groups are made.
    Founded,
    /// The last message was handed over.
    Sent,
    /// Everything has arrived, or will not.
    Drained,
    /// The end.
    Done(Box<Outcome>),
    /// It cannot go on.
    Failed(String),
}
