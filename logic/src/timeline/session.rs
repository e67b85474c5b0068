//! Sign-in and sign-off: which sessions a user has, by the device policy in force. In the log's order, so that
//! every run decides alike.

use proto::close::Close;
use proto::limits::{DEVICE_CLASS_BYTES_MAX, ID_BYTES_MAX};
use proto::{DeviceId, UserId, v1};
use storage::tables::{Fence, SessionWrite};
use v1::DevicePolicy as Policy;

use super::nodes::{Nodes, Place};
use super::state::{Cursor, Session, User};
use super::{Effect, TimelineStage};

impl TimelineStage {
    pub(super) fn session_started(&mut self, start: &v1::SessionStart, effects: &mut Vec<Effect>) {
        let Some(fence) = &start.fence else { return };
        let (Ok(user), Ok(device)) = (start.user.parse::<UserId>(), start.device.parse::<DeviceId>()) else {
            return;
        };
        if !is_node_name(&fence.node) || start.device_class.len() > DEVICE_CLASS_BYTES_MAX {
            return;
        }
        // A new incarnation ends the sessions of those before it.
        self.nodes.raise(&fence.node, fence.incarnation);
        let place = self.nodes.place(fence);
        if !self.nodes.is_valid(place) {
            return effects.push(Effect::Kick { fence: self.nodes.fence(place), close: Close::LeaseLost });
        }
        let Some(row) = self.rows.open(&user, self.tick) else { return };
        if row.sessions.get(&device).is_some_and(|session| session.place == place) {
            // The record was appended twice; the session goes on as it is.
            effects.extend(row.grant(&user, &device, &self.nodes).map(Effect::Result));
            return;
        }
        if row.sessions.get(&device).is_some_and(|session| place.is_before(session.place)) {
            // A copy that the log made of an earlier sign-in's record: that link is gone long since, and the
            // present one must not go for it.
            return;
        }
        let Some(leavers) = admit(row, &device, &start.device_class, &self.nodes, &self.settings) else {
            return effects.push(Effect::Kick { fence: self.nodes.fence(place), close: Close::DevicePolicy });
        };
        row.drop_ended(&self.nodes, self.tick);
        for leaver in leavers {
            let close = if leaver == device { Close::Replaced } else { Close::DevicePolicy };
            if let Some(place) = row.end(&leaver, self.tick) {
                self.nodes.remove(place);
                effects.push(Effect::Kick { fence: self.nodes.fence(place), close });
            }
        }
        let class = start.device_class.as_str().into();
        row.sessions.insert(device.clone(), Session { place, epoch: self.tick.0, class });
        remember(row, &device, self.tick.0, self.settings.devices_per_user_max);
        effects.extend(row.grant(&user, &device, &self.nodes).map(Effect::Result));
        self.nodes.insert(place, user.clone(), device);
        self.rows.changed(&user, self.tick);
    }

    pub(super) fn node_went_down(&mut self, down: &v1::NodeDown) {
        if is_node_name(&down.node) {
            self.nodes.raise(&down.node, down.incarnation.saturating_add(1));
        }
    }

    pub(super) fn session_ended(&mut self, end: &v1::SessionEnd) {
        let Some(fence) = &end.fence else { return };
        let (Some(user), Some(place)) = (self.holder_of(end), self.nodes.known_place(fence)) else { return };
        if !self.nodes.is_valid(place) {
            return;
        }
        let Some(row) = self.rows.open(&user, self.tick) else { return };
        match row.device_at(place).cloned() {
            Some(device) => {
                row.drop_ended(&self.nodes, self.tick);
                row.end(&device, self.tick);
                self.nodes.remove(place);
                self.rows.changed(&user, self.tick);
            }
            None => self.forget(place, fence, &user),
        }
    }

    /// The user of a session that ends: named in the record, or known from the index.
    pub(super) fn holder_of(&self, end: &v1::SessionEnd) -> Option<UserId> {
        if let Ok(user) = end.user.parse() {
            return Some(user);
        }
        let v1::Fence { node, incarnation, reactor, link } = end.fence.as_ref()?;
        Some(self.nodes.get(node, *incarnation, *reactor, *link)?.user.clone())
    }

    /// The index knew a session that the user's row does not have: its removal was lost, or its start is still
    /// to be replayed, which will bring it back at a higher tick.
    fn forget(&mut self, place: Place, fence: &v1::Fence, user: &UserId) {
        let known = self.nodes.get(&fence.node, fence.incarnation, fence.reactor, fence.link);
        if known.is_none_or(|holder| holder.user != *user) {
            return;
        }
        if let Some(holder) = self.nodes.remove(place) {
            let session = self.nodes.row(place, user, &holder.device);
            self.unindex.push(SessionWrite { session, at: self.tick, live: false });
        }
    }

    /// The links of a user's valid sessions.
    pub(super) fn links(row: &User, nodes: &Nodes) -> Vec<Fence> {
        let valid = row.sessions.iter().filter(|(_, session)| nodes.is_valid(session.place));
        valid.map(|(_, session)| nodes.fence(session.place)).collect()
    }
}

/// Who leaves so that this device may have a session; none: it may not.
fn admit(
    row: &User,
    device: &DeviceId,
    class: &str,
    nodes: &Nodes,
    settings: &v1::Settings,
) -> Option<Vec<DeviceId>> {
    let policy = settings.device_policy();
    let valid = row.sessions.iter().filter(|(_, session)| nodes.is_valid(session.place));
    let (same, mut others): (Vec<_>, Vec<_>) = valid.partition(|(other, _)| *other == device);
    others.sort_by_key(|(_, session)| session.epoch);
    // Beside what the policy says, no more sessions than devices that are remembered; the oldest go first.
    let room = usize::try_from(settings.devices_per_user_max).unwrap_or(usize::MAX).saturating_sub(1);
    let over = others.len().saturating_sub(room);
    let conflicts = others.iter().enumerate().filter(|(i, (_, session))| match policy {
        Policy::One => true,
        Policy::OnePerClass => *i < over || *session.class == *class,
        Policy::All => *i < over,
    });
    let mut leavers: Vec<DeviceId> = conflicts.map(|(_, (other, _))| (*other).clone()).collect();
    if settings.oldest_stays && !leavers.is_empty() {
        return None;
    }
    leavers.extend(same.into_iter().map(|(device, _)| device.clone()));
    Some(leavers)
}

/// Notes a device's sign-in; of too many devices the one that signed in longest ago and has no session is
/// forgotten.
fn remember(row: &mut User, device: &DeviceId, used: u64, devices_max: u32) {
    match row.cursors.get_mut(device) {
        Some(cursor) => cursor.used = used,
        None => drop(row.cursors.insert(device.clone(), Cursor { seq: 0, used })),
    }
    while row.cursors.len() > devices_max as usize {
        let idle = row.cursors.iter().filter(|(device, _)| !row.sessions.contains(*device));
        let Some(oldest) =
            idle.min_by_key(|(device, cursor)| (cursor.used, *device)).map(|(device, _)| device.clone())
        else {
            return;
        };
        row.cursors.remove(&oldest);
    }
}

fn is_node_name(name: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&name.len())
}
