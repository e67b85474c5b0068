//! A disk that is full or fails: refused with a typed error, nothing reported is lost, and it goes on in
//! place once the disk is well. On a small tmpfs, and with errors made by strace; left out, by name,
//! where mounting or attaching is not permitted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use proto::{Tick, UserId};
use storage::conformance::log::{end, read};
use storage::conformance::reports::Reports;
use storage::embedded::{self, Embedded, Fatal, OpenError, Options};
use storage::log::{Append, AppendError, Log, Partitions, Producer, Tag, Topic};
use storage::tables::{EntryRow, StoreError};
use tempfile::TempDir;

use crate::left_out::can;
use crate::strace::{ALONE, attached};

const MIB: usize = 1024 * 1024;

struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount(mib: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(dir.path());
        let mounted = mount.status().is_ok_and(|status| status.success());
        can("a full disk", mounted, "mounting is not permitted").then_some(Self(dir))
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn ballast(&self, bytes: usize) {
        std::fs::write(self.0.path().join("ballast"), vec![1; bytes]).unwrap();
    }

    fn drop_ballast(&self) {
        std::fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn options(reserve_bytes: usize) -> Options {
    Options {
        reserve_bytes: reserve_bytes as u64,
        on_fatal: Arc::new(|fatal| panic!("a full disk is not fatal: {fatal}")),
        ..Options::new(Partitions { messages: 2, timelines: 2 })
    }
}

fn open(dir: &Path, reserve_bytes: usize) -> Embedded {
    embedded::open(dir, options(reserve_bytes)).unwrap()
}

fn record(n: u64) -> Bytes {
    Bytes::from([&n.to_be_bytes()[..], &[5; 20_000]].concat())
}

/// Appends one record, and waits for what it came to.
async fn append(producer: &dyn Producer, reports: &Reports, n: u64) -> Result<(), AppendError> {
    let before = reports.so_far().len();
    assert_eq!(producer.append(Topic::Messages, 0, record(n), Tag(0, n)), Append::Queued);
    let outcome = reports.wait(before + 1).await[before];
    assert_eq!(outcome.0, Tag(0, n));
    outcome.1
}

fn entry(seq: u64) -> EntryRow {
    let user = UserId::new("ann").unwrap();
    EntryRow { user, seq, at: Tick(seq), row: Bytes::from(vec![3; 5_000]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_writes_are_refused_and_reads_go_on() {
    let _alone = ALONE.lock().await;
    let Some(disk) = Tmpfs::mount(16) else { return };
    let data = open(&disk.data(), 6 * MIB);
    let (log, store) = (data.log(), data.store());
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    let user = UserId::new("ann").unwrap();
    assert_eq!(append(&*producer, &reports, 0).await, Ok(()));
    store.timelines().put(vec![entry(1)]).await.unwrap();

    disk.ballast(11 * MIB);
    assert_eq!(append(&*producer, &reports, 1).await, Err(AppendError::Rejected));
    let refused = store.timelines().put(vec![entry(2)]).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    assert_eq!(store.timelines().after(&user, 0, 10).await.unwrap(), [entry(1)]);
    let mut reader = log.reader(Topic::Messages, 0, 0).await.unwrap();
    assert_eq!(read(&mut *reader, 1).await[0].bytes, record(0));
    log.trim(Topic::Messages, 0, 1).await.unwrap();

    disk.drop_ballast();
    assert_eq!(append(&*producer, &reports, 2).await, Ok(()));
    store.timelines().put(vec![entry(2)]).await.unwrap();
    assert_eq!(store.timelines().after(&user, 0, 10).await.unwrap(), [entry(1), entry(2)]);
    assert_eq!(read(&mut *reader, 1).await[0].bytes, record(2));
}

/// Without a reserve the engine itself runs into the end of the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_full_to_the_last_byte_is_recovered_from_in_place() {
    let _alone = ALONE.lock().await;
    let Some(disk) = Tmpfs::mount(8) else { return };
    let data = open(&disk.data(), 0);
    let (log, store) = (data.log(), data.store());
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    let user = UserId::new("ann").unwrap();
    store.timelines().put(vec![entry(1)]).await.unwrap();
    let mut good = Vec::new();
    let mut n = 0;
    for ballast in [3 * MIB, 3 * MIB / 2] {
        disk.ballast(ballast);
        let refused = append_until_refused(2_000, &*producer, &reports, &mut good, &mut n).await;
        assert_eq!(refused, AppendError::Rejected);
        let refused = store.timelines().put(vec![entry(2)]).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
        disk.drop_ballast();
        let recovered = async {
            loop {
                n += 1;
                if append(&*producer, &reports, n).await.is_ok() {
                    return good.push(n);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), recovered)
            .await
            .expect("it recovers when there is room");
    }
    store.timelines().put(vec![entry(2)]).await.unwrap();
    check(&*log, &good, n).await;
    drop((producer, log, store, data));

    let data = open(&disk.data(), 0);
    check(&*data.log(), &good, n).await;
    assert_eq!(data.store().timelines().after(&user, 0, 9).await.unwrap(), [entry(1), entry(2)]);
}

/// What flushes in the background finds no room for a table of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_finds_no_room_is_recovered_from_in_place() {
    let _alone = ALONE.lock().await;
    let Some(disk) = Tmpfs::mount(16) else { return };
    let options = Options { memtable_bytes: 64 * 1024, ..options(6 * MIB) };
    let data = embedded::open(&disk.data(), options.clone()).unwrap();
    let log = data.log();
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    let table = disk.data().join("data/keyspaces/1/tables/0");
    let Some(strace) = failing("a flush without room", "openat", "ENOSPC", &[table]) else { return };
    disk.ballast(11 * MIB);
    assert_eq!(append(&*producer, &reports, 0).await, Err(AppendError::Rejected));
    disk.drop_ballast();
    let (mut good, mut n) = (Vec::new(), 0);
    // Far more than is collected before it is flushed.
    let refused = append_until_refused(40, &*producer, &reports, &mut good, &mut n).await;
    assert_eq!(refused, AppendError::Rejected);
    let_go(strace);
    let enough = good.len() + 40;
    append_until(enough, &*producer, &reports, &mut good, &mut n).await;
    check(&*log, &good, n).await;
    drop((producer, log, data));

    let data = embedded::open(&disk.data(), options).unwrap();
    check(&*data.log(), &good, n).await;
}

/// What flushes in the background cannot open a file for a table of the log, nor can anybody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_without_descriptors_is_recovered_from_in_place() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: 64 * 1024, ..options(0) };
    let data = embedded::open(dir.path(), options.clone()).unwrap();
    let failed = flush_fails(&dir, &data, &["/dev/null"], AppendError::Rejected).await;
    let Some((good, n)) = failed else { return };
    drop(data);
    let data = embedded::open(dir.path(), options).unwrap();
    check(&*data.log(), &good, n).await;
}

/// The same, but there are descriptors: nobody knows what else it is, an fsync perhaps.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_for_no_want_of_anything_is_fatal() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let (told, fatal) = mpsc::channel();
    let on_fatal = Arc::new(move |fatal: &Fatal| told.send(fatal.clone()).unwrap());
    let options = Options { memtable_bytes: 64 * 1024, on_fatal, ..options(0) };
    let data = embedded::open(dir.path(), options.clone()).unwrap();
    let failed = flush_fails(&dir, &data, &[], AppendError::Fatal).await;
    let Some((good, n)) = failed else { return };
    assert!(matches!(fatal.try_recv(), Ok(Fatal::Background(_))));
    drop(data);
    let data = embedded::open(dir.path(), options).unwrap();
    check(&*data.log(), &good, n).await;
}

/// Has tables of the log, and other files, find no descriptor until an append ends so, and appends on where it can.
/// What was good, and the last one; none where calls cannot be injected.
async fn flush_fails(
    dir: &TempDir,
    data: &Embedded,
    others: &[&str],
    outcome: AppendError,
) -> Option<(Vec<u64>, u64)> {
    let reports = Reports::new();
    let producer = data.log().producer(100, reports.clone()).unwrap();
    let tables = (0..8).map(|n| dir.path().join(format!("data/keyspaces/1/tables/{n}")));
    let files: Vec<_> = tables.chain(others.iter().map(PathBuf::from)).collect();
    let strace = failing("a flush that fails", "openat", "EMFILE", &files)?;
    let (mut good, mut n) = (Vec::new(), 0);
    let refused = append_until_refused(400, &*producer, &reports, &mut good, &mut n).await;
    assert_eq!(refused, outcome);
    let_go(strace);
    if outcome == AppendError::Rejected {
        let enough = good.len() + 40;
        append_until(enough, &*producer, &reports, &mut good, &mut n).await;
    }
    Some((good, n))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_io_error_is_recovered_from_in_place() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path(), 0);
    let (log, store) = (data.log(), data.store());
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    assert_eq!(append(&*producer, &reports, 0).await, Ok(()));
    let journal = dir.path().join("data/0.jnl");
    let Some(strace) = failing("an I/O error", "write", "EIO", &[journal]) else { return };
    assert_eq!(append(&*producer, &reports, 1).await, Err(AppendError::Rejected));
    let refused = store.timelines().put(vec![entry(1)]).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    let_go(strace);
    let (mut good, mut n) = (vec![0], 1);
    append_until(3, &*producer, &reports, &mut good, &mut n).await;
    store.timelines().put(vec![entry(1)]).await.unwrap();
    check(&*log, &good, n).await;
}

/// A kill leaves writes with the operating system alone, and the next start reads and shows them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_finds_is_on_disk_before_it_is_read() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    // The second of these begins to append where the journal ends, with nothing allocated in advance.
    for n in 0..2 {
        let data = open(dir.path(), 0);
        let reports = Reports::new();
        let producer = data.log().producer(100, reports.clone()).unwrap();
        assert_eq!(append(&*producer, &reports, n).await, Ok(()));
    }
    let journal = dir.path().join("data/0.jnl");
    let Some(strace) = failing("a failed fsync at a start", "fsync", "EIO", &[journal]) else { return };
    let opened = embedded::open(dir.path(), options(0)).map(drop);
    assert!(matches!(opened, Err(OpenError::Io { .. })), "{opened:?}");
    let_go(strace);
    check(&*open(dir.path(), 0).log(), &[0, 1], 1).await;
}

/// Appends one record after the other until one is not taken, which is not the `most`th; why it is not.
async fn append_until_refused(
    most: u64,
    producer: &dyn Producer,
    reports: &Reports,
    good: &mut Vec<u64>,
    n: &mut u64,
) -> AppendError {
    loop {
        *n += 1;
        match append(producer, reports, *n).await {
            Ok(()) => good.push(*n),
            Err(error) => return error,
        }
        assert!(*n < most, "nothing was refused");
    }
}

/// Appends one record after the other until so many are good in all.
async fn append_until(
    enough: usize,
    producer: &dyn Producer,
    reports: &Reports,
    good: &mut Vec<u64>,
    n: &mut u64,
) {
    while good.len() < enough {
        *n += 1;
        match append(producer, reports, *n).await {
            Ok(()) => good.push(*n),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(*n < 3_000, "it does not recover");
    }
}

/// Makes a call on files fail, for this very process. None where that cannot be.
fn failing(what: &str, call: &str, error: &str, files: &[PathBuf]) -> Option<Child> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}"));
    let pid = std::process::id().to_string();
    let mut args = vec!["-f", "-e", &trace, "-e", &inject, "-p", &pid];
    files.iter().for_each(|file| args.extend(["-P", file.to_str().unwrap()]));
    attached(what, &args)
}

/// Asked to end, strace lets go of us; killed, it would not.
fn let_go(mut strace: Child) {
    assert!(Command::new("kill").arg(strace.id().to_string()).status().unwrap().success());
    strace.wait().unwrap();
}

/// What was reported as good is there, once, in order; what was refused may be, but then only once too.
async fn check(log: &dyn Log, good: &[u64], last: u64) {
    let count = end(log, Topic::Messages, 0).await;
    let mut reader = log.reader(Topic::Messages, 0, 0).await.unwrap();
    let records = read(&mut *reader, usize::try_from(count).unwrap()).await;
    let numbers: Vec<_> =
        records.iter().map(|r| u64::from_be_bytes(*r.bytes.first_chunk().unwrap())).collect();
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    assert!(numbers.iter().all(|n| *n <= last));
    assert!(records.iter().zip(&numbers).all(|(found, n)| found.bytes == record(*n)));
    let missing: Vec<_> = good.iter().filter(|n| !numbers.contains(n)).collect();
    assert!(missing.is_empty(), "reported, yet not there: {missing:?}");
}
