//! A keyspace of a test's own on the database of `GODWIT_TEST_CQL`, dropped when the test ends, however it ends.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use storage::cql::{self, Options};
use storage::log::Partitions;
use storage::tables::Store;

use crate::left_out::given;

pub(crate) const PARTITIONS: Partitions = Partitions { messages: 3, timelines: 2 };

/// A name that no other test has.
pub(crate) struct Keyspace {
    hosts: String,
    pub(crate) name: String,
}

impl Keyspace {
    /// One that is not there yet; none where no database is, which is said, and fails where `CI` is set.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let hosts = given("tables on CQL", "GODWIT_TEST_CQL")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Some(Self { hosts, name: format!("t_{name}_{}_{now}", std::process::id()) })
    }

    pub(crate) fn url(&self) -> String {
        format!("scylla://{}/{}", self.hosts, self.name)
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        cql::open(&self.url(), Options::new(PARTITIONS)).await.unwrap()
    }

    /// A session beside the store's, to look at rows as they lie there and to spoil them.
    pub(crate) async fn session(&self) -> Session {
        session(&self.hosts).await
    }
}

impl Drop for Keyspace {
    /// On a thread of its own: a runtime cannot wait inside another.
    fn drop(&mut self) {
        let (hosts, text) = (self.hosts.clone(), format!("DROP KEYSPACE IF EXISTS {}", self.name));
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let dropped = session(&hosts).await.query_unpaged(text, ()).await;
                dropped.map(drop).map_err(|error| error.to_string())
            })
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            other => println!("the keyspace {} stays: {other:?}", self.name),
        }
    }
}

async fn session(hosts: &str) -> Session {
    SessionBuilder::new().known_nodes(hosts.split(',')).build().await.unwrap()
}
