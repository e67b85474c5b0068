//! Random schedules of one device against a small model of the server: links that break with frames on the
//! way, appends that fail between others that land, refusals, refusals for good, lost pushes, crashes of the
//! device. After each the world heals, and then: everything the app was promised is in the server's log
//! exactly once and in order; the app has seen every entry, in order, and twice only across a crash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use client::core::{Device, LinkAction, Millis, Settings, Start};
use client::store::{Change, Saved};
use client::{Event, Target};
use proto::{Code, DeviceId, Fault, UserId, v1};
use v1::client_frame::Frame as Up;
use v1::server_frame::Frame as Down;

const WINDOW: usize = 8;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// One link at the server: what is on the way in both directions, and what it refuses.
#[derive(Default)]
struct Link {
    up: VecDeque<v1::ClientFrame>,
    down: VecDeque<v1::ServerFrame>,
    refusing: Option<(String, u64, u64)>,
    epoch: u64,
    unacked: usize,
    /// An append failed: what follows still lands, unacknowledged, and then the link is closed.
    failing: bool,
}

#[derive(Default)]
struct Server {
    epoch: u64,
    judged: HashMap<String, (u64, u64)>,
    /// (to, text) in the order of the log.
    log: Vec<(String, String)>,
    timeline: u64,
    cursor: u64,
}

impl Server {
    fn judge(&mut self, to: &str, send: &v1::Send, link: &mut Link) {
        let (epoch, last) = self.judged.get(to).copied().unwrap_or_default();
        let follows = (send.epoch == epoch && send.n == last + 1) || (send.epoch > epoch && send.n == 1);
        if !follows {
            if (send.epoch, send.n) > (epoch, last) {
                link.down.push_back(error(0, Code::OutOfOrder));
            }
            return;
        }
        self.judged.insert(to.to_owned(), (send.epoch, send.n));
        match &send.body {
            Some(v1::send::Body::Message(message)) => {
                let text = String::from_utf8(message.data.to_vec()).unwrap();
                assert!(!text.ends_with("bad"), "a refused text came through");
                self.log.push((to.to_owned(), text));
                self.timeline += 1;
            }
            Some(v1::send::Body::Void(_)) => {}
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, request: u64, send: &v1::Send, link: &mut Link, dice: &mut Dice, faults: bool) {
        let Some(v1::send::To::User(to)) = &send.to else { panic!("{send:?}") };
        link.unacked += 1;
        assert!(link.unacked <= WINDOW.max(16), "over the window");
        assert!(send.epoch <= self.epoch);
        let number = (to.clone(), send.epoch, send.n);
        if link.refusing.as_ref().is_some_and(|refused| *refused != number) {
            link.unacked -= 1;
            return link.down.push_back(error(request, Code::RefusedEarlier));
        }
        link.refusing = None;
        let is_bad = matches!(&send.body, Some(v1::send::Body::Message(m)) if m.data.ends_with(b"bad"));
        if is_bad || faults && dice.percent(6) {
            link.unacked -= 1;
            link.refusing = Some(number);
            let code = if is_bad { Code::TooLarge } else { Code::Busy };
            return link.down.push_back(error(request, code));
        }
        if link.failing || faults && dice.percent(3) {
            if !std::mem::replace(&mut link.failing, true) && dice.percent(50) {
                return;
            }
            return self.judge(to, send, link);
        }
        self.judge(to, send, link);
        link.unacked -= 1;
        link.down.push_back(frame(request, Down::SendAck(v1::SendAck {})));
    }

    fn take(&mut self, link: &mut Link, dice: &mut Dice, faults: bool) {
        let Some(v1::ClientFrame { request_id, frame: Some(up) }) = link.up.pop_front() else { return };
        match up {
            Up::SignIn(_) => {
                self.epoch += 1;
                link.epoch = self.epoch;
                let limits = v1::Limits {
                    unacked_sends_max: WINDOW as u32,
                    sync_entries_max: 7,
                    ..v1::Limits::default()
                };
                let result = v1::SignInResult {
                    epoch: self.epoch,
                    head: self.timeline,
                    first: 1,
                    cursor: self.cursor,
                    best_cursor: self.cursor,
                    limits: Some(limits),
                    heartbeat_min_ms: 1_000,
                    heartbeat_max_ms: 2_000,
                    ..v1::SignInResult::default()
                };
                link.down.push_back(frame(request_id, Down::SignInResult(result)));
            }
            Up::Ping(_) => link.down.push_back(frame(0, Down::Pong(v1::Pong {}))),
            Up::Send(send) => self.send(request_id, &send, link, dice, faults),
            Up::Ack(ack) => {
                assert!(ack.seq >= self.cursor && ack.seq <= self.timeline, "acks rise");
                self.cursor = ack.seq;
            }
            Up::Sync(_) if faults && dice.percent(20) => {
                link.down.push_back(error(request_id, Code::StaleRead));
            }
            Up::Sync(sync) => {
                let to = (sync.after + u64::from(sync.limit).max(1)).min(self.timeline);
                let entries = (sync.after + 1..=to).map(entry).collect();
                let page = v1::SyncPage { entries, head: self.timeline, first: 1, truncated: false };
                link.down.push_back(frame(request_id, Down::SyncPage(page)));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Pushes what was stored since, or loses it and leaves a hint.
    fn push(&self, from: u64, link: &mut Link, dice: &mut Dice, faults: bool) {
        if link.epoch == 0 || from >= self.timeline {
            return;
        }
        let down = if faults && dice.percent(30) {
            Down::SyncHint(v1::SyncHint { head: self.timeline })
        } else {
            Down::Push(v1::Push { entries: (from + 1..=self.timeline).map(entry).collect() })
        };
        link.down.push_back(frame(0, down));
    }
}

fn frame(reply_to: u64, frame: Down) -> v1::ServerFrame {
    v1::ServerFrame { reply_to, frame: Some(frame) }
}

fn error(reply_to: u64, code: Code) -> v1::ServerFrame {
    frame(reply_to, Down::Error(Fault::new(code, "").to_error(None)))
}

fn entry(seq: u64) -> v1::Entry {
    v1::Entry { seq, sender: format!("s{seq}"), ..v1::Entry::default() }
}

fn settings() -> Settings {
    let mut settings = Settings::new(UserId::new("me").unwrap(), DeviceId::new("d").unwrap());
    settings.start = Start::All;
    settings
}

struct World {
    dice: Dice,
    now: Millis,
    device: Device,
    saved: Saved,
    server: Server,
    link: Option<Link>,
    /// Sends whose change is not durable yet, and those that are: (to, text).
    accepted: Vec<(String, String)>,
    promised: Vec<(String, String)>,
    refused: usize,
    seen: u64,
    texts: u64,
    faults: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: Millis(0),
            device: Device::new(settings(), Saved::default(), seed),
            saved: Saved::default(),
            server: Server::default(),
            link: None,
            accepted: vec![],
            promised: vec![],
            refused: 0,
            seen: 0,
            texts: 0,
            faults: true,
        }
    }

    fn say(&mut self) {
        let to = ["ann", "bob", "carol"][self.dice.below(3) as usize];
        self.texts += 1;
        let bad = if self.dice.percent(5) { "bad" } else { "" };
        let text = format!("{}{bad}", self.texts);
        let message = v1::Message { kind: 1, data: Bytes::from(text.clone()) };
        let target = Target::User(UserId::new(to).unwrap());
        self.device.send(target, v1::send::Body::Message(message)).unwrap();
        self.accepted.push((to.to_owned(), text));
    }

    fn store(&mut self) {
        while let Some(change) = self.device.poll_write() {
            if let Change::Queued(_) = &change {
                let text = self.accepted.remove(0);
                self.promised.push(text);
            }
            self.saved.apply(&change);
        }
        self.device.handle_written();
    }

    fn crash(&mut self) {
        // Some of what was to be stored may have been.
        for _ in 0..self.dice.below(3) {
            if let Some(change) = self.device.poll_write() {
                if let Change::Queued(_) = &change {
                    let text = self.accepted.remove(0);
                    self.promised.push(text);
                }
                self.saved.apply(&change);
            }
        }
        self.accepted.clear();
        self.link = None;
        self.seen = self.saved.cursor.unwrap_or(0);
        self.device = Device::new(settings(), self.saved.clone(), self.dice.below(1 << 30));
    }

    fn links(&mut self) {
        match self.device.poll_link() {
            Some(LinkAction::Connect { .. }) if self.faults && self.dice.percent(20) => {
                self.device.handle_connect_failed(self.now, "no".into());
            }
            Some(LinkAction::Connect { .. }) => {
                self.link = Some(Link::default());
                self.device.handle_connected(self.now, "t".into());
            }
            Some(LinkAction::Disconnect) => self.link = None,
            None => {}
        }
    }

    fn up(&mut self) {
        let Some(link) = &mut self.link else { return };
        if let Some(frame) = self.device.poll_frame(self.now) {
            link.up.push_back(frame);
        }
    }

    fn serve(&mut self) {
        let Some(link) = &mut self.link else { return };
        let before = self.server.timeline;
        self.server.take(link, &mut self.dice, self.faults);
        self.server.push(before, link, &mut self.dice, self.faults);
        if link.failing && self.dice.percent(40) {
            self.cut();
        }
    }

    fn down(&mut self) {
        let Some(link) = &mut self.link else { return };
        if let Some(frame) = link.down.pop_front() {
            self.device.handle_frame(self.now, frame);
        }
    }

    fn other(&mut self) {
        let before = self.server.timeline;
        self.server.timeline += 1 + self.dice.below(3);
        if let Some(link) = &mut self.link {
            self.server.push(before, link, &mut self.dice, self.faults);
        }
    }

    fn cut(&mut self) {
        if self.link.take().is_some() {
            self.device.handle_closed(self.now);
        }
    }

    fn go_away(&mut self) {
        let away = v1::GoAway { code: 3000, within_ms: 300, addresses: vec![] };
        if let Some(link) = self.link.as_mut().filter(|link| link.epoch > 0) {
            link.down.push_back(frame(0, Down::GoAway(away)));
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.device.poll_event() {
            match event {
                Event::Entry(entry) => {
                    assert_eq!((entry.seq, entry.sender), (self.seen + 1, format!("s{}", self.seen + 1)));
                    self.seen += 1;
                    if self.dice.percent(90) || !self.faults {
                        self.device.taken(self.now, self.seen);
                    }
                }
                Event::Refused { .. } => self.refused += 1,
                Event::Truncated { .. } | Event::Kicked { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    }

    fn time(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        if self.device.poll_deadline().is_some_and(|at| at <= self.now) {
            self.device.handle_deadline(self.now);
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..12 => self.say(),
            12..30 => self.up(),
            30..48 => self.serve(),
            48..66 => self.down(),
            66..76 => self.store(),
            76..82 => self.events(),
            82..86 => self.links(),
            86..89 => self.other(),
            89..96 => {
                let ms = [1, 20, 400, 3_000][self.dice.below(4) as usize];
                self.time(ms);
            }
            96..98 => self.cut(),
            98 => self.go_away(),
            _ if self.dice.percent(50) => self.crash(),
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.faults = false;
        self.cut();
        for _ in 0..100_000 {
            self.store();
            self.links();
            (0..4).for_each(|_| self.up());
            (0..4).for_each(|_| self.serve());
            (0..8).for_each(|_| self.down());
            self.events();
            self.time(50);
            let is_done = self.device.unacked() == 0 && self.server.cursor == self.server.timeline;
            if is_done && self.device.is_live() && !self.device.has_writes() {
                return;
            }
        }
        panic!("unacked {}, seen {} of {}", self.device.unacked(), self.seen, self.server.timeline);
    }

    fn check(&self) {
        for to in ["ann", "bob", "carol"] {
            let of = |list: &[(String, String)]| -> Vec<String> {
                let texts = list.iter().filter(|(t, text)| t == to && !text.ends_with("bad"));
                texts.map(|(_, text)| text.clone()).collect()
            };
            assert_eq!(of(&self.server.log), of(&self.promised), "{to}");
        }
        assert_eq!(self.seen, self.server.timeline);
        assert!(self.saved.outbox.is_empty());
    }
}

#[test]
fn everything_promised_arrives_once_and_in_order_whatever_happens_to_the_links() {
    let (mut sent, mut refused, mut entries) = (0, 0, 0);
    for seed in 0..3_000 {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.heal();
            world.check();
            (world.promised.len(), world.refused, world.server.timeline)
        });
        let (s, r, e) = run.unwrap_or_else(|_| panic!("seed {seed}"));
        (sent, refused, entries) = (sent + s, refused + r, entries + e);
    }
    assert!(sent > 50_000 && refused > 1_000 && entries > 50_000, "{sent} {refused} {entries}");
}

#[test]
fn a_device_restored_from_a_backup_doubles_nothing() {
    let mut resent = 0;
    for seed in 0..500 {
        let mut world = World::new(seed);
        world.faults = false;
        let mut backup = None;
        for i in 0..600 {
            world.step();
            if i == 200 {
                backup = Some(world.saved.clone());
            }
        }
        world.saved = backup.unwrap();
        let (mut unnumbered, mut numbered) = (vec![], 0);
        for send in &world.saved.outbox {
            match &send.body {
                v1::send::Body::Message(m) if send.number.is_none() => {
                    unnumbered.push(String::from_utf8(m.data.to_vec()).unwrap());
                }
                _ => numbered += 1,
            }
        }
        world.device = Device::new(settings(), world.saved.clone(), seed);
        (world.link, world.seen) = (None, world.saved.cursor.unwrap_or(0));
        world.accepted.clear();
        // The server has heard acks beyond the backup; the device begins below them and says nothing.
        for _ in 0..200 {
            world.say();
            world.store();
        }
        for _ in 0..3_000 {
            world.links();
            world.up();
            world.serve();
            world.down();
            world.store();
            while world.device.poll_event().is_some() {}
            world.time(20);
        }
        assert_eq!(world.device.unacked(), 0, "seed {seed}");
        // A text that had no number when the backup was made is a new one to everybody.
        let mut seen = HashMap::new();
        world.server.log.iter().for_each(|(_, text)| *seen.entry(text).or_insert(0) += 1);
        for text in seen.iter().filter(|(_, count)| **count > 1).map(|(text, _)| *text) {
            assert!(unnumbered.contains(text), "seed {seed}: {text} is doubled");
        }
        resent += numbered;
    }
    assert!(resent > 500, "{resent}");
}
