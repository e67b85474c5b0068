//! The real Kafka and CQL database that tests may use, as `cargo xtask test` starts them.

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
        let (Ok(kafka), Ok(cql)) = (kafka, cql) else {
            assert!(std::env::var("CI").is_err(), "no back ends: {what} cannot run");
            println!("left out: {what}, for want of a Kafka and a CQL database");
            return None;
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("t{}_{}", std::process::id(), now.as_millis());
        Some(Self { log: format!("kafka://{kafka}/{name}"), store: format!("scylla://{cql}/{name}") })
    }
}
