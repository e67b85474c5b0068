//! What the owner says about new entries. A push is a hint: one that finds no room leaves a mark, which a
//! later push or a SyncHint clears.

use bytes::Bytes;
use proto::v1::{self, server_frame};

use super::{Action, Session, State, write};

impl Session {
    /// Entries up to `last`, as an encoded ServerFrame. `room` says whether the outbox takes droppable
    /// frames.
    pub fn on_push(&mut self, last: u64, frame: &Bytes, room: bool, out: &mut Vec<Action>) {
        if !self.is_live() || !room {
            self.behind = self.behind.max(last);
            return;
        }
        out.push(Action::WriteEncoded(frame.clone()));
        self.tell(last);
    }

    /// There are entries up to `head`.
    pub fn on_hint(&mut self, head: u64, room: bool, out: &mut Vec<Action>) {
        if head > self.told {
            self.behind = self.behind.max(head);
            if room {
                self.on_room(out);
            }
        }
    }

    /// There is room again, or the session is confirmed: a mark becomes a hint.
    pub fn on_room(&mut self, out: &mut Vec<Action>) {
        if self.is_live() && self.behind > self.told {
            out.push(write(0, server_frame::Frame::SyncHint(v1::SyncHint { head: self.behind })));
            self.tell(self.behind);
        }
    }

    /// An error that nobody asked for; dropped where there is no room.
    pub fn on_error(&self, error: v1::Error, room: bool, out: &mut Vec<Action>) {
        if self.is_live() && room {
            out.push(write(0, server_frame::Frame::Error(error)));
        }
    }

    /// What the device acknowledged since this was last called.
    pub fn take_cursor(&mut self) -> Option<v1::Cursor> {
        let identity = self.identity.as_ref().filter(|_| self.acked_is_new)?;
        self.acked_is_new = false;
        Some(v1::Cursor {
            user: identity.user.as_str().into(),
            device: identity.device.as_str().into(),
            seq: self.acked,
        })
    }

    /// Nobody can have a seq above what they were told of; before the result, [`Session::on_result`]
    /// sees to that.
    pub(super) fn ack(&mut self, seq: u64, out: &mut Vec<Action>) {
        let seq = if matches!(self.state, State::Joining { .. }) { seq } else { seq.min(self.told) };
        if seq > self.acked {
            self.acked = seq;
            if !self.acked_is_new {
                self.acked_is_new = true;
                out.push(Action::Acked);
            }
        }
    }

    pub(super) fn tell(&mut self, seq: u64) {
        self.told = self.told.max(seq);
        if self.behind <= self.told {
            self.behind = 0;
        }
    }
}
