//! How fast the embedded log appends, beside a bare append + fdatasync loop in the same run:
//! `cargo test --release -p storage --test embedded rate -- --ignored --nocapture`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{ConversationId, Tick, UserId};
use storage::embedded::{self, Options};
use storage::log::{Append, AppendError, Log, Partitions, Report, Tag, Topic};
use storage::tables::{EntryRow, HistoryRow, Store};

const RECORD: [u8; 100] = [7; 100];
const TIME: Duration = Duration::from_secs(3);

/// Rows a second of appends of `batch` rows, each followed by an fdatasync.
fn bare(dir: &Path, batch: usize) -> f64 {
    let mut file = File::create(dir.join("bare")).unwrap();
    let rows = RECORD.repeat(batch);
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        file.write_all(&rows).unwrap();
        file.sync_data().unwrap();
        count += batch;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

#[derive(Default)]
struct Counted {
    good: AtomicU64,
    slices: AtomicU64,
    turn: Mutex<()>,
    told: Condvar,
}

impl Report for Counted {
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]) {
        assert!(outcomes.iter().all(|(_, result)| result.is_ok()));
        self.good.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
        self.slices.fetch_add(1, Ordering::Relaxed);
        drop(self.turn.lock().unwrap());
        self.told.notify_one();
    }
}

/// Rows a second, and rows a slice, with at most `window` rows in flight.
fn godwit(log: &dyn Log, window: usize) -> (f64, f64) {
    let counted = Arc::new(Counted::default());
    let producer = log.producer(window, counted.clone()).unwrap();
    let record = Bytes::from_static(&RECORD);
    let (start, mut queued) = (Instant::now(), 0_u64);
    while start.elapsed() < TIME {
        let partition = u32::try_from(queued % 64).unwrap();
        match producer.append(Topic::Messages, partition, record.clone(), Tag(0, queued)) {
            Append::Queued => queued += 1,
            Append::Full | Append::Dead => {
                let turn = counted.turn.lock().unwrap();
                drop(counted.told.wait_timeout(turn, Duration::from_millis(1)).unwrap());
            }
        }
    }
    while counted.good.load(Ordering::Relaxed) < queued {
        std::thread::yield_now();
    }
    let slices = counted.slices.load(Ordering::Relaxed);
    (queued as f64 / start.elapsed().as_secs_f64(), queued as f64 / slices as f64)
}

/// What this process has in memory, in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Messages a second through everything that one is written as: its record, two outputs, its body, two
/// entries. The tables are stored before the next batch, as by the stages; nothing is judged.
async fn journey(log: &dyn Log, store: &dyn Store, batch: u64) -> f64 {
    let counted = Arc::new(Counted::default());
    let producer = log.producer(10_000, counted.clone()).unwrap();
    let body = Bytes::from_static(&RECORD);
    let row = body.slice(..30);
    let users: Vec<_> = (0..1_000).map(|n| UserId::new(&format!("user {n}")).unwrap()).collect();
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < TIME {
        let (mut bodies, mut entries) = (Vec::new(), Vec::new());
        for n in count..count + batch {
            let partition = u32::try_from(n % 64).unwrap();
            for (topic, tag) in [(Topic::Messages, 0), (Topic::Timelines, 1), (Topic::Timelines, 2)] {
                let bytes = Bytes::from([&body[..], &body[..50]].concat());
                while producer.append(topic, partition, bytes.clone(), Tag(tag, n)) == Append::Full {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
            let at = Tick(n + 1);
            let pair = usize::try_from(n % 500).unwrap();
            let [one, other] = [&users[pair], &users[pair + 500]];
            let conversation = ConversationId::direct(one, other);
            bodies.push(HistoryRow { conversation, no: n / 500 + 1, at, entry: body.clone() });
            for user in [one, other] {
                entries.push(EntryRow { user: user.clone(), seq: n / 500 + 1, at, row: row.clone() });
            }
        }
        store.histories().put(bodies).await.unwrap();
        store.timelines().put(entries).await.unwrap();
        count += batch;
    }
    while counted.good.load(Ordering::Relaxed) < 3 * count {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn appends_beside_a_bare_loop() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = || {
        let options = Options::new(Partitions { messages: 64, timelines: 64 });
        embedded::open(&dir.path().join("data"), options).unwrap()
    };
    let data = open();
    let log = data.log();
    for round in 0..2 {
        for window in [1, 100, 1_000, 10_000] {
            let bare = bare(dir.path(), window);
            let (rate, slice) = godwit(&*log, window);
            let ratio = rate / bare;
            println!(
                "round {round}, {window:>6} in flight: bare {bare:>9.0} rows/s, log {rate:>9.0} rows/s in \
                 slices of {slice:.0}, ratio {ratio:.2}"
            );
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for batch in [100, 1_000] {
        let rate = runtime.block_on(journey(&*log, &*data.store(), batch));
        println!("journeys, {batch} a batch: {rate:.0} messages/s of 3 records and 3 rows");
    }
    println!("in memory {} MiB", resident_mib());
    drop((log, data));
    let start = Instant::now();
    let data = open();
    println!("opened again in {:.2} s, in memory {} MiB", start.elapsed().as_secs_f64(), resident_mib());
    drop(data);
}
