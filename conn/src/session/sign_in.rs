//! Signing in: the token, the record of the session, and its confirmation by the owner.

use bytes::Bytes;
use compact_str::CompactString;
use proto::close::Close;
use proto::limits::{
    BODY_BYTES_MAX, CLIENT_FRAME_BYTES_MAX, CLIENT_NAME_BYTES_MAX, DEVICE_CLASS_BYTES_MAX, SYNC_ENTRIES_MAX,
    TOKEN_BYTES_MAX, UNACKED_SENDS_MAX,
};
use proto::v1::{self, server_frame};
use proto::{Code, DeviceId, Fault, UserId, partition};
use storage::log::{AppendError, Topic};

use super::rules::timeline_record;
use super::{Action, Appended, Identity, Rules, Session, State, error, write};
use crate::clock::Now;

/// The protocol revision that this server speaks.
const PROTOCOL: u32 = 1;

/// What is kept of a SignIn while its token is checked.
#[derive(Debug)]
pub(super) struct Wanted {
    request_id: u64,
    device_class: CompactString,
}

/// Who a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `sub`.
    pub user: UserId,
    /// `did`.
    pub device: DeviceId,
}

/// Why a token was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It does not verify; the text says which check failed, never what was in it.
    #[error("{0}")]
    Bad(&'static str),
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It could not be checked: too many are waiting.
    #[error("too many sign-ins are waiting")]
    Busy,
}

impl Session {
    pub(super) fn sign_in(&mut self, rules: &Rules, id: u64, sign_in: v1::SignIn, out: &mut Vec<Action>) {
        if id == 0 {
            return self.kick(rules, Close::Malformed, out);
        }
        if sign_in.protocol != PROTOCOL {
            return self.kick(rules, Close::UnsupportedProtocol, out);
        }
        if let Some(field) = too_long(&sign_in) {
            out.push(error(id, &Fault::new(Code::TooLarge, field), None));
            return self.kick(rules, Close::Malformed, out);
        }
        if sign_in.token.is_empty() {
            return self.deny(rules, id, Denied::Bad("no token"), out);
        }
        let device_class = CompactString::new(&sign_in.device_class);
        self.state = State::Verifying(Box::new(Wanted { request_id: id, device_class }));
        out.push(Action::Verify(sign_in.token));
    }

    /// The outcome of [`Action::Verify`]. `link` is the link's number from now on: the next one of its
    /// reactor, so that every lower number is on the roster or gone, and none is still to come.
    pub fn on_verified(
        &mut self,
        rules: &Rules,
        link: u64,
        outcome: Result<Verified, Denied>,
        out: &mut Vec<Action>,
    ) {
        let State::Verifying(wanted) = &self.state else { return };
        let request_id = wanted.request_id;
        let verified = match outcome {
            Ok(verified) => verified,
            Err(denied) => return self.deny(rules, request_id, denied, out),
        };
        self.link = link;
        let start = v1::SessionStart {
            user: verified.user.as_str().into(),
            device: verified.device.as_str().into(),
            device_class: wanted.device_class.as_str().into(),
            fence: Some(self.fence(rules)),
        };
        let partition = partition::of_user(&verified.user, rules.partitions.timelines);
        self.identity = Some(Identity { user: verified.user, device: verified.device, partition });
        self.state = State::Joining { request_id, recorded: false };
        self.started = true;
        out.push(Action::Append {
            topic: Topic::Timelines,
            partition,
            record: timeline_record(v1::timeline_record::Record::SessionStart(start)),
            what: Appended::Start,
        });
    }

    /// The owner confirms the session. A second confirmation, after a takeover, is a hint.
    pub fn on_result(&mut self, rules: &Rules, now: Now, result: &v1::SessionResult, out: &mut Vec<Action>) {
        match self.state {
            State::Joining { request_id, .. } => {
                self.state = State::Live { epoch: result.epoch };
                self.since_ms = now.ms;
                self.told = result.head;
                self.acked = self.acked.min(self.told);
                out.push(write(
                    request_id,
                    server_frame::Frame::SignInResult(sign_in_result(rules, now, result)),
                ));
                self.on_room(out);
            }
            State::Live { .. } => self.on_hint(result.head, true, out),
            State::Fresh | State::Verifying(_) | State::Closing => {}
        }
    }

    /// The SessionStart was not taken: nothing of this session is in the log.
    pub(super) fn start_refused(&mut self, rules: &Rules, out: &mut Vec<Action>) {
        self.started = false;
        self.kick(rules, Close::Overloaded, out);
    }

    pub(super) fn start_reported(
        &mut self,
        rules: &Rules,
        outcome: Result<(), AppendError>,
        out: &mut Vec<Action>,
    ) {
        match &mut self.state {
            _ if outcome.is_err() => self.kick(rules, Close::AppendFailed, out),
            State::Joining { recorded, .. } => *recorded = true,
            _ => {}
        }
    }

    fn deny(&mut self, rules: &Rules, id: u64, denied: Denied, out: &mut Vec<Action>) {
        let (code, close) = match denied {
            Denied::Bad(_) => (Code::BadToken, Close::Unauthorized),
            Denied::Expired => (Code::TokenExpired, Close::Unauthorized),
            Denied::Busy => (Code::Busy, Close::Overloaded),
        };
        // A device leaves at the error, and waits for as long as that says.
        let fault = Fault { code, after_ms: close.after_ms(), detail: denied.to_string() };
        out.push(error(id, &fault, None));
        self.kick(rules, close, out);
    }
}

fn too_long(sign_in: &v1::SignIn) -> Option<&'static str> {
    [
        (sign_in.token.len() > TOKEN_BYTES_MAX, "token"),
        (sign_in.device_class.len() > DEVICE_CLASS_BYTES_MAX, "device_class"),
        (sign_in.client.len() > CLIENT_NAME_BYTES_MAX, "client"),
    ]
    .into_iter()
    .find_map(|(over, field)| over.then_some(field))
}

fn sign_in_result(rules: &Rules, now: Now, result: &v1::SessionResult) -> v1::SignInResult {
    let wire = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    v1::SignInResult {
        epoch: result.epoch,
        head: result.head,
        first: result.first,
        cursor: result.cursor,
        best_cursor: result.best_cursor,
        limits: Some(v1::Limits {
            frame_bytes_max: wire(CLIENT_FRAME_BYTES_MAX),
            body_bytes_max: wire(BODY_BYTES_MAX),
            unacked_sends_max: wire(UNACKED_SENDS_MAX),
            sync_entries_max: wire(SYNC_ENTRIES_MAX),
            group_members_max: rules.group_members_max,
        }),
        heartbeat_min_ms: rules.heartbeat_ms.0,
        heartbeat_max_ms: rules.heartbeat_ms.1,
        resume_ticket: Bytes::new(),
        resume_ticket_life_ms: 0,
        server_time_us: now.wall_us,
    }
}
