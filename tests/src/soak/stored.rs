//! What a message of the load takes in the tables, row by row, before the engine packs it: from the rows
//! themselves, so that growth of the disk can be set beside it.

use bytes::Bytes;
use prost::Message as _;
use proto::v1;

/// A stamp in front of every value, and what the engine keeps with every row (a sequence number and lengths).
const ROW_BYTES: usize = 8 + 12;

/// Bytes of one message that goes to so many timelines, on the average.
pub(super) fn bytes(body_bytes: usize, timelines: f64) -> f64 {
    let user = "load-01234567-1234";
    let message = v1::Message { kind: 1, data: Bytes::from(vec![0; body_bytes]) };
    let conversation = Bytes::from_static(&[0; 16]);
    let entry = v1::Entry {
        conversation: conversation.clone(),
        no: 1_000,
        time_us: 1 << 50,
        sender: user.into(),
        device: "load".into(),
        epoch: 1 << 50,
        n: 100,
        peer: user.into(),
        event: Some(v1::entry::Event::Message(message)),
        ..v1::Entry::default()
    };
    let entry_bytes = u32::try_from(entry.encoded_len()).expect("entries are small");
    let row = v1::TimelineRow { conversation, no: 1_000, kind: 1, inline: Bytes::new(), entry_bytes };
    // The keys are H, conversation, no; and T, user, end, seq.
    let history = 1 + 16 + 8 + entry.encoded_len() + ROW_BYTES;
    let timeline = 1 + user.len() + 1 + 8 + row.encoded_len() + ROW_BYTES;
    count(history) + timelines * count(timeline)
}

fn count(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).expect("rows are small"))
}
