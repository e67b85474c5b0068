//! One record of the timelines log: what it means for each of its users. A user whose row has the record in
//! already is left out whole.

use bytes::Bytes;
use prost::Message;
use proto::{ConversationId, DeviceId, Tick, UserId, v1};
use storage::tables::EntryRow;
use v1::delivery::What;
use v1::timeline_record::Record;

use super::{Effect, TimelineStage};
use crate::settings;

impl TimelineStage {
    pub(super) fn take(&mut self, record: &v1::TimelineRecord, skip: bool, effects: &mut Vec<Effect>) {
        let Some(record) = &record.record else { return };
        match record {
            // Also where it is skipped: that somebody else owns the partition must not pass unnoticed.
            Record::Owner(owner) => effects.push(Effect::Owner(owner.clone(), self.tick)),
            // Skipped or not it is a link of the chain, without which every later output would be dropped.
            Record::Output(output) if self.follows(output) && !skip => self.deliver(output, effects),
            _ if skip => {}
            Record::SessionStart(start) => self.session_started(start, effects),
            Record::SessionEnd(end) => self.session_ended(end),
            Record::Cursors(cursors) => self.acknowledged(cursors),
            Record::NodeDown(down) => self.node_went_down(down),
            Record::Settings(newer) => settings::apply(&mut self.settings, newer),
            // No timer is set at this behaviour level, so that no token is held.
            Record::Output(_) | Record::Fired(_) => {}
        }
    }

    /// Whether an output is the next one of its messages partition: neither a repeat nor behind a hole. Notes it
    /// if so.
    fn follows(&mut self, output: &v1::Output) -> bool {
        let partition = usize::try_from(output.source_partition).unwrap_or(usize::MAX);
        let Some(seen) = self.seen.get_mut(partition) else { return false };
        let follows = output.prev <= *seen && *seen < output.source;
        if follows {
            *seen = output.source;
        }
        follows
    }

    fn deliver(&mut self, output: &v1::Output, effects: &mut Vec<Effect>) {
        // Only at the end does a row get the record's tick: a user may be in more than one delivery.
        let mut changed = Vec::new();
        for delivery in &output.deliveries {
            let users = delivery.users.iter().filter_map(|user| UserId::new(user).ok());
            match &delivery.what {
                Some(What::Posted(posted)) if ConversationId::from_slice(&posted.conversation).is_ok() => {
                    let row = timeline_row(posted);
                    for user in users {
                        if self.append(&user, &row, &posted.entry, effects) {
                            changed.push(user);
                        }
                    }
                }
                Some(What::OutOfOrder(send)) => {
                    for user in users {
                        self.tell_of_gap(&user, &delivery.device, send, effects);
                    }
                }
                Some(What::Posted(_)) | None => {}
            }
        }
        changed.iter().for_each(|user| self.rows.changed(user, self.tick));
    }

    /// Gives an entry its place in a user's timeline. False: the row has it already.
    fn append(&mut self, user: &UserId, row: &Bytes, entry: &Bytes, effects: &mut Vec<Effect>) -> bool {
        let Some(state) = self.rows.open(user, self.tick) else { return false };
        state.drop_ended(&self.nodes, self.tick);
        state.head += 1;
        let (seq, to) = (state.head, Self::links(state, &self.nodes));
        let entry_row = EntryRow { user: user.clone(), seq, at: self.tick, row: row.clone() };
        effects.push(Effect::Entry(entry_row));
        if !to.is_empty() {
            effects.push(Effect::Push { user: user.clone(), seq, entry: entry.clone(), to });
        }
        true
    }

    fn tell_of_gap(&mut self, user: &UserId, device: &str, send: &v1::SendRef, effects: &mut Vec<Effect>) {
        let Some(row) = self.rows.open(user, self.tick) else { return };
        let Some(session) = row.sessions.get(device).filter(|session| self.nodes.is_valid(session.place))
        else {
            return;
        };
        let fence = self.nodes.fence(session.place);
        effects.push(Effect::OutOfOrder { user: user.clone(), fence, send: send.clone() });
    }

    fn acknowledged(&mut self, cursors: &v1::Cursors) {
        let mut changed = Vec::new();
        for v1::Cursor { user, device, seq } in &cursors.cursors {
            let (Ok(user), Ok(device)) = (user.parse::<UserId>(), device.parse::<DeviceId>()) else {
                continue;
            };
            let Some(row) = self.rows.open(&user, self.tick) else { continue };
            let head = row.head;
            let Some(cursor) = row.cursors.get_mut(&device) else { continue };
            if cursor.seq < *seq && *seq <= head {
                cursor.seq = *seq;
                row.drop_ended(&self.nodes, self.tick);
                changed.push(user);
            }
        }
        changed.iter().for_each(|user| self.rows.changed(user, self.tick));
    }

    /// The users whose rows a record may change.
    pub(super) fn users_of(&self, record: &Record, keys: &mut Vec<UserId>) {
        let ids = |users: &[String], keys: &mut Vec<UserId>| {
            keys.extend(users.iter().filter_map(|user| UserId::new(user).ok()));
        };
        match record {
            Record::Output(output) => {
                output.deliveries.iter().for_each(|delivery| ids(&delivery.users, keys));
            }
            Record::SessionStart(start) => keys.extend(UserId::new(&start.user)),
            Record::SessionEnd(end) => keys.extend(self.holder_of(end)),
            Record::Cursors(cursors) => {
                keys.extend(cursors.cursors.iter().filter_map(|c| UserId::new(&c.user).ok()));
            }
            Record::NodeDown(_) | Record::Owner(_) | Record::Settings(_) | Record::Fired(_) => {}
        }
    }

    pub(super) fn note_written(&mut self, user: &UserId, tick: Tick) {
        let Some(row) = self.rows.written(user, tick) else { return };
        for ended in row.ended.extract_if(.., |ended| ended.at <= tick) {
            let session = self.nodes.row(ended.place, user, &ended.device);
            self.unindex.push(storage::tables::SessionWrite { session, at: ended.at, live: false });
        }
        row.ended.shrink_to_fit();
    }
}

/// The same bytes in every timeline.
fn timeline_row(posted: &v1::Posted) -> Bytes {
    let inline = if posted.no == 0 { posted.entry.clone() } else { Bytes::new() };
    let conversation = posted.conversation.clone();
    let entry_bytes = u32::try_from(posted.entry.len()).unwrap_or(u32::MAX);
    let row = v1::TimelineRow { conversation, no: posted.no, kind: posted.kind, inline, entry_bytes };
    row.encode_to_vec().into()
}
