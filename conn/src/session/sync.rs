//! Requests that others answer: one Sync and a few Calls at a time.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, uint64};
use proto::v1::{self, server_frame, sync_answer};
use proto::{Code, Fault};

use super::{Action, Rules, Session, error, write};
use crate::clock::Now;

/// A Sync that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// The device's name for it.
    request_id: u64,
    /// The session's own: a device may use its name again, and an answer that comes late is for the older.
    number: u32,
    pub(super) due_ms: u64,
}

impl Session {
    /// The answer of the owner to [`Action::Ask`]. One to an ask that was given up is for nobody.
    pub fn on_sync_answer(&mut self, answer: v1::SyncAnswer, out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        let is_it = |asked: &mut Box<Asked>| u64::from(asked.number) == answer.request_id;
        let Some(Asked { request_id, .. }) = self.sync.take_if(is_it).map(|asked| *asked) else { return };
        self.tell(answer.told);
        out.push(match answer.result {
            Some(sync_answer::Result::Page(page)) => Action::WriteEncoded(page_frame(request_id, &page)),
            Some(sync_answer::Result::Error(error)) => write(request_id, server_frame::Frame::Error(error)),
            None => error(request_id, &Fault::new(Code::Internal, "an answer without one"), None),
        });
    }

    /// Nobody answers: there is no stream for the user's partition, it was lost, it takes no more, or the
    /// answer did not come in time.
    pub fn on_sync_lost(&mut self, out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        if let Some(asked) = self.sync.take() {
            let fault = Fault::new(Code::Unavailable, "the owner of the timeline cannot be reached");
            out.push(error(asked.request_id, &fault, None));
        }
    }

    /// The answer to [`Action::Call`].
    pub fn on_call_result(
        &mut self,
        request_id: u64,
        result: v1::link_call_result::Result,
        out: &mut Vec<Action>,
    ) {
        if self.is_closing() {
            return;
        }
        self.calls = self.calls.saturating_sub(1);
        out.push(match result {
            v1::link_call_result::Result::Ok(ok) => write(request_id, server_frame::Frame::CallResult(ok)),
            v1::link_call_result::Result::Error(error) => {
                write(request_id, server_frame::Frame::Error(error))
            }
        });
    }

    pub(super) fn ask(&mut self, rules: &Rules, now: Now, id: u64, sync: &v1::Sync, out: &mut Vec<Action>) {
        let Some(identity) = &self.identity else { return };
        if self.sync.is_some() {
            out.push(error(id, &Fault::new(Code::Busy, "one sync at a time"), None));
            return;
        }
        let number = self.syncs.wrapping_add(1);
        let ask = v1::SyncAsk {
            link: Some(self.link_ref(rules)),
            request_id: number.into(),
            user: identity.user.as_str().into(),
            after: sync.after,
            limit: sync.limit,
        };
        out.push(Action::Ask(identity.partition, ask));
        self.syncs = number;
        let due_ms = now.ms.saturating_add(rules.sync_ms);
        self.sync = Some(Box::new(Asked { request_id: id, number, due_ms }));
    }

    pub(super) fn call(&mut self, rules: &Rules, id: u64, call: v1::Call, out: &mut Vec<Action>) {
        let Some(identity) = &self.identity else { return };
        if self.calls >= rules.calls_max {
            let fault = Fault::new(Code::Busy, format!("{} calls at a time", rules.calls_max));
            out.push(error(id, &fault, None));
            return;
        }
        self.calls += 1;
        let call = v1::LinkCall {
            user: identity.user.as_str().into(),
            device: identity.device.as_str().into(),
            call: Some(call),
        };
        out.push(Action::Call { request_id: id, call });
    }
}

/// A ServerFrame around a page that is encoded already.
fn page_frame(reply_to: u64, page: &[u8]) -> Bytes {
    const PAGE_FIELD: u32 = 6;
    let mut frame = BytesMut::with_capacity(page.len() + 24);
    uint64::encode(1, &reply_to, &mut frame);
    encode_key(PAGE_FIELD, WireType::LengthDelimited, &mut frame);
    encode_varint(u64::try_from(page.len()).unwrap_or(u64::MAX), &mut frame);
    frame.put_slice(page);
    frame.freeze()
}
