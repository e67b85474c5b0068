//! What a power cut leaves behind: of everything that was written since the last fsync, any page, in any order, and
//! of everything before, all. And what it cannot have left: damage before what was acknowledged.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::{Tick, UserId};
use storage::conformance::log as suite;
use storage::conformance::reports::Reports;
use storage::embedded::{self, Embedded, OpenError, Options};
use storage::log::{Partitions, Tag, Topic};
use storage::tables::EntryRow;
use tempfile::TempDir;

const PARTITIONS: Partitions = Partitions { messages: 1, timelines: 1 };
const PAGE: usize = 4096;
const RECORDS: u64 = 40;
/// Larger than a page, so that a page without the head of a row can be missing.
const ROW: u64 = 9_000;

/// Bytes that are never zero, as what a page that was not written reads as.
fn body(number: u64) -> Bytes {
    (0..ROW).map(|i| 1 + u8::try_from((number * 31 + i * 7) % 255).unwrap()).collect()
}

fn open(dir: &Path) -> Result<Embedded, OpenError> {
    embedded::open(dir, Options::new(PARTITIONS))
}

/// Appends a record, and waits until it is on disk.
async fn append(data: &Embedded, record: &Bytes) {
    let reports = Reports::new();
    let producer = data.log().producer(1, reports.clone()).unwrap();
    suite::append(&*producer, Topic::Messages, 0, record, Tag(0, 0)).await;
    reports.wait_ok(1).await;
}

async fn records(data: &Embedded) -> Vec<Bytes> {
    let log = data.log();
    let count = usize::try_from(suite::end(&*log, Topic::Messages, 0).await).unwrap();
    let mut reader = log.reader(Topic::Messages, 0, 0).await.unwrap();
    suite::read(&mut *reader, count).await.into_iter().map(|record| record.bytes).collect()
}

/// A directory as it is on disk, by its files.
type Image = Vec<(PathBuf, Vec<u8>)>;

fn image(root: &Path) -> Image {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    files
}

fn lay(image: &Image) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in image {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn journal(image: &Image) -> usize {
    image.iter().position(|(path, _)| path.extension().is_some_and(|extension| extension == "jnl")).unwrap()
}

/// What is written of a file whose rest was allocated in advance.
fn end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The data while everything is on disk, and when rows and a record more are with the operating system only.
async fn before_and_after() -> (Image, Image) {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path()).unwrap();
    for number in 0..RECORDS {
        append(&data, &body(number)).await;
    }
    let mut synced = image(dir.path());
    for seq in 1..=6 {
        let user = UserId::new("ann").unwrap();
        let row = EntryRow { user, seq, at: Tick(seq), row: body(1_000 + seq) };
        data.store().timelines().put(vec![row]).await.unwrap();
    }
    append(&data, &body(RECORDS)).await;
    let mut written = image(dir.path());
    for image in [&mut synced, &mut written] {
        let at = journal(image);
        let bytes = &mut image[at].1;
        // Of what is allocated in advance a little is enough, and a thousand copies are quick.
        bytes.truncate(end(bytes) + 4 * PAGE);
    }
    (synced, written)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_nothing_that_was_synced_whichever_pages_it_kept_of_the_rest() {
    let (synced, written) = before_and_after().await;
    let at = journal(&synced);
    let (kept, new) = (end(&synced[at].1), end(&written[at].1));
    let pages = (kept / PAGE..=new / PAGE).count();
    assert!(pages > 12, "{pages} pages were not synced");
    for seed in 0..200_u64 {
        // First none, then one page each, then any of them.
        let is_lost = |page: usize| match usize::try_from(seed).unwrap() {
            one if one <= pages => page + 1 == one,
            _ => (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (page % 61)) & 1 == 1,
        };
        let mut cut = written.clone();
        for page in (0..pages).filter(|page| is_lost(*page)) {
            let from = kept.max((kept / PAGE + page) * PAGE);
            let to = ((kept / PAGE + page + 1) * PAGE).min(cut[at].1.len());
            cut[at].1[from..to].fill(0);
        }
        let dir = lay(&cut);
        let data = open(dir.path()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let read = records(&data).await;
        assert_eq!(read.len() as u64, RECORDS + u64::from(seed == 0), "seed {seed}");
        assert!((0..).zip(&read).all(|(number, bytes)| *bytes == body(number)), "seed {seed}");
        // What comes next lies where the cut off lay.
        let next = read.len() as u64;
        append(&data, &body(next)).await;
        drop(data);
        let data = open(dir.path()).unwrap();
        assert_eq!(records(&data).await.len() as u64, next + 1, "seed {seed}");
    }
}

/// Records as small as most are: a batch and more of them lie in one page.
async fn small_records() -> (Image, Vec<Bytes>) {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path()).unwrap();
    let records: Vec<Bytes> = (0..RECORDS).map(|number| body(number).slice(..100)).collect();
    for record in &records {
        append(&data, record).await;
    }
    let mut image = image(dir.path());
    let at = journal(&image);
    let bytes = &mut image[at].1;
    bytes.truncate(end(bytes));
    (image, records)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_before_what_was_acknowledged_is_named_and_nothing_is_cut() {
    let (sound, records_of) = small_records().await;
    let at = journal(&sound);
    let name = sound[at].0.file_name().unwrap().to_str().unwrap();
    let bytes = sound[at].1.clone();
    // All batches have one length. Of the last two nothing can be known: a power cut may have torn both.
    let batch = bytes.len() / records_of.len();
    let last = bytes.len() - 2 * batch;
    // Of the first it is not known which number it has.
    let flipped = |byte: usize| {
        let mut damaged = sound.clone();
        damaged[at].1[byte] ^= 1 << (byte % 8);
        damaged
    };
    for byte in (batch..last).step_by(7) {
        check_refused(&flipped(byte), at, name, &format!("byte {byte}"));
    }
    for from in (batch..last - PAGE).step_by(911) {
        let mut damaged = sound.clone();
        damaged[at].1[from..from + PAGE].fill(0);
        check_refused(&damaged, at, name, &format!("the page from byte {from} on"));
    }
    // Another journal followed: all of this one was synced before. Its last batch may have any number, and with the marker
    // at its end it loses what tells it from one that was never written to its end.
    let next = sound[at].0.with_file_name("1.jnl");
    let number = bytes.len() - batch + 5..bytes.len() - batch + 13;
    for byte in (batch..bytes.len() - 4).filter(|byte| !number.contains(byte)).step_by(97) {
        let mut damaged = flipped(byte);
        damaged.push((next.clone(), vec![0; PAGE]));
        check_refused(&damaged, at, name, &format!("byte {byte} of a sealed journal"));
    }
    // In the last batch it is what a power cut leaves.
    for byte in (bytes.len() - batch..bytes.len()).step_by(5) {
        let mut damaged = sound.clone();
        damaged[at].1[byte] = 0;
        let dir = lay(&damaged);
        let data = open(dir.path()).unwrap();
        let read = records(&data).await;
        assert!(
            read.len() + 1 >= records_of.len() && read.iter().eq(&records_of[..read.len()]),
            "byte {byte}"
        );
    }
}

fn check_refused(damaged: &Image, at: usize, name: &str, what: &str) {
    let dir = lay(damaged);
    let Err(OpenError::Damaged { cause, .. }) = open(dir.path()) else { panic!("{what} was taken") };
    assert!(cause.contains(name), "{cause}");
    assert!(image(dir.path()).contains(&damaged[at]), "it was changed");
}
