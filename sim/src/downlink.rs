//! What a conn node hears of the owners of its users' timelines, as the downlink of a real one does.

use std::collections::VecDeque;

use proto::partition::Partition;
use proto::v1;
use rand::rngs::SmallRng;
use storage::log::Topic;
use storage::tables::Fence;

use conn::session::Appended;

use crate::Mutation;
use crate::fault::Fault;
use crate::node::{Link, Node, now};
use crate::oracle::Oracle;
use crate::owner::Stream;
use crate::shared::Shared;

impl Node {
    /// Opens a stream: refused below the highest term seen, else answered by the roster.
    pub fn open(&mut self, shared: &Shared, partition: Partition, term: u64) -> Option<Stream> {
        let known = self.terms.entry(partition).or_insert(0);
        if term < *known && !shared.breaks(Mutation::NoTerm) {
            return None;
        }
        *known = term.max(*known);
        let of_partition = |l: &&Link| l.session.partition() == Some(partition);
        let ahead = if shared.breaks(Mutation::BoundAhead) { 3 } else { 0 };
        let links =
            self.links.values().filter(of_partition).filter_map(|l| l.session.roster(&self.rules)).collect();
        let roster = v1::Roster {
            incarnation: self.rules.incarnation,
            links,
            bounds: vec![self.next_link + ahead],
            complete: true,
        };
        Some(Stream {
            node: self.name.clone(),
            incarnation: self.rules.incarnation,
            down: VecDeque::new(),
            up: VecDeque::from([v1::Up { up: Some(v1::up::Up::Roster(roster)) }]),
            alive: true,
        })
    }

    /// Takes one frame of an owner.
    pub fn hear(
        &mut self,
        shared: &Shared,
        partition: Partition,
        term: u64,
        down: v1::Down,
        rng: &mut SmallRng,
    ) {
        let known = self.terms.entry(partition).or_insert(0);
        if term < *known && !shared.breaks(Mutation::NoTerm) {
            return;
        }
        *known = term.max(*known);
        let Some(down) = down.down else { return };
        for number in links_of(&down) {
            match self.key_of(number) {
                Some(_)
                    if matches!(down, v1::down::Down::Kick(_))
                        && self.has_session(shared, partition, number) =>
                {
                    let words = format!("a live link is kicked: {number} of {}", self.name);
                    shared.witness.borrow_mut().object(Oracle::Kicked.says(words));
                }
                Some(key) => self.deliver(shared, key, &down, rng),
                None if matches!(down, v1::down::Down::Kick(_)) => {}
                None => {
                    let record = self.rules.session_end(number, "");
                    self.append(shared, 0, (Topic::Timelines, partition), record, Appended::End, rng);
                }
            }
        }
    }

    /// Whether the log, read to its end, gives a link a session.
    fn has_session(&self, shared: &Shared, partition: Partition, link: u64) -> bool {
        let fence = Fence { link, ..self.fence() };
        crate::replay::sessions(shared, partition).is_ok_and(|stage| stage.session(&fence).is_some())
    }

    fn deliver(&mut self, shared: &Shared, key: u64, down: &v1::down::Down, rng: &mut SmallRng) {
        use v1::down::Down;
        let room = !shared.faults.happens(Fault::FullOutbox, rng, 0.15);
        let Some(link) = self.links.get_mut(&key) else { return };
        let (session, mut out) = (&mut link.session, Vec::new());
        match down {
            Down::Open(_) => {}
            Down::Result(result) => session.on_result(&self.rules, now(shared), result, &mut out),
            Down::Push(push) => session.on_push(push.last, &push.frame, room, &mut out),
            Down::Hint(hint) => session.on_hint(hint.head, room, &mut out),
            Down::Kick(kick) => session.on_kick(kick, &mut out),
            Down::SyncAnswer(answer) => session.on_sync_answer(answer.clone(), &mut out),
            Down::Error(error) => {
                session.on_error(error.error.clone().unwrap_or_default(), room, &mut out);
            }
        }
        self.perform(shared, key, out, rng);
    }

    /// The owner of this partition cannot be asked.
    pub fn sync_lost(&mut self, shared: &Shared, link: u64, rng: &mut SmallRng) {
        let Some(key) = self.key_of(link) else { return };
        let Some(link) = self.links.get_mut(&key) else { return };
        let mut out = Vec::new();
        link.session.on_sync_lost(&mut out);
        self.perform(shared, key, out, rng);
    }

    /// The stream of this partition broke: nobody will answer on it.
    pub fn syncs_lost(&mut self, shared: &Shared, partition: Partition, rng: &mut SmallRng) {
        for key in self.links.keys().copied().collect::<Vec<_>>() {
            let Some(link) = self.links.get_mut(&key) else { continue };
            let mut out = Vec::new();
            if link.session.partition() == Some(partition) {
                link.session.on_sync_lost(&mut out);
            }
            self.perform(shared, key, out, rng);
        }
    }
}

fn links_of(down: &v1::down::Down) -> Vec<u64> {
    use v1::down::Down;
    let one = |link: &Option<v1::LinkRef>| link.iter().map(|l| l.link).collect();
    match down {
        Down::Open(_) => Vec::new(),
        Down::Result(result) => one(&result.link),
        Down::Push(push) => push.links.iter().map(|l| l.link).collect(),
        Down::Hint(hint) => one(&hint.link),
        Down::Kick(kick) => one(&kick.link),
        Down::SyncAnswer(answer) => one(&answer.link),
        Down::Error(error) => one(&error.link),
    }
}
