//! Compares the links that a conn node has with the sessions that the log gave it. Changes nothing: what is
//! amiss becomes a frame or a record.
//!
//! | on the node | in the state | then |
//! |---|---|---|
//! | confirmed | no | kick: its session was replaced or ended |
//! | confirmed | in the index alone | kick, and append its end: the index outlived the row |
//! | unconfirmed | no | nothing: its start is still on its way (and the node gives up by itself) |
//! | unconfirmed | yes | result |
//! | unconfirmed | in a later owner's row alone | nothing: that owner says so |
//! | confirmed, behind | yes | hint |
//! | no, and below its reactor's bound | yes | append its end |
//! | an older incarnation's | yes | append one `NodeDown` for all of them |
//! | of an incarnation that has ended | | kick |

use std::collections::BTreeSet;

use proto::close::Close;
use proto::{UserId, v1};
use storage::tables::Fence;
use v1::timeline_record::Record;

use super::state::{User, fence_message};
use super::{CompleteRoster, NotLoaded, RosterAction, TimelineStage};

impl TimelineStage {
    /// Appends to `keys` the users that must be loaded before this roster is compared.
    pub fn roster_keys(&self, node: &str, roster: &CompleteRoster, keys: &mut Vec<UserId>) {
        let links = roster.links.iter().filter_map(|link| link.link);
        let holders = links.filter_map(|at| self.nodes.get(node, roster.incarnation, at.reactor, at.link));
        keys.extend(holders.map(|holder| holder.user.clone()));
    }

    /// Compares the links that a conn node has with the sessions that it should have.
    ///
    /// # Errors
    /// A user of [`Self::roster_keys`] is not loaded; `out` is as it was.
    pub fn compare(
        &self,
        node: &str,
        roster: &CompleteRoster,
        out: &mut Vec<RosterAction>,
    ) -> Result<(), NotLoaded> {
        let begun = out.len();
        let mut there = BTreeSet::new();
        for link in &roster.links {
            let Some(at) = link.link else { continue };
            there.insert((at.reactor, at.link));
            match self.compare_link(node, roster.incarnation, link, at) {
                Ok(Some(RosterAction::Kick { fence, close: Close::SessionUnknown })) => {
                    let holder = self.nodes.get(node, roster.incarnation, at.reactor, at.link);
                    out.extend(holder.map(|holder| session_end(fence.clone(), &holder.user)));
                    out.push(RosterAction::Kick { fence, close: Close::SessionUnknown });
                }
                Ok(action) => out.extend(action),
                Err(error) => {
                    out.truncate(begun);
                    return Err(error);
                }
            }
        }
        if self.nodes.has_below(node, roster.incarnation) {
            let down = v1::NodeDown { node: node.into(), incarnation: roster.incarnation.saturating_sub(1) };
            out.push(append(Record::NodeDown(down)));
        }
        for (reactor, link, holder) in self.nodes.links(node, roster.incarnation) {
            let bound = usize::try_from(reactor).ok().and_then(|reactor| roster.bounds.get(reactor));
            if bound.is_some_and(|bound| link < *bound) && !there.contains(&(reactor, link)) {
                let fence = Fence { node: node.into(), incarnation: roster.incarnation, reactor, link };
                out.push(session_end(fence, &holder.user));
            }
        }
        Ok(())
    }

    fn compare_link(
        &self,
        node: &str,
        incarnation: u64,
        link: &v1::RosterLink,
        at: v1::LinkRef,
    ) -> Result<Option<RosterAction>, NotLoaded> {
        let fence = Fence { node: node.into(), incarnation, reactor: at.reactor, link: at.link };
        if incarnation < self.nodes.floor(node) {
            return Ok(Some(RosterAction::Kick { fence, close: Close::LeaseLost }));
        }
        let Some((row, user)) = self.known(&fence)? else {
            let kick = RosterAction::Kick { fence, close: Close::SessionUnknown };
            return Ok(link.confirmed.then_some(kick));
        };
        if !link.confirmed {
            let holder = self.nodes.get(node, incarnation, at.reactor, at.link);
            let grant = holder.and_then(|holder| row.grant(user, &holder.device, &self.nodes));
            // A row that a later owner wrote tells of sign-ins that this run has not read. Confirmed by it, such a link
            // would be kicked by an owner between the two, which has read no further but is obeyed.
            let grant = grant.filter(|grant| grant.epoch <= self.tick.0);
            return Ok(grant.map(RosterAction::Result));
        }
        Ok((link.told < row.head).then_some(RosterAction::Hint { fence, head: row.head }))
    }

    /// The user whose session a link is, by the index and by the user's row.
    fn known(&self, fence: &Fence) -> Result<Option<(&User, &UserId)>, NotLoaded> {
        let holder = self.nodes.get(&fence.node, fence.incarnation, fence.reactor, fence.link);
        let Some(holder) = holder else { return Ok(None) };
        let row = self.rows.get(&holder.user).ok_or_else(|| NotLoaded(holder.user.clone()))?;
        let session = row.sessions.get(&holder.device);
        let same = session.is_some_and(|session| self.nodes.fence(session.place) == *fence);
        Ok(same.then_some((row, &holder.user)))
    }
}

fn session_end(fence: Fence, user: &UserId) -> RosterAction {
    append(Record::SessionEnd(v1::SessionEnd { fence: Some(fence_message(fence)), user: user.to_string() }))
}

fn append(record: Record) -> RosterAction {
    RosterAction::Append(v1::TimelineRecord { record: Some(record) })
}
