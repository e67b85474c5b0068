//! A device asks for what it missed: a page of its timeline, out of the store.
//!
//! The head that is answered is the stored watermark: entries up to it are in the store before it is told
//! to anyone. A page is contiguous or not answered at all, and a head never goes back: what cannot be
//! answered rightly is answered with STALE_READ, and the device asks again.

use bytes::Bytes;
use prost::Message;
use proto::limits::{SYNC_ENTRIES_MAX, SYNC_PAGE_BYTES_MAX};
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
    let rows = contiguous(rows, ask.after, limit)?;
    let entries = bodies(store, rows).await?;
    Ok(frame::page(ask.after + 1, fitting(ask.after + 1, &entries), head, first, false))
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

/// As many of the entries as a page may have bytes, and at least one.
fn fitting(first: u64, entries: &[Bytes]) -> &[Bytes] {
    let mut bytes = 0;
    let count = (first..).zip(entries).take_while(|(seq, entry)| {
        bytes += frame::entry_len(*seq, entry);
        bytes <= SYNC_PAGE_BYTES_MAX
    });
    let count = count.count().max(1);
    entries.get(..count).unwrap_or(entries)
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
