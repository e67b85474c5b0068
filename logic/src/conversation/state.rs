//! A conversation in memory, and as its rows. Decides nothing.

use bytes::Bytes;
use prost::Message;
use proto::partition::{self, Partition};
use proto::{ConversationId, Tick, UserId, v1};
use storage::tables::{ConversationRow, ConversationWrite, Sender};
use v1::ConversationKind as Kind;

use crate::rows::{Dirty, Weigh, id_heap};
use crate::settings::StateError;
use crate::sorted::Sorted;

/// Everything that decides about the next send to a conversation.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub(super) kind: Kind,
    /// The last number given.
    pub(super) no: u64,
    pub(super) name: Box<str>,
    /// Of a group, until it is dissolved.
    pub(super) owner: Option<UserId>,
    /// Of a direct conversation: those of the two who block the other, in their order.
    pub(super) blocked_by: Vec<UserId>,
    members: Sorted<UserId, Member>,
    /// Members who left and whose row does not say so yet. Others are known by their stored rows alone.
    former: Sorted<UserId, Former>,
    senders: Sorted<Sender, Number>,
    /// Bytes on the heap of the ids among the keys.
    id_bytes: usize,
}

/// A member now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// The first number that they may read.
    pub(super) since: u64,
    /// Of their timeline.
    pub(super) partition: Partition,
    /// When the row last changed.
    at: Tick,
}

#[derive(Clone, Copy, Debug)]
struct Former {
    since: u64,
    until: u64,
    at: Tick,
}

/// The last send of a device that was judged.
#[derive(Clone, Copy, Debug)]
struct Number {
    epoch: u64,
    n: u64,
    at: Tick,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            kind: Kind::Unknown,
            no: 0,
            name: "".into(),
            owner: None,
            blocked_by: Vec::new(),
            members: Sorted::default(),
            former: Sorted::default(),
            senders: Sorted::default(),
            id_bytes: 0,
        }
    }
}

impl Conversation {
    /// Reads the stored rows.
    pub(super) fn from_row(
        id: ConversationId,
        row: ConversationRow,
        timelines: u32,
    ) -> Result<Self, StateError> {
        let wrong = |what: &str, cause: &dyn std::fmt::Display| {
            StateError::unreadable(format!("the {what} of conversation {id}"), cause)
        };
        let head = v1::ConversationHead::decode(row.head).map_err(|e| wrong("head", &e))?;
        let user = |id: &String| UserId::new(id).map_err(|e| wrong("head", &e));
        let mut this = Self {
            kind: Kind::try_from(head.kind).map_err(|e| wrong("kind", &e))?,
            no: head.no,
            name: head.name.into(),
            owner: Some(&head.owner).filter(|owner| !owner.is_empty()).map(user).transpose()?,
            blocked_by: head.blocked_by.iter().map(user).collect::<Result<_, _>>()?,
            members: Sorted::with_capacity(row.members.len().min(head.members as usize)),
            senders: Sorted::with_capacity(row.senders.len()),
            ..Self::default()
        };
        for (user, bytes) in row.members {
            let member = v1::MemberRow::decode(bytes).map_err(|e| wrong("members", &e))?;
            if member.role() != v1::Role::None {
                this.join(user, member.since, timelines, Tick::ZERO);
            }
        }
        for (sender, bytes) in row.senders {
            let number = v1::SenderRow::decode(bytes).map_err(|e| wrong("senders", &e))?;
            this.judged(sender, number.epoch, number.n, Tick::ZERO);
        }
        Ok(this)
    }

    /// The write that brings the stored rows up to date.
    pub(super) fn to_write(dirty: &Dirty<'_, ConversationId, Self>) -> ConversationWrite {
        let this = dirty.row;
        let mut members: Vec<(UserId, Bytes)> = Vec::new();
        for (user, former) in this.former.iter().filter(|(_, former)| former.at > dirty.stored) {
            let row = v1::MemberRow { role: v1::Role::None.into(), since: former.since, until: former.until };
            members.push((user.clone(), row.encode_to_vec().into()));
        }
        for (user, member) in this.members.iter().filter(|(_, member)| member.at > dirty.stored) {
            let row = v1::MemberRow { role: this.role(user).into(), since: member.since, until: 0 };
            members.push((user.clone(), row.encode_to_vec().into()));
        }
        members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let senders =
            this.senders.iter().filter(|(_, number)| number.at > dirty.stored).map(|(sender, number)| {
                let row = v1::SenderRow { epoch: number.epoch, n: number.n };
                (sender.clone(), row.encode_to_vec().into())
            });
        ConversationWrite {
            id: *dirty.key,
            at: dirty.at,
            head: this.head(),
            members,
            senders: senders.collect(),
        }
    }

    fn head(&self) -> Bytes {
        let head = v1::ConversationHead {
            kind: self.kind.into(),
            no: self.no,
            name: self.name.to_string(),
            members: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            owner: self.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
            blocked_by: self.blocked_by.iter().map(ToString::to_string).collect(),
        };
        head.encode_to_vec().into()
    }

    /// Forgets the former members whose rows are stored.
    pub(super) fn written(&mut self, tick: Tick) {
        let mut freed = 0;
        self.former.retain(|user, former| {
            freed += if former.at > tick { 0 } else { id_heap(user.as_str()) };
            former.at > tick
        });
        self.id_bytes -= freed;
    }

    pub(super) fn members(&self) -> &Sorted<UserId, Member> {
        &self.members
    }

    pub(super) fn role(&self, user: &UserId) -> v1::Role {
        match self.owner.as_ref() {
            _ if !self.members.contains(user) => v1::Role::None,
            Some(owner) if owner == user => v1::Role::Owner,
            _ => v1::Role::Member,
        }
    }

    /// Makes a user a member who reads from `since` on.
    pub(super) fn join(&mut self, user: UserId, since: u64, timelines: u32, at: Tick) {
        if self.former.remove(&user).is_none() {
            self.id_bytes += id_heap(user.as_str());
        }
        let partition = partition::of_user(&user, timelines);
        self.members.insert(user, Member { since, partition, at });
    }

    /// Makes a member a former one who reads up to `until`.
    pub(super) fn leave(&mut self, user: &UserId, until: u64, at: Tick) {
        if let Some(member) = self.members.remove(user) {
            self.former.insert(user.clone(), Former { since: member.since, until, at });
        }
    }

    /// Hands a group to one of its members.
    pub(super) fn own(&mut self, user: UserId, at: Tick) {
        if let Some(member) = self.members.get_mut(&user) {
            member.at = at;
        }
        self.owner = Some(user);
    }

    /// The (epoch, n) that was judged last for a device; (0, 0) before its first.
    pub(super) fn last(&self, sender: &Sender) -> (u64, u64) {
        self.senders.get(sender).map_or((0, 0), |number| (number.epoch, number.n))
    }

    pub(super) fn judged(&mut self, sender: Sender, epoch: u64, n: u64, at: Tick) {
        let number = Number { epoch, n, at };
        match self.senders.get_mut(&sender) {
            Some(last) => *last = number,
            None => {
                self.id_bytes += id_heap(sender.user.as_str()) + id_heap(sender.device.as_str());
                self.senders.insert(sender, number);
            }
        }
    }
}

impl Weigh for Conversation {
    fn weight(&self) -> usize {
        let blocked_by = self.blocked_by.capacity() * size_of::<UserId>();
        let maps = self.members.heap() + self.former.heap() + self.senders.heap();
        size_of::<Self>() + self.name.len() + blocked_by + maps + self.id_bytes
    }
}
