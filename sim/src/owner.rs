//! What a run says to conn nodes, and hears from them: the rules of the real shell's push and sync.

use std::collections::VecDeque;

use logic::timeline::{CompleteRoster, RosterAction, SessionGrant};
use prost::Message;
use proto::limits::SYNC_ENTRIES_MAX;
use proto::{UserId, v1};
use rand::RngExt;
use rand::rngs::SmallRng;
use storage::tables::Fence;

use crate::Mutation;
use crate::fault::Fault;
use crate::oracle::Violation;
use crate::shared::Shared;
use crate::timeline_run::TimelineRun;

/// The stream between a run and a conn node: in order both ways, and lost whole when it breaks.
pub struct Stream {
    /// Which node it goes to, and in which incarnation that was.
    pub node: String,
    /// The node's incarnation when the stream was made.
    pub incarnation: u64,
    /// To the node.
    pub down: VecDeque<v1::Down>,
    /// From the node.
    pub up: VecDeque<v1::Up>,
    /// False once it broke.
    pub alive: bool,
}

impl TimelineRun {
    fn stream(&mut self, fence: &Fence) -> Option<&mut Stream> {
        let (alive, any) = (|s: &&mut Stream| s.alive && s.node == fence.node, self.any_incarnation);
        self.streams.iter_mut().filter(alive).find(|s| any || s.incarnation == fence.incarnation)
    }

    pub(crate) fn push(
        &mut self,
        seq: u64,
        entry: &bytes::Bytes,
        to: &[Fence],
        shared: &Shared,
        rng: &mut SmallRng,
    ) -> Result<(), Violation> {
        if !self.is_active() {
            return Ok(());
        }
        let mut entry = v1::Entry::decode(entry.clone()).map_err(|e| e.to_string())?;
        entry.seq = seq;
        let push = v1::server_frame::Frame::Push(v1::Push { entries: vec![entry] });
        let frame: bytes::Bytes = v1::ServerFrame { reply_to: 0, frame: Some(push) }.encode_to_vec().into();
        for fence in to {
            let fits = !shared.faults.happens(Fault::RefusedPush, rng, 0.1);
            let links = vec![link(fence)];
            let down = v1::PushFrame { links, first: seq, last: seq, frame: frame.clone() };
            match self.stream(fence) {
                Some(stream) if fits => {
                    stream.down.push_back(v1::Down { down: Some(v1::down::Down::Push(down)) });
                }
                _ if !shared.breaks(Mutation::NoMark) => drop(self.marks.insert(fence.clone())),
                _ => {}
            }
        }
        Ok(())
    }

    /// A control frame that cannot be queued breaks its stream.
    pub(crate) fn control(
        &mut self,
        fence: &Fence,
        down: v1::down::Down,
        shared: &Shared,
        rng: &mut SmallRng,
    ) {
        if !self.is_active() {
            return;
        }
        let fits = !shared.faults.happens(Fault::RefusedControl, rng, 0.25);
        let Some(stream) = self.stream(fence) else { return };
        if fits {
            stream.down.push_back(v1::Down { down: Some(down) });
        } else if !shared.breaks(Mutation::NoBreak) {
            stream.alive = false;
        }
    }

    /// Tells the marked that they are behind.
    pub fn hint_marked(&mut self, shared: &Shared) -> Result<(), Violation> {
        if !self.is_active() || !self.effects.is_empty() {
            return Ok(());
        }
        for fence in std::mem::take(&mut self.marks) {
            let Some(user) = self.stage.session(&fence).cloned() else { continue };
            self.load(shared, vec![user.clone()])?;
            let head = self.stage.user(&user).map_or(0, |view| view.head);
            let hint = v1::LinkHint { link: Some(link(&fence)), head };
            match self.stream(&fence) {
                Some(stream) => stream.down.push_back(v1::Down { down: Some(v1::down::Down::Hint(hint)) }),
                None => drop(self.marks.insert(fence)),
            }
        }
        Ok(())
    }

    /// Takes what nodes said: rosters are compared, syncs answered.
    ///
    /// # Errors
    /// A stored row cannot be read.
    pub fn hear(&mut self, shared: &mut Shared, i: usize, rng: &mut SmallRng) -> Result<(), Violation> {
        // A roster waits until this run may act; so does all behind it.
        if !self.is_active() || !self.effects.is_empty() {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(i).filter(|s| s.alive) else { return Ok(()) };
        let node = stream.node.clone();
        match stream.up.pop_front().and_then(|up| up.up) {
            Some(v1::up::Up::Roster(roster)) => self.compare(shared, &node, &roster),
            Some(v1::up::Up::Sync(ask)) => self.sync(shared, i, &ask, rng),
            Some(v1::up::Up::Refused(_)) => {
                self.stopped = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn compare(&mut self, shared: &Shared, node: &str, roster: &v1::Roster) -> Result<(), Violation> {
        if shared.breaks(Mutation::NoRoster) {
            return Ok(());
        }
        let roster = CompleteRoster {
            incarnation: roster.incarnation,
            links: roster.links.clone(),
            bounds: roster.bounds.clone(),
        };
        let mut users = Vec::new();
        self.stage.roster_keys(node, &roster, &mut users);
        self.load(shared, users)?;
        let mut actions = Vec::new();
        self.stage.compare(node, &roster, &mut actions).map_err(|e| e.to_string())?;
        for action in actions {
            self.act(shared, action);
        }
        Ok(())
    }

    fn act(&mut self, shared: &Shared, action: RosterAction) {
        let (fence, down) = match action {
            RosterAction::Append(record) => return self.appends.push(record),
            RosterAction::Kick { .. } if shared.breaks(Mutation::NoKick) => return,
            RosterAction::Kick { fence, close } => {
                let reason = close.name().to_owned();
                let kick = v1::LinkKick { link: Some(link(&fence)), code: close.number(), reason };
                (fence, v1::down::Down::Kick(kick))
            }
            RosterAction::Result(mut grant) => {
                if shared.breaks(Mutation::CursorLeftOut) {
                    grant.cursor = 0;
                }
                let down = v1::down::Down::Result(result(&grant));
                (grant.fence, down)
            }
            RosterAction::Hint { fence, head } => {
                let hint = v1::LinkHint { link: Some(link(&fence)), head };
                (fence, v1::down::Down::Hint(hint))
            }
        };
        if let Some(stream) = self.stream(&fence) {
            stream.down.push_back(v1::Down { down: Some(down) });
        }
    }

    fn sync(
        &mut self,
        shared: &Shared,
        i: usize,
        ask: &v1::SyncAsk,
        rng: &mut SmallRng,
    ) -> Result<(), Violation> {
        let user = UserId::new(&ask.user).map_err(|e| e.to_string())?;
        self.load(shared, vec![user.clone()])?;
        let head = self.head(shared, &user);
        let first = self.stage.user(&user).map_or(1, |view| view.first);
        let trusts_row = shared.breaks(Mutation::StoredHead);
        // Not beyond the head: a later owner may have stored more, and the next answer would go back.
        let limit = u64::from(ask.limit.max(1)).min(head.saturating_sub(ask.after));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(SYNC_ENTRIES_MAX);
        let mut entries = shared.entries(&user, ask.after, limit)?;
        let is_whole = entries.len() == limit && ask.after <= head;
        // What a page has no room for is asked for again; here that is now and then after very few.
        entries.truncate(if rng.random_bool(0.5) { rng.random_range(1..=4) } else { limit });
        let result = if is_whole || trusts_row {
            let page = v1::SyncPage { entries, head, first, truncated: false };
            v1::sync_answer::Result::Page(page.encode_to_vec().into())
        } else {
            let fault = proto::Fault::new(proto::Code::StaleRead, "the page is not whole, or above the head");
            v1::sync_answer::Result::Error(fault.to_error(None))
        };
        let (link, request_id) = (ask.link, ask.request_id);
        let answer = v1::SyncAnswer { link, request_id, result: Some(result), told: head };
        if let Some(stream) = self.streams.get_mut(i) {
            stream.down.push_back(v1::Down { down: Some(v1::down::Down::SyncAnswer(answer)) });
        }
        Ok(())
    }

    /// Its process ends, or its streams do.
    pub fn break_streams(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.alive = false);
    }

    /// The stream to one node is replaced.
    pub fn break_streams_to(&mut self, node: &str) {
        self.streams.iter_mut().filter(|s| s.node == node).for_each(|s| s.alive = false);
    }
}

pub(crate) fn link(fence: &Fence) -> v1::LinkRef {
    v1::LinkRef { reactor: fence.reactor, link: fence.link }
}

pub(crate) fn result(grant: &SessionGrant) -> v1::SessionResult {
    v1::SessionResult {
        link: Some(link(&grant.fence)),
        epoch: grant.epoch,
        head: grant.head,
        first: grant.first,
        cursor: grant.cursor,
        best_cursor: grant.best_cursor,
    }
}
