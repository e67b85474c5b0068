//! What must hold of whatever stands in a column, as `proto::check` says it of messages. A violation panics. For
//! tests, and for the fuzz targets under `fuzz/`.

use proto::limits::BUCKET;
use proto::{ConversationId, UserId};

use super::{columns, place, stretch};

/// Numbers and ids read back as what they were, or are an error; what is read together covers what was asked for,
/// and little more.
pub fn columns(bytes: &[u8]) {
    for chunk in bytes.as_chunks().0 {
        let big = i64::from_le_bytes(*chunk);
        if let Ok(number) = columns::number("column", big) {
            assert_eq!(columns::big("column", number).ok(), Some(big));
        }
    }
    for chunk in bytes.as_chunks().0 {
        let int = i32::from_le_bytes(*chunk);
        if let Ok(count) = columns::count("column", int) {
            assert_eq!(columns::int("column", count).ok(), Some(int));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(user) = columns::id::<UserId>("column", text) {
            assert_eq!(user.as_str(), text);
        }
        let _ = place::parse(text);
    }
    stretches(bytes);
}

fn stretches(bytes: &[u8]) {
    let keys: Vec<(ConversationId, u64)> = bytes
        .as_chunks()
        .0
        .iter()
        .filter_map(|[id, number @ ..]: &[u8; 9]| {
            Some((ConversationId::from_slice(&[*id; 16]).ok()?, u64::from_le_bytes(*number)))
        })
        .collect();
    let read = stretch::stretches(&keys);
    let covers = |(id, no): &(ConversationId, u64)| {
        read.iter().any(|(of, from, to)| of == id && (*from..=*to).contains(no))
    };
    assert!(keys.iter().all(covers), "a row that was asked for is not read");
    assert!(read.iter().all(|(_, from, to)| from / BUCKET == to / BUCKET), "two partitions in one read");
    let rows: u64 = read.iter().map(|(_, from, to)| to - from + 1).sum();
    assert!(rows <= 2 * u64::try_from(keys.len()).unwrap_or(u64::MAX), "{rows} rows for {}", keys.len());
}
