//! A store in a directory of its own: an append-only journal, fsynced at every commit and rewritten when
//! most of it is history. A commit that a crash cut off is not there when the store is opened again; damage
//! anywhere else is an error, never a silent loss. One process at a time.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proto::{DeviceId, UserId};

use super::journal::{self, Batch, Header, Line, Read, What};
use super::{Change, Saved, Store};

/// Below this many bytes a journal is not rewritten.
const REWRITE_BYTES_MIN: u64 = 1024 * 1024;
/// A journal is rewritten when it has so many times the bytes of what it holds.
const REWRITE_RATIO: u64 = 4;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the file system said.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// It is another device's.
    #[error("{path} belongs to user {user}, device {device}")]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        user: String,
        /// Which device's.
        device: String,
    },
    /// The journal is damaged in front of its end: move it away to begin anew.
    #[error("{path} is damaged at byte {offset}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// From where on it cannot be read.
        offset: u64,
    },
}

/// Keeps the state in files.
#[derive(Debug)]
pub struct File {
    dir: PathBuf,
    user: UserId,
    device: DeviceId,
    journal: fs::File,
    bytes: u64,
    rewrite_at: u64,
    saved: Saved,
    /// A commit failed: what is in the journal is known only to the one who opens it again.
    failed: bool,
    _lock: fs::File,
}

impl File {
    /// Opens the store in `dir`, or begins one there.
    ///
    /// # Errors
    /// Why it cannot be used; what it holds is as it was.
    pub fn open(dir: &Path, user: &UserId, device: &DeviceId) -> Result<Self, OpenError> {
        make_dir(dir).map_err(|error| OpenError::Io { path: dir.into(), error })?;
        let lock = lock(dir)?;
        let path = dir.join("journal");
        let at = |error| OpenError::Io { path: path.clone(), error };
        let saved = match fs::read(&path) {
            Ok(bytes) => replay(&path, &bytes, user, device)?.0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(at(error)),
        };
        // What was read may not be on disk: an end may have come between a write and its fsync, or the fsync may have
        // failed, after which another one proves nothing. What is used is written again.
        let bytes = rewrite(dir, user, device, &saved).map_err(at)?.len() as u64;
        let journal = OpenOptions::new().append(true).open(&path).map_err(at)?;
        Ok(Self {
            dir: dir.into(),
            user: user.clone(),
            device: device.clone(),
            journal,
            bytes,
            rewrite_at: REWRITE_BYTES_MIN.max(bytes * REWRITE_RATIO),
            saved,
            failed: false,
            _lock: lock,
        })
    }

    fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut out = Vec::new();
        journal::write(&Batch { lines: changes.iter().map(Line::from).collect() }, &mut out)?;
        self.journal.write_all(&out)?;
        self.journal.sync_data()?;
        self.bytes += out.len() as u64;
        changes.iter().for_each(|change| self.saved.apply(change));
        Ok(())
    }

    fn rewrite_if_due(&mut self) -> io::Result<()> {
        if self.bytes <= self.rewrite_at {
            return Ok(());
        }
        let bytes = rewrite(&self.dir, &self.user, &self.device, &self.saved)?;
        self.journal = OpenOptions::new().append(true).open(self.dir.join("journal"))?;
        self.bytes = bytes.len() as u64;
        self.rewrite_at = REWRITE_BYTES_MIN.max(self.bytes * REWRITE_RATIO);
        Ok(())
    }
}

impl Store for File {
    fn saved(&self) -> Saved {
        self.saved.clone()
    }

    fn commit(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier commit failed; open the store again"));
        }
        self.failed = true;
        self.append(changes)?;
        self.rewrite_if_due()?;
        self.failed = false;
        Ok(())
    }

    fn blocks(&self) -> bool {
        true
    }
}

fn lock(dir: &Path) -> Result<fs::File, OpenError> {
    let path = dir.join("lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| OpenError::Io { path: path.clone(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.into())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

/// Adds up a journal; also gives the bytes up to which it is whole.
pub(super) fn replay(
    path: &Path,
    bytes: &[u8],
    user: &UserId,
    device: &DeviceId,
) -> Result<(Saved, u64), OpenError> {
    let (mut saved, mut at, mut begun) = (Saved::default(), 0, false);
    let damaged = |at: usize| OpenError::Damaged { path: path.into(), offset: at as u64 };
    loop {
        let batch = match journal::read(bytes.get(at..).unwrap_or_default()) {
            Read::Batch(batch, length) => {
                at += length;
                batch
            }
            Read::End | Read::Torn if begun => return Ok((saved, at as u64)),
            Read::End | Read::Torn | Read::Damaged => return Err(damaged(at)),
        };
        for line in batch.lines {
            match line.what {
                Some(What::Header(header)) if !begun => {
                    (begun, saved.next_local) = (true, header.next_local);
                    is_own(path, header, user, device)?;
                }
                Some(what) if begun => {
                    let change = journal::change(what).filter(|change| saved.fits(change));
                    saved.apply(&change.ok_or_else(|| damaged(at))?);
                }
                _ => return Err(damaged(at)),
            }
        }
    }
}

fn is_own(path: &Path, header: Header, user: &UserId, device: &DeviceId) -> Result<(), OpenError> {
    if header.user == user.as_str() && header.device == device.as_str() {
        return Ok(());
    }
    Err(OpenError::Foreign { path: path.into(), user: header.user, device: header.device })
}

/// Puts a journal of nothing but the state in the place of the old one; gives its bytes.
fn rewrite(dir: &Path, user: &UserId, device: &DeviceId, saved: &Saved) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    journal::write(&journal::snapshot(user.as_str(), device.as_str(), saved), &mut bytes)?;
    let new = dir.join("journal.new");
    let mut file = private().create(true).truncate(true).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join("journal"))?;
    sync_dir(dir)?;
    Ok(bytes)
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options
}

fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let is_new: Vec<bool> = dir.ancestors().map(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
    builder.create(dir)?;
    let made = dir.canonicalize()?;
    let parents = made.ancestors().skip(1).zip(is_new).filter(|(_, is_new)| *is_new);
    parents.map(|(parent, _)| parent).try_for_each(sync_dir)
}

/// A rename is durable when its directory is.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{LocalId, Number, Target};
    use crate::store::SavedSend;
    use proto::{ConversationId, v1};

    fn ids() -> (UserId, DeviceId) {
        (UserId::new("ann").unwrap(), DeviceId::new("phone").unwrap())
    }

    fn open(dir: &Path) -> Result<File, OpenError> {
        let (user, device) = ids();
        File::open(dir, &user, &device)
    }

    fn queued(local: u64, text: &str) -> Change {
        let (ann, bob) = (ids().0, UserId::new("bob").unwrap());
        Change::Queued(SavedSend {
            local: LocalId(local),
            conversation: ConversationId::direct(&ann, &bob),
            to: Target::User(bob),
            number: None,
            body: v1::send::Body::Message(v1::Message { kind: 1, data: text.to_owned().into() }),
        })
    }

    fn numbered(local: u64, n: u64) -> Change {
        Change::Numbered { local: LocalId(local), number: Number { epoch: 9, n } }
    }

    fn commits() -> Vec<Vec<Change>> {
        vec![
            vec![Change::Cursor(3)],
            vec![queued(0, "a"), numbered(0, 1)],
            vec![queued(1, "b"), queued(2, "c")],
            vec![numbered(1, 2), numbered(2, 3), Change::Done(LocalId(0)), Change::Voided(LocalId(1))],
            vec![Change::Cursor(8), queued(3, "d")],
        ]
    }

    /// The bytes of a journal after some commits, and the state after each with the bytes it had.
    fn journal() -> (Vec<u8>, Vec<(usize, Saved)>) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(dir.path()).unwrap();
        let state = |file: &File| (usize::try_from(file.bytes).unwrap(), file.saved());
        let mut states = vec![state(&file)];
        for commit in commits() {
            file.commit(&commit).unwrap();
            states.push(state(&file));
        }
        (fs::read(dir.path().join("journal")).unwrap(), states)
    }

    fn reopen(bytes: &[u8]) -> (tempfile::TempDir, Result<File, OpenError>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), bytes).unwrap();
        let file = open(dir.path());
        (dir, file)
    }

    #[test]
    fn a_cut_at_any_byte_leaves_the_last_whole_commit_and_a_store_that_goes_on() {
        let (bytes, states) = journal();
        let expected = states.last().unwrap();
        assert_eq!((expected.0, expected.1.outbox.len(), expected.1.cursor), (bytes.len(), 3, Some(8)));
        for cut in states[0].0..=bytes.len() {
            let (dir, file) = reopen(&bytes[..cut]);
            let mut file = file.unwrap();
            let (_, state) = states.iter().rev().find(|(length, _)| *length <= cut).unwrap();
            assert_eq!(file.saved(), *state, "cut at {cut}");
            file.commit(&[Change::Cursor(99)]).unwrap();
            drop(file);
            assert_eq!(open(dir.path()).unwrap().saved().cursor, Some(99), "cut at {cut}");
        }
        for cut in 0..states[0].0 {
            assert!(matches!(reopen(&bytes[..cut]).1, Err(OpenError::Damaged { offset: 0, .. })), "{cut}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_read_is_written_again() {
        use std::os::unix::fs::MetadataExt;
        let (bytes, _) = journal();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, &bytes).unwrap();
        // Held, so that its number is not given again.
        let read = fs::File::open(&path).unwrap();
        let saved = open(dir.path()).unwrap().saved();
        assert_ne!(fs::metadata(&path).unwrap().ino(), read.metadata().unwrap().ino());
        assert_eq!(open(dir.path()).unwrap().saved(), saved);
    }

    #[test]
    fn damage_before_the_end_is_an_error_and_never_a_loss() {
        let (bytes, states) = journal();
        let last = states[states.len() - 2].0;
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            match reopen(&damaged).1 {
                Err(OpenError::Damaged { .. }) => assert!(at < last, "{at}"),
                Ok(file) => {
                    assert!(at >= last, "byte {at} is damaged and nobody noticed");
                    assert_eq!(file.saved(), states[states.len() - 2].1);
                }
                Err(other) => panic!("{at}: {other}"),
            }
        }
    }

    #[test]
    fn a_long_journal_is_rewritten_and_a_crash_meanwhile_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(dir.path()).unwrap();
        let text = "x".repeat(30_000);
        for local in 0..100 {
            file.commit(&[queued(local, &text), numbered(local, local + 1), Change::Cursor(local)]).unwrap();
            if local >= 2 {
                file.commit(&[Change::Done(LocalId(local - 2))]).unwrap();
            }
        }
        assert!(file.bytes < 2 * REWRITE_BYTES_MIN, "{}", file.bytes);
        let saved = file.saved();
        assert_eq!((saved.next_local, saved.outbox.len()), (100, 2));
        drop(file);
        fs::write(dir.path().join("journal.new"), b"half of a rewr").unwrap();
        assert_eq!(open(dir.path()).unwrap().saved(), saved);
    }

    #[test]
    fn one_process_and_one_device_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::InUse(_))));
        drop(file);
        let other = File::open(dir.path(), &ids().0, &DeviceId::new("desk").unwrap());
        assert!(matches!(other, Err(OpenError::Foreign { device, .. }) if device == "phone"));
    }

    #[test]
    fn a_failed_commit_fails_those_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(dir.path()).unwrap();
        file.journal = fs::File::open(dir.path().join("journal")).unwrap();
        assert!(file.commit(&[Change::Cursor(1)]).is_err(), "not open for writing");
        file.journal = OpenOptions::new().append(true).open(dir.path().join("journal")).unwrap();
        assert!(file.commit(&[Change::Cursor(2)]).is_err());
        drop(file);
        assert_eq!(open(dir.path()).unwrap().saved().cursor, None);
    }
}
