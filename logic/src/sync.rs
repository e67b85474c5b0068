//! A device asks for what it missed: a page of its timeline, out of the store.
//!
//! The head that is answered is the stored watermark: entries up to it are in the store before it is told
//! to anyone. A page is contiguous or not answered at all, and a head never goes back: what cannot be
//! answered rightly is answered with STALE_READ, and the device asks again.

use bytes::Bytes;
use prost::Message;
use proto::limits::{CLIENT_FRAME_BYTES_MAX, SYNC_ENTRIES_MAX, SYNC_PAGE_BYTES_MAX};
use proto::{Code, ConversationId, Fault, UserId, v1};
use storage::tables::{EntryRow, Store, StoreError};
use tracing::{error, warn};

use crate::push::frame;

/// The stored end of a user's timeline: entries `first..=head` are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) head: u64,
    pub(crate) first: u64,
}

/// What is to be read for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing: the page is empty, because nothing follows or because what follows is no longer kept.
    Empty { truncated: bool },
    /// So many entries.
    Read { entries: usize },
}

/// Answers an ask about a timeline that is stored up to `extent`.
pub(crate) async fn answer(
    store: &dyn Store,
    user: &UserId,
    ask: &v1::SyncAsk,
    extent: Extent,
) -> v1::SyncAnswer {
    match page(store, user, ask, extent).await {
        Ok(page) => to_answer(ask, v1::sync_answer::Result::Page(page), extent.head),
        Err(fault) => refusal(ask, &fault),
    }
}

/// The answer that says no.
pub(crate) fn refusal(ask: &v1::SyncAsk, fault: &Fault) -> v1::SyncAnswer {
    to_answer(ask, v1::sync_answer::Result::Error(fault.to_error(None)), 0)
}

fn to_answer(ask: &v1::SyncAsk, result: v1::sync_answer::Result, told: u64) -> v1::SyncAnswer {
    v1::SyncAnswer { link: ask.link, request_id: ask.request_id, result: Some(result), told }
}

async fn page(store: &dyn Store, user: &UserId, ask: &v1::SyncAsk, extent: Extent) -> Result<Bytes, Fault> {
    let Extent { head, first } = extent;
    let limit = match plan(ask.after, ask.limit, extent)? {
        Plan::Empty { truncated } => return Ok(frame::page(0, &[], head, first, truncated)),
        Plan::Read { entries } => entries,
    };
    let rows = store.timelines().after(user, ask.after, limit).await.map_err(|e| unavailable(&e))?;
    let mut rows = contiguous(rows, ask.after, limit)?;
    // What does not fit is not read for nothing.
    rows.truncate(fitting(ask.after + 1, rows.iter().map(entry_bytes)));
    let entries = bodies(store, rows).await?;
    let count = fitting(ask.after + 1, entries.iter().map(Bytes::len));
    Ok(frame::page(ask.after + 1, entries.get(..count).unwrap_or(&entries), head, first, false))
}

fn plan(after: u64, limit: u32, extent: Extent) -> Result<Plan, Fault> {
    if after > extent.head {
        return Err(Fault::new(Code::StaleRead, format!("{after} is above the head, {}", extent.head)));
    }
    if after + 1 < extent.first {
        return Ok(Plan::Empty { truncated: true });
    }
    let limit = if limit == 0 { SYNC_ENTRIES_MAX as u64 } else { u64::from(limit) };
    let entries = limit.min(SYNC_ENTRIES_MAX as u64).min(extent.head - after);
    let entries = usize::try_from(entries).unwrap_or(SYNC_ENTRIES_MAX);
    Ok(if entries == 0 { Plan::Empty { truncated: false } } else { Plan::Read { entries } })
}

/// The rows `after + 1, after + 2, …`, exactly `count` of them.
fn contiguous(rows: Vec<EntryRow>, after: u64, count: usize) -> Result<Vec<v1::TimelineRow>, Fault> {
    let whole = rows.len() == count && (after + 1..).zip(&rows).all(|(seq, row)| row.seq == seq);
    if !whole {
        return Err(not_whole());
    }
    rows.into_iter().map(|row| v1::TimelineRow::decode(row.row).map_err(|_| broken())).collect()
}

/// The entries of the rows, without their seqs: inline, or out of history by one read.
async fn bodies(store: &dyn Store, rows: Vec<v1::TimelineRow>) -> Result<Vec<Bytes>, Fault> {
    let mut keys = Vec::new();
    for row in rows.iter().filter(|row| row.no != 0) {
        keys.push((ConversationId::from_slice(&row.conversation).map_err(|_| broken())?, row.no));
    }
    let kept = match keys.is_empty() {
        true => Vec::new(),
        false => store.histories().get(&keys).await.map_err(|e| unavailable(&e))?,
    };
    let mut kept = kept.into_iter();
    rows.into_iter()
        .map(|row| match row.no {
            0 => Ok(row.inline),
            _ => kept.next().flatten().map(|history| history.entry).ok_or_else(not_whole),
        })
        .collect()
}

/// How long the entry is; as long as one may be where the row does not say it.
fn entry_bytes(row: &v1::TimelineRow) -> usize {
    match usize::try_from(row.entry_bytes) {
        Ok(0) | Err(_) => CLIENT_FRAME_BYTES_MAX,
        Ok(bytes) => bytes,
    }
}

/// How many entries of these lengths a page has room for; at least one.
fn fitting(first: u64, entries: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = (first..).zip(entries).take_while(|(seq, entry)| {
        bytes += frame::entry_len(*seq, *entry);
        bytes <= SYNC_PAGE_BYTES_MAX
    });
    fits.count().max(1)
}

fn not_whole() -> Fault {
    Fault::new(Code::StaleRead, "the page is not whole yet")
}

fn unavailable(error: &StoreError) -> Fault {
    warn!(%error, "a sync could not be answered");
    Fault::new(Code::Unavailable, "the store does not answer")
}

fn broken() -> Fault {
    error!("a timeline row does not decode");
    Fault::new(Code::Internal, "a row does not decode")
}

#[cfg(test)]
mod tests {
    use storage::embedded::{self, Embedded, Options};
    use storage::log::Partitions;
    use storage::tables::HistoryRow;

    use super::*;

    /// A timeline of `ann`: odd entries in history, even ones inline, bodies of `body` bytes.
    struct Fixture {
        data: Embedded,
        _dir: tempfile::TempDir,
    }

    fn user() -> UserId {
        UserId::new("ann").unwrap()
    }

    fn conversation() -> ConversationId {
        ConversationId::direct(&user(), &UserId::new("bob").unwrap())
    }

    impl Fixture {
        async fn new(seqs: impl Iterator<Item = u64>, body: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut options = Options::new(Partitions { messages: 1, timelines: 1 });
            options.reserve_bytes = 0;
            let fixture = Self { data: embedded::open(dir.path(), options).unwrap(), _dir: dir };
            let store = fixture.data.store();
            for seq in seqs {
                let no = if seq % 2 == 1 { seq } else { 0 };
                let message = v1::Message { kind: 1, data: vec![7; body].into() };
                let event = Some(v1::entry::Event::Message(message));
                let entry: Bytes =
                    v1::Entry { no, n: seq, event, ..Default::default() }.encode_to_vec().into();
                let inline = if no == 0 { entry.clone() } else { Bytes::new() };
                let (conversation_id, entry_bytes) =
                    (conversation().to_bytes(), u32::try_from(entry.len()).unwrap());
                let row =
                    v1::TimelineRow { conversation: conversation_id, no, kind: 16, inline, entry_bytes };
                let row =
                    EntryRow { user: user(), seq, at: proto::Tick(seq), row: row.encode_to_vec().into() };
                store.timelines().put(vec![row]).await.unwrap();
                if no != 0 {
                    let row = HistoryRow { conversation: conversation(), no, at: proto::Tick(seq), entry };
                    store.histories().put(vec![row]).await.unwrap();
                }
            }
            fixture
        }

        /// Seqs, head, first, truncated, told.
        async fn page(&self, after: u64, limit: u32, first: u64, head: u64) -> Result<Page, String> {
            let ask = v1::SyncAsk { after, limit, request_id: 3, user: "ann".into(), link: None };
            let answer = answer(&*self.data.store(), &user(), &ask, Extent { head, first }).await;
            assert_eq!(answer.request_id, 3);
            match answer.result.unwrap() {
                v1::sync_answer::Result::Error(error) => Err(error.name),
                v1::sync_answer::Result::Page(bytes) => {
                    assert!(bytes.len() < proto::limits::SERVER_FRAME_BYTES_MAX - 64);
                    let page = v1::SyncPage::decode(bytes).unwrap();
                    assert_eq!((page.head, page.first, answer.told), (head, first, head));
                    assert!(page.entries.iter().all(|entry| entry.n == entry.seq));
                    Ok((page.entries.iter().map(|entry| entry.seq).collect(), page.truncated))
                }
            }
        }
    }

    type Page = (Vec<u64>, bool);

    fn whole(seqs: std::ops::RangeInclusive<u64>) -> Result<Page, String> {
        Ok((seqs.collect(), false))
    }

    #[test]
    fn what_is_read_fits_a_page_and_what_is_not_known_is_taken_for_large() {
        let rows = |bytes, count| vec![v1::TimelineRow { entry_bytes: bytes, ..Default::default() }; count];
        let read = |rows: &[v1::TimelineRow]| fitting(1, rows.iter().map(entry_bytes));
        assert_eq!(read(&rows(100, 200)), 200);
        assert_eq!(read(&rows(64 * 1024, 200)), 7);
        assert_eq!(read(&rows(0, 200)), 7);
        assert_eq!(read(&rows(u32::MAX, 2)), 1);
    }

    #[tokio::test]
    async fn pages_are_exactly_what_follows_a_cursor() {
        let fixture = Fixture::new(1..=260, 1).await;
        for (after, limit, want) in [
            (0, 9, 1..=9),
            (0, 10, 1..=10),
            (0, 11, 1..=11),
            (249, 10, 250..=259),
            (250, 10, 251..=260),
            (251, 10, 252..=260),
            (0, 0, 1..=200),
            (0, 201, 1..=200),
            (60, 0, 61..=260),
            (61, u32::MAX, 62..=260),
            (259, 1, 260..=260),
        ] {
            assert_eq!(fixture.page(after, limit, 1, 260).await, whole(want), "{after} {limit}");
        }
        assert_eq!(fixture.page(260, 10, 1, 260).await, Ok((vec![], false)));
    }

    #[tokio::test]
    async fn pages_of_every_size_at_every_cursor_are_exactly_what_follows() {
        const HEAD: u64 = 40;
        let fixture = Fixture::new(1..=HEAD, 1).await;
        for after in 0..=HEAD {
            for limit in 1..=HEAD + 1 {
                let want = whole(after + 1..=HEAD.min(after + limit));
                let limit = u32::try_from(limit).unwrap();
                assert_eq!(fixture.page(after, limit, 1, HEAD).await, want, "{after} {limit}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_above_the_head_is_told() {
        let fixture = Fixture::new(1..=20, 1).await;
        assert_eq!(fixture.page(5, 0, 1, 12).await, whole(6..=12));
        assert_eq!(fixture.page(12, 0, 1, 12).await, Ok((vec![], false)));
        assert_eq!(fixture.page(13, 0, 1, 12).await, Err("STALE_READ".into()));
        assert_eq!(fixture.page(u64::MAX, 0, 1, 12).await, Err("STALE_READ".into()));
        assert_eq!(fixture.page(0, 0, 1, 0).await, Ok((vec![], false)));
    }

    #[tokio::test]
    async fn what_is_not_kept_is_truncated_and_nothing_else() {
        let fixture = Fixture::new(6..=10, 1).await;
        assert_eq!(fixture.page(0, 0, 6, 10).await, Ok((vec![], true)));
        assert_eq!(fixture.page(4, 0, 6, 10).await, Ok((vec![], true)));
        assert_eq!(fixture.page(5, 0, 6, 10).await, whole(6..=10));
        // Nothing is kept: first is head + 1.
        assert_eq!(fixture.page(9, 0, 11, 10).await, Ok((vec![], true)));
        assert_eq!(fixture.page(10, 0, 11, 10).await, Ok((vec![], false)));
    }

    #[tokio::test]
    async fn a_page_with_a_hole_is_no_page() {
        let fixture = Fixture::new((1..=10).filter(|seq| *seq != 4), 1).await;
        assert_eq!(fixture.page(0, 3, 1, 10).await, whole(1..=3));
        assert_eq!(fixture.page(0, 4, 1, 10).await, Err("STALE_READ".into()));
        assert_eq!(fixture.page(3, 1, 1, 10).await, Err("STALE_READ".into()));
        assert_eq!(fixture.page(4, 0, 1, 10).await, whole(5..=10));
        // The last entry is not there, though the head says so.
        assert_eq!(fixture.page(8, 0, 1, 11).await, Err("STALE_READ".into()));
    }

    #[tokio::test]
    async fn a_page_ends_before_it_is_too_long_for_a_frame() {
        let body = proto::limits::BODY_BYTES_MAX;
        let fixture = Fixture::new(1..=10, body).await;
        let (seqs, truncated) = fixture.page(0, 0, 1, 10).await.unwrap();
        let fit = (SYNC_PAGE_BYTES_MAX / (body + 32)) as u64;
        assert_eq!((seqs, truncated), ((1..=fit).collect(), false));
        assert_eq!(fixture.page(fit, 0, 1, 10).await, whole(fit + 1..=10));
    }
}
