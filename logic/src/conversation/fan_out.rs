//! What a judged send becomes: one entry, encoded once, in history and in at most one output for each
//! timelines partition. Knows no state.

use bytes::Bytes;
use prost::Message;
use proto::partition::{self, Partition};
use proto::{Fault, Tick, UserId, v1};
use storage::tables::{HistoryRow, Sender};
use v1::entry::Event;

use super::Effect;
use super::judge::Submission;

/// The record that causes it all.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// The messages partition.
    pub(super) partition: Partition,
    /// The record's tick.
    pub(super) tick: Tick,
    /// How many timelines partitions there are.
    pub(super) timelines: u32,
}

impl Source {
    /// An event with a number in the conversation, for an audience. `audience` is in the order of its users.
    pub(super) fn numbered(
        self,
        submission: &Submission<'_>,
        no: u64,
        event: Event,
        audience: Vec<(Partition, String)>,
        effects: &mut Vec<Effect>,
    ) {
        let posted = self.posted(submission, no, event);
        let (conversation, entry) = (submission.id, posted.entry.clone());
        effects.push(Effect::History(HistoryRow { conversation, no, at: self.tick, entry }));
        self.outputs(&posted, audience, effects);
    }

    /// An event that stands in the sender's timeline alone.
    pub(super) fn alone(self, submission: &Submission<'_>, event: Event, effects: &mut Vec<Effect>) {
        let posted = self.posted(submission, 0, event);
        let user = &submission.sender.user;
        let what = v1::delivery::What::Posted(posted);
        let delivery =
            v1::Delivery { users: vec![user.to_string()], what: Some(what), device: String::new() };
        effects.push(self.output(self.home(user), delivery));
    }

    /// A verdict against the send.
    pub(super) fn rejected(self, submission: &Submission<'_>, fault: Fault, effects: &mut Vec<Effect>) {
        let (code, name) = (fault.code.number(), fault.code.name().into());
        let rejected = v1::Rejected { code, name, detail: fault.detail };
        self.alone(submission, Event::Rejected(rejected), effects);
    }

    /// Tells the sending device which send is missing.
    pub(super) fn out_of_order(
        self,
        submission: &Submission<'_>,
        missing: (u64, u64),
        effects: &mut Vec<Effect>,
    ) {
        let Sender { user, device } = &submission.sender;
        let (epoch, n) = missing;
        let send = v1::SendRef { conversation: submission.id.to_bytes(), epoch, n };
        let delivery = v1::Delivery {
            users: vec![user.to_string()],
            what: Some(v1::delivery::What::OutOfOrder(send)),
            device: device.to_string(),
        };
        effects.push(self.output(self.home(user), delivery));
    }

    fn home(self, user: &UserId) -> Partition {
        partition::of_user(user, self.timelines)
    }

    fn posted(self, submission: &Submission<'_>, no: u64, event: Event) -> v1::Posted {
        let kind = kind(&event);
        let entry = v1::Entry {
            seq: 0,
            conversation: submission.id.to_bytes(),
            no,
            time_us: self.tick.0,
            sender: submission.sender.user.to_string(),
            device: submission.sender.device.to_string(),
            epoch: submission.send.epoch,
            n: submission.send.n,
            peer: submission.peer().into(),
            event: Some(event),
        };
        let bytes = Bytes::from(entry.encode_to_vec());
        v1::Posted { conversation: entry.conversation, no, kind, entry: bytes }
    }

    fn outputs(self, posted: &v1::Posted, mut audience: Vec<(Partition, String)>, effects: &mut Vec<Effect>) {
        // Stable: the users of a partition stay in their order.
        audience.sort_by_key(|(partition, _)| *partition);
        let mut rest = audience.into_iter().peekable();
        while let Some((partition, user)) = rest.next() {
            let mut users = vec![user];
            while let Some((_, user)) = rest.next_if(|(next, _)| *next == partition) {
                users.push(user);
            }
            let what = v1::delivery::What::Posted(posted.clone());
            let delivery = v1::Delivery { users, what: Some(what), device: String::new() };
            effects.push(self.output(partition, delivery));
        }
    }

    fn output(self, partition: Partition, delivery: v1::Delivery) -> Effect {
        let output = v1::Output {
            source_partition: self.partition,
            source: self.tick.0,
            prev: 0,
            deliveries: vec![delivery],
        };
        Effect::Output { partition, output }
    }
}

/// The field number of an event in Entry.
fn kind(event: &Event) -> u32 {
    match event {
        Event::Message(_) => 16,
        Event::GroupCreated(_) => 17,
        Event::MembersAdded(_) => 18,
        Event::MembersRemoved(_) => 19,
        Event::MemberLeft(_) => 20,
        Event::GroupRenamed(_) => 21,
        Event::GroupDissolved(_) => 22,
        Event::Blocked(_) => 23,
        Event::Unblocked(_) => 24,
        Event::Rejected(_) => 25,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_the_field_numbers() {
        let events = [
            Event::Message(v1::Message::default()),
            Event::GroupCreated(v1::GroupCreated::default()),
            Event::MembersAdded(v1::MembersAdded::default()),
            Event::MembersRemoved(v1::MembersRemoved::default()),
            Event::MemberLeft(v1::MemberLeft::default()),
            Event::GroupRenamed(v1::GroupRenamed::default()),
            Event::GroupDissolved(v1::GroupDissolved {}),
            Event::Blocked(v1::Blocked {}),
            Event::Unblocked(v1::Unblocked {}),
            Event::Rejected(v1::Rejected::default()),
        ];
        for event in events {
            let kind = kind(&event);
            let bytes = v1::Entry { event: Some(event), ..v1::Entry::default() }.encode_to_vec();
            let (tag, _) = bytes.split_at(2);
            assert_eq!(u32::from(tag[0] & 0x7f) + (u32::from(tag[1]) << 7), kind << 3 | 2);
        }
    }
}
