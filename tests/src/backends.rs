//! The real Kafka and CQL database that tests may use, as `cargo xtask test` starts them.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::left_out::can;

/// URLs for a deployment of this test's own.
#[derive(Clone, Debug)]
pub struct Backends {
    /// For `--log`.
    pub log: String,
    /// For `--store`.
    pub store: String,
}

impl Backends {
    /// The back ends of `GODWIT_TEST_KAFKA` and `GODWIT_TEST_CQL`; none where they are not given, which is said.
    ///
    /// # Panics
    /// CI is set, and they are not given.
    #[must_use]
    pub fn find(what: &str) -> Option<Self> {
        let (kafka, cql) = (std::env::var("GODWIT_TEST_KAFKA"), std::env::var("GODWIT_TEST_CQL"));
        can(what, kafka.is_ok() && cql.is_ok(), "there is no Kafka and no CQL database");
        let (Ok(kafka), Ok(cql)) = (kafka, cql) else { return None };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{}_{count}", std::process::id(), now.as_millis());
        Some(Self { log: format!("kafka://{kafka}/{name}"), store: format!("scylla://{cql}/{name}") })
    }
}
