//! Opens the log and the store that the settings name, or says why they cannot be opened.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use storage::embedded::{self, EXIT_FSYNC, Embedded, OpenError, Options};
use storage::log::{Log, LogError};
use storage::tables::{Store, StoreError};

use crate::exit::{Exit, Failure};
use crate::ops::Health;
use crate::settings::{self, Settings};

/// The two seams, open.
pub(super) struct Storage {
    pub(super) log: Arc<dyn Log>,
    pub(super) store: Arc<dyn Store>,
}

/// Opens both, creating what is not there yet, and tells of them where the operators look.
pub(super) async fn open(
    settings: &Settings,
    registry: &Mutex<Registry>,
    health: &Health,
) -> Result<Storage, Failure> {
    match &settings.storage {
        settings::Storage::Embedded(dir) => {
            let (dir, options) = (dir.clone(), embedded_options(settings));
            let opening = tokio::task::spawn_blocking(move || open_embedded(&dir, options));
            let embedded = Arc::new(opening.await.context("opening the data")??);
            let storage = Storage { log: embedded.log(), store: embedded.store() };
            let (asked, reserve) = (embedded.clone(), settings.embedded.reserve_bytes);
            let full = move |free| {
                format!("the disk is full: {free} bytes are free, embedded.reserve_bytes keeps {reserve}")
            };
            health.check("storage", move || asked.is_full().map(&full));
            registry
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .register_collector(Box::new(Depth(embedded)));
            Ok(storage)
        }
        settings::Storage::Remote { log, store } => remote(settings, log, store).await,
    }
}

async fn remote(settings: &Settings, log_url: &str, store_url: &str) -> Result<Storage, Failure> {
    let partitions = settings.partitions;
    let (log, store) = tokio::join!(
        storage::kafka::open(log_url, storage::kafka::Options::new(partitions)),
        storage::cql::open(store_url, storage::cql::Options::new(partitions)),
    );
    let store_failed = |error| store_failure(error, store_url);
    match (log.map_err(log_failure), store.map_err(store_failed)) {
        (Ok(log), Ok(store)) => Ok(Storage { log, store }),
        // Both at once: whoever mends one should not have to start again to hear of the other.
        (Err(log), Err(store)) if log.exit == store.exit => {
            Err(Failure::new(log.exit, anyhow::anyhow!("{:#}; {:#}", log.error, store.error)))
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}

fn log_failure(error: LogError) -> Failure {
    let exit = match error {
        LogError::Unreachable { .. } => Exit::Unreachable,
        LogError::Refused(_) => Exit::Data,
        LogError::OutOfRange { .. } | LogError::Failed(_) => Exit::Failed,
    };
    Failure::new(exit, error)
}

fn store_failure(error: StoreError, url: &str) -> Failure {
    let exit = match error {
        StoreError::Unavailable(_) => Exit::Unreachable,
        StoreError::Refused(_) => Exit::Data,
        StoreError::Failed(_) => Exit::Failed,
    };
    // Unlike a log's, a store's error does not say where the store is.
    Failure::new(exit, anyhow::Error::new(error).context(settings::masked(url)))
}

fn open_embedded(dir: &Path, options: Options) -> Result<Embedded, Failure> {
    embedded::open(dir, options).map_err(|error: OpenError| Failure::new(Exit::Data, error))
}

/// What the settings say of embedded storage.
pub(crate) fn embedded_options(settings: &Settings) -> Options {
    let given = settings.embedded;
    Options {
        cache_bytes: given.cache_bytes,
        memtable_bytes: given.memtable_bytes,
        tail_bytes: given.tail_bytes,
        mailbox_items: given.mailbox_items,
        mailbox_bytes: given.mailbox_bytes,
        producer_bytes: given.producer_bytes,
        reserve_bytes: given.reserve_bytes,
        on_fatal: Arc::new(|fatal| {
            tracing::error!(code = EXIT_FSYNC, %fatal, "the data cannot be trusted any more: the process ends");
            std::process::exit(EXIT_FSYNC)
        }),
        ..Options::new(settings.partitions)
    }
}

/// How full the embedded writer's mailbox, the cache of blocks and the memtables are.
struct Depth(Arc<Embedded>);

impl fmt::Debug for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Depth")
    }
}

impl Collector for Depth {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let depth = self.0.depth();
        let count = |figure| u64::try_from(figure).unwrap_or(u64::MAX);
        let held = self.0.held();
        let figures = [
            ("godwit_storage_queue_depth", "Work that waits for the writer", count(depth.items)),
            ("godwit_storage_queue_cap", "Work that may wait for the writer", count(depth.items_max)),
            ("godwit_storage_queue_depth_bytes", "Bytes that wait for the writer", count(depth.bytes)),
            ("godwit_storage_queue_cap_bytes", "Bytes that may wait for the writer", count(depth.bytes_max)),
            ("godwit_storage_cache_bytes", "Blocks read from disk that are held in memory", held.cache),
            ("godwit_storage_cache_cap_bytes", "Blocks that may be held in memory", held.cache_max),
            (
                "godwit_storage_memtable_bytes",
                "Rows in memory that wait to be flushed, or just were",
                held.memtables,
            ),
        ];
        for (name, help, figure) in figures {
            let gauge = ConstGauge::new(figure);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
