//! One record of the messages log: where its send stands in the sender's numbers, what is judged of it, and
//! what changes.
//!
//! ```text
//!                 ┌─ a repeat ─────────▶ nothing
//! send ─▶ number ─┼─ beyond the next ──▶ OUT_OF_ORDER to the device
//!                 └─ the next ─▶ judge ─┬─ Void ─────▶ the number moves
//!                                       ├─ a fault ──▶ the number moves, Rejected to the sender
//!                                       └─ a command ▶ the number moves, the conversation changes, fan-out
//! ```

use proto::partition::Partition;
use proto::{UserId, v1};
use v1::ConversationKind as Kind;
use v1::entry::Event;
use v1::message_record::Record;

use super::fan_out::Source;
use super::judge::{Change, Command, Submission, judge};
use super::state::Conversation;
use super::{ConversationStage, Effect};
use crate::settings;

/// Where a send stands in its sender's numbers.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Next,
    Repeat,
    /// Beyond the next; this (epoch, n) is the one that is missing.
    Gap((u64, u64)),
}

fn place(last: (u64, u64), send: &v1::Send) -> Place {
    let this = (send.epoch, send.n);
    let next = if send.epoch > last.0 { (send.epoch, 1) } else { (last.0, last.1.saturating_add(1)) };
    match this {
        _ if this <= last => Place::Repeat,
        _ if this == next => Place::Next,
        _ => Place::Gap(next),
    }
}

impl ConversationStage {
    pub(super) fn take(&mut self, record: &v1::MessageRecord, skip: bool, effects: &mut Vec<Effect>) {
        match &record.record {
            Some(Record::Submission(submission)) => {
                if let Some(submission) = Submission::read(submission) {
                    self.submitted(&submission, skip, effects);
                }
            }
            Some(Record::Settings(newer)) if !skip => settings::apply(&mut self.settings, newer),
            // Also where it is skipped: that somebody else owns the partition must not pass unnoticed.
            Some(Record::Owner(owner)) => effects.push(Effect::Owner(owner.clone())),
            // No timer is set at this behaviour level, so that no token is held.
            Some(Record::Fired(_) | Record::Settings(_)) | None => {}
        }
    }

    fn submitted(&mut self, submission: &Submission<'_>, skip: bool, effects: &mut Vec<Effect>) {
        let source = Source { partition: self.partition, tick: self.tick, timelines: self.timelines };
        let Some(conversation) = self.rows.open(&submission.id, self.tick) else { return };
        match place(conversation.last(&submission.sender), submission.send) {
            Place::Repeat => return,
            Place::Gap(missing) => {
                if !skip {
                    source.out_of_order(submission, missing, effects);
                }
                return;
            }
            Place::Next => {}
        }
        let v1::Send { epoch, n, .. } = *submission.send;
        conversation.judged(submission.sender.clone(), epoch, n, self.tick);
        match judge(conversation, &self.settings, submission, skip) {
            Ok(command) => conversation.carry_out(command, submission, source, effects),
            Err(fault) => source.rejected(submission, fault, effects),
        }
        self.rows.changed(&submission.id, self.tick);
    }
}

impl Conversation {
    fn carry_out(
        &mut self,
        command: Command,
        submission: &Submission<'_>,
        source: Source,
        effects: &mut Vec<Effect>,
    ) {
        let me = &submission.sender.user;
        let event = match command {
            Command::Void => return,
            Command::Block { peer } => {
                self.meet(me, &peer, source);
                if let Err(place) = self.blocked_by.binary_search(me) {
                    self.blocked_by.insert(place, me.clone());
                }
                return source.alone(submission, Event::Blocked(v1::Blocked {}), effects);
            }
            Command::Unblock { peer } => {
                self.meet(me, &peer, source);
                self.blocked_by.retain(|user| user != me);
                return source.alone(submission, Event::Unblocked(v1::Unblocked {}), effects);
            }
            Command::Tell { peer, message } => {
                self.meet(me, &peer, source);
                Event::Message(message)
            }
            Command::Post { message } => Event::Message(message),
            Command::Change(change) => return self.change_group(change, submission, source, effects),
        };
        self.no += 1;
        source.numbered(submission, self.no, event, self.audience(), effects);
    }

    /// Changes the group. Whoever is a member before or after is told.
    fn change_group(
        &mut self,
        change: Change,
        submission: &Submission<'_>,
        source: Source,
        effects: &mut Vec<Effect>,
    ) {
        let (me, no, at) = (&submission.sender.user, self.no + 1, source.tick);
        self.no = no;
        let before = self.audience();
        let event = match change {
            Change::Create { name, members } => self.create(name, me, members, source),
            Change::Add { users } => {
                let names = names(&users);
                users.into_iter().for_each(|user| self.join(user, no, source.timelines, at));
                let members = u32::try_from(self.members().len()).unwrap_or(u32::MAX);
                Event::MembersAdded(v1::MembersAdded { users: names, name: self.name.to_string(), members })
            }
            Change::Remove { users } => {
                users.iter().for_each(|user| self.leave(user, no, at));
                Event::MembersRemoved(v1::MembersRemoved { users: names(&users) })
            }
            Change::Leave { heir } => {
                self.leave(me, no, at);
                let new_owner = heir.as_ref().map(ToString::to_string).unwrap_or_default();
                match heir {
                    Some(heir) => self.own(heir, at),
                    None if self.members().is_empty() => self.end(),
                    None => {}
                }
                Event::MemberLeft(v1::MemberLeft { user: me.to_string(), new_owner })
            }
            Change::Rename { name } => {
                self.name = name.as_str().into();
                Event::GroupRenamed(v1::GroupRenamed { name })
            }
            Change::Dissolve => {
                let users: Vec<_> = self.members().keys().cloned().collect();
                users.iter().for_each(|user| self.leave(user, no, at));
                self.end();
                Event::GroupDissolved(v1::GroupDissolved {})
            }
        };
        let audience = if before.len() > self.members().len() { before } else { self.audience() };
        source.numbered(submission, no, event, audience, effects);
    }

    fn create(&mut self, name: String, owner: &UserId, members: Vec<UserId>, source: Source) -> Event {
        self.kind = Kind::Group;
        self.name = name.as_str().into();
        self.owner = Some(owner.clone());
        for user in members.into_iter().chain([owner.clone()]) {
            self.join(user, self.no, source.timelines, source.tick);
        }
        let member = |user: &UserId| v1::Member {
            user: user.to_string(),
            role: self.role(user).into(),
            since: self.no,
        };
        Event::GroupCreated(v1::GroupCreated { name, members: self.members().keys().map(member).collect() })
    }

    /// Nobody is in the group any more.
    fn end(&mut self) {
        self.kind = Kind::Dissolved;
        self.owner = None;
    }

    /// Makes this the conversation of two users, if it is not yet.
    fn meet(&mut self, me: &UserId, peer: &UserId, source: Source) {
        if self.kind == Kind::Unknown {
            self.kind = Kind::Direct;
            for user in [me, peer] {
                self.join(user.clone(), 1, source.timelines, source.tick);
            }
        }
    }

    /// The members' names and partitions, in the order of the users.
    fn audience(&self) -> Vec<(Partition, String)> {
        self.members().iter().map(|(user, member)| (member.partition, user.to_string())).collect()
    }
}

fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}
