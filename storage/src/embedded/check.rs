//! What must hold of any bytes in the place of what is stored, as `proto::check` says it of messages. None of these
//! returns anything: a violation panics. For tests, and for the fuzz targets under `fuzz/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use bytes::Bytes;
use proto::{ConversationId, Tick};

use super::key::Part;
use super::value::Beginning;
use super::{Embedded, Options, dir, key, value};
use crate::log::{Append, AppendError, Log, Partitions, Report, Tag, Topic};
use crate::tables::Fence;

/// A key, a value or a layout that reads is the one that would be written for what was read.
pub fn rows(bytes: &[u8]) {
    keys(bytes);
    values(bytes);
    if let Some(layout) = std::str::from_utf8(bytes).ok().and_then(dir::parse) {
        assert_eq!(dir::parse(&dir::text(layout)), Some(layout));
    }
}

fn keys(bytes: &[u8]) {
    let id = bytes.get(1..17).and_then(|id| ConversationId::from_slice(id).ok());
    if let (Some(id), Some(part)) = (id, key::part(bytes)) {
        let again = match &part {
            Part::Head => key::head(&id),
            Part::Member(user) => key::member(&id, user),
            Part::Sender(sender) => key::sender(&id, sender),
        };
        assert_eq!(key::part(&again), Some(part));
    }
    if let Some(fence) = key::fence(bytes) {
        assert_eq!(key::session(0, &fence).get(5..), bytes.get(5..));
    }
    if let Some(offset) = key::offset(bytes) {
        assert_eq!(key::offset(&key::record(Topic::Messages, 0, offset)), Some(offset));
    }
    assert_eq!(key::number(bytes).is_some(), bytes.len() >= 8);
}

fn values(bytes: &[u8]) {
    let stamp = value::stamp(bytes);
    assert_eq!(stamp.map(|(stamp, rest)| value::stamped(stamp, rest)).as_deref(), stamp.and(Some(bytes)));
    let fence = Fence { node: String::new(), incarnation: 0, reactor: 0, link: 0 };
    if let (Some((at, _)), Some(session)) = (stamp, value::read_session(fence.clone(), bytes)) {
        let again = value::session(Tick(at), value::is_live(bytes), &session);
        assert_eq!(value::read_session(fence, &again), Some(session));
    }
    if let Some(checkpoint) = value::read_checkpoint(bytes) {
        assert_eq!(value::checkpoint(&checkpoint), bytes);
    }
    if let Some(beginning) = Beginning::decode(bytes) {
        assert_eq!(Beginning::decode(&beginning.encode()), Some(beginning));
    }
}

/// A data directory whose journal was damaged opens or says why not, and gives back nothing that was not written.
/// The bytes say what the damage is: where the journal is cut or written over, and with what.
pub fn journal(bytes: &[u8]) {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    let sound = SOUND.get_or_init(Sound::make);
    let scratch = Scratch::make();
    sound.copy_damaged(&scratch.0, bytes);
    let Ok(data) = super::open(&scratch.0, options()) else { return };
    let read = read(&data);
    assert!(read.len() <= sound.records.len() && read.iter().eq(sound.records.iter().take(read.len())));
}

/// What stands in an undamaged directory.
struct Sound {
    files: Vec<(PathBuf, Vec<u8>)>,
    records: Vec<Bytes>,
}

impl Sound {
    fn make() -> Self {
        const RECORDS: u8 = 12;
        let scratch = Scratch::make();
        let records: Vec<Bytes> = (0..RECORDS).map(|i| vec![i; 7 * usize::from(i)].into()).collect();
        let data = super::open(&scratch.0, options()).expect("an empty directory opens");
        let (outcomes, reported) = mpsc::channel();
        let producer = data.log().producer(100, Arc::new(Reports(outcomes))).expect("it is open");
        for (i, record) in (0..).zip(&records) {
            let append = producer.append(Topic::Messages, 0, record.clone(), Tag(0, i));
            assert_eq!((append, reported.recv()), (Append::Queued, Ok(Ok(()))));
        }
        drop((producer, data));
        let mut files = Vec::new();
        collect(&scratch.0, Path::new(""), &mut files);
        Self { files, records }
    }

    fn copy_damaged(&self, to: &Path, damage: &[u8]) {
        for (name, bytes) in &self.files {
            let path = to.join(name);
            let folder = path.parent().expect("a file lies in a folder");
            fs::create_dir_all(folder).expect("a scratch folder can be made");
            let is_journal = name.extension().is_some_and(|extension| extension == "jnl");
            let bytes = if is_journal { damaged(bytes, damage) } else { bytes.clone() };
            fs::write(path, bytes).expect("a scratch file can be written");
        }
    }
}

/// Cuts the journal at a place and goes on with other bytes, or changes single bytes of it.
fn damaged(sound: &[u8], damage: &[u8]) -> Vec<u8> {
    let place = |low: u8, high: u8| usize::from(u16::from_le_bytes([low, high])) % (sound.len() + 1);
    match damage {
        [0, low, high, rest @ ..] => [sound.get(..place(*low, *high)).unwrap_or_default(), rest].concat(),
        [_, edits @ ..] => {
            let mut bytes = sound.to_vec();
            for edit in edits.chunks_exact(3) {
                if let [low, high, change] = edit
                    && let Some(byte) = bytes.get_mut(place(*low, *high))
                {
                    *byte ^= change;
                }
            }
            bytes
        }
        [] => Vec::new(),
    }
}

fn collect(root: &Path, below: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(root.join(below)).expect("the directory is there") {
        let name = below.join(entry.expect("the directory is there").file_name());
        if root.join(&name).is_dir() {
            collect(root, &name, files);
        } else {
            let bytes = fs::read(root.join(&name)).expect("the file is there");
            files.push((name, bytes));
        }
    }
}

fn read(data: &Embedded) -> Vec<Bytes> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing here");
    runtime.block_on(read_all(&*data.log()))
}

async fn read_all(log: &dyn Log) -> Vec<Bytes> {
    let (mut next, end) = log.bounds(Topic::Messages, 0).await.expect("partition 0 is there");
    let mut records = Vec::new();
    while next < end {
        let mut reader = log.reader(Topic::Messages, 0, next).await.expect("within the bounds");
        let Ok(page) = reader.next(100).await else { break };
        next += u64::try_from(page.len()).unwrap_or(u64::MAX);
        records.extend(page.into_iter().map(|record| record.bytes));
    }
    records
}

fn options() -> Options {
    let partitions = Partitions { messages: 1, timelines: 1 };
    let small = Options { cache_bytes: 1 << 20, memtable_bytes: 1 << 20, ..Options::new(partitions) };
    // What cannot be trusted any more ends the process in production; here it is one more error.
    Options { reserve_bytes: 0, on_fatal: Arc::new(|_| {}), ..small }
}

struct Reports(mpsc::Sender<Result<(), AppendError>>);

impl Report for Reports {
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]) {
        for (_, outcome) in outcomes {
            let _ = self.0.send(*outcome);
        }
    }
}

/// A directory that is gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("godwit-check-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a scratch folder can be made");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
