//! Conversations: one CQL partition each, with a row for the head, every member and every sending device.

use bytes::Bytes;
use futures::FutureExt;
use proto::{ConversationId, Tick, UserId};

use super::Cql;
use super::columns::{big, id as parsed, limit as rows_max, number};
use super::schema::{HEAD, MEMBER, SENDER};
use super::trouble::failed;
use crate::tables::{Answer, ConversationRow, ConversationWrite, Conversations, Sender, StoreError};

type HeadAndMember = (Option<(Tick, Bytes)>, Option<(Tick, Bytes)>);
type Part = (Vec<u8>, i8, String, String, i64, Bytes, i64);

impl Conversations for Cql {
    fn load<'a>(&'a self, ids: &'a [ConversationId]) -> Answer<'a, Vec<Option<ConversationRow>>> {
        async move { self.0.each(ids.to_vec(), |id| self.load_one(id)).await }.boxed()
    }

    fn save(&self, writes: Vec<ConversationWrite>) -> Answer<'_, ()> {
        async move { self.0.each(writes, |write| self.save_one(write)).await.map(drop) }.boxed()
    }

    fn members<'a>(
        &'a self,
        id: &'a ConversationId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> Answer<'a, Option<ConversationRow>> {
        async move {
            let (Some((at, head)), _) = self.head_and_member(id, "").await? else { return Ok(None) };
            let after = after.map_or("", UserId::as_str);
            let values = (id.as_bytes().as_slice(), MEMBER, after, rows_max(limit));
            let database = &self.0;
            let rows = database.read(&database.statements.read_members, values).await?;
            let mut members = Vec::new();
            for row in rows.rows::<(String, Bytes)>().map_err(failed)? {
                let (user, value) = row.map_err(failed)?;
                members.push((parsed("user_id", &user)?, value));
            }
            Ok(Some(ConversationRow { at, head, members, senders: Vec::new() }))
        }
        .boxed()
    }

    fn member<'a>(
        &'a self,
        id: &'a ConversationId,
        user: &'a UserId,
    ) -> Answer<'a, Option<(Bytes, Option<Bytes>)>> {
        async move {
            let (head, member) = self.head_and_member(id, user.as_str()).await?;
            Ok(head.map(|(_, head)| (head, member.map(|(_, value)| value))))
        }
        .boxed()
    }
}

impl Cql {
    /// On one page, whatever its size: between pages another owner may write, and the rows would be of no moment.
    async fn load_one(&self, id: ConversationId) -> Result<Option<ConversationRow>, StoreError> {
        let database = &self.0;
        let rows = database.read(&database.statements.read_conversation, (id.as_bytes().as_slice(),)).await?;
        let (mut row, mut is_there) = (ConversationRow::default(), false);
        for found in rows.rows::<(i8, String, String, i64, Bytes)>().map_err(failed)? {
            let (kind, user, device, at, value) = found.map_err(failed)?;
            match kind {
                HEAD => (row.at, row.head, is_there) = (Tick(number("at", at)?), value, true),
                MEMBER => row.members.push((parsed("user_id", &user)?, value)),
                SENDER => {
                    let (user, device) = (parsed("user_id", &user)?, parsed("device_id", &device)?);
                    row.senders.push((Sender { user, device }, value));
                }
                kind => return Err(StoreError::Failed(format!("column kind: {kind} is none"))),
            }
        }
        Ok(is_there.then_some(row))
    }

    /// The head of a conversation and the row of a member, as they were at one moment on one replica.
    async fn head_and_member(&self, id: &ConversationId, user: &str) -> Result<HeadAndMember, StoreError> {
        let database = &self.0;
        let values = (id.as_bytes().as_slice(), HEAD, "", "", MEMBER, user, "");
        let rows = database.read(&database.statements.read_head_and_member, values).await?;
        let mut found = (None, None);
        for row in rows.rows::<(i8, i64, Bytes)>().map_err(failed)? {
            let (kind, at, value) = row.map_err(failed)?;
            let place = if kind == HEAD { &mut found.0 } else { &mut found.1 };
            *place = Some((Tick(number("at", at)?), value));
        }
        Ok(found)
    }

    async fn save_one(&self, write: ConversationWrite) -> Result<(), StoreError> {
        let (id, at) = (write.id.as_bytes().to_vec(), big("at", write.at.0)?);
        let part = |kind: i8, user: &str, device: &str, value: Bytes| -> Part {
            (id.clone(), kind, user.to_owned(), device.to_owned(), at, value, at)
        };
        let members =
            write.members.iter().map(|(user, value)| part(MEMBER, user.as_str(), "", value.clone()));
        let senders = write
            .senders
            .iter()
            .map(|(sender, value)| part(SENDER, sender.user.as_str(), sender.device.as_str(), value.clone()));
        // One batch, however many rows: a part of a write is no write. The limits of servers on a batch's bytes
        // (batch_size_fail_threshold) are for batches over several CQL partitions; this is one, hence one
        // mutation, and only the limit of that holds (`room`).
        let head = part(HEAD, "", "", write.head);
        let rows: Vec<Part> = members.chain(senders).chain([head]).collect();
        let bytes = rows.iter().map(|(.., value, _)| value.len()).sum();
        self.0.write_all(&self.0.statements.write_part, rows, bytes).await
    }
}
