//! What a user may read of a conversation, and waiting until the tables are new enough to say so.

use std::time::Duration;

use prost::Message;
use proto::{Code, ConversationId, Fault, UserId, v1};

use super::{Api, broken, unavailable};

/// How long a query waits for the tables to be as new as its caller.
const WAIT: Duration = Duration::from_secs(3);
/// Pauses between looks at the tables.
const PAUSE: Duration = Duration::from_millis(50);

/// A conversation as one user may see it.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) head: v1::ConversationHead,
    pub(super) member: Option<v1::MemberRow>,
}

impl Access {
    /// Reads it, once it is at least as new as `min_no`.
    pub(super) async fn read(
        api: &Api,
        id: &ConversationId,
        user: &UserId,
        min_no: u64,
    ) -> Result<Option<Self>, Fault> {
        let deadline = tokio::time::Instant::now() + WAIT;
        let mut place = None;
        loop {
            let row = api.store.conversations().member(id, user).await.map_err(|e| unavailable(&e))?;
            let access = row.map(Self::decode).transpose()?;
            if access.as_ref().map_or(0, |a| a.head.no) >= min_no {
                return Ok(access);
            }
            if place.is_none() {
                let taken = api.waits.take(user);
                place =
                    Some(taken.ok_or_else(|| Fault::new(Code::Busy, "too many queries wait for min_no"))?);
            }
            if tokio::time::Instant::now() + PAUSE >= deadline {
                return Err(Fault::new(Code::Unavailable, "the tables are older than min_no"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The numbers that a member or former member of a group may read: from, to, both included.
    pub(super) fn group_range(&self) -> Result<(u64, u64), Fault> {
        let member = self.member.as_ref().ok_or_else(not_member)?;
        let until = if member.role() == v1::Role::None { member.until } else { self.head.no };
        Ok((member.since.max(1), until.min(self.head.no)))
    }

    /// Only who is a member now.
    pub(super) fn require_member(&self) -> Result<(), Fault> {
        match &self.member {
            Some(member) if member.role() != v1::Role::None => Ok(()),
            _ => Err(not_member()),
        }
    }

    fn decode((head, member): (bytes::Bytes, Option<bytes::Bytes>)) -> Result<Self, Fault> {
        let head = v1::ConversationHead::decode(head).map_err(|_| broken("ConversationHead"))?;
        let member = member.map(v1::MemberRow::decode).transpose().map_err(|_| broken("MemberRow"))?;
        Ok(Self { head, member })
    }
}

/// The id of a group from a request.
pub(super) fn group_id(bytes: &[u8]) -> Result<ConversationId, Fault> {
    Ok(ConversationId::from_slice(bytes)?)
}

pub(super) fn no_such_group() -> Fault {
    Fault::new(Code::NoSuchConversation, "no such group")
}

fn not_member() -> Fault {
    Fault::new(Code::NotMember, "not a member of this group")
}
