//! What the devices of one worker did and were told, kept in a file as it happened: enough to judge all of it
//! again, by a process that has seen nothing else.
//!
//! A record is the device's number (u64), the kind (u8), the length of what follows (u32), both little-endian,
//! and what follows: an index (u64), a frame of the server's as protobuf, a seq and a hash (u64 each), or nothing. The
//! last record says for how many devices it is: a journal without it is not whole. How many there are in all, and who
//! writes to whom, stands in a file beside it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message as _;
use proto::{limits, v1};
use serde::{Deserialize, Serialize};

use crate::circle::Circle;
use crate::judge::Note;

const BUFFER_BYTES: usize = 1 << 20;
/// What a journal's file name ends with.
const EXTENSION: &str = "journal";
/// The file that says what there is.
const ABOUT: &str = "run.json";

const SENT: u8 = 1;
const ACKED: u8 = 2;
const REFUSED: u8 = 3;
const ASKS: u8 = 4;
const AGAIN: u8 = 5;
const FRAME: u8 = 6;
const SHOWN: u8 = 7;
const END: u8 = 8;

/// A journal being written.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    file: BufWriter<File>,
    scratch: Vec<u8>,
    /// The first thing that went wrong.
    failed: Option<std::io::Error>,
}

impl Journal {
    /// A new journal in a directory, of the worker whose first device has this number.
    pub(crate) fn create(dir: &Path, first: u64) -> Result<Self> {
        let path = dir.join(format!("{first:08}.{EXTENSION}"));
        let file = File::create_new(&path).with_context(|| path.display().to_string())?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { path, state: RefCell::new(State { file, scratch: Vec::new(), failed: None }) })
    }

    /// Keeps what happened to a device. What cannot be written fails the run at its end.
    pub(crate) fn note(&self, device: u64, note: Note<'_>) {
        self.record(device, |to| match note {
            Note::Sent => SENT,
            Note::Acked(index) => {
                to.extend(index.to_le_bytes());
                ACKED
            }
            Note::Refused => REFUSED,
            Note::Asks => ASKS,
            Note::Again => AGAIN,
            Note::Frame(frame) => {
                to.extend(frame.encode_to_vec());
                FRAME
            }
            Note::Shown(seq, hash) => {
                to.extend(seq.to_le_bytes());
                to.extend(hash.to_le_bytes());
                SHOWN
            }
        });
    }

    /// Writes a record of the kind that is given back.
    fn record(&self, device: u64, fill: impl FnOnce(&mut Vec<u8>) -> u8) {
        let mut state = self.state.borrow_mut();
        let State { file, scratch, failed } = &mut *state;
        scratch.clear();
        let kind = fill(scratch);
        let length = u32::try_from(scratch.len()).unwrap_or(u32::MAX);
        let head = [&device.to_le_bytes()[..], &[kind], &length.to_le_bytes()].concat();
        if let Err(error) = file.write_all(&head).and_then(|()| file.write_all(scratch)) {
            failed.get_or_insert(error);
        }
    }

    /// Everything is in the file, of so many devices, or it is said why not.
    pub(crate) fn finish(&self, devices: u64) -> Result<()> {
        self.record(0, |to| {
            to.extend(devices.to_le_bytes());
            END
        });
        let mut state = self.state.borrow_mut();
        let written = state.failed.take().map_or(Ok(()), Err).and_then(|()| state.file.flush());
        written.with_context(|| self.path.display().to_string())
    }
}

/// What stands beside the journals of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct About {
    /// Devices in all.
    pub(crate) links: u64,
    /// Who writes to whom.
    pub(crate) circle: Circle,
}

/// A directory for the journals of a run.
pub(crate) fn create_dir(dir: &Path, about: About) -> Result<()> {
    let path = dir.join(ABOUT);
    let written =
        std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, serde_json::to_vec(&about)?));
    written.with_context(|| path.display().to_string())
}

/// What stands there.
pub(crate) fn about(dir: &Path) -> Result<About> {
    let path = dir.join(ABOUT);
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// The journals of a directory, in the order of their first devices.
pub(crate) fn all(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    paths.sort_unstable();
    Ok(paths)
}

/// Reads a journal back, record by record, and gives the number of its devices. One that is cut off, wherever, is an
/// error: nothing is judged by halves.
pub(crate) fn read(path: &Path, mut each: impl FnMut(u64, Note<'_>)) -> Result<u64> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut rest = Vec::new();
    loop {
        let (mut device, mut kind, mut length) = ([0; 8], [0; 1], [0; 4]);
        match file.read_exact(&mut device) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bail!("{} has no end: who wrote it was ended too early", path.display());
            }
            read => read?,
        }
        file.read_exact(&mut kind)?;
        file.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length))?;
        if length > limits::SERVER_FRAME_BYTES_MAX {
            bail!("{} holds a record of {length} bytes", path.display());
        }
        rest.resize(length, 0);
        file.read_exact(&mut rest)?;
        if kind == [END] {
            return Ok(u64::from_le_bytes(rest.as_slice().try_into()?));
        }
        note(kind, &rest, |note| each(u64::from_le_bytes(device), note))
            .with_context(|| path.display().to_string())?;
    }
}

fn note([kind]: [u8; 1], rest: &[u8], each: impl FnOnce(Note<'_>)) -> Result<()> {
    match kind {
        SENT => each(Note::Sent),
        ACKED => each(Note::Acked(u64::from_le_bytes(rest.try_into()?))),
        REFUSED => each(Note::Refused),
        ASKS => each(Note::Asks),
        AGAIN => each(Note::Again),
        FRAME => each(Note::Frame(&v1::ServerFrame::decode(rest)?)),
        SHOWN => {
            let (seq, hash) = rest.split_at_checked(8).context("a record that is too short")?;
            each(Note::Shown(u64::from_le_bytes(seq.try_into()?), u64::from_le_bytes(hash.try_into()?)));
        }
        kind => bail!("a record of kind {kind}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_a_record_that_is_cut_off_is_an_error() {
        let dir = std::env::temp_dir().join(format!("godwit-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let journal = Journal::create(&dir, 6).unwrap();
        let pong = v1::server_frame::Frame::Pong(v1::Pong::default());
        let frame = v1::ServerFrame { reply_to: 7, frame: Some(pong) };
        let (shown, frame) = (Note::Shown(4, u64::MAX), Note::Frame(&frame));
        let notes = [Note::Sent, Note::Acked(3), Note::Refused, Note::Asks, Note::Again, shown, frame];
        notes.into_iter().for_each(|note| journal.note(9, note));
        journal.finish(1).unwrap();

        let paths = all(&dir).unwrap();
        let path = paths.first().unwrap();
        let mut back = Vec::new();
        let devices = read(path, |device, note| back.push(format!("{device} {note:?}"))).unwrap();
        assert_eq!(devices, 1);
        assert_eq!(back, notes.map(|note| format!("9 {note:?}")));

        let bytes = std::fs::read(path).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(path, &bytes[..cut]).unwrap();
            assert!(read(path, |_, _| {}).is_err(), "cut at {cut}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
