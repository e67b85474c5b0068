//! The scaled-out tables: CQL, prepared, token-aware, LOCAL_QUORUM, one unlogged batch per CQL partition.
//!
//! Statements keep to what ScyllaDB and Apache Cassandra both document. The tests run on Cassandra; ScyllaDB
//! itself was not run.

pub mod check;
mod columns;
mod conversations;
mod further;
mod histories;
mod layout;
mod place;
mod room;
mod schema;
mod session;
mod stretch;
mod timelines;
mod trouble;
mod users;

use std::sync::Arc;

pub use self::place::check_url;

use crate::log::Partitions;
use crate::tables::{
    Checkpoints, Conversations, Histories, LAYOUT_VERSION, Layout, Store, StoreError, Timelines, Users,
};
use session::Shared;

/// What can be set about CQL tables.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The counts that the tables are created with, and must have.
    pub partitions: Partitions,
}

impl Options {
    /// The usual ones.
    #[must_use]
    pub fn new(partitions: Partitions) -> Self {
        Self { partitions }
    }

    fn layout(&self) -> Layout {
        Layout { version: LAYOUT_VERSION, partitions: self.partitions }
    }
}

/// Opens the tables at `scylla://host[:port][,…]/keyspace`, creating what is not there: with three replicas, or
/// as many as there are nodes.
///
/// # Errors
/// `Unavailable` where no node answers within twenty seconds, or a later part of it takes too long; `Refused` where
/// `url` is no such place, or the keyspace was created with another layout or other counts: the text says what is
/// wrong and what to do.
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn Store>, StoreError> {
    let database = session::Database::open(&place::parse(url)?, &options).await?;
    Ok(Arc::new(Cql(Arc::new(database))))
}

/// Every table, over one session.
#[derive(Clone, Debug)]
struct Cql(Shared);

impl Store for Cql {
    fn conversations(&self) -> &dyn Conversations {
        self
    }

    fn histories(&self) -> &dyn Histories {
        self
    }

    fn timelines(&self) -> &dyn Timelines {
        self
    }

    fn users(&self) -> &dyn Users {
        self
    }

    fn checkpoints(&self) -> &dyn Checkpoints {
        self
    }
}
