//! Sends: taken in order, acknowledged in order, and none after one that failed.
//!
//! A send that is not taken is remembered by its (conversation, epoch, n); until exactly that one comes,
//! every other send of the link is refused, so that nothing overtakes it.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use proto::close::Close;
use proto::limits::{
    BODY_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX, ID_BYTES_MAX, UNACKED_SENDS_MAX,
};
use proto::partition;
use proto::v1::{self, send::Body, send::To, server_frame};
use proto::{Code, ConversationId, Fault, UserId};
use storage::log::{AppendError, Topic};

use super::{Action, Appended, Identity, Rules, Session, State, error, write};

/// Sends that were taken and not acknowledged, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// The number of the oldest.
    first: u32,
    waiting: VecDeque<Waiting>,
    /// Which send the youngest is; what the log may still refuse.
    last: Option<Ref>,
}

#[derive(Debug)]
struct Waiting {
    request_id: u64,
    /// None until it is reported.
    landed: Option<bool>,
}

/// The send that has to come before any other.
#[derive(Debug)]
pub(super) struct Refusal {
    send: Ref,
    /// It was refused for good: only a Void may come in its place.
    void_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ref {
    conversation: ConversationId,
    epoch: u64,
    n: u64,
}

impl Session {
    pub(super) fn send(&mut self, rules: &Rules, id: u64, send: v1::Send, out: &mut Vec<Action>) {
        if self.sends_over {
            return;
        }
        let Some(named) = self.named(rules, id, &send, out) else { return };
        if let Err(fault) = self.may_take(&named, &send) {
            return self.refuse(id, named, &fault, out);
        }
        if self.sends.as_ref().is_some_and(|sends| sends.waiting.len() >= UNACKED_SENDS_MAX) {
            return self.kick(rules, Close::TooManyUnacked, out);
        }
        let Some(identity) = &self.identity else { return };
        let record = submission(identity, &named.conversation, send);
        self.refusal = None;
        let number = self.sends_next;
        self.sends_next = number.wrapping_add(1);
        let sends = self.sends.get_or_insert_with(|| Box::new(Sends { first: number, ..Sends::default() }));
        sends.waiting.push_back(Waiting { request_id: id, landed: None });
        sends.last = Some(named);
        out.push(Action::Append {
            topic: Topic::Messages,
            partition: partition::of_conversation(&named.conversation, rules.partitions.messages),
            record,
            what: Appended::Send(number),
        });
    }

    /// The log did not take the record of the last [`Action::Append`].
    pub fn on_refused(&mut self, rules: &Rules, what: Appended, out: &mut Vec<Action>) {
        match what {
            Appended::Start => self.start_refused(rules, out),
            Appended::Send(number) => self.send_refused(number, out),
            Appended::End => {}
        }
    }

    /// The outcome of an append that was taken.
    pub fn on_report(
        &mut self,
        rules: &Rules,
        what: Appended,
        outcome: Result<(), AppendError>,
        out: &mut Vec<Action>,
    ) {
        match what {
            Appended::Start => self.start_reported(rules, outcome, out),
            Appended::Send(number) => self.send_reported(rules, number, outcome.is_ok(), out),
            Appended::End => {}
        }
    }

    /// The appends under way will never be reported: their producer is gone.
    pub fn on_reports_lost(&mut self, rules: &Rules, out: &mut Vec<Action>) {
        if self.sends.is_some() || matches!(self.state, State::Joining { recorded: false, .. }) {
            self.kick(rules, Close::AppendFailed, out);
        }
    }

    /// Refuses a send for a reason that has nothing to do with what is in it.
    pub(super) fn refuse_send(
        &mut self,
        rules: &Rules,
        id: u64,
        send: &v1::Send,
        fault: &Fault,
        out: &mut Vec<Action>,
    ) {
        if self.sends_over {
            return;
        }
        if let Some(named) = self.named(rules, id, send, out) {
            self.refuse(id, named, fault, out);
        }
    }

    /// Which send this is. One to nowhere has no place in any order: it is answered, and that is all. One
    /// without a number, or of an epoch that was never granted, can never be taken, nor voided.
    fn named(&mut self, rules: &Rules, id: u64, send: &v1::Send, out: &mut Vec<Action>) -> Option<Ref> {
        let conversation = match conversation(self.identity.as_ref()?, send) {
            Ok(conversation) => conversation,
            Err(fault) => {
                out.push(error(id, &fault, None));
                return None;
            }
        };
        let granted = if let State::Live { epoch } = self.state { epoch } else { u64::MAX };
        if send.n == 0 || send.epoch == 0 {
            self.kick(rules, Close::Malformed, out);
            return None;
        }
        if send.epoch > granted {
            self.kick(rules, Close::OutOfState, out);
            return None;
        }
        Some(Ref { conversation, epoch: send.epoch, n: send.n })
    }

    fn may_take(&self, named: &Ref, send: &v1::Send) -> Result<(), Fault> {
        match &self.refusal {
            Some(refusal) if refusal.send != *named => {
                Err(Fault::new(Code::RefusedEarlier, "an earlier send was refused and comes first"))
            }
            Some(refusal) if refusal.void_only && !matches!(send.body, Some(Body::Void(_))) => {
                check(send)?;
                Err(Fault::new(Code::InvalidArgument, "this number was refused for good: void it"))
            }
            _ => check(send),
        }
    }

    fn refuse(&mut self, id: u64, named: Ref, fault: &Fault, out: &mut Vec<Action>) {
        let for_good = fault.code.retry() == v1::Retry::Never;
        match &mut self.refusal {
            None => self.refusal = Some(Box::new(Refusal { send: named, void_only: for_good })),
            Some(refusal) if refusal.send == named => refusal.void_only |= for_good,
            Some(_) => {}
        }
        out.push(error(id, fault, Some(named.to_wire())));
    }

    fn send_refused(&mut self, number: u32, out: &mut Vec<Action>) {
        let Some(sends) = self.sends.as_mut().filter(|sends| sends.number_of_last() == Some(number)) else {
            return;
        };
        let (taken_back, named) = (sends.waiting.pop_back(), sends.last.take());
        self.sends_next = number;
        if sends.waiting.is_empty() {
            self.sends = None;
        }
        if let (Some(waiting), Some(named)) = (taken_back, named) {
            self.refuse(waiting.request_id, named, &Fault::new(Code::Busy, "the log is busy"), out);
        }
    }

    fn send_reported(&mut self, rules: &Rules, number: u32, landed: bool, out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        let Some(sends) = &mut self.sends else { return };
        sends.report(number, landed);
        self.sends_over |= !landed;
        while let Some(request_id) = sends.next_landed() {
            out.push(write(request_id, server_frame::Frame::SendAck(v1::SendAck {})));
        }
        if sends.waiting.is_empty() {
            self.sends = None;
            if let Some(close) = self.leaving {
                self.kick(rules, close, out);
            }
        } else if sends.failed_next() {
            self.kick(rules, Close::AppendFailed, out);
        }
    }
}

impl Sends {
    fn report(&mut self, number: u32, landed: bool) {
        let index = usize::try_from(number.wrapping_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(waiting) = self.waiting.get_mut(index) {
            waiting.landed = Some(landed);
        }
    }

    /// Takes the oldest out if it landed.
    fn next_landed(&mut self) -> Option<u64> {
        if self.waiting.front()?.landed != Some(true) {
            return None;
        }
        self.first = self.first.wrapping_add(1);
        self.waiting.pop_front().map(|waiting| waiting.request_id)
    }

    fn failed_next(&self) -> bool {
        self.waiting.front().is_some_and(|waiting| waiting.landed == Some(false))
    }

    fn number_of_last(&self) -> Option<u32> {
        let last = self.waiting.len().checked_sub(1)?;
        Some(self.first.wrapping_add(u32::try_from(last).ok()?))
    }
}

impl Ref {
    fn to_wire(self) -> v1::SendRef {
        v1::SendRef { conversation: self.conversation.to_bytes(), epoch: self.epoch, n: self.n }
    }
}

fn conversation(identity: &Identity, send: &v1::Send) -> Result<ConversationId, Fault> {
    match &send.to {
        Some(To::User(user)) => Ok(ConversationId::direct(&identity.user, &UserId::new(user)?)),
        Some(To::Group(group)) => Ok(ConversationId::from_slice(group)?),
        None => Err(Fault::new(Code::InvalidArgument, "to is missing")),
    }
}

fn submission(identity: &Identity, conversation: &ConversationId, send: v1::Send) -> Bytes {
    let submission = v1::Submission {
        conversation: conversation.to_bytes(),
        user: identity.user.as_str().into(),
        device: identity.device.as_str().into(),
        send: Some(send),
    };
    let record = v1::message_record::Record::Submission(submission);
    v1::MessageRecord { record: Some(record) }.encode_to_vec().into()
}

/// What can be said of a send without knowing the conversation.
fn check(send: &v1::Send) -> Result<(), Fault> {
    let group = matches!(send.to, Some(To::Group(_)));
    match &send.body {
        Some(Body::Message(message)) => at_most("body", message.data.len(), BODY_BYTES_MAX),
        Some(Body::Void(_)) => Ok(()),
        Some(Body::CreateGroup(create)) if group => check_create(create),
        Some(Body::AddMembers(add)) if group => check_users(&add.users, 1),
        Some(Body::RemoveMembers(remove)) if group => check_users(&remove.users, 1),
        Some(Body::RenameGroup(rename)) if group => at_most("name", rename.name.len(), GROUP_NAME_BYTES_MAX),
        Some(Body::LeaveGroup(_) | Body::DissolveGroup(_)) if group => Ok(()),
        Some(Body::Block(_) | Body::Unblock(_)) if !group => Ok(()),
        Some(_) => {
            Err(Fault::new(Code::InvalidArgument, "this command is for the other kind of conversation"))
        }
        None => Err(Fault::new(Code::InvalidArgument, "the body is missing, or of a kind that is not known")),
    }
}

fn check_create(create: &v1::CreateGroup) -> Result<(), Fault> {
    at_most("name", create.name.len(), GROUP_NAME_BYTES_MAX)?;
    at_most("request_key", create.request_key.len(), ID_BYTES_MAX)?;
    if create.request_key.is_empty() {
        return Err(Fault::new(Code::InvalidArgument, "request_key is empty"));
    }
    check_users(&create.members, 0)
}

fn check_users(users: &[String], least: usize) -> Result<(), Fault> {
    at_most("list of members", users.len(), GROUP_MEMBERS_MAX)?;
    if users.len() < least {
        return Err(Fault::new(Code::InvalidArgument, "the list of members is empty"));
    }
    users.iter().try_for_each(|user| UserId::new(user).map(drop)).map_err(Fault::from)
}

fn at_most(what: &str, length: usize, max: usize) -> Result<(), Fault> {
    if length <= max {
        return Ok(());
    }
    Err(Fault::new(Code::TooLarge, format!("{what}: {length} is over the limit of {max}")))
}
