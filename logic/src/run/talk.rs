//! What the owner of a timelines partition hears from nodes, and does about it: asks, rosters, nodes that
//! come and go.

use proto::{Code, Fault, UserId, v1};
use tokio::sync::mpsc;
use tracing::info;
use v1::timeline_record::Record;

use super::active::{Active, Ask, Visible};
use super::parts::End;
use super::shell::{Base, Shell};
use super::supervise::Standing;
use super::timeline::Timelines;
use crate::push::StreamEvent;
use crate::sync::Extent;
use crate::timeline::RosterAction;

impl Timelines {
    /// Asks are answered with what is judged now, once that is stored.
    pub(super) fn take_asks(&mut self, leaving: &mut Vec<Visible>) {
        while let Some(ask) = self.asks.pop_front() {
            if let Some(view) = self.stage.user(&ask.user) {
                let extent = Extent { head: view.head, first: view.first };
                leaving.push(Visible::Page(ask, extent));
            }
        }
    }

    pub(super) fn take_rosters(&mut self, base: &mut Base, leaving: &mut Vec<Visible>) -> Result<(), End> {
        let mut actions = Vec::new();
        while let Some((node, roster)) = self.rosters.pop_front() {
            let compared = self.stage.compare(&node, &roster, &mut actions);
            compared.map_err(|error| End::Failed(error.to_string()))?;
            for action in actions.drain(..) {
                match action {
                    RosterAction::Kick { fence, close } => leaving.push(Visible::Kick(fence, close)),
                    RosterAction::Result(grant) => leaving.push(Visible::Result(grant)),
                    RosterAction::Hint { fence, head } => leaving.push(Visible::Hint(fence, head)),
                    RosterAction::Append(record) => {
                        if !base.emit.append_own_now(Self::TOPIC, base.partition, &record)? {
                            // What is missing is found again by the next roster.
                            self.active.iter().for_each(|active| active.break_off(&node));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// From here on this run is the owner, under this term.
    pub(super) fn activate(&mut self, base: &mut Base, term: u64) -> Result<(), End> {
        if self.active.is_none() {
            let active = Active::new(base.parts.clone(), base.partition, term, self.events_in.clone());
            self.active = Some(active);
            base.parts.health.set(Self::TOPIC, base.partition, Standing::Running);
            self.follow(base)?;
        }
        Ok(())
    }

    /// Follows the node table, and ends the sessions of the nodes that are gone.
    pub(super) fn follow(&mut self, base: &mut Base) -> Result<(), End> {
        let table = self.nodes.borrow_and_update().clone();
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        for down in active.follow(&table) {
            let record = v1::TimelineRecord { record: Some(Record::NodeDown(down)) };
            base.emit.append_own(Self::TOPIC, base.partition, &record)?;
        }
        Ok(())
    }

    pub(super) fn take_event(&mut self, base: &mut Base, event: StreamEvent) -> Result<(), End> {
        match event {
            StreamEvent::Roster { node, roster } => {
                self.rosters.retain(|(other, _)| *other != node);
                self.rosters.push_back((node, roster));
            }
            StreamEvent::Refused { term } => {
                let own = base.ownership.term().map(|tick| tick.0);
                info!(partition = base.partition, term, own, "refused by a node");
                return Err(End::Superseded);
            }
            StreamEvent::Ask { node, ask, down } => self.asked(base, &node, ask, down),
        }
        Ok(())
    }

    fn asked(&mut self, base: &Base, node: &str, ask: v1::SyncAsk, down: mpsc::Sender<v1::Down>) {
        let Some(active) = self.active.as_mut() else { return };
        let Ok(user) = UserId::new(&ask.user) else { return active.break_off(node) };
        let ask = Ask { at: crate::clock::now(), user, ask, down };
        let cap = base.parts.config.syncs_waiting_max;
        if active.pages() + self.asks.len() < cap {
            self.asks.push_back(ask);
        } else {
            Active::refuse(&ask, &Fault::new(Code::Busy, format!("{cap} syncs are waiting")));
        }
    }
}
