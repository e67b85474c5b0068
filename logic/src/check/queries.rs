//! Queries and syncs over tables whose rows are anything.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::FutureExt;
use prost::Message;
use proto::limits::{CLIENT_FRAME_BYTES_MAX, MEMBERS_PAGE_MAX, SERVER_FRAME_BYTES_MAX, SYNC_ENTRIES_MAX};
use proto::partition::Partition;
use proto::{ConversationId, Tick, UserId, v1};
use storage::log::Topic;
use storage::tables::{
    Answer, Checkpoint, Checkpoints, ConversationRow, ConversationWrite, Conversations, Direction, EntryRow,
    Histories, HistoryRow, SessionRow, SessionWrite, Store, StoredUser, Timelines, UserWrite, Users,
};
use tokio::runtime::{Builder, Runtime};

use super::{decoded, delimited};
use crate::api::Api;
use crate::sync::{self, Extent};

/// Nothing waits in it but for rows that are newer, and these do not become so.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// A request of a device behind a byte that says for what, a sync, and the rows that both read, one after the other as
/// delimited messages: each is answered within the limits of a frame, or with an error.
pub fn queries(bytes: &[u8]) {
    let mut pieces = delimited(bytes).into_iter();
    let mut piece = || pieces.next().unwrap_or_default();
    let (request, ask) = (piece(), decoded(&piece()));
    let (head, member) = (piece(), piece());
    let store = Arc::new(Tables { head, member, rows: pieces.collect() });
    let ann = UserId::new("ann").expect("an id");
    let _inside = RUNTIME.enter();
    called(&store, &ann, &request);
    synced(&store, &ann, &ask);
}

fn called(store: &Arc<Tables>, user: &UserId, request: &Bytes) {
    let is_members = request.first().is_some_and(|kind| kind % 2 == 0);
    let method = if is_members { "godwit.v1.Groups/Members" } else { "godwit.v1.Conversations/History" };
    let call = v1::Call { method: method.into(), request: request.slice(request.len().min(1)..) };
    let Some(Ok(result)) = Api::new(store.clone(), 2).call(user, call).now_or_never() else { return };
    let (limit, length) = if is_members {
        let response: v1::MembersResponse = decoded(&result.response);
        (MEMBERS_PAGE_MAX, response.members.len())
    } else {
        let response: v1::HistoryResponse = decoded(&result.response);
        (SYNC_ENTRIES_MAX, response.entries.len())
    };
    assert!(length <= limit, "{length} of {limit}");
    assert!(result.response.len() < SERVER_FRAME_BYTES_MAX, "{} bytes", result.response.len());
}

fn synced(store: &Arc<Tables>, user: &UserId, ask: &v1::SyncAsk) {
    let extent = Extent { head: store.rows.len() as u64, first: 1 };
    let answer = sync::answer(&**store, user, ask, extent).now_or_never().expect("every row is there");
    let Some(v1::sync_answer::Result::Page(page)) = answer.result else { return };
    assert!(page.len() < SERVER_FRAME_BYTES_MAX, "{} bytes", page.len());
    // What does not decode is a row's, which is passed on as it is.
    let Ok(page) = v1::SyncPage::decode(page) else { return };
    assert_eq!((page.head, page.first), (extent.head, extent.first));
    assert!(page.entries.len() <= SYNC_ENTRIES_MAX, "{} entries", page.entries.len());
}

/// Whatever is asked for, these rows are it: of members, of history, and of timelines.
struct Tables {
    head: Bytes,
    member: Bytes,
    rows: Vec<Bytes>,
}

impl Tables {
    /// The numbers from 1 on, with their rows.
    fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, Bytes)> {
        // No row is longer than what a device may send.
        let short = |row: &Bytes| row.slice(..row.len().min(CLIENT_FRAME_BYTES_MAX));
        self.rows.iter().enumerate().map(move |(i, row)| (i as u64 + 1, short(row)))
    }
}

fn is<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    async { Ok(value) }.boxed()
}

impl Conversations for Tables {
    fn load<'a>(&'a self, ids: &'a [ConversationId]) -> Answer<'a, Vec<Option<ConversationRow>>> {
        is(vec![None; ids.len()])
    }

    fn save(&self, _: Vec<ConversationWrite>) -> Answer<'_, ()> {
        is(())
    }

    fn members<'a>(
        &'a self,
        _: &'a ConversationId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> Answer<'a, Option<ConversationRow>> {
        let members =
            self.numbered().filter_map(|(no, row)| Some((UserId::new(&format!("{no:06}")).ok()?, row)));
        let members =
            members.filter(|(user, _)| after.is_none_or(|after| user > after)).take(limit).collect();
        is(Some(ConversationRow { at: Tick(1), head: self.head.clone(), members, senders: Vec::new() }))
    }

    fn member<'a>(
        &'a self,
        _: &'a ConversationId,
        _: &'a UserId,
    ) -> Answer<'a, Option<(Bytes, Option<Bytes>)>> {
        is(Some((self.head.clone(), Some(self.member.clone()))))
    }
}

impl Histories for Tables {
    fn put(&self, _: Vec<HistoryRow>) -> Answer<'_, ()> {
        is(())
    }

    fn get<'a>(&'a self, keys: &'a [(ConversationId, u64)]) -> Answer<'a, Vec<Option<HistoryRow>>> {
        let row = |(conversation, no): &(ConversationId, u64)| {
            let entry = self.numbered().find(|(number, _)| number == no)?.1;
            Some(HistoryRow { conversation: *conversation, no: *no, at: Tick(1), entry })
        };
        is(keys.iter().map(row).collect())
    }

    fn page<'a>(
        &'a self,
        id: &'a ConversationId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
    ) -> Answer<'a, Vec<HistoryRow>> {
        let row = |(no, entry)| HistoryRow { conversation: *id, no, at: Tick(1), entry };
        let rows = self.numbered().filter(|(no, _)| (from..=to).contains(no)).map(row);
        is(match direction {
            Direction::Forward => rows.take(limit).collect(),
            Direction::Backward => rows.rev().take(limit).collect(),
        })
    }
}

impl Timelines for Tables {
    fn put(&self, _: Vec<EntryRow>) -> Answer<'_, ()> {
        is(())
    }

    fn after<'a>(&'a self, user: &'a UserId, after: u64, limit: usize) -> Answer<'a, Vec<EntryRow>> {
        let row = |(seq, row)| EntryRow { user: user.clone(), seq, at: Tick(1), row };
        is(self.numbered().filter(|(seq, _)| *seq > after).map(row).take(limit).collect())
    }
}

impl Users for Tables {
    fn load<'a>(&'a self, ids: &'a [UserId]) -> Answer<'a, Vec<Option<StoredUser>>> {
        is(vec![None; ids.len()])
    }

    fn save(&self, _: Partition, _: Vec<SessionWrite>, _: Vec<UserWrite>) -> Answer<'_, ()> {
        is(())
    }

    fn sessions(&self, _: Partition) -> Answer<'_, Vec<SessionRow>> {
        is(Vec::new())
    }
}

impl Checkpoints for Tables {
    fn load(&self, _: Topic, _: Partition) -> Answer<'_, Option<Checkpoint>> {
        is(None)
    }

    fn save(&self, _: Topic, _: Partition, _: Checkpoint) -> Answer<'_, ()> {
        is(())
    }
}

impl Store for Tables {
    fn conversations(&self) -> &dyn Conversations {
        self
    }

    fn histories(&self) -> &dyn Histories {
        self
    }

    fn timelines(&self) -> &dyn Timelines {
        self
    }

    fn users(&self) -> &dyn Users {
        self
    }

    fn checkpoints(&self) -> &dyn Checkpoints {
        self
    }
}
