//! Mutations of the pure stages, from outside: records and rows are changed on their way in, so that a stage
//! does what it would do without one of its own rules.

use std::collections::BTreeMap;

use prost::Message;
use proto::{ConversationId, v1};
use storage::log::Topic;
use storage::tables::ConversationRow;
use v1::message_record::Record as MessageRecord;
use v1::timeline_record::Record as TimelineRecord;

use crate::Mutation;
use crate::shared::Shared;

/// The last number of every sending device of a messages partition, as the stage has it.
#[derive(Default)]
pub(crate) struct Numbers {
    last: BTreeMap<(Vec<u8>, String, String), (u64, u64)>,
}

impl Numbers {
    /// The numbers after a prefix of the log; none are kept where no mutation needs them.
    #[must_use]
    pub(crate) fn after(shared: &Shared, partition: u32, offset: usize) -> Self {
        let mut numbers = Self::default();
        for (_, bytes) in shared.log(Topic::Messages, partition).records.iter().take(offset) {
            if let Ok(mut record) = v1::MessageRecord::decode(bytes.clone()) {
                numbers.renumber(shared, &mut record);
            }
        }
        numbers
    }

    /// Takes a repeat, or a send behind a gap, for the next one.
    pub(crate) fn renumber(&mut self, shared: &Shared, record: &mut v1::MessageRecord) {
        let (repeats, gaps) = (shared.breaks(Mutation::RepeatTaken), shared.breaks(Mutation::GapTaken));
        let Some(MessageRecord::Submission(submission)) = &mut record.record else { return };
        let Some(send) = submission.send.as_mut().filter(|_| repeats || gaps) else { return };
        let (user, device) = (submission.user.clone(), submission.device.clone());
        let last = self.last.entry((submission.conversation.to_vec(), user, device)).or_default();
        let next = if send.epoch > last.0 { (send.epoch, 1) } else { (last.0, last.1 + 1) };
        let this = (send.epoch, send.n);
        if this == next || (repeats && this <= *last) || (gaps && this > next) {
            (send.epoch, send.n) = next;
            *last = next;
        }
    }
}

/// Takes a repeated output, or one behind a hole, for the next one. `state` is the stage's.
pub(crate) fn rechain(shared: &Shared, state: bytes::Bytes, record: &mut v1::TimelineRecord) {
    let (repeats, gaps) =
        (shared.breaks(Mutation::OutputRepeatTaken), shared.breaks(Mutation::OutputGapTaken));
    let Some(TimelineRecord::Output(output)) = record.record.as_mut().filter(|_| repeats || gaps) else {
        return;
    };
    let Ok(state) = v1::TimelinePartition::decode(state) else { return };
    let seen = state.seen.get(output.source_partition as usize).copied().unwrap_or(0);
    if gaps && output.source > seen {
        output.prev = 0;
    }
    if repeats && output.source <= seen {
        (output.prev, output.source) = (0, seen + 1);
    }
}

/// Leaves out the last user of an output.
pub(crate) fn leave_out(shared: &Shared, output: &mut v1::Output) {
    for delivery in output.deliveries.iter_mut().filter(|_| shared.breaks(Mutation::OutputToFewer)) {
        if delivery.users.len() > 1 {
            delivery.users.pop();
        }
    }
}

/// A conversation's row as it is read; incomplete, or behind, where that is the defect.
#[must_use]
pub(crate) fn read(shared: &Shared, id: &ConversationId) -> Option<ConversationRow> {
    let mut row = shared.store.conversations.get(id)?.clone();
    for (_, bytes) in row.senders.iter_mut().filter(|_| shared.breaks(Mutation::SendersBehind)) {
        if let Ok(number) = v1::SenderRow::decode(bytes.clone()) {
            *bytes = v1::SenderRow { n: number.n.saturating_sub(1), ..number }.encode_to_vec().into();
        }
    }
    let (blocks, owner) = (shared.breaks(Mutation::BlockForgotten), shared.breaks(Mutation::OwnerForgotten));
    if (blocks || owner)
        && let Ok(mut head) = v1::ConversationHead::decode(row.head.clone())
    {
        if blocks {
            head.blocked_by.clear();
        }
        if owner {
            head.owner.clear();
        }
        row.head = head.encode_to_vec().into();
    }
    if shared.breaks(Mutation::MemberForgotten) {
        row.members.pop();
    }
    Some(row)
}
