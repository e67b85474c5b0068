//! What must hold of a device whatever a server says to it. A violation panics. For tests, and for the fuzz targets
//! under `fuzz/`.

use bytes::{Buf, Bytes};
use proto::v1::{self, server_frame::Frame};
use proto::{DeviceId, UserId};

use super::{Device, Event, LinkAction, Millis, Settings};
use crate::outbox::Target;
use crate::store::Saved;

/// Bytes of one frame of the server's.
const FRAME_BYTES_MAX: usize = 255;

/// The bytes are a script: each step a letter, and what it takes. Whatever the server says, nothing panics; the app
/// sees every seq once and in order, or is told of a gap; and a send is acknowledged to it once.
pub fn device(bytes: &[u8]) {
    let (ann, phone) = (UserId::new("ann").expect("an id"), DeviceId::new("phone").expect("an id"));
    let mut world = World {
        device: Device::new(Settings::new(ann, phone), Saved::default(), 7),
        now: Millis(0),
        seq: None,
        sent: 0,
        acked: 0,
        refused: 0,
        requests: 0,
    };
    let mut script = bytes;
    while script.has_remaining() {
        let letter = script.get_u8();
        world.step(letter, &mut script);
        world.poll();
    }
}

struct World {
    device: Device,
    now: Millis,
    /// Of the last entry that the app was given.
    seq: Option<u64>,
    sent: usize,
    acked: usize,
    refused: usize,
    /// The highest request that the device made.
    requests: u64,
}

impl World {
    fn step(&mut self, letter: u8, script: &mut &[u8]) {
        let now = self.now;
        match letter % 10 {
            0 => self.device.handle_message(now, &piece(script)),
            1 => self.say(1, Frame::SignInResult(result(byte(script), byte(script)))),
            2 => {
                let request = self.requests.saturating_sub(u64::from(byte(script)));
                self.say(request, Frame::SendAck(v1::SendAck {}));
            }
            3 => self.say(0, Frame::Push(v1::Push { entries: entries(script) })),
            4 => {
                let (head, first) = (u64::from(byte(script)), u64::from(byte(script)));
                let page = v1::SyncPage { head, first, truncated: head % 2 == 1, entries: entries(script) };
                self.say(self.requests, Frame::SyncPage(page));
            }
            5 => self.error(script),
            6 => self.device.handle_closed(now),
            7 => self.send(),
            8 => self.device.taken(now, u64::from(byte(script))),
            _ => {
                self.now = now.after(u64::from(byte(script)) * 100);
                self.device.handle_deadline(self.now);
            }
        }
    }

    fn say(&mut self, reply_to: u64, frame: Frame) {
        self.device.handle_frame(self.now, v1::ServerFrame { reply_to, frame: Some(frame) });
    }

    fn error(&mut self, script: &mut &[u8]) {
        let request = self.requests.saturating_sub(u64::from(byte(script)));
        let retry = i32::from(byte(script) % 6);
        let code = if byte(script).is_multiple_of(2) { 1402 } else { 1500 };
        self.say(request, Frame::Error(v1::Error { code, retry, ..v1::Error::default() }));
    }

    fn send(&mut self) {
        let message = v1::Message { kind: 1, data: Bytes::from_static(b"hi") };
        let to = Target::User(UserId::new("bob").expect("an id"));
        self.sent += usize::from(self.device.send(to, v1::send::Body::Message(message)).is_ok());
    }

    /// What a driver does with what the core has for it.
    fn poll(&mut self) {
        while let Some(action) = self.device.poll_link() {
            if let LinkAction::Connect { .. } = action {
                self.device.handle_connected(self.now, "token".into());
            }
        }
        while self.device.poll_write().is_some() {}
        self.device.handle_written();
        while let Some(frame) = self.device.poll_frame(self.now) {
            self.requests = self.requests.max(frame.request_id);
        }
        while let Some(event) = self.device.poll_event() {
            self.event(&event);
        }
        assert!(self.acked + self.refused <= self.sent, "told more than once of a send");
        assert!(self.device.unacked() + self.acked <= self.sent);
        assert!(self.device.cursor() <= self.device.known());
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Entry(entry) => {
                assert!(self.seq.is_none_or(|seq| seq.checked_add(1) == Some(entry.seq)), "{:?}", self.seq);
                self.seq = Some(entry.seq);
            }
            Event::Truncated { first } => {
                assert!(self.seq.is_none_or(|seq| seq < *first));
                self.seq = first.checked_sub(1);
            }
            Event::Acked(_) => self.acked += 1,
            Event::Refused { .. } => self.refused += 1,
            _ => {}
        }
    }
}

fn byte(script: &mut &[u8]) -> u8 {
    script.try_get_u8().unwrap_or(0)
}

/// Bytes of the script, their number in front.
fn piece(script: &mut &[u8]) -> Bytes {
    let length = usize::from(byte(script)).min(FRAME_BYTES_MAX).min(script.remaining());
    script.copy_to_bytes(length)
}

fn result(epoch: u8, head: u8) -> v1::SignInResult {
    v1::SignInResult { epoch: epoch.into(), head: head.into(), first: 1, ..v1::SignInResult::default() }
}

/// Entries whose seqs stand in the script, their number in front.
fn entries(script: &mut &[u8]) -> Vec<v1::Entry> {
    let seqs = piece(script);
    seqs.iter().map(|seq| v1::Entry { seq: u64::from(*seq), ..v1::Entry::default() }).collect()
}
