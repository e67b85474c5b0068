//! Frames made of entries that are encoded already: their bytes are copied once, never decoded.
//!
//! An entry is kept without its seq, which is field 1 of `Entry`; in front of the encoded entry it makes
//! the encoding that the schema asks for.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

/// `Entry.seq`, a varint.
const ENTRY_SEQ: u8 = 1 << 3;
/// `Push.entries` and `SyncPage.entries`, length-delimited.
const ENTRIES: u8 = 1 << 3 | 2;
/// `SyncPage.head`, `.first` and `.truncated`, varints.
const PAGE_HEAD: u8 = 2 << 3;
const PAGE_FIRST: u8 = 3 << 3;
const PAGE_TRUNCATED: u8 = 4 << 3;
/// `ServerFrame.push`, length-delimited.
const FRAME_PUSH: u8 = 5 << 3 | 2;

/// A `ServerFrame` with a `Push` of entries whose seqs count up from `first`, without a length prefix.
pub(crate) fn push(first: u64, entries: &[Bytes]) -> Bytes {
    let body: usize = (first..).zip(entries).map(|(seq, entry)| entry_len(seq, entry.len())).sum();
    let mut out = BytesMut::with_capacity(1 + encoded_len_varint(body as u64) + body);
    out.put_u8(FRAME_PUSH);
    encode_varint(body as u64, &mut out);
    for (seq, entry) in (first..).zip(entries) {
        put_entry(seq, entry, &mut out);
    }
    out.freeze()
}

/// A `SyncPage`.
pub(crate) fn page(first_seq: u64, entries: &[Bytes], head: u64, first: u64, truncated: bool) -> Bytes {
    let body: usize = (first_seq..).zip(entries).map(|(seq, entry)| entry_len(seq, entry.len())).sum();
    let mut out = BytesMut::with_capacity(body + 24);
    for (seq, entry) in (first_seq..).zip(entries) {
        put_entry(seq, entry, &mut out);
    }
    for (tag, value) in [(PAGE_HEAD, head), (PAGE_FIRST, first), (PAGE_TRUNCATED, u64::from(truncated))] {
        if value != 0 {
            out.put_u8(tag);
            encode_varint(value, &mut out);
        }
    }
    out.freeze()
}

/// Bytes that an entry takes in either of them.
pub(crate) fn entry_len(seq: u64, entry: usize) -> usize {
    let len = 1 + encoded_len_varint(seq) + entry;
    1 + encoded_len_varint(len as u64) + len
}

fn put_entry(seq: u64, entry: &Bytes, out: &mut BytesMut) {
    let len = 1 + encoded_len_varint(seq) + entry.len();
    out.put_u8(ENTRIES);
    encode_varint(len as u64, out);
    out.put_u8(ENTRY_SEQ);
    encode_varint(seq, out);
    out.put_slice(entry);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use proto::v1;

    use super::*;

    fn entry(no: u64) -> v1::Entry {
        v1::Entry { no, sender: "ann".into(), time_us: no << 40, ..Default::default() }
    }

    fn with_seqs(first: u64, nos: &[u64]) -> Vec<v1::Entry> {
        (first..).zip(nos).map(|(seq, no)| v1::Entry { seq, ..entry(*no) }).collect()
    }

    proptest! {
        #[test]
        fn frames_are_what_the_schema_would_encode(
            first in 1u64..u64::MAX / 2,
            nos in prop::collection::vec(0u64..1 << 20, 0..9),
            head in any::<u64>(),
            truncated in any::<bool>(),
        ) {
            let entries: Vec<Bytes> = nos.iter().map(|no| entry(*no).encode_to_vec().into()).collect();
            let frame = v1::ServerFrame {
                reply_to: 0,
                frame: Some(v1::server_frame::Frame::Push(v1::Push { entries: with_seqs(first, &nos) })),
            };
            prop_assert_eq!(push(first, &entries), frame.encode_to_vec());
            let page_wanted =
                v1::SyncPage { entries: with_seqs(first, &nos), head, first: 7, truncated };
            prop_assert_eq!(page(first, &entries, head, 7, truncated), page_wanted.encode_to_vec());
            let sum: usize = (first..).zip(&entries).map(|(seq, e)| entry_len(seq, e.len())).sum();
            prop_assert_eq!(v1::Push { entries: with_seqs(first, &nos) }.encoded_len(), sum);
        }
    }
}
