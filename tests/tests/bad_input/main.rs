//! What a device can do wrong, against a whole server: each mistake gets its own error code or close code, and
//! nobody else notices.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test: it reads the clock, and ends where it must"
)]

mod frames;
mod sends;
mod tokens;

use std::path::Path;
use std::process::Command;

use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use serde_json::Value;
use tests::{Chat, Device, Server, binary, texts};

/// A server, and two devices that talk before and after whatever happens.
struct World {
    server: Server,
    ann: Chat,
    bob: Chat,
    _dir: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), "server", arguments);
        let chat = |name: &str| {
            Chat::start(name, "phone", &[server.address()], &server.data(), &dir.path().join(name))
        };
        let (mut ann, bob) = (chat("ann"), chat("bob"));
        ann.say("bob", "before", 1);
        ann.wait("the ack", |event| event["event"] == "acked");
        Self { server, ann, bob, _dir: dir }
    }

    fn device(&self) -> Device {
        Device::connect(self.server.address())
    }

    /// A link that is signed in, and its epoch.
    fn signed_in(&self, user: &str, device: &str) -> (Device, u64) {
        let mut link = self.device();
        let result = link.sign_in(&token(&self.server.data(), user, device));
        (link, result.epoch)
    }

    /// What was acknowledged is there, in order; what comes now arrives; both links were never broken.
    fn ends_well(mut self) {
        self.ann.say("bob", "after", 2);
        self.bob.wait("what comes now", |event| event["text"] == "after");
        assert_eq!(texts(&self.bob.entries()), ["before", "after"]);
        for chat in [&self.ann, &self.bob] {
            let broken = |event: &Value| event["event"] == "disconnected" || event["event"] == "kicked";
            assert!(!chat.events().iter().any(broken), "{:#?}", chat.events());
        }
    }
}

/// A token as `godwit token` prints it.
fn token(data: &Path, user: &str, device: &str) -> String {
    let mut command = Command::new(binary());
    command.args(["token", "--as", user, "--device", device, "--data"]).arg(data);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The link still answers.
fn goes_on(link: &mut Device) {
    link.send(1_000, C::Ping(v1::Ping::default()));
    assert!(matches!(link.next(), Some((1_000, S::Pong(_)))));
}
