//! `godwit.v1.Conversations/History`: pages of a conversation, in either direction, for those who were in
//! it.

use prost::Message;
use proto::limits::{SYNC_ENTRIES_MAX, SYNC_PAGE_BYTES_MAX};
use proto::{Code, ConversationId, Fault, UserId, v1};
use storage::tables::{Direction, HistoryRow, Store};
use v1::history_request::Of;

use super::access::{Access, group_id, no_such_group};
use super::{Api, broken, unavailable};

/// Rows read at once: a page of large bodies ends early, and should not be read whole for that.
const READ_MAX: usize = 16;

/// Numbers of a conversation, both ends included; empty where `from > to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    to: u64,
}

pub(super) async fn history(
    api: &Api,
    user: &UserId,
    request: &v1::HistoryRequest,
) -> Result<v1::HistoryResponse, Fault> {
    let (id, range) = readable(api, user, request).await?;
    let direction = if request.backward { Direction::Backward } else { Direction::Forward };
    let range = range.cut(direction, request.from);
    let limit = match usize::try_from(request.limit) {
        Ok(0) | Err(_) => SYNC_ENTRIES_MAX,
        Ok(limit) => limit.min(SYNC_ENTRIES_MAX),
    };
    page(&*api.store, &id, range, direction, limit).await
}

/// Which conversation is meant, and what the user may read of it.
async fn readable(
    api: &Api,
    user: &UserId,
    request: &v1::HistoryRequest,
) -> Result<(ConversationId, Range), Fault> {
    match &request.of {
        Some(Of::User(peer)) => {
            // Only the two know an id that hashes to this one, so who asks is one of them.
            let id = ConversationId::direct(user, &UserId::new(peer)?);
            let access = Access::read(api, &id, user, request.min_no).await?;
            Ok((id, Range { from: 1, to: access.map_or(0, |a| a.head.no) }))
        }
        Some(Of::Group(group)) => {
            let id = group_id(group)?;
            let access = Access::read(api, &id, user, request.min_no).await?.ok_or_else(no_such_group)?;
            match access.head.kind() {
                v1::ConversationKind::Group | v1::ConversationKind::Dissolved => {
                    let (from, to) = access.group_range()?;
                    Ok((id, Range { from, to }))
                }
                v1::ConversationKind::Direct | v1::ConversationKind::Unknown => Err(no_such_group()),
            }
        }
        None => Err(Fault::new(Code::InvalidArgument, "of: a user or a group is asked for")),
    }
}

async fn page(
    store: &dyn Store,
    id: &ConversationId,
    mut range: Range,
    direction: Direction,
    limit: usize,
) -> Result<v1::HistoryResponse, Fault> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while entries.len() < limit && !range.is_empty() && bytes < SYNC_PAGE_BYTES_MAX {
        let want = READ_MAX.min(limit - entries.len());
        let rows = store.histories().page(id, range.from, range.to, direction, want).await;
        let rows = rows.map_err(|e| unavailable(&e))?;
        if rows.is_empty() {
            return Err(not_whole());
        }
        for row in rows {
            if bytes >= SYNC_PAGE_BYTES_MAX {
                break;
            }
            range.take(direction, &row)?;
            bytes += row.entry.len();
            entries.push(v1::Entry::decode(row.entry).map_err(|_| broken("Entry"))?);
        }
    }
    Ok(v1::HistoryResponse { entries, more: !range.is_empty() })
}

impl Range {
    fn is_empty(self) -> bool {
        self.from > self.to
    }

    /// What is left of it beyond the number that the caller has: 0 is either end.
    fn cut(self, direction: Direction, from: u64) -> Self {
        match direction {
            Direction::Forward => Self { from: self.from.max(from.saturating_add(1)), ..self },
            Direction::Backward if from == 0 => self,
            Direction::Backward => Self { to: self.to.min(from - 1), ..self },
        }
    }

    /// Takes the next row out; a history has no holes.
    fn take(&mut self, direction: Direction, row: &HistoryRow) -> Result<(), Fault> {
        match direction {
            Direction::Forward if row.no == self.from => self.from += 1,
            // `no` is at least 1, so neither end wraps.
            Direction::Backward if row.no == self.to && row.no > 0 => self.to -= 1,
            Direction::Forward | Direction::Backward => return Err(not_whole()),
        }
        Ok(())
    }
}

fn not_whole() -> Fault {
    Fault::new(Code::StaleRead, "the page is not whole yet")
}
