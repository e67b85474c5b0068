//! What devices were told, as it happened: judged at once where waiting would hide it.

use std::collections::BTreeMap;

use proto::v1;

use crate::oracle::{Oracle, Violation};

/// Everything that was told so far, and the first thing that was wrong with it.
#[derive(Default)]
pub struct Witness {
    first: Option<Violation>,
    /// By user and seq.
    shown: BTreeMap<(String, u64), v1::Entry>,
    /// By device: the highest seq shown to it, and the cursor that it was told last.
    devices: BTreeMap<String, (u64, u64)>,
    /// Heads that devices were told, each compared with what the device had seen.
    pub(crate) heads: usize,
}

impl Witness {
    /// Something is wrong.
    pub(crate) fn object(&mut self, violation: Violation) {
        self.first.get_or_insert(violation);
    }

    /// An entry was shown to a device of a user.
    pub(crate) fn shown(&mut self, user: &str, device: &str, entry: &v1::Entry) {
        let (seen, _) = self.devices.entry(device.to_owned()).or_default();
        *seen = entry.seq.max(*seen);
        let known = self.shown.entry((user.to_owned(), entry.seq)).or_insert_with(|| entry.clone());
        if known != entry {
            let words = format!("{user}: entry {} was shown as two things", entry.seq);
            self.object(Oracle::Unchanged.says(words));
        }
    }

    /// A frame has come to a device: whoever says it knows at least what the device has seen.
    pub(crate) fn heard(&mut self, device: &str, frame: &v1::ServerFrame) {
        use v1::server_frame::Frame;
        let (seen, cursor) = self.devices.entry(device.to_owned()).or_default();
        let (head, told) = match &frame.frame {
            Some(Frame::SignInResult(result)) => (result.head, result.cursor),
            Some(Frame::SyncPage(page)) => (page.head, *cursor),
            _ => return,
        };
        let (seen, cursor) = (*seen, std::mem::replace(cursor, told));
        self.heads += 1;
        if head < seen {
            self.object(Oracle::Forward.says(format!("{device} has seen {seen}, and is told of {head}")));
        }
        if told < cursor || told > seen {
            let words = format!("{device} has seen {seen}; its cursor goes from {cursor} to {told}");
            self.object(Oracle::Forward.says(words));
        }
    }

    /// The first violation.
    pub(crate) fn verdict(&mut self) -> Result<(), Violation> {
        self.first.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
