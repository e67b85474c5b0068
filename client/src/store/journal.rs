//! How the file store writes: records of `magic, length, xxh3 of the payload, payload`, numbers in little
//! endian. A payload is a batch of lines in protobuf, so that one commit is whole or not there. Pure.

use proto::{ConversationId, UserId, v1};

use super::{Change, Saved, SavedSend};
use crate::outbox::{LocalId, Number, Target};

const MAGIC: [u8; 4] = *b"GWJ1";
const HEAD_BYTES: usize = 16;

/// What stands at the beginning of a journal's rest.
#[derive(Debug)]
pub(super) enum Read {
    /// A batch, and how many bytes it takes.
    Batch(Batch, usize),
    /// Nothing more.
    End,
    /// A commit that was cut off by a crash; nothing behind it.
    Torn,
    /// Damage: there is more behind it.
    Damaged,
}

/// The changes of one commit.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub(super) lines: Vec<Line>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Line {
    #[prost(oneof = "What", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum What {
    #[prost(message, tag = "1")]
    Header(Header),
    #[prost(message, tag = "2")]
    Queued(Queued),
    #[prost(message, tag = "3")]
    Numbered(Numbered),
    #[prost(uint64, tag = "4")]
    Voided(u64),
    #[prost(uint64, tag = "5")]
    Done(u64),
    #[prost(uint64, tag = "6")]
    Cursor(u64),
}

/// Whose journal it is. The first line.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(string, tag = "2")]
    pub(super) user: String,
    #[prost(string, tag = "3")]
    pub(super) device: String,
    #[prost(uint64, tag = "4")]
    pub(super) next_local: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Queued {
    #[prost(uint64, tag = "1")]
    local: u64,
    #[prost(bytes = "bytes", tag = "2")]
    conversation: bytes::Bytes,
    /// Epoch 0: not numbered.
    #[prost(message, optional, tag = "3")]
    send: Option<v1::Send>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Numbered {
    #[prost(uint64, tag = "1")]
    local: u64,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    n: u64,
}

/// Reads the batch at the beginning of `rest`.
pub(super) fn read(rest: &[u8]) -> Read {
    if rest.is_empty() {
        return Read::End;
    }
    if let Some((batch, bytes)) = whole(rest) {
        return Read::Batch(batch, bytes);
    }
    let more = (1..rest.len()).filter_map(|at| rest.get(at..)).any(|tail| whole(tail).is_some());
    if more { Read::Damaged } else { Read::Torn }
}

/// Appends a batch to `out`.
pub(super) fn write(batch: &Batch, out: &mut Vec<u8>) -> std::io::Result<()> {
    let payload = prost::Message::encode_to_vec(batch);
    let length = u32::try_from(payload.len()).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// The lines that make up a whole state.
pub(super) fn snapshot(user: &str, device: &str, saved: &Saved) -> Batch {
    let header =
        Header { version: 1, user: user.into(), device: device.into(), next_local: saved.next_local };
    let cursor = saved.cursor.map(What::Cursor);
    let sends = saved.outbox.iter().map(|send| What::Queued(queued(send)));
    let whats = std::iter::once(What::Header(header)).chain(cursor).chain(sends);
    Batch { lines: whats.map(|what| Line { what: Some(what) }).collect() }
}

impl From<&Change> for Line {
    fn from(change: &Change) -> Line {
        let what = match change {
            Change::Queued(send) => What::Queued(queued(send)),
            Change::Numbered { local, number } => {
                What::Numbered(Numbered { local: local.0, epoch: number.epoch, n: number.n })
            }
            Change::Voided(local) => What::Voided(local.0),
            Change::Done(local) => What::Done(local.0),
            Change::Cursor(seq) => What::Cursor(*seq),
        };
        Line { what: Some(what) }
    }
}

/// The change that a line is; none if it is none that this version knows.
pub(super) fn change(what: What) -> Option<Change> {
    Some(match what {
        What::Header(_) => return None,
        What::Queued(queued) => Change::Queued(saved_send(queued)?),
        What::Numbered(Numbered { local, epoch, n }) => {
            Change::Numbered { local: LocalId(local), number: number(epoch, n)? }
        }
        What::Voided(local) => Change::Voided(LocalId(local)),
        What::Done(local) => Change::Done(LocalId(local)),
        What::Cursor(seq) => Change::Cursor(seq),
    })
}

fn whole(bytes: &[u8]) -> Option<(Batch, usize)> {
    let head = bytes.get(..HEAD_BYTES)?;
    if !head.starts_with(&MAGIC) {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(head.get(4..8)?.try_into().ok()?)).ok()?;
    let hash = u64::from_le_bytes(head.get(8..16)?.try_into().ok()?);
    let end = HEAD_BYTES.checked_add(length)?;
    let payload = bytes.get(HEAD_BYTES..end)?;
    if xxhash_rust::xxh3::xxh3_64(payload) != hash {
        return None;
    }
    Some((prost::Message::decode(payload).ok()?, end))
}

fn queued(send: &SavedSend) -> Queued {
    let to = match &send.to {
        Target::User(user) => v1::send::To::User(user.as_str().to_owned()),
        Target::Group(group) => v1::send::To::Group(group.to_bytes()),
    };
    let number = send.number.unwrap_or(Number { epoch: 0, n: 0 });
    let body = Some(send.body.clone());
    Queued {
        local: send.local.0,
        conversation: send.conversation.to_bytes(),
        send: Some(v1::Send { to: Some(to), epoch: number.epoch, n: number.n, body }),
    }
}

/// None where it cannot be one: neither part counts from 0.
fn number(epoch: u64, n: u64) -> Option<Number> {
    (epoch > 0 && n > 0).then_some(Number { epoch, n })
}

fn saved_send(queued: Queued) -> Option<SavedSend> {
    let v1::Send { to, epoch, n, body } = queued.send?;
    let to = match to? {
        v1::send::To::User(user) => Target::User(UserId::new(&user).ok()?),
        v1::send::To::Group(group) => Target::Group(ConversationId::from_slice(&group).ok()?),
    };
    Some(SavedSend {
        local: LocalId(queued.local),
        conversation: ConversationId::from_slice(&queued.conversation).ok()?,
        to,
        number: if (epoch, n) == (0, 0) { None } else { Some(number(epoch, n)?) },
        body: body?,
    })
}
