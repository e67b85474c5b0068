//! Calls of links, on their way to whoever answers them, and the way back.

use std::sync::Arc;

use proto::v1::{self, link_call_result};
use proto::{Code, Fault};

use crate::mailbox::{Class, Mail, Mailbox};

/// A call of a link.
#[derive(Debug)]
pub struct CallRequest {
    /// The call, with the user and device that make it; both are verified.
    pub call: v1::LinkCall,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Takes one answer back to the link. Dropped without one, it answers that nobody does.
#[derive(Debug)]
pub struct Reply {
    mailbox: Arc<Mailbox>,
    link: u64,
    request_id: u64,
    sent: bool,
}

impl Reply {
    pub(crate) fn new(mailbox: Arc<Mailbox>, link: u64, request_id: u64) -> Self {
        Self { mailbox, link, request_id, sent: false }
    }

    /// Answers the call.
    pub fn send(mut self, result: link_call_result::Result) {
        self.post(result);
    }

    fn post(&mut self, result: link_call_result::Result) {
        self.sent = true;
        let mail = Mail::CallResult { link: self.link, request_id: self.request_id, result };
        let _ = self.mailbox.post(mail, Class::Answer);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            let fault = Fault::new(Code::Unavailable, "nobody answers calls at the moment");
            self.post(link_call_result::Result::Error(fault.to_error(None)));
        }
    }
}
