//! Settings in two stages: `layers` reads what was given and where (raw), `check` turns it into
//! [`Settings`] (checked). All mistakes are reported together. Nothing else in Godwit reads the
//! environment or a settings file.

pub(crate) mod any_text;
mod check;
mod layers;
mod memory;
mod parts;
mod reader;
mod show;
mod table;
mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use storage::log::Partitions;

pub(crate) use layers::{Mistake, Sources};
pub(crate) use memory::Memory;
pub(crate) use show::{default_toml, effective_toml, masked};

/// What `serve` goes by. Every value was checked, alone and with the others.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node: Node,
    pub(crate) storage: Storage,
    /// Used when the data is created; refused later where it differs from the data's.
    pub(crate) partitions: Partitions,
    pub(crate) embedded: Embedded,
    pub(crate) conn: conn::Config,
    pub(crate) logic: logic::Config,
    pub(crate) api: Between,
    pub(crate) queries_max: usize,
    pub(crate) ops_listen: SocketAddr,
    pub(crate) logs: Logs,
    pub(crate) auth: Auth,
}

/// What embedded storage may use; see `storage::embedded::Options`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embedded {
    pub(crate) cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
    pub(crate) tail_bytes: usize,
    pub(crate) mailbox_items: usize,
    pub(crate) mailbox_bytes: usize,
    pub(crate) producer_bytes: usize,
    pub(crate) reserve_bytes: u64,
}

/// The process among its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) roles: Roles,
    pub(crate) data: PathBuf,
    pub(crate) push: Between,
}

/// A port for other processes of this deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Between {
    pub(crate) listen: SocketAddr,
    /// Where others reach it, if not at `listen`.
    pub(crate) address: Option<String>,
}

/// What this process does; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) conn: bool,
    pub(crate) logic: bool,
    pub(crate) api: bool,
}

impl Roles {
    /// Whether one process does everything.
    pub(crate) fn all(self) -> bool {
        self.conn && self.logic && self.api
    }
}

/// Where records and rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Both in this directory.
    Embedded(PathBuf),
    /// Kafka and CQL, by URL.
    Remote { log: String, store: String },
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logs {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Auto,
    Json,
    Human,
}

/// How tokens are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// A generated key, on loopback only.
    Development,
    /// The keys of an issuer.
    Jwks { file: PathBuf, algorithm: String, issuer: String, audience: String },
}

/// Reads and checks everything.
///
/// # Errors
/// Every mistake there is, in the order of the sources.
pub(crate) fn load(sources: &Sources) -> Result<Settings, Vec<Mistake>> {
    let (effective, mut mistakes) = layers::read(sources);
    let settings = check::check(&effective, &mut mistakes);
    if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
}
