//! A device: the real client core with its store, an app that takes what comes, and now and then a crash or a
//! backup that is put back.

use std::collections::BTreeSet;

use client::core::{Device as Core, Event, LinkAction, Millis, Settings, Start};
use client::store::{Memory, Store};
use conn::session::Verified;
use prost::Message;
use proto::{ConversationId, UserId, v1};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};

use crate::Mutation;
use crate::check::View;
use crate::fault::Fault;
use crate::node::Node;
use crate::oracle::Oracle;
use crate::shared::Shared;

/// One device of one user.
pub struct Device {
    /// Its place among the devices.
    pub index: usize,
    who: Verified,
    core: Core,
    store: Memory,
    backup: Option<Memory>,
    /// The store before the last turn's changes; for a mutation alone.
    before: Memory,
    /// Sends that the server will never take.
    voided: BTreeSet<(ConversationId, u64, u64)>,
    /// What it has seen and been promised.
    pub view: View,
    /// The node's place and the link's key there.
    pub link: Option<(usize, u64)>,
}

impl Device {
    /// A device that has never been on.
    #[must_use]
    pub fn new(index: usize, who: Verified, rng: &mut SmallRng) -> Self {
        let view = View { user: who.user.to_string(), device: who.device.to_string(), ..View::default() };
        let core = Core::new(settings(&who), Memory::default().saved(), rng.next_u64());
        Self {
            index,
            who,
            core,
            store: Memory::default(),
            backup: None,
            before: Memory::default(),
            voided: BTreeSet::new(),
            view,
            link: None,
        }
    }

    /// The core, for the app's calls.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Whether a copy of the store is kept.
    #[must_use]
    pub fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// Keeps a copy of the store.
    pub fn back_up(&mut self) {
        self.backup = Some(self.store.clone());
    }

    /// The process dies and starts again, from its store or from the backup. The old link is left half open.
    pub fn restart(&mut self, from_backup: bool, shared: &Shared, rng: &mut SmallRng) {
        if from_backup {
            let Some(backup) = &self.backup else { return };
            self.store = backup.clone();
            self.view.restored = true;
        } else if shared.breaks(Mutation::NumberNotDurable) {
            self.store = self.before.clone();
        }
        if shared.breaks(Mutation::CursorBeforeApp) {
            // What the app was about to take when it died.
            self.view.shown.pop_if(|entry| self.store.saved().cursor >= Some(entry.seq));
        }
        // What the app took just before may not be stored yet: it is shown again.
        self.view.starts.push(self.view.shown.len());
        self.core = Core::new(settings(&self.who), self.store.saved(), rng.next_u64());
        self.link = None;
    }

    /// One turn of the driver.
    ///
    /// # Errors
    /// The store failed, which it cannot.
    pub fn turn(&mut self, shared: &Shared, nodes: &mut [Node], rng: &mut SmallRng) -> Result<(), String> {
        let now = Millis(shared.now_us / 1_000);
        if self.core.poll_deadline().is_some_and(|due| due <= now) {
            self.core.handle_deadline(now);
        }
        self.take_events(shared, now);
        self.write(shared)?;
        while let Some(action) = self.core.poll_link() {
            match action {
                LinkAction::Connect { .. } => self.connect(shared, nodes, now, rng),
                LinkAction::Disconnect => self.disconnect(shared, nodes, rng),
            }
        }
        self.write(shared)?;
        if let Some((node, key)) = self.link
            && let Some(link) = nodes.get_mut(node).and_then(|node| node.links.get_mut(&key))
        {
            while let Some(frame) = self.core.poll_frame(now) {
                if let Some(v1::client_frame::Frame::Send(send)) = &frame.frame {
                    let conversation = conversation(&self.who.user, send);
                    let known = self.view.sent.entry((conversation, send.epoch, send.n));
                    let known = known.or_insert_with(|| send.clone());
                    if known.body != send.body && !matches!(send.body, Some(v1::send::Body::Void(_))) {
                        let words = format!("({}, {}) was sent as two things", send.epoch, send.n);
                        shared.witness.borrow_mut().object(Oracle::AsSent.says(words));
                    }
                }
                link.up.push_back(frame);
            }
        }
        Ok(())
    }

    /// The device reads one frame of its link.
    pub fn read(&mut self, shared: &Shared, nodes: &mut [Node]) {
        let now = Millis(shared.now_us / 1_000);
        let Some((node, key)) = self.link else { return };
        let Some(node) = nodes.get_mut(node) else { return };
        let Some(link) = node.links.get_mut(&key) else {
            self.link = None;
            return self.core.handle_closed(now);
        };
        if link.frozen_down {
            return;
        }
        match link.down.pop_front() {
            Some(Some(frame)) => {
                shared.witness.borrow_mut().heard(self.who.device.as_str(), &frame);
                self.core.handle_message(now, &frame.encode_to_vec());
            }
            Some(None) => {
                node.links.remove(&key);
                self.link = None;
                self.core.handle_closed(now);
            }
            None => {}
        }
        self.take_events(shared, now);
    }

    /// Whether everything said is acknowledged and everything heard of has been shown.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.core.is_live() && self.core.unacked() == 0 && self.core.cursor() >= self.core.known()
    }

    /// Whether no frame is on its way to it or from it.
    #[must_use]
    pub fn is_quiet(&self, nodes: &[Node]) -> bool {
        let link = self.link.and_then(|(node, key)| nodes.get(node)?.links.get(&key));
        link.is_some_and(|link| link.up.is_empty() && link.down.is_empty())
    }

    /// For a failure's words.
    #[must_use]
    pub fn describe(&self) -> String {
        let core = &self.core;
        format!(
            "{}/{}: live {}, unacked {}, cursor {} of {}",
            self.view.user,
            self.view.device,
            core.is_live(),
            core.unacked(),
            core.cursor(),
            core.known()
        )
    }

    /// The app is given an entry. By then it and its body are stored.
    fn show(&mut self, shared: &Shared, entry: &v1::Entry) {
        let mut witness = shared.witness.borrow_mut();
        let (user, device) = (self.who.user.as_str(), self.who.device.as_str());
        witness.shown(user, device, entry);
        let key = (self.who.user.clone(), entry.seq);
        let id = ConversationId::from_slice(&entry.conversation);
        let has_body = entry.no == 0 || id.is_ok_and(|id| shared.store.history.contains_key(&(id, entry.no)));
        if !has_body || !shared.store.entries.contains_key(&key) {
            let words = format!("{device} is shown entry {} before it is stored", entry.seq);
            witness.object(Oracle::StoredFirst.says(words));
        }
    }

    fn connect(&mut self, shared: &Shared, nodes: &mut [Node], now: Millis, rng: &mut SmallRng) {
        let i = rng.random_range(0..nodes.len());
        let Some(node) = nodes.get_mut(i) else { return };
        self.link = Some((i, node.accept(shared, self.index, self.who.clone())));
        self.core.handle_connected(now, "token".to_owned());
    }

    fn disconnect(&mut self, shared: &Shared, nodes: &mut [Node], rng: &mut SmallRng) {
        let Some((node, key)) = self.link.take() else { return };
        // Half of the closes never reach the server.
        if !shared.faults.happens(Fault::HalfOpenLink, rng, 0.5)
            && let Some(node) = nodes.get_mut(node)
        {
            node.lose(shared, key, rng);
        }
    }

    fn write(&mut self, shared: &Shared) -> Result<(), String> {
        let mut changes = Vec::new();
        while let Some(change) = self.core.poll_write() {
            changes.push(change);
        }
        if shared.breaks(Mutation::NumberNotDurable) && !changes.is_empty() {
            self.before = self.store.clone();
        }
        self.store.commit(&changes).map_err(|e| e.to_string())?;
        self.core.handle_written();
        Ok(())
    }

    fn take_events(&mut self, shared: &Shared, now: Millis) {
        while let Some(event) = self.core.poll_event() {
            match event {
                Event::Entry(entry) => {
                    self.show(shared, &entry);
                    self.core.taken(now, entry.seq);
                    self.view.shown.push(*entry);
                }
                Event::Acked(sent) => {
                    let key = (sent.conversation, sent.number.epoch, sent.number.n);
                    self.view.acked.insert(key, self.voided.contains(&key));
                }
                Event::Refused { sent, .. } => {
                    self.voided.insert((sent.conversation, sent.number.epoch, sent.number.n));
                }
                Event::Kicked { .. } => self.core.reconnect(),
                _ => {}
            }
        }
    }
}

fn conversation(user: &UserId, send: &v1::Send) -> Option<ConversationId> {
    match &send.to {
        Some(v1::send::To::User(peer)) => Some(ConversationId::direct(user, &UserId::new(peer).ok()?)),
        Some(v1::send::To::Group(group)) => ConversationId::from_slice(group).ok(),
        None => None,
    }
}

fn settings(who: &Verified) -> Settings {
    Settings { start: Start::All, ..Settings::new(who.user.clone(), who.device.clone()) }
}
