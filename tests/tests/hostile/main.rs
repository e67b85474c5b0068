//! Links that mean harm, against a whole server: each kind of attack has a bound on the memory that it takes and on
//! what two honest devices feel that talk to each other meanwhile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test: it reads the clock, and ends where it must"
)]

mod backlog;
mod bombs;
mod floods;
mod forgers;
mod impostors;
mod neighbours;
mod rates;
mod slow;

use std::thread;
use std::time::Duration;

use client::development::{Key, find_key};
use neighbours::{Felt, Neighbours};
use proto::v1::{client_frame::Frame as C, server_frame::Frame as S};
use proto::{Code, DeviceId, UserId};
use tests::{Device, Server};

const MIB: u64 = 1024 * 1024;
/// What neighbours may feel: far above what they do, because machines of tests are shared.
const FELT_MAX: Duration = Duration::from_secs(3);
/// Before a send to a server that is too busy comes again.
const AGAIN: Duration = Duration::from_millis(3);

/// A server and its key.
struct World {
    server: Server,
    key: Key,
    _dir: tempfile::TempDir,
}

impl World {
    fn start(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let server = Server::start(dir.path(), "server", &arguments);
        let key = Key::read(&find_key(&server.data())).unwrap();
        Self { server, key, _dir: dir }
    }

    fn token(&self, user: &str, device: &str) -> String {
        self.key.token(&UserId::new(user).unwrap(), &DeviceId::new(device).unwrap(), 600)
    }

    fn device(&self) -> Device {
        Device::connect(self.server.address())
    }

    /// A link that is signed in, and its epoch.
    fn signed_in(&self, user: &str, device: &str) -> (Device, u64) {
        let mut link = self.device();
        let epoch = link.sign_in(&self.token(user, device)).epoch;
        (link, epoch)
    }

    /// Two devices talk, first in peace and then during an attack: what they felt is within bounds, nothing of what
    /// they said is lost, and neither of their links ever ended. At no moment the server has more than `bytes` of memory
    /// more than before. Returns what the attack returns.
    fn under_attack<T>(&self, what: &str, bytes: u64, attack: impl FnOnce() -> T) -> T {
        let neighbours = Neighbours::start(self);
        let quiet = neighbours.felt_in_peace();
        self.server.forget_peak();
        let before = self.server.resident_bytes();
        let outcome = attack();
        let Felt { messages, p99 } = neighbours.end();
        let took = self.server.peak_bytes().saturating_sub(before);
        let ratio = p99.as_secs_f64() / quiet.p99.as_secs_f64();
        println!("{what}: {messages} messages, p99 {p99:?}; {ratio:.1} times the {:?} in peace", quiet.p99);
        println!("{what}: {} KiB of memory, at most {} KiB", took / 1024, bytes / 1024);
        assert!(p99 <= FELT_MAX, "{what}: neighbours felt {p99:?}");
        assert!(took <= bytes, "{what}: {took} bytes of memory, at most {bytes}");
        outcome
    }

    /// Bytes that the reactors keep of what links have not sent whole or not read; as of a second ago.
    fn buffered_bytes(&self) -> f64 {
        self.server.buffered_bytes()
    }

    fn metric(&self, name: &str) -> f64 {
        self.server.metric(name).unwrap_or(0.0)
    }

    fn closes(&self, close: proto::close::Close) -> f64 {
        self.server.closes(close)
    }
}

/// Sends it, again where the server is too busy, until it is acknowledged and the sender's own entry is there.
fn say(sender: &mut Device, request: u64, send: &C) {
    let (mut acked, mut pushed) = (false, false);
    sender.send(request, send.clone());
    while !(acked && pushed) {
        match sender.next().expect("the link lives") {
            (id, S::SendAck(_)) => {
                assert_eq!(id, request);
                acked = true;
            }
            (_, S::Push(_)) => pushed = true,
            (id, S::Error(error)) if error.code == Code::Busy.number() => {
                thread::sleep(AGAIN);
                sender.send(id, send.clone());
            }
            other => panic!("the sender is told {other:?}"),
        }
    }
}
