//! The journals of the engine's database: handles on them, and where the newest one ends after a power cut.
//!
//! A journal has batches one after the other, and is on disk whole before the next journal is begun. A batch is its
//! start, its items and its end (fjall 3.1.13):
//!
//! ```text
//! start   1, count of items u32, number of the batch u64
//! item    2, type u8, compression u8, keyspace u64, key bytes u16, value bytes u32, the same again u32, key, value
//! clear   4, keyspace u64                                                                   (counts as an item)
//! end     3, XXH3 of the items u64, "FJL\x03"
//! ```
//!
//! All numbers are little-endian, and nothing is compressed. What is allocated in advance reads as zeros.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::engine::EngineError;
use super::key;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// What an item is: one that is there, or the mark of one that was deleted.
const INSERTED: u8 = 0;
/// The highest kind: marks are of two.
const KINDS_MAX: u8 = 2;
/// Numbers that flushes and merges take, between the batches of a journal, at the most.
const OTHERS: u64 = 4_096;
/// A batch without items.
const BATCH_BYTES_MIN: u64 = 26;
const MAGIC: [u8; 4] = *b"FJL\x03";

/// Handles on the journals of a database. An error of writing one back is told once to each handle that was open before:
/// to these too, whoever else was told, and however a close takes it.
#[derive(Default)]
pub(super) struct Journals(HashMap<PathBuf, File>);

impl Journals {
    /// Opens those that are new, and gives up those that are gone.
    pub(super) fn look(&mut self, dir: &Path) -> io::Result<()> {
        let paths = journals(dir)?;
        self.0.retain(|path, _| paths.contains(path));
        for path in paths {
            if let Entry::Vacant(new) = self.0.entry(path) {
                let file = File::open(new.key())?;
                new.insert(file);
            }
        }
        Ok(())
    }

    /// Waits until they are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.values().try_for_each(File::sync_all)
    }
}

fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in std::fs::read_dir(dir)? {
        paths.push(file?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    Ok(paths)
}

/// Looks through the journals before the engine reads them, and cuts from the newest what a power cut left in pieces.
///
/// A power cut may keep any page of what was not synced. The engine takes a batch without one for damage, or for the end.
/// Nothing of it was acknowledged, and nothing behind it: a batch with records is synced before the next one is written.
/// So where a whole batch comes after one with records, or anywhere in a journal that another one followed, what is in
/// pieces before it was synced, and the disk has lost it: that is an error. What is left the engine syncs before it reads
/// it.
pub(super) fn mend(dir: &Path) -> Result<(), EngineError> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let mut paths = match journals(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        paths => paths?,
    };
    paths.sort_by_key(number);
    let newest = paths.pop();
    let mut last = None;
    for path in paths {
        last = look_through(path, last, true)?;
    }
    newest.map_or(Ok(()), |path| look_through(path, last, false).map(drop))
}

/// Takes the number of the last batch before, and gives that of the last one that it finds.
fn look_through(path: PathBuf, mut last: Option<u64>, is_synced: bool) -> Result<Option<u64>, EngineError> {
    let file = File::options().read(true).write(true).open(&path)?;
    let mut reader = BufReader::new(&file);
    let mut end = 0;
    while let Some(batch) = next(&mut reader)?.filter(|batch| batch.is_whole && batch.follows(last)) {
        end = reader.stream_position()?;
        last = Some(batch.number);
    }
    reader.seek(SeekFrom::Start(end))?;
    if is_zero(&mut reader)? {
        return Ok(last);
    }
    let mut pieces = Vec::new();
    reader.seek(SeekFrom::Start(end))?;
    reader.read_to_end(&mut pieces)?;
    pieces.truncate(pieces.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
    if were_synced(&pieces, last, is_synced)? {
        return Err(EngineError::Rotten { journal: path, at: end });
    }
    if !is_synced {
        let journal = path.display();
        tracing::warn!(%journal, end, "a journal ends in pieces of what was being written, which are cut off");
        file.set_len(end)?;
    }
    Ok(last)
}

/// Whether something in these pieces, which come after the batch with this number, shows that what they begin with was
/// synced.
fn were_synced(pieces: &[u8], last: Option<u64>, is_synced: bool) -> io::Result<bool> {
    // Of a write that failed for want of room, the end is missing; what was synced had one.
    if is_synced && pieces.ends_with(&MAGIC) {
        return Ok(true);
    }
    let at = |at: usize| pieces.get(at..).unwrap_or_default();
    // Where a batch has its length, the next one is where it says.
    if let Some((batch, bytes)) = one(pieces)?
        && (is_synced || batch.has_records)
        && one(at(bytes))?.is_some_and(|(next, _)| next.is_whole)
    {
        return Ok(true);
    }
    // Elsewhere batches are searched for, where it is known which numbers they may have: what looks like one may be in a
    // body that somebody made.
    let Some(last) = last else { return Ok(false) };
    for from in (0..pieces.len()).filter(|from| pieces.get(*from) == Some(&START)) {
        let most = last.saturating_add(from as u64 / BATCH_BYTES_MIN + OTHERS);
        let number = at(from + 5).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if number <= last || number > most {
            continue;
        }
        let Some((batch, bytes)) = one(at(from))?.filter(|(batch, _)| batch.is_whole) else { continue };
        let next = one(at(from + bytes))?.map(|(next, _)| next);
        let is_followed = next.is_some_and(|next| next.is_whole && next.follows(Some(batch.number)));
        if is_synced || (batch.has_records && is_followed) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The batch that these bytes begin with, and its length.
fn one(bytes: &[u8]) -> io::Result<Option<(Batch, usize)>> {
    let mut from = bytes;
    Ok(next(&mut from)?.map(|batch| (batch, bytes.len() - from.len())))
}

struct Batch {
    /// Later ones have higher numbers.
    number: u64,
    /// Its items are those that its end was written for.
    is_whole: bool,
    /// Has records of the log, rather than rows or what is dropped.
    has_records: bool,
}

impl Batch {
    /// Whether it may come after the batch with this number.
    fn follows(&self, last: Option<u64>) -> bool {
        last.is_none_or(|last| self.number > last)
    }
}

/// Reads a batch; none where there is nothing that looks like one.
fn next(from: &mut impl Read) -> io::Result<Option<Batch>> {
    match batch(from) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        read => read,
    }
}

fn batch(from: &mut impl Read) -> io::Result<Option<Batch>> {
    let mut items = Items { from, hash: Xxh3::new(), has_records: false };
    if items.plain()? != [START] {
        return Ok(None);
    }
    let count = u32::from_le_bytes(items.plain()?);
    let number = u64::from_le_bytes(items.plain()?);
    for _ in 0..count {
        if !items.item()? {
            return Ok(None);
        }
    }
    let [END, hash @ ..] = items.plain::<9>()? else { return Ok(None) };
    if items.plain()? != MAGIC {
        return Ok(None);
    }
    let is_whole = u64::from_le_bytes(hash) == items.hash.digest();
    Ok(Some(Batch { number, is_whole, has_records: items.has_records }))
}

/// The items of a batch while they are read.
struct Items<'a, R> {
    from: &'a mut R,
    hash: Xxh3,
    has_records: bool,
}

impl<R: Read> Items<'_, R> {
    /// Reads what is not hashed.
    fn plain<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn hashed<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.plain()?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// Reads an item; false where there is none.
    fn item(&mut self) -> io::Result<bool> {
        match self.hashed()? {
            [CLEAR] => self.hashed::<8>().map(|_| true),
            [ITEM] => {
                let [kind, compression] = self.hashed()?;
                let _keyspace: [u8; 8] = self.hashed()?;
                let key_bytes = u16::from_le_bytes(self.hashed()?);
                let value_bytes = u32::from_le_bytes(self.hashed()?);
                if kind > KINDS_MAX || compression != 0 || value_bytes != u32::from_le_bytes(self.hashed()?) {
                    return Ok(false);
                }
                let mut key = vec![0; usize::from(key_bytes)];
                self.from.read_exact(&mut key)?;
                self.hash.update(&key);
                self.has_records |= kind == INSERTED && key::is_record(&key);
                let value_bytes = u64::from(value_bytes);
                let copied = io::copy(&mut self.from.take(value_bytes), &mut self.hash)?;
                Ok(copied == value_bytes)
            }
            _ => Ok(false),
        }
    }
}

fn is_zero(from: &mut impl Read) -> io::Result<bool> {
    let mut bytes = [0; 8192];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(true),
            read if bytes.iter().take(read).any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_are_held_as_long_as_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let mut journals = Journals::default();
        for names in [&["0.jnl"][..], &["0.jnl", "1.jnl"], &["1.jnl"]] {
            for name in ["0.jnl", "1.jnl", "lock"] {
                let _ = std::fs::remove_file(file(name)).err();
            }
            names.iter().chain(&["lock"]).for_each(|name| std::fs::write(file(name), "").unwrap());
            journals.look(dir.path()).unwrap();
            let mut held: Vec<_> = journals.0.keys().cloned().collect();
            held.sort();
            assert_eq!(held, names.iter().map(|name| file(name)).collect::<Vec<_>>());
        }
        journals.sync().unwrap();
    }
}
