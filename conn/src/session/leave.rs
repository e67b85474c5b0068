//! How a session ends: by a kick of ours, by the owner's, by the device's going, or in good order.
//! Decides for each whether a SessionEnd is appended.

use proto::close::Close;
use proto::v1::{self, server_frame};
use storage::log::Topic;

use super::{Action, Appended, Rules, Session, State, write};

impl Session {
    /// Ends the session now: a Kick is the last frame, then the link is closed.
    pub fn on_close(&mut self, rules: &Rules, close: Close, out: &mut Vec<Action>) {
        self.kick(rules, close, out);
    }

    /// The device is gone: its socket ended or broke.
    pub fn on_gone(&mut self, rules: &Rules, out: &mut Vec<Action>) {
        if !self.is_closing() {
            self.end(rules, out);
        }
        self.state = State::Closing;
    }

    /// The owner's word that this session is no more; so its end is in the log or need not be.
    pub fn on_kick(&mut self, kick: &v1::LinkKick, out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        let code = Close::from_number(kick.code).unwrap_or(Close::SessionUnknown);
        self.say_goodbye(kick.code, &kick.reason, code, out);
    }

    /// Tells the device to connect elsewhere within a time. The session goes on.
    pub fn on_go_away(&mut self, code: Close, within_ms: u32, out: &mut Vec<Action>) {
        if !self.is_closing() {
            let go_away = v1::GoAway { code: code.number(), within_ms, addresses: Vec::new() };
            out.push(write(0, server_frame::Frame::GoAway(go_away)));
        }
    }

    /// Closes the link as soon as every send that was taken is acknowledged; takes no more until then.
    pub fn on_leave(&mut self, rules: &Rules, close: Close, out: &mut Vec<Action>) {
        if self.sends.is_none() {
            return self.kick(rules, close, out);
        }
        self.sends_over = true;
        self.leaving = Some(close);
    }

    pub(super) fn kick(&mut self, rules: &Rules, close: Close, out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        // With the lease every session of this incarnation is void: nothing is left to end.
        if close != Close::LeaseLost {
            self.end(rules, out);
        }
        self.say_goodbye(close.number(), close.name(), close, out);
    }

    fn say_goodbye(&mut self, code: u32, reason: &str, close: Close, out: &mut Vec<Action>) {
        let kick = v1::Kick { code, reason: reason.into(), after_ms: close.after_ms() };
        out.push(write(0, server_frame::Frame::Kick(kick)));
        out.push(Action::Close(close));
        self.state = State::Closing;
    }

    fn end(&self, rules: &Rules, out: &mut Vec<Action>) {
        if let Some(identity) = self.identity.as_ref().filter(|_| self.started) {
            out.push(Action::Append {
                topic: Topic::Timelines,
                partition: identity.partition,
                record: rules.session_end(self.link, identity.user.as_str()),
                what: Appended::End,
            });
        }
    }
}
